//! This member's part of the Raft group: the log's turns around the pipeline.
//!
//! Owned by the loop, which feeds it frames, ticks, batches and reads, and takes [`Progress`] from it: what is committed
//! and to be applied, in order, and which reads are confirmed. One log write is in flight at a time: what comes
//! meanwhile becomes the next one. It knows nothing of what is in a batch, nor of who waits for it.
//!
//! Invariants: nothing is given out as committed before it is durable here; a failed log write ends the shard before
//! anything depends on it.

mod alone;
mod backlog;
mod founding;
mod read_back;
mod replay;
mod restoring;
#[cfg(test)]
mod tests;

use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tracing::{debug, info, warn};

use crate::{
    consensus::{
        Aside, Baseline, ChangeError, Config, ConfigChange, Entry, Error, Frame, FrameError, LogPosition,
        Outgoing, Pipeline, ProposeError, Ready, Received, Role, StepError,
    },
    env::{Env, Instant, Lane, Law, Links},
    pb::peer::aside::Word,
    shard::group::Leadership,
    storage::wal::{Wal, WalError, Written},
    types::{LogIndex, MemberId, ShardId, Term},
};

use backlog::{Backlog, hard_state_record};
use read_back::{Piece, ReadBack};
use restoring::Restoring;

pub use alone::go_alone;
pub use backlog::{baseline_record, entry_bytes_max};
pub use founding::found;
pub use replay::{EntryError, Replay};

/// Tells another member something beside Raft. It may get lost.
pub fn tell(links: &dyn Links, shard: ShardId, aside: Aside) {
    let lane = match &aside.word {
        Word::Forward(_) | Word::ForwardChange(_) => Lane::Entries,
        Word::Refusal(_) | Word::Question(_) | Word::Answer(_) => Lane::Signals,
    };
    links.send(aside.to, shard, lane, aside.encode());
}

/// What became known of the log.
#[derive(Debug, Default)]
pub struct Progress {
    /// To apply, in order: durable here and on a quorum.
    pub committed: Vec<Entry>,
    /// Numbers of read indexes, and what must be applied before they are answered.
    pub reads: Vec<(u64, LogIndex)>,
}

type Finished<E> = Result<Written<E>, WalError>;

struct InFlight<E: Env> {
    write: Pin<Box<dyn Future<Output = Finished<E>>>>,
    /// The newest ready that is complete on disk when the write is done.
    number: Option<u64>,
    started: Instant,
}

/// A member must get the checkpoint of this entry.
pub struct Offer {
    pub to: MemberId,
    pub frame: Bytes,
    pub index: LogIndex,
}

/// What a replica is put together from.
pub struct Parts<E: Env> {
    pub pipeline: Pipeline,
    pub wal: Wal<E>,
    /// The last applied entry.
    pub applied: LogPosition,
    pub links: Rc<dyn Links>,
}

pub struct Replica<E: Env> {
    env: E,
    member: MemberId,
    shard_id: ShardId,
    pipeline: Pipeline,
    links: Rc<dyn Links>,
    wal: Wal<E>,
    backlog: Backlog,
    in_flight: Option<InFlight<E>>,
    finished: Option<Finished<E>>,
    /// What other members need and memory has no more.
    read_back: ReadBack<E>,
    applied: LogPosition,
    /// A received checkpoint is being put in place.
    restoring: Option<Restoring>,
    /// Frames of checkpoints that members must get, and the entry each is of.
    offers: Vec<Offer>,
    /// As [`Replica::leadership`] last told.
    led: bool,
    appends: (u64, u64),
}

impl<E: Env> Replica<E> {
    pub fn new(env: E, (member, shard_id): (MemberId, ShardId), parts: Parts<E>) -> Self {
        let Parts { pipeline, wal, applied, links } = parts;
        Replica {
            env,
            member,
            shard_id,
            pipeline,
            links,
            wal,
            backlog: Backlog::default(),
            in_flight: None,
            appends: (0, 0),
            finished: None,
            read_back: ReadBack::new(),
            applied,
            restoring: None,
            offers: Vec::new(),
            led: false,
        }
    }

    pub fn campaign_if_sole_voter(&mut self) -> Result<(), Error> {
        self.pipeline.campaign_if_sole_voter()
    }

    /// Drives the log write under way, and what is read back. True when one has ended: [`Replica::finish_write`] and
    /// [`Replica::take_read_back`] are due.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let was_read = self.read_back.poll(cx);
        if let Some(in_flight) = &mut self.in_flight
            && let Poll::Ready(finished) = in_flight.write.as_mut().poll(cx)
        {
            self.finished = Some(finished);
            return true;
        }
        was_read
    }

    /// Takes in a frame that another member sent; what is not Raft's is given back. `takes_entries`: or those of the frame are
    /// dropped, as Raft allows; and so they are while much waits for the disk.
    pub fn step(&mut self, (sender, frame): (MemberId, Bytes), takes_entries: bool) -> Option<Aside> {
        let takes_entries = takes_entries && !self.backlog.is_too_much();
        let stepped = match Received::from(sender, frame) {
            Ok(Received::Aside(aside)) if aside.to == self.member => return Some(aside),
            Ok(Received::Aside(Aside { from, to, .. })) => {
                Err(FrameError::Address { from: from.0, to: to.0 }.into())
            }
            Ok(Received::Frame(frame)) if !takes_entries && frame.has_entries() => Ok(()),
            Ok(Received::Frame(frame)) => {
                self.appends.0 += u64::from(frame.has_entries());
                self.pipeline.step(frame, self.env.random_u64())
            }
            Err(error) => Err(error.into()),
        };
        match stepped {
            Ok(()) => {}
            // Who asked will see for itself that another member leads.
            Err(StepError::Frame(error @ (FrameError::ReadIndex | FrameError::Campaign))) => {
                debug!(%error, "ignored a frame of another member");
            }
            Err(error) => warn!(%error, "ignored a frame of another member"),
        }
        None
    }

    /// Messages with entries that came from other members, and that went to them.
    pub fn appends(&self) -> (u64, u64) {
        self.appends
    }

    /// Tells another member something beside Raft. It may get lost.
    pub fn tell(&self, to: MemberId, term: Term, word: Word) {
        tell(&*self.links, self.shard_id, Aside { from: self.member, to, term, word });
    }

    /// Takes in the frame of a checkpoint that was brought here: [`Replica::to_install`] tells if it is wanted.
    pub fn step_with_checkpoint(&mut self, frame: Bytes, here: &Baseline) {
        let told = Frame::decode(frame.clone()).ok().and_then(|frame| frame.checkpoint());
        if told.as_ref() != Some(here) {
            warn!(?told, ?here, "ignored a checkpoint that is not the one its frame tells of");
        } else if let Err(error) = self.pipeline.step_with_checkpoint(frame, self.env.random_u64()) {
            warn!(%error, "ignored a checkpoint of another member");
        }
    }

    /// Who must get which checkpoint: [`Replica::transferred`] must be told the end of each.
    pub fn take_offers(&mut self) -> Vec<Offer> {
        std::mem::take(&mut self.offers)
    }

    pub fn transferred(&mut self, to: MemberId, came: bool) {
        self.pipeline.report_checkpoint(to, came);
    }

    /// Whether, since the last call, somebody needed a newer checkpoint than there is.
    pub fn take_checkpoint_wanted(&self) -> bool {
        self.pipeline.take_checkpoint_wanted()
    }

    /// Something for a member got lost on the way, or there is no way.
    pub fn unreachable(&mut self, member: MemberId) {
        self.pipeline.report_unreachable(member);
    }

    pub fn tick(&mut self) {
        self.pipeline.tick(self.env.random_u64());
        if !self.pipeline.reads_back() {
            self.read_back.rest();
        }
    }

    /// Takes in what was read back for another member.
    pub fn take_read_back(&mut self) {
        let Some(Piece { from, entries, error, is_lost }) = self.read_back.take(&self.wal) else { return };
        if is_lost {
            let error =
                error.map_or_else(|| "it is not where it should be".to_owned(), |error| error.to_string());
            warn!(
                index = from.0,
                error, "failed to read an entry back from the log: members that need it get a snapshot"
            );
        }
        self.pipeline.read_back(from, entries, is_lost);
    }

    /// Begins to read back what another member needs, if nothing is being read.
    pub fn begin_read_back(&mut self) {
        if let Some((from, terms)) = self.pipeline.to_read_back() {
            self.read_back.begin(&self.wal, from, terms);
        }
    }

    /// Takes in a log write that has ended, and begins the next if there is something left; how long it took.
    pub fn finish_write(&mut self, now: Instant) -> Result<Option<Duration>, WalError> {
        let Some(finished) = self.finished.take() else { return Ok(None) };
        let in_flight = self.in_flight.take().expect("only a write in flight can finish");
        // A write that failed or came back short stops the shard before anything depends on it.
        self.wal.written(finished?);
        if let Some(number) = in_flight.number {
            self.persisted(number);
        }
        // What did not fit into that write goes with the next one.
        self.submit();
        Ok(Some(now.since(in_flight.started)))
    }

    /// Whether a log write is in flight.
    pub fn is_writing(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Since when, if one is.
    pub fn writing_since(&self) -> Option<Instant> {
        self.in_flight.as_ref().map(|in_flight| in_flight.started)
    }

    /// Whether a batch that is proposed now would be written at once. While the log writes, the next one gathers.
    pub fn is_open(&self) -> bool {
        !self.wal.in_flight() && self.backlog.is_empty()
    }

    /// An entry for each batch, all or none.
    pub fn propose(&mut self, batches: impl IntoIterator<Item = Bytes>) -> Result<(), ProposeError> {
        self.pipeline.propose(batches)
    }

    /// Proposes a change of the group; one at a time.
    pub fn propose_change(&mut self, change: &ConfigChange) -> Result<(), ChangeError> {
        self.pipeline.propose_change(change)
    }

    /// Hands leadership over to a member, or to whoever is best suited of those there is a link to; to whom, if there is
    /// somebody.
    pub fn hand_over(&mut self, to: Option<MemberId>) -> Option<MemberId> {
        if !self.leads() {
            return None;
        }
        let is_linked = |member| self.links.active_since(member).is_some();
        let to = to.or_else(|| self.pipeline.successor(is_linked)).filter(|to| *to != self.member)?;
        self.pipeline.hand_over(to);
        Some(to)
    }

    /// Leads no more, without waiting for who will.
    pub fn step_down(&mut self) {
        self.pipeline.step_down(self.env.random_u64());
    }

    /// Whether the disk does not answer.
    pub fn set_stalled(&mut self, stalled: bool) {
        self.pipeline.set_stalled(stalled, self.env.random_u64());
    }

    /// The next election begins sooner, by nearly all of the time that one waits for a leader.
    pub fn advance_election(&mut self) {
        self.pipeline.advance_election();
    }

    /// Whether there is no other member.
    pub fn is_alone(&self) -> bool {
        self.pipeline.is_alone()
    }

    /// Whether nobody else could lead.
    pub fn is_sole_voter(&self) -> bool {
        self.pipeline.is_sole_voter()
    }

    /// Whether another member is about to lead: until it does, or that fails, nothing is proposed.
    pub fn is_handing_over(&self) -> bool {
        self.pipeline.is_handing_over()
    }

    /// Whether a change of the group may not be applied yet.
    pub fn is_changing(&self) -> bool {
        self.pipeline.is_changing()
    }

    /// The group as Raft has it.
    pub fn group(&self) -> Config {
        self.pipeline.config()
    }

    /// Up to where members are known to have the log; empty unless this member leads.
    pub fn matched(&self, member: MemberId) -> Option<LogIndex> {
        self.pipeline.matched(member)
    }

    pub fn read_index(&mut self, number: u64) {
        self.pipeline.read_index(number);
    }

    /// What Raft has next, if anything: messages leave and the log write starts before anything is applied. Another state
    /// is put in place only if all is applied that was given out.
    pub fn next(&mut self, all_applied: bool) -> Option<Progress> {
        if self.restoring.is_some() {
            return self.resume();
        }
        if !self.pipeline.has_ready() || self.pipeline.is_restoring() && !all_applied {
            return None;
        }
        let mut ready = self.pipeline.ready();
        self.send(std::mem::take(&mut ready.messages));
        if let Some(baseline) = ready.restored.take() {
            let hard_state = restoring::before(self.pipeline.hard_state(), self.applied.index);
            self.backlog.add_hard_state(hard_state);
            self.restoring = Some(Restoring::Preparing(baseline, Box::new(ready)));
            self.submit();
            return None;
        }
        let Ready { number, entries, mut hard_state, must_log, committed, reads, .. } = ready;
        if self.env.breaks(Law::Vote) {
            hard_state.iter_mut().for_each(|hard_state| hard_state.vote = MemberId(0));
        }
        let hard_state = hard_state.filter(|_| must_log || !entries.is_empty());
        if self.backlog.add(number, entries, hard_state) {
            // Nothing to log: as durable as what was logged before it.
            match &mut self.in_flight {
                Some(in_flight) => in_flight.number = Some(number),
                None => self.persisted(number),
            }
        }
        self.submit();
        Some(Progress { committed, reads })
    }

    /// Whether a received checkpoint is being put in place.
    pub fn is_restoring(&self) -> bool {
        self.restoring.is_some()
    }

    /// The received checkpoint that must be put in place now; [`Replica::installed`] follows.
    pub fn to_install(&self) -> Option<&Baseline> {
        match &self.restoring {
            Some(Restoring::Preparing(baseline, _)) if self.is_settled() => Some(baseline),
            _ => None,
        }
    }

    /// The received checkpoint is what counts: the log goes on after it.
    pub fn installed(&mut self) {
        let Some(Restoring::Preparing(baseline, ready)) = self.restoring.take() else {
            panic!("a checkpoint is installed that was not asked for");
        };
        let Ready { number, entries, hard_state, committed, reads, .. } = *ready;
        // What the state is of from now on; Raft hears of it once the log was told.
        self.applied = baseline.position;
        self.backlog.add_baseline(baseline.position);
        self.backlog.add(number, entries, Some(hard_state.unwrap_or(self.pipeline.hard_state())));
        self.restoring = Some(Restoring::Logging(baseline, committed, reads));
        self.submit();
    }

    fn resume(&mut self) -> Option<Progress> {
        if !self.is_settled() {
            return None;
        }
        match self.restoring.take_if(|restoring| matches!(restoring, Restoring::Logging(..)))? {
            Restoring::Logging(baseline, committed, reads) => {
                self.pipeline.applied(baseline.position.index);
                // Whoever leads has sent it.
                self.checkpointed(baseline, 0);
                Some(Progress { committed, reads })
            }
            Restoring::Preparing(..) => unreachable!("just seen"),
        }
    }

    /// Whether everything there is to log is durable.
    fn is_settled(&self) -> bool {
        self.in_flight.is_none() && self.backlog.is_empty()
    }

    fn persisted(&mut self, number: u64) {
        let released = self.pipeline.persisted(number);
        self.send(released);
    }

    fn send(&mut self, messages: Vec<Outgoing>) {
        for Outgoing { to, frame, brings_entries, checkpoint } in messages {
            self.appends.1 += u64::from(brings_entries);
            let lane = if brings_entries { Lane::Entries } else { Lane::Signals };
            match checkpoint {
                Some(index) => self.offers.push(Offer { to, frame, index }),
                None => self.links.send(to, self.shard_id, lane, frame),
            }
        }
    }

    /// Starts the log write, so that the disk works while this core applies.
    fn submit(&mut self) {
        if self.wal.in_flight() {
            return;
        }
        let number = self.backlog.drain_into(&mut self.wal);
        if let Some(write) = self.wal.submit() {
            assert!(self.in_flight.is_none(), "one log write at a time");
            let started = self.env.now();
            self.in_flight = Some(InFlight { write: Box::pin(write), number, started });
            let law = if self.leads() { Law::LeaderDurable } else { Law::FollowerDurable };
            if let (Some(number), true) = (number, self.env.breaks(law)) {
                self.persisted(number);
            }
        }
    }

    /// Takes in a committed change of the group, and gives what the group is then; [`Replica::applied`] follows.
    pub fn apply_change(&mut self, change: &ConfigChange) -> Result<Config, Error> {
        let group = self.pipeline.apply_change(change)?;
        self.keep_commit();
        Ok(group)
    }

    /// That what is known of members is committed goes to the log at once. The next entry would take it along, but may be long
    /// in coming: who starts again and does not know would wait for those who had a vote before, and perhaps never campaign,
    /// or would listen to a member that has lost its log.
    pub fn keep_commit(&mut self) {
        self.backlog.add_hard_state(self.pipeline.hard_state());
        self.submit();
    }

    /// Everything up to this entry is applied.
    pub fn applied(&mut self, index: LogIndex, term: Term) {
        self.applied = LogPosition { index, term };
        self.pipeline.applied(index);
    }

    /// A checkpoint of so many bytes is durable: the log is not needed up to there, except for followers, who are offered
    /// it from now on.
    pub fn checkpointed(&mut self, baseline: Baseline, bytes: u64) {
        self.pipeline.set_checkpoint(baseline);
        self.wal.cut(self.pipeline.keep_from(bytes, |bytes| self.wal.first_within(bytes)));
    }

    /// Bytes the log has taken since it was opened.
    pub fn log_bytes(&self) -> u64 {
        self.wal.appended_bytes()
    }

    /// Whether this member leads, if that is not as it was at the last call.
    pub fn leadership(&mut self) -> Option<Leadership> {
        let leads = self.leads();
        if std::mem::replace(&mut self.led, leads) == leads {
            return None;
        }
        Some(if leads { Leadership::Gained(self.pipeline.term()) } else { Leadership::Lost })
    }

    pub fn leads(&self) -> bool {
        self.pipeline.role() == Role::Leader
    }

    /// The term in which a read index would be answered now: before its first commit in it a leader cannot know what is
    /// committed.
    pub fn readable(&self) -> Option<Term> {
        self.pipeline.readable()
    }

    /// Whether a member is in the group.
    pub fn knows(&self, member: MemberId) -> bool {
        self.pipeline.knows(member)
    }

    pub fn leader(&self) -> MemberId {
        self.pipeline.leader()
    }

    pub fn term(&self) -> Term {
        self.pipeline.term()
    }

    pub fn committed(&self) -> LogIndex {
        self.pipeline.committed()
    }

    pub fn applied_term(&self) -> Term {
        self.applied.term
    }

    /// With nothing in flight; how many batches the log has in the end.
    pub async fn close(mut self) -> Result<u64, WalError> {
        // The commit index moved after the last write took it along.
        self.wal.append(hard_state_record(&self.pipeline.hard_state()));
        let batches = self.wal.close().await?;
        info!("closed the log");
        Ok(batches)
    }
}
