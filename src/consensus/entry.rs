//! An entry of the log and what may be in one.

use bytes::Bytes;
use raft::eraftpb;

use crate::types::{LogIndex, MemberId, Term};

use super::{ConfigChange, ConfigError};

/// A place in the log: two logs with the same index and term there are the same up to there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPosition {
    pub index: LogIndex,
    pub term: Term,
}

/// What a member must not forget beside its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    pub term: Term,
    /// Whom it voted for in that term; 0 if nobody.
    pub vote: MemberId,
    pub commit: LogIndex,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EntryKind {
    #[default]
    Normal,
    Config,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub index: LogIndex,
    pub term: Term,
    pub kind: EntryKind,
    pub data: Bytes,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// A leader begins its term with one.
    Empty,
    Data(Bytes),
    Config(ConfigChange),
}

impl EntryKind {
    /// As in a record of the log; 1 is raft-rs's older form of a change, which is never proposed.
    pub const fn byte(self) -> u8 {
        match self {
            EntryKind::Normal => 0,
            EntryKind::Config => 2,
        }
    }

    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(EntryKind::Normal),
            2 => Some(EntryKind::Config),
            _ => None,
        }
    }
}

impl Entry {
    pub fn payload(&self) -> Result<Payload, ConfigError> {
        Ok(match self.kind {
            EntryKind::Config => Payload::Config(ConfigChange::decode(self.data.clone())?),
            EntryKind::Normal if self.data.is_empty() => Payload::Empty,
            EntryKind::Normal => Payload::Data(self.data.clone()),
        })
    }
}

impl From<eraftpb::Entry> for Entry {
    fn from(entry: eraftpb::Entry) -> Self {
        let kind = match entry.entry_type {
            eraftpb::EntryType::EntryNormal => EntryKind::Normal,
            eraftpb::EntryType::EntryConfChangeV2 => EntryKind::Config,
            eraftpb::EntryType::EntryConfChange => panic!("an entry of a kind that nobody lets in"),
        };
        Entry { index: LogIndex(entry.index), term: Term(entry.term), kind, data: entry.data }
    }
}

impl From<Entry> for eraftpb::Entry {
    fn from(Entry { index, term, kind, data }: Entry) -> Self {
        let entry_type = match kind {
            EntryKind::Normal => eraftpb::EntryType::EntryNormal,
            EntryKind::Config => eraftpb::EntryType::EntryConfChangeV2,
        };
        eraftpb::Entry { entry_type, index: index.0, term: term.0, data, ..Self::default() }
    }
}

impl From<&eraftpb::HardState> for HardState {
    fn from(state: &eraftpb::HardState) -> Self {
        HardState { term: Term(state.term), vote: MemberId(state.vote), commit: LogIndex(state.commit) }
    }
}

impl From<HardState> for eraftpb::HardState {
    fn from(HardState { term, vote, commit }: HardState) -> Self {
        eraftpb::HardState { term: term.0, vote: vote.0, commit: commit.0, ..Self::default() }
    }
}
