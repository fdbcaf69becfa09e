//! The entry that is being applied: its commands one after the other, as far as a step reaches.
//!
//! Owned by [`Serving`]. Between two steps everything else goes on, and sees each command as a whole or not at all; the
//! entry counts as applied once all of them are. What is committed is durable, so an entry may also be left: a restart
//! applies it.

use std::cell::RefCell;

use bytes::Bytes;
use tracing::warn;

use super::{Proposal, Serving, Waiting, changes::is_change, count};
use crate::{
    env::Instant,
    shard::Error,
    state::{Applied, Batch, BatchError, Change, Completion, StateMachine, Unfinished},
    types::LogIndex,
};

/// An entry under way.
pub struct Applying {
    index: LogIndex,
    /// The commands to come, and the number of the first of them.
    batch: Batch,
    sequence: u64,
    ours: bool,
    began: Instant,
    commands: usize,
    /// The first command that took more than a step, if one did.
    long: Option<String>,
    /// Changes of leases were told up to this one.
    told: usize,
    /// A command of which a part is done, and its caller.
    unfinished: Option<(Option<Waiting>, Box<dyn Unfinished>)>,
    /// Callers to be answered at the end of the step.
    replies: Vec<Proposal>,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stepped {
    /// Keys that were looked at.
    pub keys: u64,
    /// How many commands the entry had, if it is applied.
    pub applied: Option<usize>,
    /// Whether something else is known of members now.
    pub of_members: bool,
}

impl Serving {
    /// An entry is to be applied: [`Serving::step`] follows until it is.
    pub fn begin(&mut self, index: LogIndex, data: Bytes, now: Instant) -> Result<(), BatchError> {
        assert!(self.applying.is_none(), "one entry after the other");
        let batch = Batch::decode(data)?;
        let (ours, sequence) = (batch.origin == self.inbox.origin, batch.first);
        let is_batch = ours && !is_change(sequence);
        if ours {
            self.observe_commit(sequence, now);
        }
        let replies = Vec::with_capacity(if is_batch { self.pending.len() } else { 0 });
        let (began, commands, long, told, unfinished) = (now, 0, None, 0, None);
        self.applying =
            Some(Applying { index, batch, sequence, ours, began, commands, long, told, unfinished, replies });
        Ok(())
    }

    /// Whether an entry is under way.
    pub fn is_applying(&self) -> bool {
        self.applying.is_some()
    }

    /// Goes on by about `keys` keys, and answers the callers of what is done then.
    pub fn step(
        &mut self,
        state: &RefCell<StateMachine>,
        keys: usize,
        clock: impl Fn() -> Instant,
    ) -> Result<Stepped, BatchError> {
        let mut state = state.borrow_mut();
        let before = self.outcome.visited;
        let is_done = self.apply_commands(&mut state, keys)?;
        self.tell_leases(&clock);
        let keys = self.outcome.visited - before;
        let applying = self.applying.as_mut().expect("an entry is under way");
        let mut replies = std::mem::take(&mut applying.replies);
        if !is_done {
            self.inbox.answered(replies.len());
            replies.drain(..).for_each(Proposal::answer);
            applying.replies = replies;
            return Ok(Stepped { keys, applied: None, of_members: false });
        }
        let Applying { index, began, commands, long, .. } =
            self.applying.take().expect("an entry is under way");
        state.mark_applied(index);
        let of_members = self.outcome.changes.contains(&Change::Members);
        let mut hub = self.hub.borrow_mut();
        for change in &self.outcome.changes {
            match change {
                Change::Members => self.standing.set_members(state.cluster().members()),
                Change::Versions(written) => hub.note(*written),
                Change::Compacted(_)
                | Change::Alarms
                | Change::Auth
                | Change::LeaseGranted { .. }
                | Change::LeaseGone { .. } => {}
            }
        }
        drop(hub);
        if !self.outcome.events.is_empty() {
            let mut waiters = self.waiters.borrow_mut();
            self.outcome.events.iter().for_each(|event| waiters.publish(event));
        }
        drop(state);
        count(&self.outcome.operations, &self.metrics);
        self.outcome.clear();
        let applied = clock();
        let took = applied.since(began);
        self.metrics.stage_apply.observe(took.as_secs_f64());
        if took > self.slow_apply {
            self.metrics.slow_apply.inc();
            let (expected, index) = (self.slow_apply, index.0);
            let request = long.unwrap_or_else(|| format!("{commands} requests"));
            warn!(
                ?took,
                "expected-duration" = ?expected,
                prefix = "",
                request,
                index,
                "apply request took too long"
            );
        }
        self.inbox.answered(replies.len());
        replies.into_iter().for_each(Proposal::answer);
        self.metrics.stage_reply.observe(clock().since(applied).as_secs_f64());
        Ok(Stepped { keys, applied: Some(commands), of_members })
    }

    /// True when all commands of the entry are done.
    fn apply_commands(&mut self, state: &mut StateMachine, keys: usize) -> Result<bool, BatchError> {
        let Self { applying, pending, changing, compactions, outcome, .. } = self;
        let applying = applying.as_mut().expect("an entry is under way");
        let until = outcome.visited + keys as u64;
        while outcome.visited < until {
            let left = (until - outcome.visited) as usize;
            let (caller, applied) = match applying.unfinished.take() {
                Some((caller, mut unfinished)) => match unfinished.step(state, left, outcome) {
                    Some(completion) => (caller, Applied::Done(completion)),
                    None => (caller, Applied::Partly(unfinished)),
                },
                None => {
                    let Some(envelope) = applying.batch.next().transpose()? else { return Ok(true) };
                    // Without: another run proposed it, or its caller was told of a timeout.
                    let callers = if is_change(applying.sequence) { &mut *changing } else { &mut *pending };
                    let caller = if applying.ours { callers.take(applying.sequence) } else { None };
                    applying.sequence += 1;
                    applying.commands += 1;
                    let applied = match &caller {
                        Some(Waiting { proposal, .. }) => proposal.apply(envelope, state, keys, outcome)?,
                        None => envelope.begin(state, keys, outcome)?,
                    };
                    (caller, applied)
                }
            };
            match (applied, caller) {
                (Applied::Partly(unfinished), caller) => {
                    applying.long.get_or_insert_with(|| unfinished.shown());
                    applying.unfinished = Some((caller, unfinished));
                }
                (Applied::Done(Completion::Applied), Some(caller)) => applying.replies.push(caller.proposal),
                (Applied::Done(Completion::Freed), Some(caller)) => compactions.push(caller.proposal),
                (Applied::Done(_), None) => {}
            }
        }
        Ok(false)
    }

    /// What became of leases is known to their times before anybody else has a turn: a place may be another lease's by the
    /// end of the entry.
    fn tell_leases(&mut self, clock: impl Fn() -> Instant) {
        let Self { applying, outcome, times, metrics, .. } = self;
        let applying = applying.as_mut().expect("an entry is under way");
        let told = std::mem::replace(&mut applying.told, outcome.changes.len());
        let mut now = None;
        for change in &outcome.changes[told..] {
            match *change {
                Change::LeaseGranted { place, lease } => {
                    metrics.lease_granted.inc();
                    metrics.lease_ttl.observe(lease.ttl as f64);
                    times.granted(place, lease, *now.get_or_insert_with(&clock));
                }
                Change::LeaseGone { place } => {
                    metrics.lease_revoked.inc();
                    times.gone(place);
                }
                Change::Versions(_)
                | Change::Compacted(_)
                | Change::Auth
                | Change::Alarms
                | Change::Members => {}
            }
        }
    }

    /// The caller of the command that is done in part, if it has waited too long.
    pub(super) fn expired_under_way(&mut self, is_old: impl Fn(Instant) -> bool) -> Option<Waiting> {
        let (caller, _) = self.applying.as_mut()?.unfinished.as_mut()?;
        caller.take_if(|caller| is_old(caller.arrived))
    }

    /// The member ends before everything is applied that is committed. Callers are told; none is admitted any more.
    pub fn leave(&mut self) {
        self.inbox.refuse();
        self.refuse_all(Error::Stopped);
        let under_way = self.expired_under_way(|_| true);
        let waiting: Vec<_> =
            under_way.into_iter().chain(self.pending.drain()).chain(self.changing.drain()).collect();
        self.refuse(waiting, Error::Stopped);
        self.proposed.clear();
        self.asking.clear();
        self.inbox.questions().clear();
        self.inbox.answered(self.compactions.len());
        self.compactions.drain(..).for_each(|proposal| proposal.refuse(Error::Stopped));
        self.reads.clear();
        drop((self.inbox.take_reads(), self.inbox.take_defragments()));
        // Its state is not to be used any more, and so is what it kept of it.
        self.applying = None;
    }
}
