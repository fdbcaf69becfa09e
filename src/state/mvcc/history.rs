//! The whole history up to one revision, slice by slice: every version that can still be read at some revision.
//!
//! Which versions those are depends on two revisions alone, both fixed at the begin and never on how far physical
//! compaction has come: all above the compacted revision, and up to it of each key the newest one, unless that is a
//! tombstone below it (what a finished compaction leaves). So two walks of one cursor see the same.

use super::{Error, Pin, Record, log::Pos, store::Store};
use crate::types::Revision;

/// What a version costs beside its bytes: looking up its key takes longer than copying a few hundred bytes.
const VERSION_COST: usize = 512;

/// A walk under way. Holds back the freeing of what it has to see.
#[derive(Debug)]
pub struct HistoryCursor {
    compacted: i64,
    revision: i64,
    /// Of the compacted revision, and with it everything above.
    pin: Pin,
    /// Main and sub revision to go on with: positions change when chunks are rewritten.
    next: (i64, i64),
}

impl HistoryCursor {
    /// The state of this moment.
    pub fn new(store: &Store) -> Self {
        let compacted = store.compacted();
        Self { compacted: compacted.0, revision: store.revision().0, pin: store.pin(compacted), next: (0, 0) }
    }

    pub fn revision(&self) -> Revision {
        Revision(self.revision)
    }

    /// -1 before the first compaction.
    pub fn compacted(&self) -> Revision {
        Revision(self.compacted)
    }

    /// Begins again.
    pub fn rewind(&mut self) {
        self.next = (0, 0);
    }

    /// Hands over the next versions, about `budget` bytes of them. True when nothing is left.
    pub fn step<E: From<Error>>(
        &mut self,
        store: &Store,
        budget: usize,
        mut take: impl FnMut(&Record<'_>) -> Result<(), E>,
    ) -> Result<bool, E> {
        store.check_pin(&self.pin)?;
        let mut left = budget;
        let until = store.log.after(self.compacted);
        let mut at = store.log.seek(self.next.0, self.next.1);
        while let Some((pos, record, following)) = store.log.next(at) {
            if record.main > self.revision {
                break;
            }
            if left == 0 {
                self.next = (record.main, record.sub);
                return Ok(false);
            }
            if record.main > self.compacted || self.is_left(store, pos, &record, until) {
                take(&record)?;
            }
            left = left.saturating_sub(VERSION_COST + record.key.len() + record.value.len());
            at = following;
        }
        Ok(true)
    }

    fn is_left(&self, store: &Store, pos: Pos, record: &Record<'_>, until: Pos) -> bool {
        if record.tombstone && record.main < self.compacted {
            return false;
        }
        let versions = store.index.get(&store.log, record.key);
        versions.and_then(|versions| versions.before(until)) == Some(pos)
    }
}
