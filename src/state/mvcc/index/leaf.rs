//! A run of neighbouring keys: per key eight bytes to search by and its entry.

use super::histories::Entry;

/// Keys of a full leaf; with it a leaf takes a kibibyte, sixteen cache lines.
pub const LEAF_KEYS: usize = 63;

/// Heads of one cache line, and such lines.
const LINE: usize = 8;
const LINES: usize = (LEAF_KEYS + 1) / LINE;

/// All keys of a leaf, and all keys that could be inserted into it, share their first `skip` bytes; a key's head is
/// the eight bytes after them, filled up with zeros. Heads order like keys as far as they differ.
#[repr(C, align(64))]
pub struct Leaf {
    /// The greatest possible where there is no key; the last place never has one.
    heads: [u64; LINE * LINES],
    entries: [Entry; LEAF_KEYS],
    len: u16,
    skip: u16,
}

const _: () = assert!(size_of::<Leaf>() == 1024 && LEAF_KEYS + 1 == LINE * LINES);
const NO_HEAD: u64 = u64::MAX;

impl Leaf {
    pub fn new(skip: u16) -> Self {
        Self { heads: [NO_HEAD; LINE * LINES], entries: [Entry::NONE; LEAF_KEYS], len: 0, skip }
    }

    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    pub fn skip(&self) -> u16 {
        self.skip
    }

    #[inline]
    pub fn entries(&self) -> &[Entry] {
        &self.entries[..self.len()]
    }

    pub fn set(&mut self, at: usize, entry: Entry) {
        assert!(at < self.len(), "only what is there is replaced");
        self.entries[at] = entry;
    }

    /// Where `key` is or belongs; `order(entry)` compares the entry's key with it.
    #[inline]
    pub fn search(&self, key: &[u8], order: impl Fn(Entry) -> std::cmp::Ordering) -> Result<usize, usize> {
        let head = head(key, self.skip);
        // One look at each line, then all of one: no look waits in memory for the one before.
        let line: usize = (0..LINES).map(|line| usize::from(self.heads[line * LINE + LINE - 1] < head)).sum();
        let first = line.min(LINES - 1) * LINE;
        let within: usize =
            self.heads[first..first + LINE].iter().map(|other| usize::from(*other < head)).sum();
        let from = (first + within).min(self.len());
        let equal = self.heads[from..self.len()].iter().take_while(|other| **other == head).count();
        let to = from + equal;
        self.entries[from..to]
            .binary_search_by(|entry| order(*entry))
            .map(|at| from + at)
            .map_err(|at| from + at)
    }

    /// Adds a key after all others; `head` is its eight bytes after the leaf's skip.
    pub fn push(&mut self, head: u64, entry: Entry) {
        let len = self.len();
        self.heads[len] = head;
        self.entries[len] = entry;
        self.len += 1;
    }

    /// A place near the middle to split at: where the keys on both sides differ earliest, as far as heads tell. Leaves
    /// then end where groups of keys do, and what a leaf's keys share is long.
    pub fn middle(&self) -> usize {
        let len = self.len();
        let alike = |at: usize| (self.heads[at - 1] ^ self.heads[at]).leading_zeros() / 8;
        let near = (len * 3 / 8).max(1)..(len * 5 / 8).max(2);
        near.min_by_key(|at| (alike(*at), at.abs_diff(len / 2))).expect("a full leaf has a middle")
    }

    pub fn insert(&mut self, at: usize, key: &[u8], entry: Entry) {
        let len = self.len();
        assert!(len < LEAF_KEYS, "a full leaf is split first");
        self.heads.copy_within(at..len, at + 1);
        self.entries.copy_within(at..len, at + 1);
        self.heads[at] = head(key, self.skip);
        self.entries[at] = entry;
        self.len += 1;
    }

    pub fn remove(&mut self, at: usize) {
        let len = self.len();
        self.heads.copy_within(at + 1..len, at);
        self.entries.copy_within(at + 1..len, at);
        self.heads[len - 1] = NO_HEAD;
        self.len -= 1;
    }

    /// Moves what lies at `at` and after it to `right`, which is empty.
    pub fn split_off(&mut self, at: usize, right: &mut Leaf) {
        assert!(right.len == 0 && right.skip == self.skip);
        let moved = self.len() - at;
        right.heads[..moved].copy_from_slice(&self.heads[at..self.len()]);
        right.entries[..moved].copy_from_slice(&self.entries[at..self.len()]);
        right.len = moved as u16;
        self.heads[at..].fill(NO_HEAD);
        self.len = at as u16;
    }

    /// Appends what the leaf after this one has; heads are right after [`Leaf::set_skip`].
    pub fn append(&mut self, right: &Leaf) {
        let (len, more) = (self.len(), right.len());
        self.entries[len..len + more].copy_from_slice(right.entries());
        self.len += right.len;
    }

    /// The bytes all keys share have changed: heads are taken anew from the keys.
    pub fn set_skip<'k>(&mut self, skip: u16, key: impl Fn(Entry) -> &'k [u8]) {
        self.skip = skip;
        for at in 0..self.len() {
            self.heads[at] = head(key(self.entries[at]), skip);
        }
    }
}

/// The eight bytes after `skip`, filled up with zeros.
#[inline]
pub fn head(key: &[u8], skip: u16) -> u64 {
    let rest = &key[usize::from(skip)..];
    if let Some(head) = rest.first_chunk::<8>() {
        return u64::from_be_bytes(*head);
    }
    rest.iter()
        .zip((0..8).map(|at| 56 - 8 * at))
        .fold(0, |head, (byte, shift)| head | u64::from(*byte) << shift)
}
