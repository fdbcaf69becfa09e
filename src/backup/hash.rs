//! The checksum members compare, over the versions up to a revision.

use std::collections::{HashMap, HashSet};

use super::{Version, schema::KEY};

/// `Maintenance.HashKV` (`kvHasher` in etcd's `server/storage/mvcc/hash.go`): of the versions up to `revision`, those at
/// or below the compacted revision only as far as a compaction at `revision` would keep them, so that members agree
/// that have freed differently much.
///
/// It keeps of each key the newest version at or below `revision`, unless that is a tombstone. If it keeps nothing at
/// all, upstream hashes everything that is there; so `keeps_any` must be known beforehand.
#[derive(Clone, Debug)]
pub struct HashKv {
    crc: u32,
    /// -1 before the first compaction.
    compacted: i64,
    revision: i64,
    keeps_any: bool,
    row: Vec<u8>,
}

impl HashKv {
    pub fn new(compacted: i64, revision: i64, keeps_any: bool) -> Self {
        Self { crc: crc32c::crc32c(KEY), compacted, revision, keeps_any, row: Vec::new() }
    }

    /// The next version in revision order, tombstones included; `is_kept` is asked only where it matters.
    pub fn version(&mut self, version: &Version<'_>, is_kept: impl FnOnce() -> bool) {
        if version.main > self.revision {
            return;
        }
        if version.main <= self.compacted && self.keeps_any && !is_kept() {
            return;
        }
        // Older releases free it at once, newer ones with the next compaction.
        if version.main == self.compacted && version.tombstone {
            return;
        }
        version.encode(&mut self.row);
        self.crc = crc32c::crc32c_append(self.crc, version.row_key().as_bytes());
        self.crc = crc32c::crc32c_append(self.crc, &self.row);
    }

    pub fn finish(&self) -> u32 {
        self.crc
    }
}

/// What a compaction at a revision would keep, found by looking at all versions up to it in revision order. For who has
/// no index.
#[derive(Debug)]
pub struct Keep<'a> {
    revision: i64,
    newest: HashMap<&'a [u8], Newest>,
}

#[derive(Debug)]
struct Newest {
    at: (i64, i64),
    /// Deleted at the revision itself: a version of the same revision that follows does not count either.
    is_final: bool,
    tombstone: bool,
}

impl<'a> Keep<'a> {
    pub fn new(revision: i64) -> Self {
        Self { revision, newest: HashMap::new() }
    }

    pub fn version(&mut self, version: &Version<'a>) {
        if version.main > self.revision || self.newest.get(version.key).is_some_and(|newest| newest.is_final)
        {
            return;
        }
        let tombstone = version.tombstone;
        let is_final = tombstone && version.main == self.revision;
        self.newest.insert(version.key, Newest { at: (version.main, version.sub), is_final, tombstone });
    }

    /// Main and sub revisions of what [`HashKv`] hashes below the compacted revision.
    pub fn kept_by_hash(self) -> HashSet<(i64, i64)> {
        self.newest.into_values().filter(|newest| !newest.tombstone).map(|newest| newest.at).collect()
    }

    /// The same and the tombstones of the revision itself: what is there after a compaction.
    pub fn kept_by_compaction(self) -> HashSet<(i64, i64)> {
        self.newest
            .into_values()
            .filter(|newest| !newest.tombstone || newest.is_final)
            .map(|newest| newest.at)
            .collect()
    }
}
