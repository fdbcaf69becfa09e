//! Positions of keys with more than one version, in a slab; an index entry is a position or a slot of it.

use std::collections::VecDeque;

use crate::state::mvcc::log::Pos;

/// Set in an entry that names a slot instead of a position.
const HISTORY: u64 = 1 << 63;

/// What the index keeps for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry(u64);

impl Entry {
    /// Fills unused places.
    pub const NONE: Entry = Entry(0);

    pub fn one(pos: Pos) -> Self {
        Entry(pos.0)
    }

    /// The position that [`Entry::one`] was given.
    pub fn pos(self) -> Pos {
        assert!(self.slot().is_none(), "a history has several positions");
        Pos(self.0)
    }

    /// Whether the key has one version, which lies before `until` and is no tombstone.
    #[inline]
    fn is_one_that_exists(self, until: Pos) -> bool {
        // A slot is above every position.
        self.0 < until.0 && !Pos(self.0).is_tombstone()
    }

    fn slot(self) -> Option<usize> {
        (self.0 & HISTORY != 0).then_some((self.0 & !HISTORY) as usize)
    }
}

/// The versions of one key, oldest first; never empty.
#[derive(Clone, Copy)]
pub enum Versions<'a> {
    One(Pos),
    Many(&'a VecDeque<Pos>),
}

impl Versions<'_> {
    #[inline]
    pub fn newest(self) -> Pos {
        match self {
            Self::One(pos) => pos,
            Self::Many(history) => *history.back().expect("a history is never empty"),
        }
    }

    pub fn contains(self, pos: Pos) -> bool {
        match self {
            Self::One(one) => one == pos,
            Self::Many(history) => history.binary_search(&pos).is_ok(),
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

/// Slots of one page. Growing page by page never copies histories: no pause, however many there are.
const PAGE: usize = 256;

#[derive(Default)]
pub struct Histories {
    pages: Vec<Box<[VecDeque<Pos>; PAGE]>>,
    free: Vec<u32>,
}

impl Histories {
    #[inline]
    pub fn versions(&self, entry: Entry) -> Versions<'_> {
        match entry.slot() {
            Some(slot) => Versions::Many(&self.pages[slot / PAGE][slot % PAGE]),
            None => Versions::One(Pos(entry.0)),
        }
    }

    /// How many of these keys exist before `until`.
    pub fn count(&self, entries: &[Entry], until: Pos) -> usize {
        let ones: usize = entries.iter().map(|entry| usize::from(entry.is_one_that_exists(until))).sum();
        let slots: usize = entries.iter().map(|entry| (entry.0 >> HISTORY.trailing_zeros()) as usize).sum();
        if slots == 0 {
            return ones;
        }
        let exists = |entry: &&Entry| {
            let several = entry.slot().and_then(|_| self.versions(**entry).before(until));
            several.is_some_and(|pos| !pos.is_tombstone())
        };
        ones + entries.iter().filter(exists).count()
    }

    /// Adds a newer version; returns the entry that stands for the key from now on.
    pub fn push(&mut self, entry: Entry, pos: Pos) -> Entry {
        assert!(self.versions(entry).newest() < pos, "versions ascend");
        if let Some(slot) = entry.slot() {
            self.history(slot).push_back(pos);
            return entry;
        }
        let slot = self.free.pop().unwrap_or_else(|| self.grow());
        *self.history(slot as usize) = VecDeque::from([Pos(entry.0), pos]);
        Entry(HISTORY | u64::from(slot))
    }

    /// Adds a key with several versions, oldest first.
    pub fn add(&mut self, versions: impl Iterator<Item = Pos>) -> Entry {
        let slot = self.free.pop().unwrap_or_else(|| self.grow());
        let history = self.history(slot as usize);
        history.extend(versions);
        assert!(history.len() > 1, "an entry is the position of a single version");
        debug_assert!(history.iter().is_sorted());
        Entry(HISTORY | u64::from(slot))
    }

    fn history(&mut self, slot: usize) -> &mut VecDeque<Pos> {
        &mut self.pages[slot / PAGE][slot % PAGE]
    }

    /// Adds a page and returns its first slot.
    fn grow(&mut self) -> u32 {
        let first = u32::try_from(self.pages.len() * PAGE).expect("fewer histories than 2^32");
        self.pages.push(Box::new(std::array::from_fn(|_| VecDeque::new())));
        self.free.extend((first + 1..first + PAGE as u32).rev());
        first
    }

    /// Forgets the versions before `until`, oldest first; returns the entry that stands for the key from now on, if
    /// there is a version left.
    pub fn forget(&mut self, entry: Entry, until: Pos, mut forgotten: impl FnMut(Pos)) -> Option<Entry> {
        let Some(slot) = entry.slot() else {
            let pos = Pos(entry.0);
            if pos < until {
                forgotten(pos);
                return None;
            }
            return Some(entry);
        };
        let history = self.history(slot);
        while let Some(oldest) = history.front().copied().filter(|oldest| *oldest < until) {
            forgotten(oldest);
            history.pop_front();
        }
        if history.len() > 1 {
            return Some(entry);
        }
        let last = history.pop_front().map(Entry::one);
        *history = VecDeque::new();
        self.free.push(u32::try_from(slot).expect("fewer histories than 2^32"));
        last
    }

    /// The version at `old` lies at `new` from now on; returns the entry that stands for the key.
    pub fn replace(&mut self, entry: Entry, old: Pos, new: Pos) -> Entry {
        let Some(slot) = entry.slot() else {
            assert!(entry == Entry::one(old), "only a version that exists moves");
            return Entry::one(new);
        };
        let history = self.history(slot);
        let at = history.binary_search(&old).expect("only a version that exists moves");
        history[at] = new;
        entry
    }
}
