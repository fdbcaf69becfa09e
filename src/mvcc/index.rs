//! Keys in order, each with the positions of its versions.

use std::collections::{BTreeMap, VecDeque, btree_map};
use std::ops::Bound;

use super::{Span, log::Pos};

/// Set in an entry that names a slot of `histories` instead of a position.
const HISTORY: u64 = 1 << 63;

/// Key order over the log. Most keys have one version, kept inline; the others have a slot in `histories`.
#[derive(Default)]
pub struct Index {
    entries: BTreeMap<Box<[u8]>, u64>,
    histories: Vec<VecDeque<Pos>>,
    free: Vec<u32>,
}

/// The versions of one key, oldest first; never empty.
#[derive(Clone, Copy)]
pub enum Versions<'a> {
    One(Pos),
    Many(&'a VecDeque<Pos>),
}

impl Versions<'_> {
    pub fn newest(self) -> Pos {
        match self {
            Self::One(pos) => pos,
            Self::Many(history) => *history.back().expect("a history is never empty"),
        }
    }

    /// The newest version before `until`, tombstones included.
    #[inline]
    pub fn before(self, until: Pos) -> Option<Pos> {
        match self {
            Self::One(pos) => (pos < until).then_some(pos),
            Self::Many(history) => match history.back() {
                Some(newest) if *newest < until => Some(*newest),
                _ => history.partition_point(|pos| *pos < until).checked_sub(1).map(|at| history[at]),
            },
        }
    }
}

impl Index {
    pub fn get(&self, key: &[u8]) -> Option<Versions<'_>> {
        self.entries.get(key).map(|entry| self.versions(*entry))
    }

    /// Adds the newest version of a key.
    pub fn push(&mut self, key: &[u8], pos: Pos) {
        let Some(entry) = self.entries.get_mut(key) else {
            self.entries.insert(key.into(), pos.0);
            return;
        };
        if *entry & HISTORY != 0 {
            let history = &mut self.histories[(*entry & !HISTORY) as usize];
            assert!(history.back().is_some_and(|newest| *newest < pos), "versions ascend");
            history.push_back(pos);
            return;
        }
        assert!(Pos(*entry) < pos, "versions ascend");
        let history = VecDeque::from([Pos(*entry), pos]);
        let slot = match self.free.pop() {
            Some(slot) => {
                self.histories[slot as usize] = history;
                u64::from(slot)
            }
            None => {
                self.histories.push(history);
                self.histories.len() as u64 - 1
            }
        };
        *entry = HISTORY | slot;
    }

    /// Forgets the versions of `key` before `until`, oldest first, and the key with its last version.
    pub fn forget(&mut self, key: &[u8], until: Pos, mut forgotten: impl FnMut(Pos)) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if *entry & HISTORY == 0 {
            if Pos(*entry) < until {
                forgotten(Pos(*entry));
                self.entries.remove(key);
            }
            return;
        }
        let slot = *entry & !HISTORY;
        let history = &mut self.histories[slot as usize];
        while let Some(oldest) = history.front().copied().filter(|oldest| *oldest < until) {
            forgotten(oldest);
            history.pop_front();
        }
        if history.len() > 1 {
            return;
        }
        match history.pop_front() {
            Some(last) => *entry = last.0,
            None => {
                self.entries.remove(key);
            }
        }
        self.histories[slot as usize] = VecDeque::new();
        self.free.push(u32::try_from(slot).expect("fewer histories than 2^32"));
    }

    /// The version of `key` at `old` lies at `new` from now on. False when the index does not name it.
    pub fn replace(&mut self, key: &[u8], old: Pos, new: Pos) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        if *entry & HISTORY == 0 {
            let named = Pos(*entry) == old;
            if named {
                *entry = new.0;
            }
            return named;
        }
        let history = &mut self.histories[(*entry & !HISTORY) as usize];
        match history.binary_search(&old) {
            Ok(at) => {
                history[at] = new;
                true
            }
            Err(_) => false,
        }
    }

    /// The keys of `span` in order, each with its state before `until`.
    pub fn scan<'a>(&'a self, span: Span<'_>, until: Pos) -> Hits<'a> {
        let lower = Bound::Included(span.start());
        let upper = match span {
            Span::One(key) => Bound::Included(key),
            Span::Between(key, end) => Bound::Excluded(end.max(key)),
            Span::From(_) => Bound::Unbounded,
        };
        Hits { index: self, until, entries: self.entries.range::<[u8], _>((lower, upper)) }
    }

    fn versions(&self, entry: u64) -> Versions<'_> {
        if entry & HISTORY != 0 {
            Versions::Many(&self.histories[(entry & !HISTORY) as usize])
        } else {
            Versions::One(Pos(entry))
        }
    }
}

/// Iterator over [`Index::scan`].
pub struct Hits<'a> {
    index: &'a Index,
    until: Pos,
    entries: btree_map::Range<'a, Box<[u8]>, u64>,
}

/// A key of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The version asked for if the key exists there, else any record that has the key.
    pub pos: Pos,
    pub exists: bool,
}

impl Iterator for Hits<'_> {
    type Item = Hit;

    #[inline]
    fn next(&mut self) -> Option<Hit> {
        let (_, entry) = self.entries.next()?;
        let versions = self.index.versions(*entry);
        Some(match versions.before(self.until) {
            Some(pos) => Hit { pos, exists: !pos.is_tombstone() },
            None => Hit { pos: versions.newest(), exists: false },
        })
    }
}
