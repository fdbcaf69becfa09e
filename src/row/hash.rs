//! `HashKV`, the hash of all versions up to a revision that etcd's members compare (`kvHasher` in etcd's
//! `server/storage/mvcc/hash.go`): CRC-32C over the bucket's name and the rows.
//!
//! - Those above the compacted revision all count, tombstones included.
//! - Those up to the compacted revision count as far as a compaction at the revision asked for would keep them, so that
//!   members agree that have freed differently much: of each key the newest version, unless that is a tombstone.
//! - If such a compaction would keep nothing at all, what is there counts, without tombstones of the compacted revision:
//!   etcd takes an empty set of keys to keep for none to go. (Older releases free those tombstones at once, newer ones with
//!   the next compaction.)
//!
//! Who has the versions says what would be kept and what is there; the order of versions is that of their revisions.

use super::{KEY_BUCKET, Record};

/// A hash under way.
#[derive(Clone, Copy, Debug)]
pub struct Hasher {
    compacted: i64,
    hash: Digest,
    /// The hash for the case that nothing is kept; none as soon as something is.
    otherwise: Option<Digest>,
}

impl Hasher {
    /// -1 before the first compaction.
    pub fn new(compacted: i64) -> Self {
        Self { compacted, hash: Digest::new(), otherwise: Some(Digest::new()) }
    }

    /// The next version in revision order. Both are asked only where it matters:
    ///
    /// - `is_kept`: whether a compaction at the revision asked for would keep the version; of one above the compacted
    ///   revision it is enough that its key exists at the revision asked for
    /// - `is_there`: of a version up to the compacted revision, whether it is there, however much was freed
    pub fn version(
        &mut self,
        version: &Record<'_>,
        is_kept: impl FnOnce() -> bool,
        is_there: impl FnOnce() -> bool,
    ) {
        let above = version.main > self.compacted;
        if above && self.otherwise.is_none() {
            return self.hash.add(version);
        }
        let is_kept = !version.tombstone && is_kept();
        if above || is_kept {
            self.hash.add(version);
        }
        match &mut self.otherwise {
            _ if is_kept => self.otherwise = None,
            Some(otherwise) if above || is_there() => otherwise.add(version),
            _ => {}
        }
    }

    pub fn finish(self) -> u32 {
        self.otherwise.unwrap_or(self.hash).0
    }
}

#[derive(Clone, Copy, Debug)]
struct Digest(u32);

impl Digest {
    fn new() -> Self {
        Self(crc32c::crc32c(KEY_BUCKET))
    }

    fn add(&mut self, version: &Record<'_>) {
        let mut take = |bytes: &[u8]| self.0 = crc32c::crc32c_append(self.0, bytes);
        take(version.row_key().as_bytes());
        version.row_value(take);
    }
}
