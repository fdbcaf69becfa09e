//! The loop: one turn after another, each taking everything that has arrived.
//!
//! A turn feeds frames and ticks to the replica, takes in a finished log write, proposes one entry with all waiting
//! writes if the log is idle, asks one read index for all waiting reads, applies what is committed, for a bounded time,
//! and gives upkeep a slice. Then it sleeps until a write ends, something arrives or the clock ticks, unless there is more
//! to apply. Replica, serving and upkeep know nothing of each other: the loop hands on what one gives to the next.
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

use tracing::warn;

use super::{
    Error,
    answering::Answering,
    committed::{Committed, UnderWay},
    forwarded::Forwarded,
    group::{self, Leadership},
    handover::Stalled,
    pace::{Pace, Slice},
    replica::{EntryError, Offer, Replica},
    serve::Serving,
    upkeep::{LeaseExpiry, Step, Upkeep},
};
use crate::{
    consensus::{self, ChangeKind, ConfigChange, Entry, LogPosition, Payload},
    env::{Env, Instant, Law, Links},
    limits,
    state::{BatchError, LoadError, StateMachine, cluster::Release, mvcc::Freed},
    storage::checkpoint::CheckpointError,
    storage::data_dir::{Anchor, DataDirError},
    storage::wal::WalError,
    types::{Level, LogIndex, MemberId, Term},
};

/// Why a shard, and with it the member, cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    #[error(transparent)]
    Wal(#[from] WalError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(
        "invalid downgrade; server version is lower than determined cluster version (this is {ours}, the cluster is of \
         {version}): start the newer release, which can prepare the cluster for an older one (etcdctl downgrade enable)",
        ours = Release::OURS
    )]
    Downgrade { version: Release },
    #[error(
        "the cluster has gone on to commands of level {level}, and this release knows those up to {known}: start the \
         newer one again"
    )]
    Level { level: Level, known: Level },
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    #[error(
        "the group of this log has the members {members}, and not this one, {member:x}: its log or its `identity` is \
         another member's"
    )]
    NotAMember { member: u64, members: String },
    #[error(
        "{member:x} found data inconsistency with peers: it does not serve what others know to be otherwise. If they are \
         right, remove this member from the cluster, and add and start it as a new one, without its data"
    )]
    Inconsistent { member: u64 },
    #[error("what the checkpoint says of the state: {0}")]
    State(#[from] LoadError),
    #[error("entry {index} of the log: {reason}")]
    Entry { index: LogIndex, reason: EntryError },
    #[error(transparent)]
    Raft(#[from] consensus::Error),
}

/// The log has so many batches: a shorter one is refused from now on. A full disk keeps a member neither from starting
/// nor from stopping: what was remembered before holds.
pub async fn remember<E: Env>(anchor: &mut Anchor<E>, batches: u64) {
    if let Err(error) = anchor.reached(batches).await {
        warn!(%error, "failed to remember how long the log is: if its end gets lost, that may go unnoticed");
    }
}

/// Everything one shard owns. Lives on one core for as long as [`Loop::run`] runs.
pub struct Loop<E: Env> {
    pub(super) env: E,
    pub(super) links: Rc<dyn Links>,
    /// One Raft tick (`--heartbeat-interval`).
    pub(super) heartbeat: Duration,
    /// `--election-timeout`.
    pub(super) election: Duration,
    pub(super) state: Rc<RefCell<StateMachine>>,
    pub(super) replica: Replica<E>,
    pub(super) serving: Serving,
    pub(super) upkeep: Upkeep<E>,
    /// Beside the loop, from its beginning on.
    pub(super) expiry: Option<LeaseExpiry<E>>,
    pub(super) anchor: Anchor<E>,
    pub(super) tick: Option<Pin<Box<E::Sleep>>>,
    pub(super) ticked: bool,
    pub(super) pace: Pace,
    pub(super) committed: Committed,
    /// What other members want in the log while this one leads.
    pub(super) forwarded: Forwarded,
    /// And what they ask of it.
    pub(super) answering: Answering<E>,
    pub(super) stalled: Stalled,
    pub(super) last_tick: Option<Instant>,
    /// Until then the first election may be brought forward.
    pub(super) advance_until: Option<Instant>,
    /// The newest leader, and since when it is known.
    pub(super) elected: (MemberId, Instant),
    /// The term whose leader the reads under way were asked of.
    pub(super) read_in: Option<Term>,
    /// Upkeep waits for the end of an entry.
    pub(super) upkeep_waits: bool,
    /// Since when the member is about to stop.
    pub(super) leaving_since: Option<Instant>,
    /// Nothing is applied any more.
    pub(super) has_left: bool,
}

impl<E: Env> Loop<E> {
    /// Runs until stopped (everything admitted is answered and the log is closed) or until the
    /// member must not go on.
    pub async fn run(mut self) -> Result<(), Fatal> {
        self.replica.campaign_if_sole_voter()?;
        if let Some(expiry) = self.expiry.take() {
            self.env.spawn(expiry.run());
        }
        let mut quiet = false;
        loop {
            self.turn(quiet)?;
            if self.serving.is_stopping() && self.is_idle() {
                let batches = self.replica.close().await?;
                remember(&mut self.anchor, batches).await;
                return Ok(());
            }
            // A timer, not a yield: the core looks for finished I/O between two slices.
            let applies = self.has_to_apply() || self.serving.is_telling();
            let pause = match applies {
                true => Some(limits::TURN_PAUSE),
                false => self.upkeep.is_busy().then_some(limits::BACKGROUND_PAUSE),
            };
            let mut pause = pause.map(|pause| Box::pin(self.env.sleep(pause)));
            quiet = poll_fn(|cx| match self.wait(cx) {
                // While the log writes, what is not urgent waits for it: see `serve/turnstile.rs`.
                Poll::Pending if applies || !self.replica.is_writing() => match &mut pause {
                    Some(pause) => pause.as_mut().poll(cx).map(|()| !applies),
                    None => Poll::Pending,
                },
                woken => woken.map(|()| false),
            })
            .await;
        }
    }

    /// Whether there is something to apply, and it will be.
    fn has_to_apply(&self) -> bool {
        !self.committed.is_empty() && !self.has_left
    }

    fn is_idle(&self) -> bool {
        self.serving.is_idle()
            && !self.has_to_apply()
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
            if let Some(aside) = self.replica.step(frame, !self.committed.is_too_much()) {
                self.hear(aside);
            }
        }
        for member in self.serving.inbox.take_unreachable() {
            self.replica.unreachable(member);
        }
        self.take_transfers();
        self.leave_if_late(now);
        if std::mem::take(&mut self.ticked) {
            self.look_after_heartbeat(now);
            self.look_after_disk(now);
            self.advance_election(now);
            self.replica.tick();
            self.expire(now);
            self.forward_again(now);
            self.upkeep.tick();
        }
        if let Some(took) = self.replica.finish_write(now)? {
            self.serving.log_written(took);
        }
        self.note_leader(now);
        self.replica.take_read_back();
        self.hand_over();
        let mut slice = Slice::new(self.pace);
        loop {
            self.propose_changes(now);
            self.propose(now);
            self.ask_for_reads(now);
            self.ask_leader(now);
            match self.replica.next(self.committed.is_empty()) {
                Some(progress) => {
                    self.committed.extend(progress.committed);
                    for (number, index) in progress.reads {
                        self.serving.confirmed(number, index);
                    }
                }
                None if slice.is_over() || !self.has_to_apply() => break,
                None => {}
            }
            self.apply(&mut slice)?;
            self.serving.release_reads(self.state.borrow().applied());
        }
        if self.serving.is_telling() {
            self.serving.tell(&self.state.borrow(), || self.env.now());
        }
        if let Some(leadership) = self.replica.leadership() {
            self.upkeep.leadership(leadership);
            if matches!(leadership, Leadership::Gained(_)) {
                self.serving.leads();
            }
        }
        self.replica.begin_read_back();
        self.give_transfers();
        self.maintain(now, quiet)?;
        self.show(now);
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

    /// The state has taken a change of the group, and Raft follows; or has refused it, and it is none for Raft either.
    fn change_group(&mut self, index: LogIndex, change: &ConfigChange) -> Result<(), Fatal> {
        let known = group::config(self.state.borrow().cluster());
        if known == self.replica.group() {
            return Ok(());
        }
        let group = self.replica.apply_change(change)?;
        if known != group {
            return Err(Fatal::Entry { index, reason: EntryError::Group { group, known } });
        }
        Ok(())
    }

    /// One question to the leader for all reads that wait. What was asked of another than who leads now is asked again.
    fn ask_for_reads(&mut self, now: Instant) {
        let readable = self.replica.readable();
        if self.read_in != readable && std::mem::replace(&mut self.read_in, readable).is_some() {
            self.serving.leader_lost();
        }
        if readable.is_some() && self.serving.may_read() {
            let number = self.serving.begin_reads(now);
            match self.env.breaks(Law::ReadIndex) {
                true => self.serving.confirmed(number, self.replica.committed()),
                false => self.replica.read_index(number),
            }
        }
    }

    /// A learner that has little of the log would hold up everybody, had it a vote (`readyPercentThreshold` of etcd).
    pub(super) fn may_change(&self, change: &ConfigChange) -> Result<(), Error> {
        let (Some(here), Some(there)) =
            (self.replica.matched(self.serving.inbox.origin.member), self.replica.matched(change.member))
        else {
            return Ok(());
        };
        let is_ready = there.0.saturating_mul(10) >= here.0.saturating_mul(9);
        match change.kind {
            ChangeKind::AddVoter if !is_ready => Err(Error::LearnerNotReady),
            ChangeKind::AddVoter | ChangeKind::AddLearner | ChangeKind::Remove => Ok(()),
        }
    }

    /// Applies what is committed, until the slice is over or there is nothing left.
    fn apply(&mut self, slice: &mut Slice) -> Result<(), Fatal> {
        while !slice.is_over() && self.has_to_apply() {
            if self.committed.under_way.is_none() {
                let entry = self.committed.next().expect("not all is applied");
                self.begin(entry)?;
                continue;
            }
            let index = self.committed.under_way.as_ref().expect("just seen").index;
            let keys = slice.step(&self.env);
            let stepped = self.serving.step(&self.state, keys, || self.env.now());
            let stepped = stepped.map_err(|error| self.cannot_apply(index, error))?;
            slice.spend(stepped.keys, &self.env, self.committed.is_much());
            if stepped.of_members {
                self.replica.keep_commit();
            }
            if let Some(commands) = stepped.applied {
                self.upkeep.applied(commands);
                self.applied()?;
                if std::mem::take(&mut self.upkeep_waits) {
                    slice.end();
                }
            }
        }
        Ok(())
    }

    /// The others may have gone on to what a member that was removed does not know.
    fn cannot_apply(&self, index: LogIndex, error: BatchError) -> Fatal {
        let own = self.serving.inbox.origin.member;
        match error {
            BatchError::Level(_) if self.state.borrow().cluster().was_removed(own) => Fatal::Removed,
            error => Fatal::Entry { index, reason: error.into() },
        }
    }

    /// An entry is the next to be applied; one without commands is at once.
    fn begin(&mut self, entry: Entry) -> Result<(), Fatal> {
        let (index, term) = (entry.index, entry.term);
        let failed = |reason| Fatal::Entry { index, reason };
        let (data, change) = match entry.payload().map_err(|error| failed(error.into()))? {
            Payload::Config(change) => (Some(change.context.clone()), Some(change)),
            Payload::Empty => (None, None),
            Payload::Data(data) => (Some(data), None),
        };
        self.committed.under_way = Some(UnderWay { index, term, change });
        match data {
            Some(data) => {
                self.serving.begin(index, data, self.env.now()).map_err(|error| failed(error.into()))
            }
            None => {
                self.state.borrow_mut().mark_applied(index);
                self.applied()
            }
        }
    }

    /// The entry under way is applied.
    fn applied(&mut self) -> Result<(), Fatal> {
        let UnderWay { index, term, change } =
            self.committed.under_way.take().expect("an entry is under way");
        if term != self.replica.applied_term() {
            self.serving.term_began(term);
        }
        if let Some(change) = change {
            self.change_group(index, &change)?;
        }
        self.replica.applied(index, term);
        Ok(())
    }

    /// A member that is about to stop leaves what takes long to the next start.
    fn leave_if_late(&mut self, now: Instant) {
        // What other members are needed for may never come.
        let waits = self.has_to_apply() || (!self.replica.is_sole_voter() && !self.serving.is_idle());
        if !self.serving.is_leaving() || self.has_left || !waits {
            return;
        }
        let since = *self.leaving_since.get_or_insert(now);
        if now.since(since) > self.pace.patience {
            self.has_left = true;
            self.serving.leave();
            self.upkeep.leave();
        }
    }

    /// A slice of what is done in the background.
    fn maintain(&mut self, now: Instant, quiet: bool) -> Result<(), Fatal> {
        // Half of an entry belongs into no checkpoint, and what it is about does not move.
        self.upkeep_waits = self.serving.is_applying();
        if self.upkeep_waits || self.has_left {
            return Ok(());
        }
        let mut state = self.state.borrow_mut();
        let mut position = LogPosition { index: state.applied(), term: self.replica.applied_term() };
        if self.env.breaks(Law::Checkpoint) && self.has_to_apply() {
            position.index.0 += 1;
        }
        match self.upkeep.checkpoint(&mut state, position, self.replica.log_bytes(), now)? {
            Some(Step::Written(baseline)) => {
                self.replica.checkpointed(baseline, self.upkeep.bytes_on_disk());
            }
            Some(Step::Installed(restored, reply)) => {
                // In one step: reads under way on what was here find out by themselves.
                *state = *restored;
                self.serving.replaced(&state);
                self.replica.installed();
                reply.send(());
            }
            None => {}
        }
        // What is yet to be told to watches stays where it is.
        let freed = match self.serving.is_telling() {
            true => None,
            false => self.upkeep.compact(&mut state, quiet, || self.serving.take_defragments()),
        };
        drop(state);
        if freed == Some(Freed::All) {
            self.serving.freed();
        }
        Ok(())
    }

    /// Lets connections see where this shard stands.
    fn show(&self, now: Instant) {
        self.serving.inbox.set_log_busy(self.replica.is_writing());
        self.serving.inbox.set_writes_wait(!self.may_propose(now));
        self.serving.show_leader(self.replica.leader(), self.replica.term());
        let standing = &self.serving.standing;
        standing.leader_since.set(self.elected.1);
        standing.appends.set(self.replica.appends());
        standing.is_leader.set(self.replica.leads());
        standing.term.set(self.replica.term());
        standing.committed.set(self.replica.committed());
        standing.applied_term.set(self.replica.applied_term());
        standing.bytes_on_disk.set(self.upkeep.bytes_on_disk());
        standing.can_read.set(self.replica.leads() && self.replica.readable().is_some());
        if standing.take_members_changed() {
            group::tell(&*self.links, self.state.borrow().cluster());
        }
    }
}
