//! Which entries a log holds: the order they must keep and what each segment carries.
//!
//! Owned by the log and, while it is opened, by recovery. It counts indices and looks at nothing else.

use std::collections::VecDeque;

use super::{Record, WalError};
use crate::types::LogIndex;

/// The entries of one segment, those replaced later among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The lowest and the highest.
    ends: Option<(LogIndex, LogIndex)>,
}

impl Span {
    fn add(&mut self, index: LogIndex) {
        self.extend(Span { ends: Some((index, index)) });
    }

    /// Adds what was appended after it.
    pub fn extend(&mut self, later: Span) {
        self.ends = match (self.ends, later.ends) {
            (Some((low, high)), Some((lower, higher))) => Some((low.min(lower), high.max(higher))),
            (ends, later) => ends.or(later),
        };
    }

    /// Whether no entry has this index or a higher one.
    pub fn is_below(&self, index: LogIndex) -> bool {
        self.ends.is_none_or(|(_, highest)| highest < index)
    }

    /// Whether an entry of this index may be among them.
    pub fn reaches(&self, index: LogIndex) -> bool {
        self.ends.is_some_and(|(lowest, highest)| lowest <= index && index <= highest)
    }
}

/// A full segment that is still part of the log.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    pub sequence: u64,
    pub bytes: u64,
    /// Offset after its last batch.
    pub end: u64,
    pub span: Span,
}

/// Takes records in the order of the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Order {
    last: Option<LogIndex>,
    commit: LogIndex,
}

impl Order {
    /// Notes a record, and in `span` its index. Refused is an entry that leaves a gap: it follows
    /// neither the entry before it nor the last commit.
    pub fn take(&mut self, record: &Record<'_>, span: &mut Span) -> Result<(), WalError> {
        match *record {
            Record::HardState { commit, .. } => self.commit = commit,
            Record::Baseline { index, .. } => {
                // Not cut before a checkpoint of this member's own tells where the log goes on.
                span.add(LogIndex(index.0 + 1));
                (self.last, self.commit) = (Some(index), index);
            }
            Record::Entry { index, .. } => {
                let gap = self.last.is_some_and(|last| index.0 > last.0 + 1);
                if gap && index.0 != self.commit.0 + 1 {
                    let last = self.last.expect("a gap is after an entry").0;
                    return Err(WalError::Replay(format!("entry {} follows entry {last}", index.0)));
                }
                span.add(index);
                self.last = Some(index);
            }
        }
        Ok(())
    }
}

/// The first entry of the longest run of segments, up to the last one, that takes no more than so many bytes.
pub fn first_within(kept: &VecDeque<Kept>, bytes: u64) -> LogIndex {
    let mut left = bytes;
    let beyond = kept.iter().rev().find(|segment| match left.checked_sub(segment.bytes) {
        Some(rest) => {
            left = rest;
            false
        }
        None => true,
    });
    beyond.and_then(|segment| segment.span.ends).map_or(LogIndex(0), |(_, highest)| LogIndex(highest.0 + 1))
}

/// Takes the segments from the front whose entries are all below `keep_from`.
///
/// Only a run from the front: a later segment may replace entries of an earlier one, which would come
/// back without it.
pub fn release(kept: &mut VecDeque<Kept>, keep_from: LogIndex) -> Vec<Kept> {
    let count = kept.iter().take_while(|segment| segment.span.is_below(keep_from)).count();
    kept.drain(..count).collect()
}
