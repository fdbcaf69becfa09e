//! An index made at once from all records, as after a restart.
//!
//! Keys are put in order by fifteen bytes of each, which are taken while the records go by; only where those are alike
//! are keys read again, for the next fifteen that differ. Then leaves, histories and directory are written in order.
//! Besides the index itself that takes 32 bytes per record.

use super::{
    Index, LEAF_KEYS, Log, Pos,
    directory::Directory,
    histories::{Entry, Histories},
    leaf::{self, Leaf},
    leaves::Leaves,
    shared, skip,
};

/// Keys of a leaf: about nine tenths, so that it is not split at once, and ends where what its keys share is long.
const BUILT_KEYS: std::ops::RangeInclusive<usize> = LEAF_KEYS * 8 / 10..=LEAF_KEYS * 19 / 20;
/// Bytes of a key in a [`Head`].
const HEAD_BYTES: usize = 15;
/// Shorter records than this make the items grow while they are taken.
const EXPECTED_BYTES: usize = 128;
/// Records that are fetched from memory side by side.
const FETCHED: usize = 64;

/// Fifteen bytes of a key, filled up with zeros, then how many there were; sixteen if there are more. Orders like keys
/// as far as it differs, and where it is the same and not sixteen, keys are the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Head(u128);

impl Head {
    #[inline]
    fn of(rest: &[u8]) -> Self {
        let bytes = match rest.first_chunk::<16>() {
            Some(bytes) => *bytes,
            None => {
                let mut bytes = [0; 16];
                bytes[..rest.len()].copy_from_slice(rest);
                bytes
            }
        };
        Self(u128::from_be_bytes(bytes) & !0xff | rest.len().min(HEAD_BYTES + 1) as u128)
    }

    fn len(self) -> usize {
        (self.0 & 0xff) as usize
    }

    fn whole(self) -> bool {
        self.len() <= HEAD_BYTES
    }

    /// The head of the same key taken before `bytes`, which come ahead of what this one was taken of.
    fn after(self, bytes: &[u8]) -> Self {
        if bytes.len() > HEAD_BYTES {
            return Self::of(bytes);
        }
        let Self(before) = Self::of(bytes);
        let len = (self.len() + bytes.len()).min(HEAD_BYTES + 1);
        Self((before | self.0 >> (8 * bytes.len())) & !0xff | len as u128)
    }

    /// The eight bytes at `at`; only where [`Head::has`] them.
    fn eight(self, at: usize) -> u64 {
        (self.0 >> (64 - 8 * at)) as u64
    }

    /// Whether the head tells what the eight bytes at `at` are.
    fn has(self, at: usize) -> bool {
        at + 8 <= HEAD_BYTES
    }
}

/// A record, then a key.
#[derive(Clone, Copy)]
struct Item {
    head: Head,
    /// Where in the key the head was taken.
    skip: u32,
    /// Bytes shared with the item before, as far as heads tell, or [`SAME_KEY`].
    alike: u32,
    entry: Entry,
}

const _: () = assert!(size_of::<Item>() == 32);
const SAME_KEY: u32 = u32::MAX;

/// Records on their way into an index.
#[derive(Default)]
pub struct Builder {
    items: Vec<Item>,
    /// What all keys so far share; none before the first.
    prefix: Option<Vec<u8>>,
}

impl Builder {
    /// `bytes`: of all records to come. Memory that is not written to costs nothing, while growing copies.
    pub fn expect(&mut self, bytes: usize) {
        self.items.reserve(bytes / EXPECTED_BYTES);
    }

    /// Adds a record, in any order.
    #[inline]
    pub fn take(&mut self, pos: Pos, key: &[u8]) {
        let alike = match &self.prefix {
            Some(prefix) if key.starts_with(prefix) => prefix.len(),
            _ => self.shorten(key),
        };
        self.items.push(Item { head: Head::of(&key[alike..]), skip: 0, alike: 0, entry: Entry::one(pos) });
    }

    #[cold]
    fn shorten(&mut self, key: &[u8]) -> usize {
        let prefix = self.prefix.get_or_insert_with(|| key.to_vec());
        let kept = shorten(&mut self.items, prefix, key);
        prefix.truncate(kept);
        kept
    }

    /// The index, and how many of its keys exist in the newest revision.
    pub fn finish(self, log: &Log) -> (Index, u64) {
        let mut items = self.items;
        let alike = self.prefix.map_or(0, |prefix| prefix.len()) as u32;
        items.iter_mut().for_each(|item| item.skip = alike);
        sort(log, &mut items);
        let mut histories = Histories::default();
        join(&mut items, &mut histories);
        let exists = |item: &&Item| !histories.versions(item.entry).newest().is_tombstone();
        let live_keys = items.iter().filter(exists).count() as u64;
        (lay_out(log, &items, histories), live_keys)
    }
}

/// How much of `prefix` remains with `key`; the heads of the items taken so far follow it.
fn shorten(items: &mut [Item], prefix: &[u8], key: &[u8]) -> usize {
    let kept = shared(prefix, key);
    items.iter_mut().for_each(|item| item.head = item.head.after(&prefix[kept..]));
    kept
}

/// Brings items in the order of their keys, those of a key in the order of its versions.
fn sort(log: &Log, items: &mut [Item]) {
    // Not recursion: keys may share any number of bytes.
    let mut unsettled = Vec::new();
    settle(items, 0, &mut unsettled);
    while let Some((from, to)) = unsettled.pop() {
        retake(log, &mut items[from..to]);
        settle(&mut items[from..to], from, &mut unsettled);
    }
}

/// Sorts items that lie in their place together. Where heads do not tell, adds the range to `unsettled`, counted from
/// `offset`.
fn settle(items: &mut [Item], offset: usize, unsettled: &mut Vec<(usize, usize)>) {
    let Some(Item { skip, mut alike, .. }) = items.first().copied() else { return };
    items.sort_unstable_by_key(|item| item.head);
    let mut at = offset;
    let mut before = items[0].head;
    for same in items.chunk_by_mut(|a, b| a.head == b.head) {
        let head = same[0].head;
        if at > offset {
            alike = skip + (before.0 ^ head.0).leading_zeros() / 8;
        }
        if same.len() > 1 && head.whole() {
            same.sort_unstable_by_key(|item| item.entry);
            same[1..].iter_mut().for_each(|item| item.alike = SAME_KEY);
        } else if same.len() > 1 {
            unsettled.push((at, at + same.len()));
        }
        same[0].alike = alike;
        before = head;
        at += same.len();
    }
}

/// Takes heads anew, after what the items' keys share.
fn retake(log: &Log, items: &mut [Item]) {
    let mut prefix = log.key(items[0].entry.pos());
    for from in (0..items.len()).step_by(FETCHED) {
        let to = (from + FETCHED).min(items.len());
        // Memory answers many questions at once if none waits for another's answer.
        let touched = items[from..to].iter().map(|item| u32::from(log.touch(item.entry.pos()))).sum::<u32>();
        std::hint::black_box(touched);
        for at in from..to {
            let key = log.key(items[at].entry.pos());
            if !key.starts_with(prefix) {
                prefix = &prefix[..shorten(&mut items[..at], prefix, key)];
            }
            items[at].head = Head::of(&key[prefix.len()..]);
        }
    }
    let alike = prefix.len() as u32;
    items.iter_mut().for_each(|item| item.skip = alike);
}

/// Leaves one item for each key.
fn join(items: &mut Vec<Item>, histories: &mut Histories) {
    let mut keys = 0;
    let mut from = 0;
    while from < items.len() {
        let more = items[from + 1..].iter().take_while(|item| item.alike == SAME_KEY).count();
        let versions = &items[from..=from + more];
        let entry = match versions {
            [one] => one.entry,
            many => histories.add(many.iter().map(|item| item.entry.pos())),
        };
        items[keys] = Item { entry, ..items[from] };
        keys += 1;
        from += 1 + more;
    }
    items.truncate(keys);
}

/// Writes the leaves of keys in order.
fn lay_out(log: &Log, mut items: &[Item], histories: Histories) -> Index {
    let mut leaves = Leaves::default();
    let mut directory: Option<Directory> = None;
    let mut lower: Box<[u8]> = Box::default();
    loop {
        let (those, rest) = items.split_at(leaf_end(items));
        let key = |item: &Item| log.key(histories.versions(item.entry).newest());
        let upper: Option<Box<[u8]>> = rest.first().map(|first| {
            let (last, first) = (key(&those[those.len() - 1]), key(first));
            first[..shared(last, first) + 1].into()
        });
        let skip = skip(&lower, upper.as_deref());
        let mut leaf = Leaf::new(skip);
        for item in those {
            let head = match usize::from(skip).checked_sub(item.skip as usize) {
                Some(at) if item.head.has(at) => item.head.eight(at),
                _ => leaf::head(key(item), skip),
            };
            leaf.push(head, item.entry);
        }
        let leaf = leaves.add(leaf);
        match &mut directory {
            None => directory = Some(Directory::new(leaf)),
            Some(directory) => directory.push(lower, leaf),
        }
        match upper {
            Some(upper) => lower = upper,
            None => break,
        }
        items = rest;
    }
    Index { directory: directory.expect("there is a first leaf"), leaves, histories }
}

/// How many of the keys to come the next leaf takes: as many as end where neighbours differ earliest.
fn leaf_end(items: &[Item]) -> usize {
    if items.len() <= *BUILT_KEYS.end() {
        return items.len();
    }
    BUILT_KEYS.rev().min_by_key(|at| items[*at].alike).expect("the range is not empty")
}
