//! The hash of all versions that etcd's members compare (`HashKV`), slice by slice: the same history gives the same hash
//! here and there, however far physical compaction has come here.
//!
//! What counts is [`row::Hasher`](crate::row::Hasher)'s business. Up to the compacted revision, what is there is taken to
//! be what a compaction leaves, whether the rest was freed already or not.

use super::{
    Pin,
    store::{Error, Store},
};
use crate::{row::Hasher, types::Revision};

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
    hasher: Hasher,
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
        let hasher = Hasher::new(compacted.0);
        Ok(Self { compacted: compacted.0, revision: read.0, pins, next: (0, 0), hasher })
    }

    /// Goes on by about `budget` bytes; the hash when there is nothing left.
    pub fn step(&mut self, store: &Store, budget: usize) -> Result<Option<HashKv>, Error> {
        let mut left = budget;
        if let Some(pins) = &self.pins {
            let (compacted, read) = (store.at_pin(&pins.compacted)?, store.at_pin(&pins.read)?);
            let mut at = store.log.seek(self.next.0, self.next.1);
            while let Some((pos, record, following)) = store.log.next(at) {
                if record.main > self.revision {
                    break;
                }
                if left == 0 {
                    self.next = (record.main, record.sub);
                    return Ok(None);
                }
                let above = record.main > self.compacted;
                let is_kept = || read.find(record.key).is_some_and(|newest| above || newest == pos);
                let is_there = || compacted.find(record.key) == Some(pos);
                self.hasher.version(&record, is_kept, is_there);
                left = left.saturating_sub(VERSION_COST + record.key.len() + record.value.len());
                at = following;
            }
        }
        let hash = self.hasher.finish();
        Ok(Some(HashKv { hash, compacted: Revision(self.compacted), revision: Revision(self.revision) }))
    }
}
