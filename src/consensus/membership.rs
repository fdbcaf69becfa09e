//! What members know of each other: a pure function of the log's configuration changes.
//!
//! As in etcd, a new cluster's log begins with one configuration change per initial member, so
//! membership needs no store of its own: replaying the log gives it. The change's context is the
//! member itself, as JSON.

use serde::{Deserialize, Serialize};

use crate::types::{LogIndex, MemberId, Term};

use super::{ChangeKind, Config, ConfigChange, Entry};

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
#[error("a configuration change whose member cannot be read: {0}")]
pub struct MembershipError(#[from] serde_json::Error);

/// The first entry of a new cluster's log: its founding members, one change each.
pub fn first_entry(index: LogIndex, term: Term, member: &Member) -> Entry {
    let context = serde_json::to_vec(member).expect("a member is plain data").into();
    ConfigChange { kind: ChangeKind::AddVoter, member: MemberId(member.id), context }.entry(index, term)
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

    /// Takes in a committed change; after an error nothing has changed.
    pub fn apply(&mut self, change: &ConfigChange) -> Result<(), MembershipError> {
        let added = match change.kind {
            ChangeKind::AddVoter | ChangeKind::AddLearner => {
                let member = serde_json::from_slice(&change.context)?;
                let is_learner = change.kind == ChangeKind::AddLearner;
                Some(Member { id: change.member.0, is_learner, ..member })
            }
            ChangeKind::Remove => None,
        };
        self.members.retain(|m| m.id != change.member.0);
        self.members.extend(added);
        self.members.sort_by_key(|m| m.id);
        Ok(())
    }

    /// This member's own attributes follow its flags, as in etcd, where each start publishes them.
    pub fn publish(&mut self, id: MemberId, name: &str, client_urls: &[String]) {
        if let Some(member) = self.members.iter_mut().find(|m| m.id == id.0) {
            member.name = name.to_owned();
            member.client_urls = client_urls.to_vec();
        }
    }

    pub fn config(&self) -> Config {
        let ids = |learner| {
            self.members.iter().filter(move |m| m.is_learner == learner).map(|m| MemberId(m.id)).collect()
        };
        Config { voters: ids(false), learners: ids(true) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::Payload;

    #[test]
    fn a_change_survives_the_log() {
        let member = Member {
            id: 7,
            name: "default".into(),
            peer_urls: vec!["http://localhost:2380".into()],
            client_urls: vec![],
            is_learner: false,
        };
        let mut membership = Membership::default();
        let Ok(Payload::Config(change)) = first_entry(LogIndex(1), Term(1), &member).payload() else {
            panic!("no configuration change")
        };
        membership.apply(&change).unwrap();
        assert_eq!(membership.members(), std::slice::from_ref(&member));
        assert_eq!(membership.config().voters, vec![MemberId(7)]);

        let broken = ConfigChange { context: "{".into(), ..change.clone() };
        assert!(membership.apply(&broken).is_err());
        assert_eq!(membership.members(), &[member]);

        // A removal needs to say nothing more.
        let removed = ConfigChange { kind: ChangeKind::Remove, context: "".into(), ..change };
        membership.apply(&removed).unwrap();
        assert_eq!(membership.members(), &[]);
    }
}
