//! What a shard does in the background: checkpoints, physical compaction, and the tasks that ask for more of it.
//!
//! Owned by the loop, which gives it a slice at the end of each turn and hands on what it asks for: the log is cut
//! behind a checkpoint, callers hear when nothing is left to free. [`AutoCompaction`] and [`CorruptionChecks`] are tasks
//! of their own that ask like any client, as long as [`Duty`] says that they are this member's to do.

mod autocompact;
mod checkpoint;
mod corruption;
mod duty;
mod endings;
mod expiry;
mod incoming;
mod loader;
mod others;
mod publishing;
mod sweeping;
#[cfg(test)]
mod tests;
mod version;

use std::{rc::Rc, task::Context};

use bytes::Bytes;

use crate::{
    consensus::{Baseline, LogPosition},
    env::{Env, Instant},
    limits,
    metrics::ShardMetrics,
    shard::{
        group::{self, Leadership},
        lease::Times,
        reply::Reply,
        serve::Arriving,
    },
    state::{StateMachine, mvcc::Freed},
    storage::checkpoint::{CheckpointError, HeldCheckpoint},
    types::LogIndex,
};

use sweeping::Sweeping;

pub use autocompact::AutoCompaction;
pub use checkpoint::{Checkpoints, Due, Step};
pub use corruption::CorruptionChecks;
pub use duty::Duty;
pub use endings::end_v2_nodes;
pub use expiry::LeaseExpiry;
pub use loader::Loader;
pub use others::Others;
pub use publishing::publish;
pub use version::watch_version;

pub struct Upkeep<E: Env> {
    env: E,
    metrics: Rc<ShardMetrics>,
    checkpoints: Checkpoints<E>,
    sweeping: Sweeping,
    duty: Duty,
    times: Times,
    compacting: bool,
    /// Turns since the last slice of compaction.
    put_off: u32,
    /// Since the last slice of compaction.
    applied: usize,
}

impl<E: Env> Upkeep<E> {
    pub fn new(env: E, metrics: Rc<ShardMetrics>, checkpoints: Checkpoints<E>, times: Times) -> Self {
        Upkeep {
            env,
            metrics,
            checkpoints,
            sweeping: Sweeping::default(),
            duty: Duty::default(),
            times,
            compacting: false,
            put_off: 0,
            applied: 0,
        }
    }

    /// Drives the checkpoint under way. True when it has come to an end.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        self.checkpoints.poll(cx)
    }

    /// What the tasks that only the leader does look at.
    pub fn duty(&self) -> Duty {
        self.duty.clone()
    }

    /// This member leads now, or does so no more.
    pub fn leadership(&self, leadership: Leadership) {
        self.duty.follow(leadership);
        match leadership {
            Leadership::Gained(_) => self.times.lead(),
            Leadership::Lost => self.times.follow(),
        }
    }

    /// Called with every tick of the clock.
    pub fn tick(&mut self) {
        self.checkpoints.tick();
    }

    /// Whether there is work for the next turn even if nothing arrives.
    pub fn is_busy(&self) -> bool {
        self.compacting || self.checkpoints.is_busy()
    }

    /// Whether somebody waits for the end of a defragmentation.
    pub fn is_awaited(&self) -> bool {
        self.sweeping.is_awaited()
    }

    /// The member ends: nobody waits for a defragmentation any more.
    pub fn leave(&mut self) {
        self.sweeping.leave();
    }

    pub fn bytes_on_disk(&self) -> u64 {
        self.checkpoints.bytes_on_disk()
    }

    /// So many commands were applied.
    pub fn applied(&mut self, commands: usize) {
        self.applied += commands;
    }

    /// A slice of the checkpoint under way, or the beginning of one that is due; `position` is that of the last applied
    /// entry, `log_bytes` what the log has taken since it was opened.
    pub fn checkpoint(
        &mut self,
        state: &mut StateMachine,
        position: LogPosition,
        log_bytes: u64,
        now: Instant,
    ) -> Result<Option<Step>, CheckpointError> {
        let done = self.checkpoints.step(state, now)?;
        if self.checkpoints.is_due(state, log_bytes, now) {
            let baseline = Baseline { position, config: group::config(state.cluster()) };
            let taken = checkpoint::take(state, position);
            self.checkpoints.begin(taken, baseline, log_bytes, now);
        }
        Ok(done)
    }

    /// The checkpoint of this entry, for another member, if it is the newest.
    pub fn held(&self, index: LogIndex) -> Option<HeldCheckpoint> {
        self.checkpoints.held(index)
    }

    /// Somebody needs a newer checkpoint than there is.
    pub fn want_checkpoint(&mut self) {
        self.checkpoints.want();
    }

    /// Takes in another member's checkpoint, unless one is on its way already.
    pub fn receive(&mut self, arriving: Arriving) {
        self.checkpoints.receive(arriving);
    }

    /// A received checkpoint that is whole, with its frame: Raft is to be asked whether it wants it, and then either
    /// [`Upkeep::install`] or [`Upkeep::discard`] is called.
    pub fn arrived(&mut self) -> Option<(Bytes, Baseline)> {
        self.checkpoints.arrived()
    }

    pub fn install(&mut self) {
        self.checkpoints.install();
    }

    pub fn discard(&mut self) {
        self.checkpoints.discard();
    }

    /// One slice of physical compaction: short, so that it does not show in the latency of a write, and longer the more
    /// was written meanwhile, so that writers never outrun it. A turn that has a few requests or replies to see to has none,
    /// unless there were too many of those; `quiet`: nothing came. What is left to free, if that was looked at.
    pub fn compact(
        &mut self,
        state: &mut StateMachine,
        quiet: bool,
        defragments: impl FnOnce() -> Vec<Reply<()>>,
    ) -> Option<Freed> {
        let may_wait = self.put_off < limits::COMPACTION_TURNS_PUT_OFF
            && self.applied < limits::COMPACTION_WRITES_PUT_OFF;
        if self.compacting && !quiet && may_wait {
            self.put_off += 1;
            return None;
        }
        self.put_off = 0;
        let may_rewrite = !self.checkpoints.is_behind(state);
        let written = std::mem::take(&mut self.applied);
        let budget = limits::COMPACTION_SLICE_KEYS + limits::COMPACTION_KEYS_PER_WRITE * written;
        let asked = !self.sweeping.waits_for_files();
        let defragments = defragments();
        if !defragments.is_empty() {
            self.sweeping.defragment(defragments, state, self.env.now(), &self.metrics);
        }
        let freed = self.sweeping.step(&self.env, state, &self.metrics, (budget, may_rewrite));
        if self.sweeping.waits_for_files() {
            if asked {
                self.checkpoints.rewrite();
            }
            self.sweeping.files(self.checkpoints.is_rewriting(), self.env.now(), &self.metrics);
        }
        self.compacting = freed == Freed::Some;
        Some(freed)
    }
}
