//! Who votes in the group, who only follows it, and how that changes: one member at a time.
//!
//! A change is an entry of the log. Its data comes from disk and from other members, so it is decoded by prost, and
//! what raft-rs would take for something else is refused: no change at all means "leave the joint configuration" to
//! it, which there never is.

use bytes::Bytes;
use prost::Message as _;
use raft::eraftpb;

use crate::{
    pb::peer as pb,
    types::{LogIndex, MemberId, Term},
};

use super::{Entry, EntryKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Also makes a voter of a learner.
    AddVoter,
    AddLearner,
    Remove,
}

/// A change of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    pub kind: ChangeKind,
    pub member: MemberId,
    /// What else the change says; consensus does not look into it.
    pub context: Bytes,
}

/// Why an entry's data is no change of the group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("a configuration change that cannot be decoded: {0}")]
    Malformed(#[from] prost::DecodeError),
    #[error("a configuration change with {0} changes instead of one")]
    Changes(usize),
    #[error("a configuration change with a transition ({0}), which is not supported")]
    Transition(i32),
    #[error("a configuration change of kind {0}, which this version does not know")]
    Kind(i32),
    #[error("a configuration change of no member")]
    NoMember,
}

impl ConfigChange {
    pub fn decode(data: Bytes) -> Result<Self, ConfigError> {
        let pb::ConfigChange { transition, changes, context } = pb::ConfigChange::decode(data)?;
        if transition != 0 {
            return Err(ConfigError::Transition(transition));
        }
        let [change] = changes[..] else { return Err(ConfigError::Changes(changes.len())) };
        if change.member == 0 {
            return Err(ConfigError::NoMember);
        }
        let kind = match pb::ChangeKind::try_from(change.kind) {
            Ok(pb::ChangeKind::AddVoter) => ChangeKind::AddVoter,
            Ok(pb::ChangeKind::AddLearner) => ChangeKind::AddLearner,
            Ok(pb::ChangeKind::Remove) => ChangeKind::Remove,
            Err(_) => return Err(ConfigError::Kind(change.kind)),
        };
        Ok(ConfigChange { kind, member: MemberId(change.member), context })
    }

    pub fn encode(&self) -> Bytes {
        assert!(self.member.0 != 0, "a change of no member, which no start could read");
        let kind = match self.kind {
            ChangeKind::AddVoter => pb::ChangeKind::AddVoter,
            ChangeKind::AddLearner => pb::ChangeKind::AddLearner,
            ChangeKind::Remove => pb::ChangeKind::Remove,
        };
        let change = pb::SingleChange { kind: kind as i32, member: self.member.0 };
        let context = self.context.clone();
        pb::ConfigChange { transition: 0, changes: vec![change], context }.encode_to_vec().into()
    }

    pub fn entry(&self, index: LogIndex, term: Term) -> Entry {
        Entry { index, term, kind: EntryKind::Config, data: self.encode() }
    }

    pub(super) fn for_raft(&self) -> eraftpb::ConfChangeV2 {
        let change_type = match self.kind {
            ChangeKind::AddVoter => eraftpb::ConfChangeType::AddNode,
            ChangeKind::AddLearner => eraftpb::ConfChangeType::AddLearnerNode,
            ChangeKind::Remove => eraftpb::ConfChangeType::RemoveNode,
        };
        let node_id = self.member.0;
        let change = eraftpb::ConfChangeSingle { change_type, node_id, ..Default::default() };
        eraftpb::ConfChangeV2 { changes: vec![change].into(), ..Default::default() }
    }
}

/// Who is in the group, in order of id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pub voters: Vec<MemberId>,
    pub learners: Vec<MemberId>,
}

impl Config {
    pub fn contains(&self, member: MemberId) -> bool {
        self.voters.contains(&member) || self.learners.contains(&member)
    }

    pub(super) fn for_raft(&self) -> eraftpb::ConfState {
        let ids = |members: &[MemberId]| members.iter().map(|member| member.0).collect();
        eraftpb::ConfState {
            voters: ids(&self.voters),
            learners: ids(&self.learners),
            ..eraftpb::ConfState::default()
        }
    }
}

impl From<&eraftpb::ConfState> for Config {
    fn from(state: &eraftpb::ConfState) -> Self {
        assert!(
            state.voters_outgoing.is_empty() && state.learners_next.is_empty(),
            "a joint configuration, which is never entered"
        );
        let members = |ids: &[u64]| {
            let mut members: Vec<_> = ids.iter().copied().map(MemberId).collect();
            members.sort();
            members
        };
        Config { voters: members(&state.voters), learners: members(&state.learners) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_what_raft_reads_when_it_is_proposed() {
        use protobuf::Message as _;
        for kind in [ChangeKind::AddVoter, ChangeKind::AddLearner, ChangeKind::Remove] {
            let change = ConfigChange { kind, member: MemberId(7), context: Bytes::from_static(b"x") };
            let encoded = change.encode();
            assert_eq!(ConfigChange::decode(encoded.clone()), Ok(change.clone()));
            let mut read = eraftpb::ConfChangeV2::parse_from_bytes(&encoded).unwrap();
            assert_eq!(&read.take_context()[..], b"x");
            assert_eq!(read, change.for_raft());
        }
    }

    #[test]
    fn what_is_no_single_change_is_refused() {
        let refused = |transition, changes: &[(i32, u64)]| {
            let changes = changes.iter().map(|&(kind, member)| pb::SingleChange { kind, member }).collect();
            let data = pb::ConfigChange { transition, changes, context: Bytes::new() }.encode_to_vec();
            ConfigChange::decode(data.into()).unwrap_err()
        };
        // No byte at all is an empty change.
        assert_eq!(ConfigChange::decode(Bytes::new()), Err(ConfigError::Changes(0)));
        assert_eq!(refused(0, &[]), ConfigError::Changes(0));
        assert_eq!(refused(0, &[(0, 1), (0, 2)]), ConfigError::Changes(2));
        assert_eq!(refused(1, &[(0, 1)]), ConfigError::Transition(1));
        assert_eq!(refused(0, &[(3, 1)]), ConfigError::Kind(3));
        assert_eq!(refused(0, &[(0, 0)]), ConfigError::NoMember);
        let malformed = ConfigChange::decode(Bytes::from_static(&[0xff, 0xff]));
        assert!(matches!(malformed, Err(ConfigError::Malformed(_))));
    }
}
