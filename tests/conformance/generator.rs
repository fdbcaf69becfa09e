//! Draws KV calls from a seed: every option, forms that collide often, and arguments no sane client would send.
//!
//! The only thing taken from the servers is the newest and the compacted revision, so that old, compacted and future
//! revisions can be aimed at. Both are the same in every run of a seed as long as upstream answers the same.

mod reads;
mod txns;
mod writes;

use bytes::Bytes;

use super::{
    call::{Answer, Call},
    seeded::Rng,
};

/// Keys in play: few, so that calls meet. Awkward ones included: zero bytes, the largest byte, a key that is a prefix
/// of others.
const KEYS: [&[u8]; 36] = [
    b"a",
    b"a/",
    b"a/1",
    b"a/2",
    b"a/3",
    b"a/4",
    b"a/5",
    b"a/6",
    b"a/7",
    b"a/8",
    b"a/9",
    b"a0",
    b"b",
    b"b\0",
    b"b\0\0",
    b"b1",
    b"b2",
    b"b3",
    b"b4",
    b"b5",
    b"c",
    b"d",
    b"e",
    b"f",
    b"g",
    b"h",
    b"k1",
    b"k2",
    b"k3",
    b"k4",
    b"\0",
    b"\0\0",
    b"\0\x01",
    b"\xff",
    b"\xff\xff",
    b"z",
];
const VALUES: [&[u8]; 8] =
    [b"", b"0", b"1", b"1", b"2", b"\0", b"\xff\xfe", b"a longer value, to be seen in answers"];
const PREFIXES: [&[u8]; 6] = [b"a/", b"b", b"a", b"k", b"\xff", b"\0"];

pub struct Generator {
    rng: Rng,
    /// Newest revision seen in an answer.
    revision: i64,
    /// Highest revision compacted with success.
    compacted: i64,
    /// Keys that hold a large value and shall soon hold a small one, lest every answer grow to megabytes.
    large: Vec<Bytes>,
    /// A transaction left many keys behind.
    crowded: bool,
}

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed), revision: 1, compacted: 0, large: Vec::new(), crowded: false }
    }

    /// Takes note of how upstream answered.
    pub fn observe(&mut self, call: &Call, answer: &Answer) {
        if let Some(revision) = answer.revision() {
            self.revision = self.revision.max(revision);
            if let Call::Compact(request) = call {
                self.compacted = self.compacted.max(request.revision);
            }
        }
    }

    pub fn revision(&self) -> i64 {
        self.revision
    }

    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    pub fn next_call(&mut self) -> Call {
        if self.crowded && self.rng.percent(10) {
            self.crowded = false;
            return Call::DeleteRange(writes::delete_crowd());
        }
        if !self.large.is_empty() && self.rng.percent(20) {
            let key = self.large.swap_remove(0);
            return Call::Put(self.small_put(key));
        }
        match self.rng.below(1000) {
            0..330 => Call::Range(self.range()),
            330..400 => Call::RangeStream(self.range_stream()),
            400..690 => Call::Put(self.put()),
            690..760 => Call::DeleteRange(self.delete_range()),
            760..988 => Call::Txn(self.txn()),
            _ => Call::Compact(self.compact()),
        }
    }

    fn key(&mut self) -> Bytes {
        match self.rng.below(100) {
            0 => Bytes::new(),
            1 => {
                let length = self.rng.between(1, 4);
                (0..length).map(|_| self.rng.next() as u8).collect()
            }
            _ => Bytes::from_static(self.rng.pick(&KEYS)),
        }
    }

    /// Key and range end: single keys, prefixes, everything, from-key, empty and backward ranges.
    fn key_range(&mut self, ranged_percent: u64) -> (Bytes, Bytes) {
        let key = self.key();
        if !self.rng.percent(ranged_percent) {
            return (key, Bytes::new());
        }
        match self.rng.below(20) {
            0..5 => {
                let prefix = self.rng.pick(&PREFIXES);
                (Bytes::from_static(prefix), prefix_end(prefix))
            }
            5..8 => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
            8..11 => (key, Bytes::from_static(b"\0")),
            11 => {
                let end = [&key[..], b"\0"].concat();
                (key, end.into())
            }
            12 => (key.clone(), key),
            13 => (key, Bytes::from_static(b"\xff")),
            _ => {
                let end = self.key();
                // Mostly forward, sometimes backward.
                if end < key && self.rng.percent(80) { (end, key) } else { (key, end) }
            }
        }
    }

    /// A revision to read at. 0 is the newest.
    fn read_revision(&mut self) -> i64 {
        match self.rng.below(100) {
            0..50 => 0,
            50..66 => self.rng.between(self.compacted.min(self.revision), self.revision),
            66..80 => self.rng.between((self.revision - 20).max(0), self.revision),
            80..84 => self.compacted,
            84..88 => self.compacted - 1,
            88..90 => self.rng.between(0, self.compacted.max(1)),
            90..93 => self.revision + self.rng.between(1, 3),
            93 => self.revision + 1_000_000,
            94..97 => -self.rng.between(1, 3),
            97 => i64::MIN,
            98 => i64::MAX,
            _ => self.revision,
        }
    }
}

/// The smallest key greater than every key with the prefix; `\0` (no end) if there is none.
fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(b"\0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_calls_again() {
        let draw = |seed| {
            let mut generator = Generator::new(seed);
            (0..500).map(|_| generator.next_call()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn every_kind_of_call_appears() {
        let mut generator = Generator::new(1);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..5_000 {
            seen.insert(std::mem::discriminant(&generator.next_call()));
        }
        assert_eq!(seen.len(), 6);
    }
}
