//! What a compaction leaves, for who has no index.

use std::collections::{HashMap, HashSet};

use super::Record;

/// What a compaction at a revision would keep, found by looking at all versions up to it in revision order.
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

    pub fn version(&mut self, version: &Record<'a>) {
        if version.main > self.revision || self.newest.get(version.key).is_some_and(|newest| newest.is_final)
        {
            return;
        }
        let tombstone = version.tombstone;
        let is_final = tombstone && version.main == self.revision;
        self.newest.insert(version.key, Newest { at: (version.main, version.sub), is_final, tombstone });
    }

    /// Main and sub revisions of what [`Hasher`](crate::row::Hasher) counts below the compacted revision.
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
