//! The part of the log raft-rs reads back: a window in memory over the newest entries.
//!
//! The log on disk holds everything; entries already applied leave the window once it holds more
//! than `catchup` of them, so its size is bounded. Followers that need older entries are the
//! snapshot's business.

use std::collections::VecDeque;

use raft::{
    GetEntriesContext, RaftState, Storage, StorageError,
    eraftpb::{ConfState, Entry, HardState, Snapshot},
};

/// Entries `first..=last` and the term just before them.
pub struct LogWindow {
    /// Index and term of the entry before the window; 0 and 0 at the start of the log.
    base: (u64, u64),
    entries: VecDeque<Entry>,
    bytes: usize,
    hard_state: HardState,
    conf_state: ConfState,
}

impl LogWindow {
    /// A window that starts after the entry `base` (index, term).
    pub fn new(base: (u64, u64), hard_state: HardState, conf_state: ConfState) -> Self {
        LogWindow { base, entries: VecDeque::new(), bytes: 0, hard_state, conf_state }
    }

    /// Index and term of the entry before the window.
    pub fn base(&self) -> (u64, u64) {
        self.base
    }

    pub fn last(&self) -> u64 {
        self.base.0 + self.entries.len() as u64
    }

    /// The entry at `index`, which the window holds.
    pub fn get(&self, index: u64) -> &Entry {
        &self.entries[self.at(index)]
    }

    /// Term of the entry at `index`, which the window holds or begins after.
    pub fn term_of(&self, index: u64) -> u64 {
        if index == self.base.0 { self.base.1 } else { self.get(index).term }
    }

    /// Adds entries, replacing a conflicting tail.
    ///
    /// # Panics
    /// If they would leave a gap or reach below the window.
    pub fn append(&mut self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            assert!(entry.index > self.base.0, "entry {} below the window {}", entry.index, self.base.0);
            while self.last() >= entry.index {
                let dropped = self.entries.pop_back().expect("the window holds up to last()");
                self.bytes -= dropped.data.len();
            }
            assert!(entry.index == self.last() + 1, "gap: entry {} after {}", entry.index, self.last());
            self.bytes += entry.data.len();
            self.entries.push_back(entry);
        }
    }

    pub fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    pub fn hard_state(&self) -> &HardState {
        &self.hard_state
    }

    pub fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }

    /// Whether the group has one member, so nobody will ask for old entries: who joins it gets a snapshot.
    pub fn is_alone(&self) -> bool {
        let ConfState { voters, learners, voters_outgoing, learners_next, .. } = &self.conf_state;
        voters.len() == 1 && learners.is_empty() && voters_outgoing.is_empty() && learners_next.is_empty()
    }

    /// Lets applied entries go, oldest first, until at most `keep_entries` and `keep_bytes` of the
    /// applied ones remain; if it is alone, until one does.
    pub fn trim(&mut self, applied: u64, keep_entries: usize, keep_bytes: usize) {
        let keep_entries = if self.is_alone() { 0 } else { keep_entries };
        while let Some(oldest) = self.entries.front() {
            let keep = self.entries.len() <= keep_entries && self.bytes <= keep_bytes;
            if oldest.index >= applied || keep {
                break;
            }
            self.base = (oldest.index, oldest.term);
            self.bytes -= oldest.data.len();
            self.entries.pop_front();
        }
    }

    fn at(&self, index: u64) -> usize {
        (index - self.base.0 - 1) as usize
    }
}

impl Storage for LogWindow {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState { hard_state: self.hard_state.clone(), conf_state: self.conf_state.clone() })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.base.0 {
            return Err(StorageError::Compacted.into());
        }
        assert!(high <= self.last() + 1, "entries up to {high} asked of a log that ends at {}", self.last());
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        let mut bytes = 0u64;
        let mut found = Vec::new();
        for entry in self.entries.range(self.at(low)..self.at(high)) {
            bytes += entry.data.len() as u64;
            if !found.is_empty() && bytes > bytes_max {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.base.0 {
            return Ok(self.base.1);
        }
        if index < self.base.0 {
            return Err(StorageError::Compacted.into());
        }
        if index > self.last() {
            return Err(StorageError::Unavailable.into());
        }
        Ok(self.entries[self.at(index)].term)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.base.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        Err(StorageError::SnapshotTemporarilyUnavailable.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index, term, data: vec![0; 10].into(), ..Entry::default() }
    }

    fn window(range: std::ops::RangeInclusive<u64>) -> LogWindow {
        let base = range.start() - 1;
        let mut window = LogWindow::new((base, 1), HardState::default(), ConfState::default());
        window.append(range.map(|i| entry(i, 1)));
        window
    }

    #[test]
    fn a_conflicting_tail_is_replaced() {
        let mut window = window(1..=5);
        window.append([entry(3, 2)]);
        assert_eq!(window.last(), 3);
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
    fn trimming_keeps_what_is_not_applied_and_the_term_before() {
        let mut window = window(1..=100);
        window.trim(90, 5, usize::MAX);
        assert_eq!(window.first_index().unwrap(), 90);
        assert_eq!(window.term(89).unwrap(), 1);
        assert!(window.term(88).is_err());
        window.trim(100, 5, usize::MAX);
        assert_eq!(window.first_index().unwrap(), 96);
        assert_eq!(window.last(), 100);
        assert_eq!(window.bytes, 50);
        window.trim(100, 5, 10);
        assert_eq!(window.first_index().unwrap(), 100);
    }

    #[test]
    fn who_is_alone_keeps_nothing_for_others() {
        let mut window = window(1..=100);
        window.set_conf_state(ConfState { voters: vec![1], ..ConfState::default() });
        window.trim(90, 5, usize::MAX);
        assert_eq!((window.first_index().unwrap(), window.term(89).unwrap()), (90, 1));
        window.set_conf_state(ConfState { voters: vec![1], learners: vec![2], ..ConfState::default() });
        window.trim(100, 5, usize::MAX);
        assert_eq!(window.first_index().unwrap(), 96);
    }

    #[test]
    fn entries_are_bounded_by_size_but_never_none() {
        let window = window(1..=10);
        let get = |max| window.entries(2, 9, max, GetEntriesContext::empty(false)).unwrap().len();
        assert_eq!((get(0), get(25), get(1000)), (1, 2, 7));
    }
}
