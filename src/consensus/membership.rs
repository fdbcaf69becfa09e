//! Who belongs to the cluster: a pure function of the log's configuration changes.
//!
//! As in etcd, a new cluster's log begins with one configuration change per initial member, so
//! membership needs no store of its own: replaying the log gives it. The change's context is the
//! member itself, as JSON.

use protobuf::Message as _;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState, Entry, EntryType};
use serde::{Deserialize, Serialize};

use crate::types::MemberId;

/// What every member knows of another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub id: u64,
    pub name: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
    pub is_learner: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    #[error("entry {index} of the log holds a configuration change that cannot be read: {reason}")]
    Malformed { index: u64, reason: String },
}

/// A configuration change read back from a committed entry.
pub struct ConfChange {
    pub change: ConfChangeV2,
    pub member: Member,
}

impl ConfChange {
    /// Reads an entry of type `EntryConfChangeV2`.
    pub fn decode(entry: &Entry) -> Result<Self, MembershipError> {
        let malformed = |reason: String| MembershipError::Malformed { index: entry.index, reason };
        let change = ConfChangeV2::parse_from_bytes(&entry.data).map_err(|e| malformed(e.to_string()))?;
        let member = serde_json::from_slice(&change.context).map_err(|e| malformed(e.to_string()))?;
        Ok(ConfChange { change, member })
    }
}

/// The first entry of a new cluster's log: its founding members, one change each.
pub fn first_entry(index: u64, term: u64, member: &Member) -> Entry {
    let single = ConfChangeSingle {
        change_type: ConfChangeType::AddNode,
        node_id: member.id,
        ..ConfChangeSingle::default()
    };
    let change = ConfChangeV2 {
        changes: vec![single].into(),
        context: serde_json::to_vec(member).expect("a member is plain data").into(),
        ..ConfChangeV2::default()
    };
    Entry {
        entry_type: EntryType::EntryConfChangeV2,
        index,
        term,
        data: change.write_to_bytes().expect("writing to memory").into(),
        ..Entry::default()
    }
}

/// The members, in order of id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    members: Vec<Member>,
}

impl Membership {
    /// The members a snapshot has.
    pub fn restore(mut members: Vec<Member>) -> Self {
        members.sort_by_key(|m| m.id);
        Membership { members }
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Takes in a committed change.
    pub fn apply(&mut self, change: &ConfChange) {
        for single in change.change.changes.iter() {
            self.members.retain(|m| m.id != single.node_id);
            match single.change_type {
                ConfChangeType::AddNode | ConfChangeType::AddLearnerNode => {
                    let is_learner = single.change_type == ConfChangeType::AddLearnerNode;
                    self.members.push(Member { is_learner, ..change.member.clone() });
                }
                ConfChangeType::RemoveNode => {}
            }
        }
        self.members.sort_by_key(|m| m.id);
    }

    /// This member's own attributes follow its flags, as in etcd, where each start publishes them.
    pub fn publish(&mut self, id: MemberId, name: &str, client_urls: &[String]) {
        if let Some(member) = self.members.iter_mut().find(|m| m.id == id.0) {
            member.name = name.to_owned();
            member.client_urls = client_urls.to_vec();
        }
    }

    pub fn conf_state(&self) -> ConfState {
        let ids = |learner| self.members.iter().filter(move |m| m.is_learner == learner).map(|m| m.id);
        ConfState { voters: ids(false).collect(), learners: ids(true).collect(), ..ConfState::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_survives_the_log() {
        let member = Member {
            id: 7,
            name: "default".into(),
            peer_urls: vec!["http://localhost:2380".into()],
            client_urls: vec![],
            is_learner: false,
        };
        let entry = first_entry(1, 1, &member);
        let mut membership = Membership::default();
        membership.apply(&ConfChange::decode(&entry).unwrap());
        assert_eq!(membership.members(), &[member]);
        assert_eq!(membership.conf_state().voters, vec![7]);
        let broken = Entry { data: vec![0xff, 0xff].into(), ..entry };
        assert!(ConfChange::decode(&broken).is_err());
    }
}
