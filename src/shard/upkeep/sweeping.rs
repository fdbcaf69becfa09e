//! Physical compaction as operators see it: how long it takes, what it freed, who waits for a defragmentation.
//!
//! The loop asks for one slice per turn. Owned by the loop.

use std::time::Duration;

use tracing::info;

use crate::{
    env::{Env, Instant},
    metrics::ShardMetrics,
    shard::reply::Reply,
    state::{StateMachine, mvcc::Freed},
    types::Size,
};

#[derive(Default)]
pub struct Sweeping {
    /// Since when there has been something to free, and how many versions had been freed before.
    began: Option<(Instant, u64)>,
    /// Callers of defragmentations under way.
    defragments: Vec<(Instant, Reply<()>)>,
    /// Those for whom nothing is left to free: the checkpoint's files follow.
    swept: Vec<(Instant, Reply<()>)>,
}

/// How long a defragmentation waits for the files. They follow in the background in any case.
const FILES_PATIENCE: Duration = Duration::from_secs(2);

impl Sweeping {
    /// Somebody waits for the end of a defragmentation.
    pub fn is_awaited(&self) -> bool {
        !self.defragments.is_empty() || !self.swept.is_empty()
    }

    /// Gives up who waits for a defragmentation: dropping them tells the callers.
    pub fn leave(&mut self) {
        self.defragments.clear();
        self.swept.clear();
    }

    /// Whether defragmentations wait for the files.
    pub fn waits_for_files(&self) -> bool {
        !self.swept.is_empty()
    }

    /// The files are rewritten, or still `rewriting`: answers whom that concerns.
    pub fn files(&mut self, rewriting: bool, now: Instant, metrics: &ShardMetrics) {
        for (since, reply) in
            self.swept.extract_if(.., |(since, _)| !rewriting || now.since(*since) > FILES_PATIENCE)
        {
            metrics.defrag_seconds.observe(now.since(since).as_secs_f64());
            reply.send(());
        }
        metrics.defrag_inflight.set(i64::from(self.is_awaited()));
    }

    /// Takes in callers of defragmentations.
    pub fn defragment(
        &mut self,
        asked: Vec<Reply<()>>,
        state: &mut StateMachine,
        now: Instant,
        metrics: &ShardMetrics,
    ) {
        state.defragment();
        metrics.defrag_inflight.set(1);
        self.defragments.extend(asked.into_iter().map(|reply| (now, reply)));
    }

    /// One slice of about `budget` records, if there is something to do.
    pub fn step(
        &mut self,
        env: &impl Env,
        state: &mut StateMachine,
        metrics: &ShardMetrics,
        (budget, may_rewrite): (usize, bool),
    ) -> Freed {
        if !state.compaction_is_due() {
            return Freed::All;
        }
        let before = env.now();
        let freed = state.freed_versions();
        let (began, freed_before) = *self.began.get_or_insert((before, freed));
        let left = state.compact_step(budget, may_rewrite);
        let after = env.now();
        if left != Freed::AllButRewriting {
            metrics.compaction_pause.observe(milliseconds(after.since(before)));
        }
        metrics.compaction_keys.inc_by(state.freed_versions() - freed);
        if left == Freed::All {
            self.began = None;
            let took = after.since(began);
            metrics.compaction_total.observe(milliseconds(took));
            metrics.compaction_ended();
            self.swept.append(&mut self.defragments);
            info!(
                "compact-revision" = state.compact_revision().0,
                ?took,
                "number-of-keys-compacted" = state.freed_versions() - freed_before,
                "current-db-size-bytes" = state.size_bytes(),
                "current-db-size" = Size(state.size_bytes()).to_string(),
                "current-db-size-in-use-bytes" = state.size_in_use_bytes(),
                "current-db-size-in-use" = Size(state.size_in_use_bytes()).to_string(),
                "finished scheduled compaction"
            );
        }
        left
    }
}

/// etcd counts whole ones.
fn milliseconds(took: Duration) -> f64 {
    took.as_millis() as f64
}
