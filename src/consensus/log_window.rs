//! The log as raft-rs sees it: a window in memory over the newest entries, and what is on disk before them.
//!
//! Entries already applied leave the window once it holds more than `catchup` of them, so its size is bounded. Who needs
//! older ones waits until they are read back (`older.rs`); who needs what left the log as well gets a checkpoint.

use std::{cell::Cell, collections::VecDeque};

use raft::{
    GetEntriesContext, RaftState, Storage, StorageError,
    eraftpb::{self, ConfState, Snapshot},
};

use crate::types::{LogIndex, MemberId, Term};

use super::{
    Config, Entry, HardState, LogPosition,
    older::{self, Older},
};

/// What Raft must know of a checkpoint: the place its state is of, and who was in the group there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baseline {
    pub position: LogPosition,
    pub config: Config,
}

/// Entries `first..=last` and the term just before them.
pub struct LogWindow {
    /// What is before the window; it ends with 0 and 0 at the start of the log.
    older: Older,
    entries: VecDeque<eraftpb::Entry>,
    bytes: usize,
    hard_state: HardState,
    config: Config,
    /// The newest checkpoint that is complete on disk.
    checkpoint: Option<Baseline>,
    /// Somebody needs a newer one.
    checkpoint_wanted: Cell<bool>,
    /// Payload bytes that may still be given out to be sent.
    budget: Cell<u64>,
}

impl LogWindow {
    /// A window that starts after the entry `base`.
    pub fn new(base: LogPosition, hard_state: HardState, config: Config) -> Self {
        LogWindow {
            older: Older::new(base),
            entries: VecDeque::new(),
            bytes: 0,
            hard_state,
            config,
            checkpoint: None,
            checkpoint_wanted: Cell::new(false),
            budget: Cell::new(u64::MAX),
        }
    }

    /// The entry before the window.
    pub fn base(&self) -> LogPosition {
        self.older.last()
    }

    /// What is before the window, on disk only.
    pub fn older(&self) -> &Older {
        &self.older
    }

    pub(super) fn older_mut(&mut self) -> &mut Older {
        &mut self.older
    }

    /// From now on so many bytes are given out to be sent, and the entry that exceeds them.
    pub(super) fn set_budget(&self, bytes: u64) {
        self.budget.set(bytes);
    }

    pub fn last(&self) -> LogIndex {
        LogIndex(self.base().index.0 + self.entries.len() as u64)
    }

    /// The entry at `index`, which the window holds.
    pub fn get(&self, index: LogIndex) -> Entry {
        self.entries[self.at(index.0)].clone().into()
    }

    /// Term of the entry at `index`, which the window holds or begins after.
    pub fn term_of(&self, index: LogIndex) -> Term {
        let base = self.base();
        if index == base.index { base.term } else { Term(self.entries[self.at(index.0)].term) }
    }

    /// Adds entries, replacing a conflicting tail.
    ///
    /// # Panics
    /// If they would leave a gap or reach below the window.
    pub fn append(&mut self, entries: impl IntoIterator<Item = Entry>) {
        self.append_raw(entries.into_iter().map(Into::into));
    }

    pub(super) fn append_raw(&mut self, entries: impl IntoIterator<Item = eraftpb::Entry>) {
        for entry in entries {
            let base = self.base().index;
            assert!(entry.index > base.0, "entry {} below the window {base}", entry.index);
            while self.last().0 >= entry.index {
                let dropped = self.entries.pop_back().expect("the window holds up to last()");
                self.bytes -= dropped.data.len();
            }
            assert!(entry.index == self.last().0 + 1, "gap: entry {} after {}", entry.index, self.last());
            self.bytes += entry.data.len();
            self.entries.push_back(entry);
        }
    }

    /// Starts anew after a received checkpoint, which is ahead of everything that is known to be committed.
    pub(super) fn restore(&mut self, baseline: &Baseline) {
        assert!(baseline.position.index >= self.base().index, "a checkpoint below the window");
        self.older = Older::new(baseline.position);
        self.entries.clear();
        self.bytes = 0;
        self.config = baseline.config.clone();
    }

    pub(super) fn take_checkpoint_wanted(&self) -> bool {
        self.checkpoint_wanted.take()
    }

    pub(super) fn checkpoint(&self) -> Option<&Baseline> {
        self.checkpoint.as_ref()
    }

    pub(super) fn first_in_memory(&self) -> LogIndex {
        LogIndex(self.base().index.0 + 1)
    }

    pub(super) fn set_checkpoint(&mut self, baseline: Baseline) {
        self.checkpoint = Some(baseline);
    }

    pub fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    pub fn set_config(&mut self, config: Config) {
        self.config = config;
    }

    /// Whether the group has one member, so nobody will ask for old entries: who joins it gets a checkpoint.
    pub fn is_alone(&self) -> bool {
        self.config.voters.len() == 1 && self.config.learners.is_empty()
    }

    /// Lets applied entries go, oldest first, until at most `keep_entries` and `keep_bytes` of the
    /// applied ones remain; if it is alone, until one does.
    pub fn trim(&mut self, applied: LogIndex, keep_entries: usize, keep_bytes: usize) {
        let is_alone = self.is_alone();
        let keep_entries = if is_alone { 0 } else { keep_entries };
        while let Some(oldest) = self.entries.front() {
            let is_kept = self.entries.len() <= keep_entries && self.bytes <= keep_bytes;
            if oldest.index >= applied.0 || is_kept {
                break;
            }
            let at = LogPosition { index: LogIndex(oldest.index), term: Term(oldest.term) };
            if is_alone {
                self.older.skip(at)
            } else {
                self.older.push(at)
            }
            self.bytes -= oldest.data.len();
            self.entries.pop_front();
        }
    }

    fn at(&self, index: u64) -> usize {
        (index - self.base().index.0 - 1) as usize
    }
}

impl Storage for LogWindow {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState { hard_state: self.hard_state.into(), conf_state: self.config.for_raft() })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<eraftpb::Entry>> {
        if low <= self.older.base().index.0 {
            return Err(StorageError::Compacted.into());
        }
        assert!(
            high <= self.last().0 + 1,
            "entries up to {high} asked of a log that ends at {}",
            self.last()
        );
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        let to_send = context.can_async();
        if to_send && self.budget.get() == 0 {
            return Err(StorageError::LogTemporarilyUnavailable.into());
        }
        let found = if low > self.base().index.0 {
            older::within(self.entries.range(self.at(low)..self.at(high)), bytes_max)
        } else if let Some(found) = self.older.read(low, bytes_max) {
            found
        } else {
            assert!(to_send, "entry {low} is not applied, and not in memory");
            self.older.want(low, context);
            return Err(StorageError::LogTemporarilyUnavailable.into());
        };
        if to_send {
            let bytes = found.iter().map(|entry| entry.data.len() as u64).sum();
            self.budget.set(self.budget.get().saturating_sub(bytes));
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.older.base().index.0 {
            return Err(StorageError::Compacted.into());
        }
        if index > self.last().0 {
            return Err(StorageError::Unavailable.into());
        }
        if index <= self.base().index.0 {
            return Ok(self.older.term(LogIndex(index)).0);
        }
        Ok(self.entries[self.at(index)].term)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.older.base().index.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last().0)
    }

    /// What to send ahead of a checkpoint's files. Only if the follower can go on from there: the log has what comes
    /// after it, and the follower was in the group, or it would ignore it.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let serves = |checkpoint: &&Baseline| {
            let index = checkpoint.position.index;
            index >= self.older.base().index
                && index.0 >= request_index
                && checkpoint.config.contains(MemberId(to))
        };
        let Some(Baseline { position, config }) = self.checkpoint.as_ref().filter(serves) else {
            self.checkpoint_wanted.set(true);
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        };
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = position.index.0;
        metadata.term = position.term.0;
        let conf_state: ConfState = config.for_raft();
        metadata.set_conf_state(conf_state);
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index: LogIndex(index), term: Term(term), data: vec![0; 10].into(), ..Entry::default() }
    }

    fn ids(ids: &[u64]) -> Vec<MemberId> {
        ids.iter().copied().map(MemberId).collect()
    }

    fn window(range: std::ops::RangeInclusive<u64>) -> LogWindow {
        let base = LogPosition { index: LogIndex(range.start() - 1), term: Term(1) };
        let mut window = LogWindow::new(base, HardState::default(), Config::default());
        window.append(range.map(|i| entry(i, 1)));
        window
    }

    #[test]
    fn a_conflicting_tail_is_replaced() {
        let mut window = window(1..=5);
        window.append([entry(3, 2)]);
        assert_eq!(window.last(), LogIndex(3));
        assert_eq!(window.term(3).unwrap(), 2);
        assert_eq!(window.term(2).unwrap(), 1);
        assert!(window.term(4).is_err());
        assert_eq!(window.bytes, 30);
    }

    #[test]
    #[should_panic(expected = "gap")]
    fn a_gap_is_refused() {
        window(1..=5).append([entry(7, 1)]);
    }

    #[test]
    fn trimming_keeps_what_is_not_applied_and_knows_the_terms_of_the_rest() {
        let mut window = window(1..=100);
        window.trim(LogIndex(90), 5, usize::MAX);
        assert_eq!((window.base().index, window.first_index().unwrap()), (LogIndex(89), 1));
        assert_eq!((window.term(89).unwrap(), window.term(1).unwrap()), (1, 1));
        window.older_mut().forget(LogIndex(50));
        assert!(window.term(49).is_err() && window.term(50).is_ok());
        window.trim(LogIndex(100), 5, usize::MAX);
        assert_eq!(window.base().index, LogIndex(95));
        assert_eq!(window.last(), LogIndex(100));
        assert_eq!(window.bytes, 50);
        window.trim(LogIndex(100), 5, 10);
        assert_eq!(window.base().index, LogIndex(99));
    }

    #[test]
    fn what_is_not_in_memory_comes_once_it_was_read_back() {
        let mut window = window(1..=100);
        window.trim(LogIndex(100), 5, usize::MAX);
        let get = |window: &LogWindow, low| {
            window.entries(low, 101, 1_000, GetEntriesContext::empty(true)).map(|found| found.len())
        };
        let not_yet = Err(raft::Error::Store(StorageError::LogTemporarilyUnavailable));
        assert_eq!(get(&window, 40), not_yet);
        assert_eq!(window.older_mut().take_wanted().map(|(from, _)| from), Some(LogIndex(40)));
        window.older_mut().fill(LogIndex(40), (40..=97).map(|index| entry(index, 1)).collect());
        assert_eq!(get(&window, 40), Ok(56), "up to where memory begins");
        assert_eq!(get(&window, 96), Ok(5));
        window.older_mut().forget(LogIndex(45));
        assert_eq!(get(&window, 45), Err(raft::Error::Store(StorageError::Compacted)));
    }

    #[test]
    fn no_more_is_given_out_at_a_time_than_may_be_sent() {
        let window = window(1..=10);
        window.set_budget(15);
        let get = |to_send| window.entries(2, 9, 10, GetEntriesContext::empty(to_send)).is_ok();
        assert!(get(true) && get(true) && !get(true) && get(false));
    }

    #[test]
    fn who_is_alone_keeps_nothing_for_others() {
        let mut window = window(1..=100);
        window.set_config(Config { voters: ids(&[1]), learners: ids(&[]) });
        window.trim(LogIndex(90), 5, usize::MAX);
        assert_eq!((window.first_index().unwrap(), window.term(89).unwrap()), (90, 1));
        window.set_config(Config { voters: ids(&[1]), learners: ids(&[2]) });
        window.trim(LogIndex(100), 5, usize::MAX);
        assert_eq!((window.first_index().unwrap(), window.base().index), (90, LogIndex(95)));
    }

    #[test]
    fn a_checkpoint_is_offered_to_those_who_can_go_on_from_it() {
        let mut window = window(10..=20);
        let offered = |window: &LogWindow, asked, to| window.snapshot(asked, to).is_ok();
        assert!(!offered(&window, 0, 2), "there is none");
        let position = |index| LogPosition { index: LogIndex(index), term: Term(1) };
        let config = Config { voters: ids(&[1]), learners: ids(&[2]) };
        window.set_checkpoint(Baseline { position: position(8), config: config.clone() });
        assert!(!offered(&window, 0, 2), "entry 9 is gone");
        window.set_checkpoint(Baseline { position: position(9), config });
        assert!(offered(&window, 0, 2) && offered(&window, 9, 2));
        assert!(!offered(&window, 10, 2), "a newer one is asked for");
        assert!(!offered(&window, 0, 3), "it was no member then");
        assert_eq!(window.snapshot(0, 2).unwrap().get_metadata().get_conf_state().learners, vec![2]);
    }

    #[test]
    fn entries_are_bounded_by_size_but_never_none() {
        let window = window(1..=10);
        let get = |max| window.entries(2, 9, max, GetEntriesContext::empty(false)).unwrap().len();
        assert_eq!((get(0), get(25), get(1000)), (1, 2, 7));
    }
}
