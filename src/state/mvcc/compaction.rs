//! Freeing what compaction made unreadable, slice by slice.
//!
//! First the log is walked from the last finished compaction to the new one: each version there supersedes what its
//! key had before, so the cost follows the number of writes in between, not the number of keys. Then chunks that are
//! dead as a whole go, and those that are mostly dead are rewritten. Only the last takes memory until the next
//! checkpoint, so only it can be put off.
//!
//! Of each key the newest version at or below the compacted revision survives, unless it is a tombstone below it; a
//! tombstone exactly at the revision stays until the next compaction, because a watch may start there
//! (`keyIndex.doCompact` in etcd's storage/mvcc/key_index.go).

use super::{Store, log::Pos};

/// How far freeing has come.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Everything below this revision has been freed.
    done: i64,
    stage: Stage,
    /// Rewrite every chunk that has anything to free.
    thorough: bool,
}

impl Sweep {
    /// Goes on after everything below `done` was freed.
    pub(super) fn from(done: i64) -> Self {
        Sweep { done, ..Sweep::default() }
    }

    pub(super) fn done(&self) -> i64 {
        self.done
    }
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    /// Forgetting superseded versions up to `target`; `at` is the next record to look at.
    Forget { target: i64, at: Pos },
    /// Dropping chunks that are dead as a whole; `slot` is the next one to look at.
    Drop { target: i64, slot: usize },
    /// Rewriting chunks; `slot` is the next one to look at.
    Rewrite { target: i64, slot: usize },
}

/// How a step of compaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freed {
    /// Nothing is left that may be freed now; revisions held by a [`Pin`](super::Pin) are taken up by the next step
    /// after it is dropped.
    All,
    /// There is more to do.
    Some,
    /// Chunks are to be rewritten, once that is allowed.
    AllButRewriting,
}

impl Store {
    /// Visits about `budget` records.
    pub fn compact_step(&mut self, budget: usize, may_rewrite: bool) -> Freed {
        assert!(!self.is_paused(), "a write that pauses knows where records lie");
        let mut left = budget.max(1);
        loop {
            match self.sweep.stage {
                Stage::Idle => {
                    let target = self.floor();
                    if target <= self.sweep.done {
                        self.sweep.thorough = false;
                        return Freed::All;
                    }
                    // Revision `done` is walked again: its tombstones are due now.
                    let at = self.log.after(self.sweep.done - 1);
                    self.sweep.stage = Stage::Forget { target, at };
                }
                Stage::Forget { target, at } => self.forget(target, at, &mut left),
                Stage::Drop { target, slot } => self.drop_dead(target, slot, &mut left),
                Stage::Rewrite { target, slot } if may_rewrite => self.rewrite(target, slot, &mut left),
                // The next compaction finds the same chunks, and has more to free.
                Stage::Rewrite { target, .. } if self.floor() > target => self.finish(target),
                Stage::Rewrite { .. } => return Freed::AllButRewriting,
            }
            if left == 0 {
                return Freed::Some;
            }
        }
    }

    /// Has the next steps leave nothing that can be freed, however much is to be rewritten for it.
    pub fn defragment(&mut self) {
        self.log.seal_sparse(true);
        self.sweep.thorough = true;
        match self.sweep.stage {
            Stage::Idle => self.sweep.stage = Stage::Rewrite { target: self.sweep.done, slot: 0 },
            Stage::Forget { .. } | Stage::Drop { .. } => {}
            Stage::Rewrite { target, .. } => self.sweep.stage = Stage::Rewrite { target, slot: 0 },
        }
    }

    /// Whether [`Store::compact_step`] has something to do now.
    pub fn compaction_is_due(&self) -> bool {
        !matches!(self.sweep.stage, Stage::Idle) || self.floor() > self.sweep.done
    }

    /// Versions freed so far.
    pub fn freed_versions(&self) -> u64 {
        self.log.killed()
    }

    fn forget(&mut self, target: i64, mut at: Pos, left: &mut usize) {
        let mut key = Vec::new();
        while let Some((pos, record, following)) = self.log.next(at) {
            if record.main > target {
                break;
            }
            let gone_too = record.tombstone && record.main < target;
            key.clear();
            key.extend_from_slice(record.key);
            let until = if gone_too { Pos(pos.0 + 1) } else { pos };
            self.index.forget(&mut self.log, &key, until);
            at = following;
            *left -= 1;
            if *left == 0 {
                self.sweep.stage = Stage::Forget { target, at };
                return;
            }
        }
        self.log.seal_sparse(self.sweep.thorough);
        self.sweep.stage = Stage::Drop { target, slot: 0 };
    }

    fn drop_dead(&mut self, target: i64, slot: usize, left: &mut usize) {
        let Some(run) = self.log.dead_run(slot) else {
            self.log.purge();
            self.sweep.stage = Stage::Rewrite { target, slot: 0 };
            return;
        };
        *left = left.saturating_sub(run.len());
        self.sweep.stage = Stage::Drop { target, slot: run.end };
        self.log.install(run, 0, Vec::new());
    }

    fn finish(&mut self, target: i64) {
        self.sweep.done = target;
        self.sweep.stage = Stage::Idle;
    }

    fn rewrite(&mut self, target: i64, slot: usize, left: &mut usize) {
        let Some(run) = self.log.sparse_run(slot, self.sweep.thorough) else {
            self.log.purge();
            self.finish(target);
            return;
        };
        // Searching the index reads keys at the positions it names, so all are found before the first one moves.
        let (index, log) = (&self.index, &self.log);
        let gathered = log.gather(run, |record, old| index.locate_version(log, record.key, old));
        for (place, old, new) in gathered.moved {
            self.index.replace(place, old, new);
        }
        let slot = gathered.run.end;
        self.log.install(gathered.run, gathered.base, gathered.body);
        *left = left.saturating_sub(gathered.seen);
        self.sweep.stage = Stage::Rewrite { target, slot };
    }
}
