//! The part of the log that is on disk only: the terms of its entries, and the few of them that were read back.
//!
//! Terms only go up, so that it is enough to know where each begins. What is read back is taken in only if it is of the
//! term that is known here: two entries of the same place and term are the same one.

use std::{cell::RefCell, collections::VecDeque};

use raft::{GetEntriesContext, eraftpb};

use crate::{
    limits,
    types::{LogIndex, Term},
};

use super::{Entry, LogPosition};

/// Which term each of some entries is of that follow one another.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Where each term begins.
    runs: VecDeque<LogPosition>,
    /// The last of the entries.
    last: LogIndex,
}

impl Terms {
    /// That of one of the entries; none of any other, save those that were forgotten last.
    pub fn of(&self, index: LogIndex) -> Option<Term> {
        let run = self.runs.partition_point(|run| run.index <= index).checked_sub(1)?;
        (index <= self.last).then(|| self.runs[run].term)
    }

    fn push(&mut self, at: LogPosition) {
        if self.runs.back().is_none_or(|run| run.term != at.term) {
            self.runs.push_back(at);
        }
        self.last = at.index;
    }

    /// Forgets those up to this one.
    fn forget(&mut self, index: LogIndex) {
        while self.runs.get(1).is_some_and(|next| next.index.0 <= index.0 + 1) {
            self.runs.pop_front();
        }
    }
}

/// Somebody needs the entries from this one on.
struct Wanted {
    from: LogIndex,
    context: GetEntriesContext,
}

/// Entries `base + 1..=last` of the log, which memory has no more.
pub struct Older {
    base: LogPosition,
    last: LogPosition,
    terms: Terms,
    /// What was read back, the oldest first: entries that follow one another.
    pages: VecDeque<Vec<eraftpb::Entry>>,
    bytes: usize,
    wanted: RefCell<VecDeque<Wanted>>,
}

impl Older {
    /// None, after this entry.
    pub fn new(base: LogPosition) -> Self {
        Older {
            base,
            last: base,
            terms: Terms::default(),
            pages: VecDeque::new(),
            bytes: 0,
            wanted: RefCell::default(),
        }
    }

    /// The entry before the first one.
    pub fn base(&self) -> LogPosition {
        self.base
    }

    /// The last one, or the base if there is none.
    pub fn last(&self) -> LogPosition {
        self.last
    }

    /// That of the base or of an entry after it.
    pub fn term(&self, index: LogIndex) -> Term {
        if index == self.base.index {
            return self.base.term;
        }
        self.terms.of(index).expect("an entry whose term is known")
    }

    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// One more left memory.
    pub fn push(&mut self, at: LogPosition) {
        self.terms.push(at);
        self.last = at;
    }

    /// One more left memory, and nobody needs any of them.
    pub fn skip(&mut self, at: LogPosition) {
        if self.base != self.last {
            *self = Older::new(at);
        }
        (self.base, self.last) = (at, at);
    }

    /// Nobody will be given those up to this one.
    pub fn forget(&mut self, index: LogIndex) {
        let index = index.min(self.last.index);
        if index > self.base.index {
            self.base = LogPosition { index, term: self.term(index) };
            self.terms.forget(index);
        }
    }

    /// What was read back from this one on, as much as may be given at a time.
    pub fn read(&self, from: u64, bytes_max: u64) -> Option<Vec<eraftpb::Entry>> {
        let has = |page: &&Vec<eraftpb::Entry>| page[0].index <= from && from <= page[page.len() - 1].index;
        let page = self.pages.iter().rfind(has)?;
        let rest = &page[(from - page[0].index) as usize..];
        Some(within(rest, bytes_max))
    }

    /// Somebody needs what was not read back. Who is not noted asks again.
    pub fn want(&self, from: u64, context: GetEntriesContext) {
        let (from, mut wanted) = (LogIndex(from), self.wanted.borrow_mut());
        if wanted.len() < limits::READ_BACKS_WANTED && wanted.iter().all(|other| other.from != from) {
            wanted.push_back(Wanted { from, context });
        }
    }

    /// What is to be read back next, for whom.
    pub fn take_wanted(&mut self) -> Option<(LogIndex, GetEntriesContext)> {
        let wanted = self.wanted.get_mut();
        std::iter::from_fn(|| wanted.pop_front())
            .map(|Wanted { from, context }| (from, context))
            .find(|(from, _)| *from > self.base.index && *from <= self.last.index)
    }

    /// Takes in what was read back from this entry on; what is not as it should be is left out, with all that follows.
    pub fn fill(&mut self, from: LogIndex, entries: Vec<Entry>) {
        let is_right = |(index, entry): &(u64, Entry)| {
            entry.index.0 == *index && self.terms.of(entry.index) == Some(entry.term)
        };
        let known = (from.0..).zip(entries).take_while(is_right).map(|(_, entry)| entry.into());
        let page: Vec<eraftpb::Entry> = known.collect();
        if page.is_empty() || from <= self.base.index {
            return;
        }
        self.bytes += bytes(&page);
        self.pages.push_back(page);
        while self.bytes > limits::READ_BACK_BYTES && self.pages.len() > 1 {
            self.bytes -= self.pages.pop_front().map_or(0, |page| bytes(&page));
        }
    }

    /// Nobody needs what was read back.
    pub fn clear(&mut self) {
        self.pages.clear();
        self.bytes = 0;
        self.wanted.get_mut().clear();
    }
}

/// As many as fit, but never none of some.
pub fn within<'a>(
    entries: impl IntoIterator<Item = &'a eraftpb::Entry>,
    bytes_max: u64,
) -> Vec<eraftpb::Entry> {
    let mut bytes = 0u64;
    let mut found = Vec::new();
    for entry in entries {
        bytes += entry.data.len() as u64;
        if !found.is_empty() && bytes > bytes_max {
            break;
        }
        found.push(entry.clone());
    }
    found
}

fn bytes(page: &[eraftpb::Entry]) -> usize {
    page.iter().map(|entry| entry.data.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u64, term: u64) -> LogPosition {
        LogPosition { index: LogIndex(index), term: Term(term) }
    }

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index: LogIndex(index), term: Term(term), data: vec![0; 10].into(), ..Entry::default() }
    }

    /// Entries 11..=30 of three terms.
    fn older() -> Older {
        let mut older = Older::new(at(10, 1));
        (11..=15).for_each(|index| older.push(at(index, 1)));
        (16..=20).for_each(|index| older.push(at(index, 4)));
        (21..=30).for_each(|index| older.push(at(index, 5)));
        older
    }

    #[test]
    fn terms_are_known_of_what_was_not_forgotten() {
        let mut older = older();
        let terms = |older: &Older, of: std::ops::RangeInclusive<u64>| -> Vec<u64> {
            of.map(|index| older.term(LogIndex(index)).0).collect()
        };
        assert_eq!(terms(&older, 10..=17), [1, 1, 1, 1, 1, 1, 4, 4]);
        assert_eq!(terms(&older, 20..=22), [4, 5, 5]);
        assert_eq!(older.terms().of(LogIndex(31)), None);
        older.forget(LogIndex(15));
        assert_eq!((older.base(), terms(&older, 15..=16)), (at(15, 1), vec![1, 4]));
        older.forget(LogIndex(17));
        assert_eq!((older.base(), older.terms.runs.len()), (at(17, 4), 2));
        older.forget(LogIndex(99));
        assert_eq!((older.base(), older.last()), (at(30, 5), at(30, 5)));
        older.push(at(31, 5));
        older.push(at(32, 6));
        assert_eq!(terms(&older, 30..=32), [5, 5, 6]);
    }

    #[test]
    fn only_what_is_of_the_known_term_is_taken_in() {
        let mut older = older();
        older.fill(LogIndex(14), vec![entry(14, 2)]);
        older.fill(LogIndex(14), vec![entry(15, 1)]);
        older.fill(LogIndex(10), vec![entry(10, 1)]);
        assert!(older.pages.is_empty(), "of another term, another one, below the first one");
        older.fill(LogIndex(14), vec![entry(14, 1), entry(15, 1), entry(16, 3), entry(17, 4)]);
        let read = |from| older.read(from, 1_000).map(|found| found.len());
        assert_eq!([13, 14, 15, 16].map(read), [None, Some(2), Some(1), None]);
        assert_eq!(older.read(14, 0).unwrap().len(), 1, "never none");
    }

    #[test]
    fn what_was_read_back_is_bounded_and_the_newest_stays() {
        let mut older = older();
        let long = |index| Entry { data: vec![0; limits::READ_BACK_BYTES].into(), ..entry(index, 1) };
        older.fill(LogIndex(12), vec![entry(12, 1)]);
        older.fill(LogIndex(13), vec![long(13)]);
        assert!(older.read(12, 1).is_none() && older.read(13, 1).is_some());
        older.clear();
        assert_eq!((older.bytes, older.read(13, 1)), (0, None));
    }

    #[test]
    fn each_place_is_wanted_once_and_only_where_there_is_something() {
        let mut older = older();
        let want = |older: &Older, from| older.want(from, GetEntriesContext::empty(true));
        [12, 12, 20, 10].into_iter().for_each(|from| want(&older, from));
        older.forget(LogIndex(12));
        assert_eq!(older.take_wanted().map(|(from, _)| from), Some(LogIndex(20)));
        assert!(older.take_wanted().is_none());
        (11..=30).for_each(|from| want(&older, from));
        assert_eq!(older.wanted.borrow().len(), limits::READ_BACKS_WANTED);
    }
}
