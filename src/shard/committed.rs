//! What is committed and not applied yet, in order: entries that wait, and the one that is under way.
//!
//! Owned by the loop. Entries share the memory of the log's window, which keeps them until they are applied; the bound
//! on what is proposed meanwhile is [`limits::UNAPPLIED_BYTES`].

use std::collections::VecDeque;

use crate::{
    consensus::{ConfigChange, Entry},
    limits,
    types::{LogIndex, Term},
};

/// What an entry takes beside its payload.
const ENTRY_BYTES: usize = 64;

/// The entry under way.
pub struct UnderWay {
    pub index: LogIndex,
    pub term: Term,
    /// The change of the group that it is, which the state may refuse.
    pub change: Option<ConfigChange>,
}

#[derive(Default)]
pub struct Committed {
    waiting: VecDeque<Entry>,
    bytes: usize,
    pub under_way: Option<UnderWay>,
}

impl Committed {
    pub fn extend(&mut self, entries: Vec<Entry>) {
        self.bytes += entries.iter().map(bytes).sum::<usize>();
        self.waiting.extend(entries);
    }

    /// The next entry.
    pub fn next(&mut self) -> Option<Entry> {
        assert!(self.under_way.is_none(), "entries are applied in log order");
        let entry = self.waiting.pop_front()?;
        self.bytes -= bytes(&entry);
        Some(entry)
    }

    /// Whether everything is applied.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_none()
    }

    /// Whether so much waits that nothing more should be proposed.
    pub fn is_much(&self) -> bool {
        self.bytes > limits::UNAPPLIED_BYTES
    }

    /// Whether so much waits that nothing more should come from the leader either.
    pub fn is_too_much(&self) -> bool {
        self.bytes > limits::UNAPPLIED_BYTES_MAX
    }
}

fn bytes(entry: &Entry) -> usize {
    ENTRY_BYTES + entry.data.len()
}
