//! What Raft wants logged and the log has not taken yet, in order.
//!
//! A leader's entry goes straight through; a follower may be sent more than one write holds.

use std::collections::VecDeque;

use crate::{
    consensus::{Entry, HardState, LogPosition},
    env::Env,
    limits,
    storage::wal::{Record, Wal},
};

enum Item {
    Entry(Entry),
    HardState(HardState),
    Baseline(LogPosition),
    /// Everything of this ready stands before it.
    End(u64),
}

#[derive(Default)]
pub struct Backlog {
    items: VecDeque<Item>,
    /// Payload bytes.
    bytes: usize,
}

impl Backlog {
    /// Takes in a ready. True if it has nothing to log and nothing logs before it, so that the
    /// caller need not wait for this backlog.
    pub fn add(&mut self, number: u64, entries: Vec<Entry>, hard_state: Option<HardState>) -> bool {
        if entries.is_empty() && hard_state.is_none() && self.items.is_empty() {
            return true;
        }
        self.bytes += entries.iter().map(|entry| entry.data.len()).sum::<usize>();
        self.items.extend(entries.into_iter().map(Item::Entry));
        self.items.extend(hard_state.map(Item::HardState));
        self.items.push_back(Item::End(number));
        false
    }

    /// What must be durable by itself.
    pub fn add_hard_state(&mut self, hard_state: HardState) {
        self.items.push_back(Item::HardState(hard_state));
    }

    /// The log goes on after a checkpoint that was put in place.
    pub fn add_baseline(&mut self, at: LogPosition) {
        self.items.push_back(Item::Baseline(at));
    }

    /// Appends what fits into the log's next write. Returns the newest ready that is then complete.
    ///
    /// # Panics
    /// If a record is larger than any write: proposals are bounded below that.
    pub fn drain_into<E: Env>(&mut self, wal: &mut Wal<E>) -> Option<u64> {
        let mut complete = None;
        while let Some(item) = self.items.front() {
            let record = match item {
                Item::Entry(entry) => entry_record(entry),
                Item::HardState(hard_state) => hard_state_record(hard_state),
                Item::Baseline(at) => baseline_record(at),
                Item::End(number) => {
                    complete = Some(*number);
                    self.items.pop_front();
                    continue;
                }
            };
            if record.encoded_bytes() > wal.room() {
                assert!(
                    wal.pending_bytes() > 0,
                    "a record of {} bytes fits no write",
                    record.encoded_bytes()
                );
                break;
            }
            wal.append(record);
            if let Some(Item::Entry(entry)) = self.items.pop_front() {
                self.bytes -= entry.data.len();
            }
        }
        complete
    }

    /// Whether so much waits for the disk that nothing more should come from the leader.
    pub fn is_too_much(&self) -> bool {
        self.bytes > limits::UNAPPLIED_BYTES_MAX
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

pub fn hard_state_record(&HardState { term, vote, commit }: &HardState) -> Record<'static> {
    Record::HardState { term, vote, commit }
}

pub fn baseline_record(&LogPosition { index, term }: &LogPosition) -> Record<'static> {
    Record::Baseline { term, index }
}

pub fn entry_record(entry: &Entry) -> Record<'_> {
    Record::Entry { term: entry.term, index: entry.index, kind: entry.kind.byte(), data: &entry.data }
}

/// Payload of the largest entry: it shares a log write with a hard state.
pub fn entry_bytes_max<E: Env>(wal: &Wal<E>) -> usize {
    let none = entry_record(&Entry::default()).encoded_bytes();
    let room = wal.room_max() - none - hard_state_record(&HardState::default()).encoded_bytes();
    room.min(limits::ENTRY_BYTES_LARGEST)
}
