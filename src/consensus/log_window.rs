//! The part of the log raft-rs reads back: a window in memory over the newest entries.
//!
//! The log on disk holds everything; entries already applied leave the window once it holds more
//! than `catchup` of them, so its size is bounded. There is more room for what members need that are there and behind.
//! Who needs older entries gets a checkpoint instead of them being read back from the log: of that only the segments
//! travel that are new since the last one, so that each is sooner there than the one before, and then the window is enough.

use std::{cell::Cell, collections::VecDeque};

use raft::{
    GetEntriesContext, RaftState, Storage, StorageError,
    eraftpb::{self, ConfState, Snapshot},
};

use crate::{
    limits,
    types::{LogIndex, MemberId, Term},
};

use super::{Config, Entry, HardState, LogPosition};

/// What Raft must know of a checkpoint: the place its state is of, and who was in the group there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baseline {
    pub position: LogPosition,
    pub config: Config,
}

/// Entries `first..=last` and the term just before them.
pub struct LogWindow {
    /// The entry before the window; 0 and 0 at the start of the log.
    base: LogPosition,
    entries: VecDeque<eraftpb::Entry>,
    bytes: usize,
    hard_state: HardState,
    config: Config,
    /// The newest checkpoint that is complete on disk.
    checkpoint: Option<Baseline>,
    /// Somebody needs a newer one.
    checkpoint_wanted: Cell<bool>,
}

impl LogWindow {
    /// A window that starts after the entry `base`.
    pub fn new(base: LogPosition, hard_state: HardState, config: Config) -> Self {
        LogWindow {
            base,
            entries: VecDeque::new(),
            bytes: 0,
            hard_state,
            config,
            checkpoint: None,
            checkpoint_wanted: Cell::new(false),
        }
    }

    /// The entry before the window.
    pub fn base(&self) -> LogPosition {
        self.base
    }

    pub fn last(&self) -> LogIndex {
        LogIndex(self.base.index.0 + self.entries.len() as u64)
    }

    /// The entry at `index`, which the window holds.
    pub fn get(&self, index: LogIndex) -> Entry {
        self.entries[self.at(index.0)].clone().into()
    }

    /// Term of the entry at `index`, which the window holds or begins after.
    pub fn term_of(&self, index: LogIndex) -> Term {
        if index == self.base.index { self.base.term } else { Term(self.entries[self.at(index.0)].term) }
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
            let base = self.base.index;
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
        assert!(baseline.position.index >= self.base.index, "a checkpoint below the window");
        self.base = baseline.position;
        self.entries.clear();
        self.bytes = 0;
        self.config = baseline.config.clone();
    }

    pub(super) fn take_checkpoint_wanted(&self) -> bool {
        self.checkpoint_wanted.take()
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
        self.trim_for(applied, (keep_entries, keep_bytes), applied);
    }

    /// The same, but for entries after `needed`, for which there is more room: a member is about to be sent them.
    pub fn trim_for(
        &mut self,
        applied: LogIndex,
        (keep_entries, keep_bytes): (usize, usize),
        needed: LogIndex,
    ) {
        let keep_entries = if self.is_alone() { 0 } else { keep_entries };
        while let Some(oldest) = self.entries.front() {
            let is_kept = self.entries.len() <= keep_entries && self.bytes <= keep_bytes;
            let is_needed = oldest.index > needed.0 && self.bytes <= limits::NEEDED_BYTES;
            if oldest.index >= applied.0 || is_kept || is_needed {
                break;
            }
            self.base = LogPosition { index: LogIndex(oldest.index), term: Term(oldest.term) };
            self.bytes -= oldest.data.len();
            self.entries.pop_front();
        }
    }

    fn at(&self, index: u64) -> usize {
        (index - self.base.index.0 - 1) as usize
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
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<eraftpb::Entry>> {
        if low <= self.base.index.0 {
            return Err(StorageError::Compacted.into());
        }
        assert!(
            high <= self.last().0 + 1,
            "entries up to {high} asked of a log that ends at {}",
            self.last()
        );
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
        if index == self.base.index.0 {
            return Ok(self.base.term.0);
        }
        if index < self.base.index.0 {
            return Err(StorageError::Compacted.into());
        }
        if index > self.last().0 {
            return Err(StorageError::Unavailable.into());
        }
        Ok(self.entries[self.at(index)].term)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.base.index.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last().0)
    }

    /// What to send ahead of a checkpoint's files. Only if the follower can go on from there: the log has what comes
    /// after it, and the follower was in the group, or it would ignore it.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let serves = |checkpoint: &&Baseline| {
            let index = checkpoint.position.index;
            index >= self.base.index && index.0 >= request_index && checkpoint.config.contains(MemberId(to))
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
    fn trimming_keeps_what_is_not_applied_and_the_term_before() {
        let mut window = window(1..=100);
        window.trim(LogIndex(90), 5, usize::MAX);
        assert_eq!(window.first_index().unwrap(), 90);
        assert_eq!(window.term(89).unwrap(), 1);
        assert!(window.term(88).is_err());
        window.trim(LogIndex(100), 5, usize::MAX);
        assert_eq!(window.first_index().unwrap(), 96);
        assert_eq!(window.last(), LogIndex(100));
        assert_eq!(window.bytes, 50);
        window.trim(LogIndex(100), 5, 10);
        assert_eq!(window.first_index().unwrap(), 100);
    }

    #[test]
    fn what_a_member_is_about_to_be_sent_is_kept_for_longer() {
        let mut window = window(1..=100);
        window.trim_for(LogIndex(90), (5, 10), LogIndex(40));
        assert_eq!(window.first_index().unwrap(), 41);
        window.trim_for(LogIndex(95), (5, 10), LogIndex(30));
        assert_eq!(window.first_index().unwrap(), 41);
        let long = Entry { data: vec![0; limits::NEEDED_BYTES].into(), ..entry(101, 1) };
        window.append([long]);
        window.trim_for(LogIndex(95), (5, 10), LogIndex(40));
        assert_eq!(window.first_index().unwrap(), 95, "within bounds");
    }

    #[test]
    fn who_is_alone_keeps_nothing_for_others() {
        let mut window = window(1..=100);
        window.set_config(Config { voters: ids(&[1]), learners: ids(&[]) });
        window.trim(LogIndex(90), 5, usize::MAX);
        assert_eq!((window.first_index().unwrap(), window.term(89).unwrap()), (90, 1));
        window.set_config(Config { voters: ids(&[1]), learners: ids(&[2]) });
        window.trim(LogIndex(100), 5, usize::MAX);
        assert_eq!(window.first_index().unwrap(), 96);
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
