//! The hash of all versions that etcd's members compare (`HashKV`; etcd v3.7 `storage/mvcc/hash.go`): the same history
//! gives the same hash here and there.
//!
//! It is a crc32c over the versions in revision order as etcd stores them, key and value each. Which versions count
//! depends on two revisions alone, never on how far physical compaction has come:
//! - those above the compacted revision, up to the one asked for: all, tombstones included;
//! - those up to the compacted revision: where the key's newest version up to the revision asked for lies there,
//!   that one, unless it is a tombstone. If no key exists at the revision asked for, what compaction leaves counts
//!   instead: etcd takes an empty set of keys to keep for none to go.

use super::{
    Pin, Record,
    store::{Error, Store},
};
use crate::types::Revision;

/// What a version costs beside its bytes: looking up its key takes longer than hashing a few hundred bytes.
const VERSION_COST: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    pub hash: u32,
    /// The compacted revision when the hash was begun.
    pub compacted: Revision,
    /// Versions up to this revision count.
    pub revision: Revision,
}

/// A hash under way, slice by slice. Holds back the freeing of what it has to see.
pub struct HashCursor {
    compacted: i64,
    revision: i64,
    /// None for what comes before every revision: nothing counts.
    pins: Option<Pins>,
    /// The version to go on with.
    next: (i64, i64),
    hash: Digest,
    /// The hash for the case that no key exists at the revision; none as soon as one does.
    otherwise: Option<Digest>,
}

struct Pins {
    compacted: Pin,
    read: Pin,
}

impl HashCursor {
    /// 0 means the newest revision.
    pub fn new(store: &Store, revision: i64) -> Result<Self, Error> {
        let compacted = store.compacted();
        if revision > 0 && revision < compacted.0 {
            return Err(Error::Compacted);
        }
        if revision > store.revision().0 {
            return Err(Error::FutureRevision);
        }
        let read = if revision == 0 { store.revision() } else { Revision(revision) };
        let pins = (read.0 > 0).then(|| Pins { compacted: store.pin(compacted), read: store.pin(read) });
        let (next, hash) = ((0, 0), Digest::new());
        Ok(Self { compacted: compacted.0, revision: read.0, pins, next, hash, otherwise: Some(hash) })
    }

    /// Goes on by about `budget` bytes; the hash when there is nothing left.
    pub fn step(&mut self, store: &Store, budget: usize) -> Option<HashKv> {
        let mut left = budget;
        if let Some(pins) = &self.pins {
            let (compacted, read) = (store.at_pin(&pins.compacted), store.at_pin(&pins.read));
            let mut at = store.log.seek(self.next.0, self.next.1);
            while let Some((pos, record, following)) = store.log.next(at) {
                if record.main > self.revision {
                    break;
                }
                if left == 0 {
                    self.next = (record.main, record.sub);
                    return None;
                }
                let above = record.main > self.compacted;
                let counts = above || read.find(record.key) == Some(pos);
                if let Some(otherwise) = &mut self.otherwise {
                    if above || compacted.find(record.key) == Some(pos) {
                        otherwise.add(&record);
                    }
                    if counts && !record.tombstone && (!above || read.find(record.key).is_some()) {
                        self.otherwise = None;
                    }
                }
                if counts {
                    self.hash.add(&record);
                }
                left = left.saturating_sub(VERSION_COST + record.key.len() + record.value.len());
                at = following;
            }
        }
        let Digest(hash) = self.otherwise.unwrap_or(self.hash);
        Some(HashKv { hash, compacted: Revision(self.compacted), revision: Revision(self.revision) })
    }
}

/// crc32c over the bucket's name, then keys and values.
#[derive(Clone, Copy)]
struct Digest(u32);

impl Digest {
    fn new() -> Self {
        Self(crc32c::crc32c(b"key"))
    }

    /// The revision as a key of etcd's bucket, and protobuf's `KeyValue`.
    fn add(&mut self, record: &Record<'_>) {
        let mut head = Short::default();
        head.bytes(&record.main.to_be_bytes());
        head.bytes(b"_");
        head.bytes(&record.sub.to_be_bytes());
        if record.tombstone {
            head.bytes(b"t");
        }
        self.field(head, 1, record.key);
        let mut middle = Short::default();
        if !record.tombstone {
            middle.number(2, record.create);
            middle.number(3, record.main);
            middle.number(4, record.version);
        }
        self.field(middle, 5, record.value);
        let mut tail = Short::default();
        tail.number(6, record.lease);
        self.take(tail.as_slice());
    }

    /// What comes before a field of bytes, and the field, which protobuf leaves out where it is empty.
    fn field(&mut self, mut before: Short, tag: u8, content: &[u8]) {
        if !content.is_empty() {
            before.bytes(&[tag << 3 | 2]);
            before.varint(content.len() as u64);
        }
        self.take(before.as_slice());
        self.take(content);
    }

    fn take(&mut self, bytes: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, bytes);
    }
}

/// A few fields, without the heap.
struct Short {
    bytes: [u8; 48],
    len: usize,
}

impl Default for Short {
    fn default() -> Self {
        Self { bytes: [0; 48], len: 0 }
    }
}

impl Short {
    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.bytes(&[value as u8]);
    }

    fn number(&mut self, tag: u8, value: i64) {
        if value != 0 {
            self.bytes(&[tag << 3]);
            self.varint(value as u64);
        }
    }
}
