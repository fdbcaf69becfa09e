//! A member is to belong to the cluster: the log's configuration change says to Raft that it follows, this to everybody
//! else who it is (`RaftCluster.ValidateConfigurationChange` in etcd v3.7 `api/membership/cluster.go`).

use prost::Message;

use super::{Cluster, ClusterCommand};
use crate::{
    pb::etcdserverpb as pb,
    state::{Error, command::Kind, outcome::Change},
};

#[derive(Clone, PartialEq, Message)]
pub struct JoinMember {
    #[prost(message, optional, tag = "1")]
    pub member: Option<pb::Member>,
    /// How many learners there may be (`--max-learners` of the member that was asked).
    #[prost(uint64, tag = "2")]
    pub learners_max: u64,
}

impl JoinMember {
    /// What is wrong with it as things stand.
    pub fn check(&self, member: &pb::Member, cluster: &Cluster) -> Result<(), Error> {
        // A member that was removed may still be running.
        if cluster.removed.contains(&member.id) {
            return Err(Error::MemberNotFound);
        }
        if cluster.members.contains_key(&member.id) {
            return Err(Error::MemberExists);
        }
        cluster.check_peer_urls(member.id, &member.peer_ur_ls)?;
        let learners = cluster.members().filter(|member| member.is_learner).count() as u64;
        if member.is_learner && learners >= self.learners_max {
            return Err(Error::TooManyLearners);
        }
        Ok(())
    }
}

impl ClusterCommand for JoinMember {
    /// All members there are then.
    type Answer = Vec<pb::Member>;
    const KIND: Kind = Kind::first(40);

    fn change(&self, cluster: &mut Cluster, changes: &mut Vec<Change>) -> Result<Self::Answer, Error> {
        let Some(member) = &self.member else { return Err(Error::MemberNotFound) };
        self.check(member, cluster)?;
        cluster.set_member(member.clone());
        changes.push(Change::Members);
        Ok(cluster.all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{
        StateMachine,
        cluster::{AddMember, PromoteMember, RemoveMember, UpdateMember},
        tests::any::apply,
    };

    fn member(id: u64, url: &str, is_learner: bool) -> pb::Member {
        let name = if is_learner { String::new() } else { format!("m{id}") };
        pb::Member { id, name, peer_ur_ls: vec![url.into()], is_learner, ..Default::default() }
    }

    fn join(member: pb::Member) -> JoinMember {
        JoinMember { member: Some(member), learners_max: 1 }
    }

    fn one_member() -> StateMachine {
        let mut state = StateMachine::new();
        apply(&mut state, &AddMember { member: Some(member(1, "http://a:1", false)) }).expect("founded");
        state
    }

    #[test]
    fn members_come_change_and_go_by_etcds_rules() {
        let mut state = one_member();
        let learner = member(2, "http://b:1", true);
        assert_eq!(apply(&mut state, &join(member(2, "http://a:1", true))), Err(Error::PeerUrlExists));
        let members = apply(&mut state, &join(learner.clone())).expect("a learner");
        assert_eq!(members, [member(1, "http://a:1", false), learner.clone()]);
        assert_eq!(apply(&mut state, &join(learner)), Err(Error::MemberExists));
        let nobody = JoinMember { member: None, learners_max: 9 };
        assert_eq!(apply(&mut state, &nobody), Err(Error::MemberNotFound));
        assert_eq!(state.cluster().members().count(), 2);
        assert_eq!(apply(&mut state, &join(member(3, "http://c:1", true))), Err(Error::TooManyLearners));

        let update = |id, url: &str| UpdateMember { id, peer_urls: vec![url.into()] };
        assert_eq!(apply(&mut state, &update(2, "http://a:1")), Err(Error::PeerUrlExists));
        assert_eq!(apply(&mut state, &update(3, "http://d:1")), Err(Error::MemberNotFound));
        let members = apply(&mut state, &update(2, "http://d:1")).expect("moved");
        assert_eq!(members[1], member(2, "http://d:1", true));
        // Its own is no other's.
        apply(&mut state, &update(2, "http://d:1")).expect("again");

        assert_eq!(apply(&mut state, &PromoteMember { id: 1 }), Err(Error::MemberNotLearner));
        assert_eq!(apply(&mut state, &PromoteMember { id: 9 }), Err(Error::MemberNotFound));
        let members = apply(&mut state, &PromoteMember { id: 2 }).expect("it votes");
        assert!(!members[1].is_learner);

        assert_eq!(apply(&mut state, &RemoveMember { id: 9 }), Err(Error::MemberNotFound));
        assert_eq!(apply(&mut state, &RemoveMember { id: 2 }).expect("gone").len(), 1);
        assert_eq!(apply(&mut state, &RemoveMember { id: 2 }), Err(Error::MemberNotFound));
        assert_eq!(apply(&mut state, &join(member(2, "http://e:1", true))), Err(Error::MemberNotFound));
        assert_eq!(state.cluster().removed().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn somebody_who_votes_is_left() {
        let mut state = one_member();
        apply(&mut state, &join(member(2, "http://b:1", true))).expect("a learner");
        assert_eq!(apply(&mut state, &RemoveMember { id: 1 }), Err(Error::NotEnoughStarted));
        assert_eq!(state.cluster().members().count(), 2);
    }
}
