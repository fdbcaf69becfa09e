//! The loop: one turn after another, each taking everything that has arrived.
//!
//! A turn steps messages and ticks, reports a finished log write to Raft, proposes one entry with all
//! waiting writes if the log is idle, asks one read index for all waiting reads, hands every
//! [`Ready`] on (messages out, entries to the log, the log write started before anything is applied)
//! and applies what is committed. Then it sleeps until a write ends, something arrives or the clock
//! ticks.
//!
//! One log write is in flight at a time: what arrives meanwhile becomes the next entry, so batches
//! form by themselves under load and a lone write goes out at once.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tracing::{info, warn};

use super::{
    Error,
    backlog::{Backlog, hard_state_record},
    checkpoint::{self, Checkpoints},
    group,
    inbox::{Taker, Waiting},
    pending::Pending,
    proposal::Proposal,
    reads::Reads,
    replay::EntryError,
    sweeping::Sweeping,
    view::View,
};
use crate::{
    consensus::{self, Entry, Outgoing, Payload, Pipeline, ProposeError, Ready, Role},
    env::{Env, Instant, Links},
    limits,
    metrics::Metrics,
    state::{
        Batch, BatchError, Change, Completion, LoadError, Operations, Outcome, StateMachine, mvcc::Freed,
    },
    storage::checkpoint::CheckpointError,
    storage::wal::{Wal, WalError, Written},
    types::{LogIndex, MemberId, ShardId, Term},
};

/// Why a shard, and with it the member, cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    #[error(transparent)]
    Wal(#[from] WalError),
    #[error(transparent)]
    Snapshot(#[from] CheckpointError),
    #[error("what the snapshot says of the state: {0}")]
    State(#[from] LoadError),
    #[error("entry {index} of the log: {reason}")]
    Entry { index: LogIndex, reason: EntryError },
    #[error(transparent)]
    Raft(#[from] consensus::Error),
}

/// Time as the loop needs it.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// One Raft tick (`--heartbeat-interval`).
    pub tick: Duration,
    /// How long a request may wait for its commit.
    pub patience: Duration,
    /// Applying an entry for longer is worth a warning (`--warning-apply-duration`).
    pub slow_apply: Duration,
}

type Finished<E> = Result<Written<E>, WalError>;

struct InFlight<E: Env> {
    write: Pin<Box<dyn Future<Output = Finished<E>>>>,
    /// The newest ready that is complete on disk when the write is done.
    number: Option<u64>,
    started: Instant,
}

/// Everything one shard owns. Lives on one core for as long as [`Loop::run`] runs.
pub struct Loop<E: Env> {
    pub(super) env: E,
    pub(super) shard_id: ShardId,
    pub(super) pace: Pace,
    pub(super) inbox: Taker,
    pub(super) state: Rc<RefCell<StateMachine>>,
    pub(super) view: Rc<View>,
    pub(super) metrics: Rc<Metrics>,
    pub(super) pipeline: Pipeline,
    pub(super) wal: Wal<E>,
    pub(super) checkpoints: Checkpoints<E>,
    pub(super) turns: Turns<E>,
}

/// What a loop remembers from one turn to the next.
pub(super) struct Turns<E: Env> {
    pending: Pending,
    reads: Reads,
    /// When each entry of ours that is not applied yet was proposed, by its first request.
    proposed: VecDeque<(u64, Instant)>,
    in_flight: Option<InFlight<E>>,
    finished: Option<Finished<E>>,
    backlog: Backlog,
    tick: Option<Pin<Box<dyn Future<Output = ()>>>>,
    ticked: bool,
    /// Term of the last applied entry.
    applied_term: Term,
    compacting: bool,
    /// Turns since the last slice of compaction.
    put_off: u32,
    /// Since the last slice of compaction.
    applied_requests: usize,
    sweeping: Sweeping,
    /// Callers of physical compactions, answered when nothing is left to free.
    compactions: Vec<Proposal>,
    /// Of the entry that is being applied; kept for its memory.
    outcome: Outcome,
}

impl<E: Env> Turns<E> {
    /// `applied_term`: of the last applied entry.
    pub(super) fn new(applied_term: Term) -> Self {
        Turns {
            pending: Pending::default(),
            reads: Reads::default(),
            proposed: VecDeque::new(),
            in_flight: None,
            finished: None,
            backlog: Backlog::default(),
            tick: None,
            ticked: false,
            applied_term,
            compacting: false,
            put_off: 0,
            applied_requests: 0,
            sweeping: Sweeping::default(),
            compactions: Vec::new(),
            outcome: Outcome::default(),
        }
    }
}

impl<E: Env> Loop<E> {
    /// Runs until stopped (everything admitted is answered and the log is closed) or until the
    /// member must not go on.
    pub async fn run(mut self) -> Result<(), Fatal> {
        self.pipeline.campaign_if_sole_voter()?;
        let mut quiet = false;
        loop {
            self.turn(quiet)?;
            if self.inbox.stopping() && self.idle() {
                return self.close().await;
            }
            let mut pause = self.is_busy().then(|| Box::pin(self.env.sleep(limits::BACKGROUND_PAUSE)));
            quiet = poll_fn(|cx| match self.wait(cx) {
                // A timer, not a yield: the core looks for finished I/O between two slices. While the log writes,
                // the next slice waits for it: see `turnstile`.
                Poll::Pending if self.turns.in_flight.is_none() => match &mut pause {
                    Some(pause) => pause.as_mut().poll(cx).map(|()| true),
                    None => Poll::Pending,
                },
                woken => woken.map(|()| false),
            })
            .await;
        }
    }

    /// Whether there is work in the background for the next turn.
    fn is_busy(&self) -> bool {
        self.turns.compacting || self.checkpoints.is_busy()
    }

    fn idle(&self) -> bool {
        let turns = &self.turns;
        turns.pending.is_empty()
            && turns.reads.is_empty()
            && turns.in_flight.is_none()
            && turns.compactions.is_empty()
            && !turns.sweeping.is_awaited()
            && !self.inbox.has_writes()
            && !self.inbox.has_reads()
    }

    async fn close(mut self) -> Result<(), Fatal> {
        // The commit index moved after the last write took it along.
        self.wal.append(hard_state_record(&self.pipeline.hard_state()));
        self.wal.close().await?;
        info!("closed the log");
        Ok(())
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let turns = &mut self.turns;
        let mut woken = self.inbox.arrived(cx.waker());
        if let Some(in_flight) = &mut turns.in_flight
            && let Poll::Ready(finished) = in_flight.write.as_mut().poll(cx)
        {
            turns.finished = Some(finished);
            woken = true;
        }
        woken |= self.checkpoints.poll(cx);
        let tick = turns.tick.get_or_insert_with(|| Box::pin(self.env.sleep(self.pace.tick)));
        if tick.as_mut().poll(cx).is_ready() {
            turns.tick = None;
            turns.ticked = true;
            woken = true;
        }
        if woken { Poll::Ready(()) } else { Poll::Pending }
    }

    /// `quiet`: nothing came, there is time for work in the background.
    fn turn(&mut self, quiet: bool) -> Result<(), Fatal> {
        let now = self.env.now();
        self.step_frames();
        if std::mem::take(&mut self.turns.ticked) {
            self.pipeline.tick(self.env.random_u64());
            self.expire(now);
            self.checkpoints.tick();
        }
        self.finish_write(now)?;
        loop {
            self.propose(now);
            self.ask_reads();
            if !self.pipeline.has_ready() {
                break;
            }
            let ready = self.pipeline.ready();
            self.handle(ready)?;
        }
        self.checkpoint(now);
        self.compact(quiet);
        self.publish();
        Ok(())
    }

    fn step_frames(&mut self) {
        while let Some(frame) = self.inbox.take_frame() {
            if let Err(error) = self.pipeline.step(frame, self.env.random_u64()) {
                warn!(%error, "ignored a frame of another member");
            }
        }
    }

    fn finish_write(&mut self, now: Instant) -> Result<(), Fatal> {
        let Some(finished) = self.turns.finished.take() else { return Ok(()) };
        let in_flight = self.turns.in_flight.take().expect("only a write in flight can finish");
        // A write that failed or came back short stops the shard before anything depends on it.
        self.wal.written(finished?);
        self.inbox.set_log_busy(false);
        self.metrics.stage_log_write.observe(now.since(in_flight.started).as_secs_f64());
        if let Some(number) = in_flight.number {
            self.persisted(number);
        }
        // What did not fit into that write goes with the next one.
        self.submit();
        Ok(())
    }

    fn persisted(&mut self, number: u64) {
        let released = self.pipeline.persisted(number);
        self.send(released);
    }

    fn send(&mut self, messages: Vec<Outgoing>) {
        for Outgoing { to, frame, checkpoint } in messages {
            assert!(checkpoint.is_none(), "the pipeline is told of no checkpoint to send");
            self.env.links().send(to, self.shard_id, frame);
        }
    }

    /// Packs all waiting writes into one entry, unless the log is busy with the one before.
    fn propose(&mut self, now: Instant) {
        if self.wal.in_flight() || !self.turns.backlog.is_empty() || !self.inbox.has_writes() {
            return;
        }
        if self.pipeline.role() != Role::Leader {
            self.refuse(Error::NoLeader);
            return;
        }
        let (payload, waiting) = self.inbox.take_batch().expect("writes are waiting");
        match self.pipeline.propose(payload) {
            Ok(()) => {
                for caller in &waiting {
                    self.metrics.stage_queued.observe(now.since(caller.arrived).as_secs_f64());
                }
                self.turns.proposed.push_back((waiting[0].sequence, now));
                self.turns.pending.extend(waiting);
            }
            Err(error) => {
                let error = match error {
                    ProposeError::NotLeader => Error::NoLeader,
                    ProposeError::Full => Error::TooManyRequests,
                };
                self.answer_all(waiting, error);
            }
        }
    }

    fn refuse(&mut self, error: Error) {
        while let Some((_, waiting)) = self.inbox.take_batch() {
            self.answer_all(waiting, error);
        }
    }

    fn answer_all(&self, waiting: impl IntoIterator<Item = Waiting>, error: Error) {
        for caller in waiting {
            self.metrics.proposals_failed.inc();
            caller.proposal.refuse(error);
            self.inbox.answered(1);
        }
    }

    fn ask_reads(&mut self) {
        // Before its term's first commit a leader cannot know what is committed; readers wait.
        if self.inbox.has_reads() && self.pipeline.committed_in_term() {
            let context = self.turns.reads.begin(self.inbox.take_reads());
            self.pipeline.read_index(context);
        }
    }

    /// Tells callers who have waited too long; their request may still take effect.
    fn expire(&mut self, now: Instant) {
        let expired: Vec<_> = self.turns.pending.expired(now, self.pace.patience).collect();
        self.answer_all(expired, Error::Timeout);
        let stuck = |write: &InFlight<E>| now.since(write.started) > self.pace.patience;
        if self.turns.in_flight.as_ref().is_some_and(stuck) {
            // The disk does not answer: what waits behind that write would wait in vain.
            self.refuse(Error::Timeout);
        }
        let failed = self.turns.reads.expire(now, self.pace.patience);
        self.metrics.read_indexes_failed.inc_by(failed as u64);
        let old = |at: Instant| now.since(at) > self.pace.patience;
        if self.inbox.has_reads() && !self.pipeline.committed_in_term() {
            let (late, waiting): (Vec<_>, Vec<_>) =
                self.inbox.take_reads().into_iter().partition(|r| old(r.0));
            self.metrics.read_indexes_failed.inc_by(u64::from(!late.is_empty()));
            self.inbox.put_back_reads(waiting);
        }
    }

    fn handle(&mut self, ready: Ready) -> Result<(), Fatal> {
        self.send(ready.messages);
        let Ready { number, entries, hard_state, must_log, committed, reads, restored, .. } = ready;
        assert!(restored.is_none(), "the pipeline is given no checkpoint's frame");
        let hard_state = hard_state.filter(|_| must_log || !entries.is_empty());
        if self.turns.backlog.add(number, entries, hard_state) {
            // Nothing to log: as durable as what was logged before it.
            match &mut self.turns.in_flight {
                Some(in_flight) => in_flight.number = Some(number),
                None => self.persisted(number),
            }
        }
        self.submit();
        for entry in &committed {
            self.apply(entry)?;
        }
        for (context, index) in reads {
            self.turns.reads.confirmed(context, index);
        }
        self.turns.reads.release(self.state.borrow().applied());
        Ok(())
    }

    /// Starts the log write, so that the disk works while this core applies.
    fn submit(&mut self) {
        if self.wal.in_flight() {
            return;
        }
        let number = self.turns.backlog.drain_into(&mut self.wal);
        if let Some(write) = self.wal.submit() {
            assert!(self.turns.in_flight.is_none(), "one log write at a time");
            self.inbox.set_log_busy(true);
            let started = self.env.now();
            self.turns.in_flight = Some(InFlight { write: Box::pin(write), number, started });
        }
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), Fatal> {
        let index = entry.index;
        let failed = |reason| Fatal::Entry { index, reason };
        match entry.payload().map_err(|error| failed(error.into()))? {
            Payload::Config(change) => {
                let group = self.pipeline.apply_change(&change)?;
                self.apply_batch(index, change.context)?;
                let known = group::config(self.state.borrow().cluster());
                if known != group {
                    return Err(failed(EntryError::Group { group, known }));
                }
            }
            Payload::Empty => self.state.borrow_mut().mark_applied(index),
            Payload::Data(data) => self.apply_batch(index, data)?,
        }
        self.turns.applied_term = entry.term;
        self.pipeline.applied(index);
        Ok(())
    }

    fn apply_batch(&mut self, index: LogIndex, data: Bytes) -> Result<(), Fatal> {
        let began = self.env.now();
        let failed = |reason: BatchError| Fatal::Entry { index, reason: reason.into() };
        let batch = Batch::decode(data).map_err(failed)?;
        let (ours, first) = (batch.origin == self.inbox.origin, batch.first);
        if ours {
            self.observe_commit(first, began);
        }
        let mut replies = Vec::with_capacity(if ours { self.turns.pending.len() } else { 0 });
        let mut state = self.state.borrow_mut();
        let outcome = &mut self.turns.outcome;
        state.mark_applied(index);
        for (sequence, envelope) in (first..).zip(batch) {
            self.turns.applied_requests += 1;
            let envelope = envelope.map_err(failed)?;
            let caller = if ours { self.turns.pending.take(sequence) } else { None };
            // Without: another run proposed it, or its caller was told of a timeout.
            let Some(Waiting { proposal, .. }) = caller else {
                envelope.apply(&mut state, outcome).map_err(failed)?;
                continue;
            };
            match proposal.apply(envelope, &mut state, outcome).map_err(failed)? {
                Completion::Applied => replies.push(proposal),
                Completion::Freed => self.turns.compactions.push(proposal),
            }
        }
        for change in &outcome.changes {
            match change {
                Change::Members => self.view.set_members(state.cluster().members()),
                Change::Versions(_) | Change::Compacted(_) | Change::Alarms => {}
            }
        }
        drop(state);
        count(&outcome.operations, &self.metrics);
        outcome.clear();
        let applied = self.env.now();
        let took = applied.since(began);
        self.metrics.stage_apply.observe(took.as_secs_f64());
        if took > self.pace.slow_apply {
            self.metrics.slow_apply.inc();
            let expected = self.pace.slow_apply;
            warn!(?took, "expected-duration" = ?expected, index = index.0, "apply request took too long");
        }
        self.inbox.answered(replies.len());
        replies.into_iter().for_each(Proposal::answer);
        self.metrics.stage_reply.observe(self.env.now().since(applied).as_secs_f64());
        Ok(())
    }

    fn observe_commit(&mut self, first: u64, now: Instant) {
        while let Some(&(sequence, at)) = self.turns.proposed.front()
            && sequence <= first
        {
            self.turns.proposed.pop_front();
            if sequence == first {
                self.metrics.stage_commit.observe(now.since(at).as_secs_f64());
            }
        }
    }

    /// A slice of the checkpoint under way, or the beginning of one that is due.
    fn checkpoint(&mut self, now: Instant) {
        let mut state = self.state.borrow_mut();
        if let Some(durable) = self.checkpoints.step(&mut state, now) {
            self.wal.cut(self.pipeline.first_kept().min(LogIndex(durable.0 + 1)));
        }
        let log_bytes = self.wal.appended_bytes();
        if self.checkpoints.is_due(&state, log_bytes, now) {
            let taken = checkpoint::take(&mut state, self.turns.applied_term);
            self.checkpoints.begin(taken, log_bytes, now);
        }
    }

    /// One slice of physical compaction: short, so that it does not show in the latency of a write, and longer the more
    /// was written meanwhile, so that writers never outrun it. A turn that has a few requests or replies to see to has none,
    /// unless there were too many of those.
    fn compact(&mut self, quiet: bool) {
        let turns = &mut self.turns;
        let may_wait = turns.put_off < limits::COMPACTION_TURNS_PUT_OFF
            && turns.applied_requests < limits::COMPACTION_WRITES_PUT_OFF;
        if turns.compacting && !quiet && may_wait {
            turns.put_off += 1;
            return;
        }
        self.turns.put_off = 0;
        let may_rewrite = !self.checkpoints.is_behind(&self.state.borrow());
        let written = std::mem::take(&mut self.turns.applied_requests);
        let budget = limits::COMPACTION_SLICE_KEYS + limits::COMPACTION_KEYS_PER_WRITE * written;
        let sweeping = &mut self.turns.sweeping;
        let asked = !sweeping.waits_for_files();
        let slice = (budget, may_rewrite);
        let freed = sweeping.step(&self.env, &self.inbox, &self.state, &self.metrics, slice);
        if sweeping.waits_for_files() {
            if asked {
                self.checkpoints.rewrite();
            }
            sweeping.files(self.checkpoints.is_rewriting(), self.env.now(), &self.metrics);
        }
        self.turns.compacting = freed == Freed::Some;
        if freed == Freed::All && !self.turns.compactions.is_empty() {
            self.inbox.answered(self.turns.compactions.len());
            self.turns.compactions.drain(..).for_each(Proposal::answer);
        }
    }

    /// Lets connections see where this shard stands.
    fn publish(&self) {
        let leader = self.pipeline.leader();
        if leader != self.view.leader.replace(leader) && leader != MemberId(0) {
            self.metrics.leader_changes.inc();
            info!(leader = format_args!("{:x}", leader.0), term = self.pipeline.term().0, "elected leader");
        }
        self.view.is_leader.set(self.pipeline.role() == Role::Leader);
        self.view.term.set(self.pipeline.term());
        self.view.committed.set(self.pipeline.committed());
        self.view.applied_term.set(self.turns.applied_term);
        self.view.bytes_on_disk.set(self.checkpoints.bytes_on_disk());
        self.view.can_read.set(self.pipeline.committed_in_term());
    }
}

/// `etcd_mvcc_*_total`.
fn count(operations: &Operations, metrics: &Metrics) {
    metrics.range_total.inc_by(operations.ranges);
    metrics.put_total.inc_by(operations.puts);
    metrics.total_put_size.add(operations.put_bytes as i64);
    metrics.delete_total.inc_by(operations.deletes);
    metrics.txn_total.inc_by(operations.txns);
}
