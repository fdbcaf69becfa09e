//! The loop: one turn after another, each taking everything that has arrived.
//!
//! A turn feeds frames and ticks to the replica, takes in a finished log write, proposes one entry with all waiting
//! writes if the log is idle, asks one read index for all waiting reads, applies what is committed, and gives upkeep a
//! slice. Then it sleeps until a write ends, something arrives or the clock ticks. Replica, serving and upkeep know
//! nothing of each other: the loop hands on what one gives to the next.
//!
//! One log write is in flight at a time: what arrives meanwhile becomes the next entry, so batches
//! form by themselves under load and a lone write goes out at once.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;

use super::{
    Error,
    group::{self, Leadership},
    replica::{EntryError, Offer, Replica},
    serve::Serving,
    upkeep::{Step, Upkeep},
};
use crate::{
    consensus::{self, Entry, Payload, ProposeError},
    env::{Env, Instant},
    limits,
    state::{BatchError, LoadError, StateMachine, mvcc::Freed},
    storage::checkpoint::CheckpointError,
    storage::wal::WalError,
    types::LogIndex,
};

/// Why a shard, and with it the member, cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    #[error(transparent)]
    Wal(#[from] WalError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("what the checkpoint says of the state: {0}")]
    State(#[from] LoadError),
    #[error("entry {index} of the log: {reason}")]
    Entry { index: LogIndex, reason: EntryError },
    #[error(transparent)]
    Raft(#[from] consensus::Error),
}

/// Everything one shard owns. Lives on one core for as long as [`Loop::run`] runs.
pub struct Loop<E: Env> {
    pub(super) env: E,
    /// One Raft tick (`--heartbeat-interval`).
    pub(super) heartbeat: Duration,
    pub(super) state: Rc<RefCell<StateMachine>>,
    pub(super) replica: Replica<E>,
    pub(super) serving: Serving,
    pub(super) upkeep: Upkeep<E>,
    pub(super) tick: Option<Pin<Box<E::Sleep>>>,
    pub(super) ticked: bool,
}

impl<E: Env> Loop<E> {
    /// Runs until stopped (everything admitted is answered and the log is closed) or until the
    /// member must not go on.
    pub async fn run(mut self) -> Result<(), Fatal> {
        self.replica.campaign_if_sole_voter()?;
        let mut quiet = false;
        loop {
            self.turn(quiet)?;
            if self.serving.is_stopping() && self.is_idle() {
                return Ok(self.replica.close().await?);
            }
            let mut pause = self.upkeep.is_busy().then(|| Box::pin(self.env.sleep(limits::BACKGROUND_PAUSE)));
            quiet = poll_fn(|cx| match self.wait(cx) {
                // A timer, not a yield: the core looks for finished I/O between two slices. While the log writes,
                // the next slice waits for it: see `serve/turnstile.rs`.
                Poll::Pending if !self.replica.is_writing() => match &mut pause {
                    Some(pause) => pause.as_mut().poll(cx).map(|()| true),
                    None => Poll::Pending,
                },
                woken => woken.map(|()| false),
            })
            .await;
        }
    }

    fn is_idle(&self) -> bool {
        self.serving.is_idle()
            && !self.replica.is_writing()
            && !self.replica.is_restoring()
            && !self.upkeep.is_awaited()
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut woken = self.serving.arrived(cx.waker());
        woken |= self.replica.poll(cx);
        woken |= self.upkeep.poll(cx);
        let tick = self.tick.get_or_insert_with(|| Box::pin(self.env.sleep(self.heartbeat)));
        if tick.as_mut().poll(cx).is_ready() {
            self.tick = None;
            self.ticked = true;
            woken = true;
        }
        if woken { Poll::Ready(()) } else { Poll::Pending }
    }

    /// `quiet`: nothing came, there is time for work in the background.
    fn turn(&mut self, quiet: bool) -> Result<(), Fatal> {
        let now = self.env.now();
        while let Some(frame) = self.serving.inbox.take_frame() {
            self.replica.step(frame);
        }
        self.take_transfers();
        if std::mem::take(&mut self.ticked) {
            self.replica.tick();
            self.serving.expire(now, self.replica.can_read(), self.replica.writing_since());
            self.upkeep.tick();
        }
        if let Some(took) = self.replica.finish_write(now)? {
            self.serving.log_written(took);
        }
        loop {
            self.propose(now);
            if self.serving.inbox.has_reads() && self.replica.can_read() {
                let number = self.serving.begin_reads();
                self.replica.read_index(number);
            }
            let Some(progress) = self.replica.next() else { break };
            for entry in progress.committed {
                self.apply(entry)?;
            }
            for (number, index) in progress.reads {
                self.serving.confirmed(number, index);
            }
            self.serving.release_reads(self.state.borrow().applied());
        }
        if let Some(leadership) = self.replica.leadership() {
            self.upkeep.leadership(leadership);
            if leadership == Leadership::Lost {
                self.serving.leadership_lost();
            }
        }
        self.give_transfers();
        self.maintain(now, quiet)?;
        self.show();
        Ok(())
    }

    /// Checkpoints that other members brought, and word of those that were brought to them.
    fn take_transfers(&mut self) {
        let transfers = &self.serving.inbox.transfers;
        for (to, came) in transfers.take_ended() {
            self.replica.transferred(to, came);
        }
        if let Some(arriving) = transfers.take_arriving() {
            self.upkeep.receive(arriving);
        }
        if let Some((frame, baseline)) = self.upkeep.arrived() {
            self.replica.step_with_checkpoint(frame, &baseline);
        }
    }

    /// What Raft wants with checkpoints: some for other members, or a received one in place of the state.
    fn give_transfers(&mut self) {
        if self.replica.take_checkpoint_wanted() {
            self.upkeep.want_checkpoint();
        }
        for Offer { to, frame, index } in self.replica.take_offers() {
            let held = self.upkeep.held(index);
            if !held.is_some_and(|held| self.serving.inbox.transfers.offer(to, frame, held)) {
                self.replica.transferred(to, false);
            }
        }
        if self.replica.to_install().is_some() {
            self.upkeep.install();
        } else if !self.replica.is_restoring() {
            self.upkeep.discard();
        }
    }

    /// Packs all waiting writes into one entry, unless the log is busy with the one before.
    fn propose(&mut self, now: Instant) {
        if !self.replica.is_open() || !self.serving.inbox.has_writes() {
            return;
        }
        if !self.replica.leads() {
            self.serving.refuse_all(Error::NoLeader);
            return;
        }
        let (batch, callers) = self.serving.next_batch().expect("writes are waiting");
        match self.replica.propose(batch) {
            Ok(()) => self.serving.proposed(callers, now),
            Err(ProposeError::NotLeader) => self.serving.refuse(callers, Error::NoLeader),
            Err(ProposeError::Full) => self.serving.refuse(callers, Error::TooManyRequests),
        }
    }

    fn apply(&mut self, entry: Entry) -> Result<(), Fatal> {
        let (index, term) = (entry.index, entry.term);
        let failed = |reason| Fatal::Entry { index, reason };
        match entry.payload().map_err(|error| failed(error.into()))? {
            Payload::Config(change) => {
                let group = self.replica.apply_change(&change)?;
                self.apply_batch(index, change.context)?;
                let known = group::config(self.state.borrow().cluster());
                if known != group {
                    return Err(failed(EntryError::Group { group, known }));
                }
            }
            Payload::Empty => self.state.borrow_mut().mark_applied(index),
            Payload::Data(data) => self.apply_batch(index, data)?,
        }
        self.replica.applied(index, term);
        Ok(())
    }

    fn apply_batch(&mut self, index: LogIndex, data: Bytes) -> Result<(), Fatal> {
        let applied = self.serving.apply(index, data, &self.state, || self.env.now());
        let failed = |error: BatchError| Fatal::Entry { index, reason: error.into() };
        self.upkeep.applied(applied.map_err(failed)?);
        Ok(())
    }

    /// A slice of what is done in the background.
    fn maintain(&mut self, now: Instant, quiet: bool) -> Result<(), Fatal> {
        let mut state = self.state.borrow_mut();
        let (term, log_bytes) = (self.replica.applied_term(), self.replica.log_bytes());
        match self.upkeep.checkpoint(&mut state, term, log_bytes, now)? {
            Some(Step::Written(baseline)) => self.replica.checkpointed(baseline),
            Some(Step::Installed(restored, reply)) => {
                // In one step: reads under way on what was here find out by themselves.
                *state = *restored;
                self.serving.standing.set_members(state.cluster().members());
                self.replica.installed();
                reply.send(());
            }
            None => {}
        }
        let freed = self.upkeep.compact(&mut state, quiet, || self.serving.take_defragments());
        drop(state);
        if freed == Some(Freed::All) {
            self.serving.freed();
        }
        Ok(())
    }

    /// Lets connections see where this shard stands.
    fn show(&self) {
        self.serving.inbox.set_log_busy(self.replica.is_writing());
        self.serving.show_leader(self.replica.leader(), self.replica.term());
        let standing = &self.serving.standing;
        standing.is_leader.set(self.replica.leads());
        standing.term.set(self.replica.term());
        standing.committed.set(self.replica.committed());
        standing.applied_term.set(self.replica.applied_term());
        standing.bytes_on_disk.set(self.upkeep.bytes_on_disk());
        standing.can_read.set(self.replica.can_read());
    }
}
