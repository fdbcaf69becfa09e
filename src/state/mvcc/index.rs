//! Keys in order, each with the positions of its versions.
//!
//! Keys themselves stay in the log. The index is a [`directory`] of short separators ("fences") over leaves of
//! neighbouring keys. A leaf keeps eight discriminating bytes per key, so a search looks at one record, rarely two, and
//! a scan or a count at none.
//!
//! Invariants: the first fence is empty; a leaf's keys lie from its fence up to the next one; its `skip` is not longer
//! than what the two fences share, so every key that is searched there has those bytes.

mod build;
mod directory;
mod fences;
mod histories;
mod leaf;
mod leaves;

use self::{
    directory::{Directory, Following, Spot},
    histories::{Entry, Histories},
    leaf::{LEAF_KEYS, Leaf},
    leaves::Leaves,
};
use super::{
    Span,
    log::{Log, Pos},
};

pub use build::Builder;
pub use histories::Versions;

pub struct Index {
    directory: Directory,
    leaves: Leaves,
    histories: Histories,
}

/// Where a key is or belongs. Good until the index changes.
#[derive(Clone, Copy)]
pub struct Place {
    leaf: u32,
    at: Result<usize, usize>,
}

impl Default for Index {
    fn default() -> Self {
        let mut leaves = Leaves::default();
        let directory = Directory::new(leaves.add(Leaf::new(0)));
        Self { directory, leaves, histories: Histories::default() }
    }
}

impl Index {
    #[inline]
    pub fn locate(&self, log: &Log, key: &[u8]) -> Place {
        let leaf = self.directory.leaf(self.directory.find(key));
        Place { leaf, at: self.search(log, leaf, key) }
    }

    pub fn at(&self, place: Place) -> Option<Versions<'_>> {
        let at = place.at.ok()?;
        Some(self.histories.versions(self.leaves[place.leaf].entries()[at]))
    }

    pub fn get(&self, log: &Log, key: &[u8]) -> Option<Versions<'_>> {
        self.at(self.locate(log, key))
    }

    /// Adds the newest version of a key that [`Index::locate`] just placed.
    pub fn push(&mut self, log: &Log, place: Place, key: &[u8], pos: Pos) {
        match place.at {
            Ok(at) => {
                let leaf = &mut self.leaves[place.leaf];
                let entry = self.histories.push(leaf.entries()[at], pos);
                leaf.set(at, entry);
            }
            Err(at) if self.leaves[place.leaf].len() < LEAF_KEYS => {
                self.leaves[place.leaf].insert(at, key, Entry::one(pos));
            }
            Err(at) => {
                self.split(log, place.leaf, at, key);
                let Place { leaf, at } = self.locate(log, key);
                let at = at.expect_err("splitting adds no key");
                self.leaves[leaf].insert(at, key, Entry::one(pos));
            }
        }
    }

    /// Forgets the versions of `key` before `until`, oldest first, and the key with its last version.
    pub fn forget(&mut self, log: &mut Log, key: &[u8], until: Pos) {
        let place = self.locate(log, key);
        let Ok(at) = place.at else { return };
        let leaf = &mut self.leaves[place.leaf];
        match self.histories.forget(leaf.entries()[at], until, |dead| log.kill(dead)) {
            Some(entry) => leaf.set(at, entry),
            None => {
                leaf.remove(at);
                if leaf.len() < LEAF_KEYS / 4 {
                    self.merge(log, key);
                }
            }
        }
    }

    /// The place of `key` if it has a version at `pos`.
    pub fn locate_version(&self, log: &Log, key: &[u8], pos: Pos) -> Option<Place> {
        let place = self.locate(log, key);
        self.at(place)?.contains(pos).then_some(place)
    }

    /// The version at `old` of a key that [`Index::locate_version`] placed lies at `new` from now on. Until the record
    /// is there too, the index must not be searched.
    pub fn replace(&mut self, place: Place, old: Pos, new: Pos) {
        let at = place.at.expect("a version's place exists");
        let leaf = &mut self.leaves[place.leaf];
        let entry = self.histories.replace(leaf.entries()[at], old, new);
        leaf.set(at, entry);
    }

    /// The keys of `span` in order, each with its state before `until`.
    pub fn scan<'a>(&'a self, log: &Log, span: Span<'a>, until: Pos) -> Hits<'a> {
        let spot = self.directory.find(span.start());
        let leaf = self.directory.leaf(spot);
        let at = self.search(log, leaf, span.start());
        let from = at.unwrap_or_else(|at| at);
        let mut hits = Hits {
            index: self,
            until,
            following: self.directory.following(spot),
            end: None,
            entries: [].iter(),
        };
        match span {
            Span::One(_) => {
                let to = from + usize::from(at.is_ok());
                hits.entries = self.leaves[leaf].entries()[from..to].iter();
                hits.following = Default::default();
            }
            Span::From(_) => hits.enter(leaf, from),
            Span::Between(start, end) if start < end => {
                // Where the last leaf ends is looked up once.
                let Place { leaf: last, at } = self.locate(log, end);
                hits.end = Some((last, at.unwrap_or_else(|at| at)));
                hits.enter(leaf, from);
            }
            Span::Between(..) => hits.following = Default::default(),
        }
        hits
    }

    #[inline]
    fn search(&self, log: &Log, leaf: u32, key: &[u8]) -> Result<usize, usize> {
        self.leaves[leaf].search(key, |entry| self.key(log, entry).cmp(key))
    }

    #[inline]
    fn key<'l>(&self, log: &'l Log, entry: Entry) -> &'l [u8] {
        log.key(self.histories.versions(entry).newest())
    }

    /// Makes room for `key` at `at` of a full leaf. A key after all others gets a leaf of its own: ascending keys
    /// leave full leaves behind.
    fn split(&mut self, log: &Log, leaf: u32, at: usize, key: &[u8]) {
        let left = &self.leaves[leaf];
        let (before, middle) =
            if at == left.len() { (at - 1, at) } else { (left.middle() - 1, left.middle()) };
        let last = self.key(log, left.entries()[before]);
        let first = left.entries().get(middle).map_or(key, |entry| self.key(log, *entry));
        // The shortest key that is above one and not above the other.
        let fence: Box<[u8]> = first[..shared(last, first) + 1].into();

        let spot = self.directory.find(key);
        let left_skip = skip(self.directory.fence(spot), Some(&fence));
        let right_skip = skip(&fence, self.upper(spot));

        let mut right = Leaf::new(left.skip());
        self.leaves[leaf].split_off(middle, &mut right);
        let right = self.leaves.add(right);
        self.directory.insert_after(spot, fence, right);
        self.set_skip(log, leaf, left_skip);
        self.set_skip(log, right, right_skip);
    }

    /// The leaf where `key` belongs has few keys left: joins it with a neighbour if both fit well into one leaf.
    fn merge(&mut self, log: &Log, key: &[u8]) {
        let len = |spot: Spot| self.leaves[self.directory.leaf(spot)].len();
        let this = self.directory.find(key);
        let after = self.directory.after(this).map(|after| (this, after));
        let before = self.directory.before(this).map(|before| (before, this));
        let joined = [after, before].into_iter().flatten().find(|(left, right)| {
            let (left, right) = (len(*left), len(*right));
            left + right <= LEAF_KEYS * 3 / 4 || left == 0 || right == 0
        });
        let Some((kept, gone)) = joined else { return };
        let joined_skip = skip(self.directory.fence(kept), self.upper(gone));
        let left = self.directory.leaf(kept);
        let right = self.leaves.remove(self.directory.leaf(gone));
        self.directory.remove(gone);
        self.leaves[left].append(&right);
        self.take_heads(log, left, joined_skip);
    }

    /// The fence after the leaf at `spot`.
    fn upper(&self, spot: Spot) -> Option<&[u8]> {
        Some(self.directory.fence(self.directory.after(spot)?))
    }

    fn set_skip(&mut self, log: &Log, leaf: u32, skip: u16) {
        if self.leaves[leaf].skip() != skip {
            self.take_heads(log, leaf, skip);
        }
    }

    fn take_heads(&mut self, log: &Log, leaf: u32, skip: u16) {
        let Self { leaves, histories, .. } = self;
        leaves[leaf].set_skip(skip, |entry| log.key(histories.versions(entry).newest()));
    }
}

/// Bytes that two keys begin with alike.
fn shared(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// What every key from one fence up to the next begins with.
fn skip(lower: &[u8], upper: Option<&[u8]>) -> u16 {
    upper.map_or(0, |upper| shared(lower, upper).min(usize::from(u16::MAX)) as u16)
}

/// A key of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The version asked for if the key exists there, else any record that has the key.
    pub pos: Pos,
    pub exists: bool,
}

/// Iterator over [`Index::scan`].
pub struct Hits<'a> {
    index: &'a Index,
    until: Pos,
    /// The leaves after the one at hand.
    following: Following<'a>,
    /// The last leaf and how many of its keys belong to the span; none: everything to the end.
    end: Option<(u32, usize)>,
    entries: std::slice::Iter<'a, Entry>,
}

impl<'a> Hits<'a> {
    fn enter(&mut self, leaf: u32, from: usize) {
        let entries = self.index.leaves[leaf].entries();
        let to = match self.end {
            Some((last, to)) if last == leaf => {
                self.following = Default::default();
                to
            }
            _ => entries.len(),
        };
        self.entries = entries[from..to].iter();
    }
}

/// What [`Hits::count_on`] saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Keys looked at.
    pub seen: usize,
    /// Keys that exist.
    pub existing: usize,
    /// A record that has the last key seen, if others may follow.
    pub last: Option<Pos>,
}

impl Hits<'_> {
    /// Goes on leaf by leaf, until at least `budget` keys were seen or all, and only counts.
    pub fn count_on(&mut self, budget: usize) -> Counted {
        let (mut seen, mut existing) = (0, 0);
        loop {
            let entries = std::mem::take(&mut self.entries).as_slice();
            seen += entries.len();
            existing += self.index.histories.count(entries, self.until);
            match entries.last() {
                Some(last) if seen >= budget => {
                    let last = Some(self.index.histories.versions(*last).newest());
                    return Counted { seen, existing, last };
                }
                _ => {}
            }
            let Some(leaf) = self.following.next() else { return Counted { seen, existing, last: None } };
            self.enter(leaf, 0);
        }
    }
}

impl Iterator for Hits<'_> {
    type Item = Hit;

    #[inline]
    fn next(&mut self) -> Option<Hit> {
        loop {
            if let Some(entry) = self.entries.next() {
                let versions = self.index.histories.versions(*entry);
                return Some(match versions.before(self.until) {
                    Some(pos) => Hit { pos, exists: !pos.is_tombstone() },
                    None => Hit { pos: versions.newest(), exists: false },
                });
            }
            let leaf = self.following.next()?;
            self.enter(leaf, 0);
        }
    }
}

#[cfg(test)]
mod tests;
