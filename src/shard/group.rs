//! Who belongs to the shard's group, and who leads it: Raft's configuration and the state's members say the same, because a change of one
//! carries the command for the other.

use bytes::Bytes;
use tracing::info;

use crate::{
    consensus::{ChangeKind, Config, ConfigChange, Entry},
    env::{Links, Peer},
    pb::etcdserverpb as pb,
    state::{
        Builder,
        cluster::{AddMember, Cluster},
    },
    types::{LogIndex, MemberId, Term},
};

/// Whether this member leads has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    Gained(Term),
    Lost,
}

/// What becomes of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// It follows, without a vote.
    Follow,
    /// It has a vote.
    Vote,
    Leave,
}

/// A change of the group that is to be proposed.
#[derive(Clone, Debug)]
pub struct Change {
    pub seat: Seat,
    pub member: MemberId,
    /// A batch of the one command that tells the state.
    pub command: Bytes,
}

impl From<Change> for ConfigChange {
    fn from(Change { seat, member, command }: Change) -> Self {
        let kind = match seat {
            Seat::Follow => ChangeKind::AddLearner,
            Seat::Vote => ChangeKind::AddVoter,
            Seat::Leave => ChangeKind::Remove,
        };
        ConfigChange { kind, member, context: command }
    }
}

/// Raft's configuration, as the state knows it.
pub fn config(cluster: &Cluster) -> Config {
    let ids = |learner| {
        cluster.members().filter(move |member| member.is_learner == learner).map(|m| MemberId(m.id)).collect()
    };
    Config { voters: ids(false), learners: ids(true) }
}

/// Says what has changed of who belongs to the cluster, as each member comes to know it; what it knows at its start is
/// recovered.
pub fn say(before: &[pb::Member], after: &[pb::Member]) {
    let id = |member: &pb::Member| format!("{:x}", member.id);
    let of = |members: &[pb::Member], id: u64| members.iter().find(|member| member.id == id).cloned();
    for member in after {
        match of(before, member.id) {
            None if before.is_empty() => info!(
                "recovered-remote-peer-id" = id(member),
                "recovered-remote-peer-urls" = ?member.peer_ur_ls,
                "recovered-remote-peer-is-learner" = member.is_learner,
                "recovered/added member from store"
            ),
            None => info!(
                "added-peer-id" = id(member),
                "added-peer-peer-urls" = ?member.peer_ur_ls,
                "added-peer-is-learner" = member.is_learner,
                "added member"
            ),
            Some(known) if known.is_learner && !member.is_learner => {
                info!("promoted-member-id" = id(member), "promote member");
            }
            Some(known) if known.peer_ur_ls != member.peer_ur_ls => info!(
                "updated-remote-peer-id" = id(member),
                "updated-remote-peer-urls" = ?member.peer_ur_ls,
                "updated member"
            ),
            Some(_) => {}
        }
    }
    for member in before.iter().filter(|member| of(after, member.id).is_none()) {
        info!(
            "removed-remote-peer-id" = id(member),
            "removed-remote-peer-urls" = ?member.peer_ur_ls,
            "removed-remote-peer-is-learner" = member.is_learner,
            "removed member"
        );
    }
}

/// Tells the links who is in the group and who was.
pub fn tell(links: &dyn Links, cluster: &Cluster) {
    let peer = |member: &pb::Member| Peer { id: MemberId(member.id), urls: member.peer_ur_ls.clone() };
    let members: Vec<_> = cluster.members().map(peer).collect();
    let removed: Vec<_> = cluster.removed().map(MemberId).collect();
    links.set_members(&members, &removed);
}

/// The first entry of a new cluster's log: its founding members, one change each, as in etcd.
pub fn founding_entry(index: LogIndex, term: Term, member: &pb::Member) -> Entry {
    let context = Builder::single(&AddMember { member: Some(member.clone()) });
    ConfigChange { kind: ChangeKind::AddVoter, member: MemberId(member.id), context }.entry(index, term)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        consensus::Payload,
        state::{Batch, Outcome, StateMachine},
    };

    #[test]
    fn a_founder_survives_the_log() {
        let member = pb::Member {
            id: 7,
            name: "default".into(),
            peer_ur_ls: vec!["http://localhost:2380".into()],
            ..Default::default()
        };
        let entry = founding_entry(LogIndex(1), Term(1), &member);
        let Ok(Payload::Config(change)) = entry.payload() else { panic!("a configuration change") };
        let mut state = StateMachine::new();
        for envelope in Batch::decode(change.context).unwrap() {
            envelope.unwrap().apply(&mut state, &mut Outcome::default()).unwrap();
        }
        assert_eq!(state.cluster().members().collect::<Vec<_>>(), [&member]);
        assert_eq!(config(state.cluster()).voters, [MemberId(7)]);
        assert_eq!((change.kind, change.member), (ChangeKind::AddVoter, MemberId(7)));
    }
}
