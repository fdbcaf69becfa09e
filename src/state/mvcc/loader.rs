//! A store made of versions that come from elsewhere, with all that a store would have computed: for a restore.

use super::{Record, log::Log, store::Mark};
use crate::block::{Block, BlockChange};

/// Takes versions in revision order and packs them into chunks.
#[derive(Default)]
pub struct Loader {
    log: Log,
    last: Option<(i64, i64)>,
}

impl Loader {
    /// Whatever compaction has freed is not among the versions.
    pub fn version(&mut self, record: &Record<'_>) {
        let at = (record.main, record.sub);
        assert!(self.last.is_none_or(|last| last < at), "versions come in revision order");
        self.last = Some(at);
        self.log.append(record);
    }

    /// The store's chunks, and what it needs besides. `compacted` is -1 if nothing was ever compacted.
    pub fn finish(mut self, revision: i64, compacted: i64) -> (Mark, Vec<Block>) {
        assert!(self.last.is_none_or(|(main, _)| main <= revision), "no version lies ahead of the revision");
        let mark = Mark { revision, compacted, freed: compacted.max(0), next_chunk: self.log.next_chunk() };
        let block = |change| match change {
            BlockChange::Write(block) => block,
            BlockChange::Meta { .. } | BlockChange::Drop { .. } => unreachable!("nothing was saved before"),
        };
        (mark, self.log.changes().into_iter().map(block).collect())
    }
}
