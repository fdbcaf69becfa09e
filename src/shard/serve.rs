//! The shard's callers: what they ask is admitted here, and answered from here.
//!
//! [`Shard`] is what connections hold; [`Serving`] is the other end, owned by the loop, which takes batches and rounds
//! of reads from it and tells it what became of them. It knows nothing of Raft or the disk.
//!
//! Invariants: requests go into batches in the order they were admitted; each is answered once; a reply leaves only
//! after its command was applied.

mod applying;
mod backup;
mod changes;
mod feed;
mod handle;
mod held;
mod inbox;
mod leases;
mod pending;
mod places;
mod proposal;
mod quota;
mod reader;
mod reads;
mod standing;
#[cfg(test)]
mod tests;
mod transfer;
mod transfers;
mod turnstile;

use std::{cell::RefCell, collections::VecDeque, rc::Rc, task::Waker, time::Duration};

use bytes::Bytes;
use tracing::{info, warn};

use crate::{
    env::Instant,
    limits,
    metrics::ShardMetrics,
    shard::{Error, lease::Times, reply::Reply, watch::Hub},
    state::{Operations, Outcome, StateMachine},
    types::{LogIndex, MemberId, Term},
};

use applying::Applying;
use pending::Pending;
use proposal::Proposal;
use reads::Reads;

pub use backup::{Backup, BackupError};
pub use feed::Feed;
pub use handle::{Chunks, Parts, Shard, ShardStatus};
pub use inbox::{Inbox, Taker, Waiting};
pub use quota::Quota;
pub use reader::AnswerReader;
pub use standing::Standing;
pub use transfer::Transfer;
pub use transfers::Arriving;
pub(in crate::shard) use turnstile::Turnstile;

/// The loop's end of its callers.
pub struct Serving {
    pub inbox: Taker,
    pub standing: Rc<Standing>,
    /// Whoever watches what is applied here.
    hub: Rc<RefCell<Hub>>,
    metrics: Rc<ShardMetrics>,
    /// How long a request may wait for its commit.
    patience: Duration,
    /// Applying an entry for longer is worth a warning.
    slow_apply: Duration,
    pending: Pending,
    /// Callers of changes of the group that are in the log.
    changing: Pending,
    reads: Reads,
    /// When each entry of ours that is not applied yet was proposed, by its first request.
    proposed: VecDeque<(u64, Instant)>,
    /// Callers of physical compactions, answered when nothing is left to free.
    compactions: Vec<Proposal>,
    /// The entry that is being applied, and what it came to so far.
    applying: Option<Applying>,
    outcome: Outcome,
    /// When leases end.
    times: Times,
}

impl Serving {
    pub fn new(
        inbox: Rc<Inbox>,
        standing: Rc<Standing>,
        hub: Rc<RefCell<Hub>>,
        metrics: Rc<ShardMetrics>,
        times: Times,
        patience: Duration,
        slow_apply: Duration,
    ) -> Self {
        Serving {
            inbox: Taker(inbox),
            standing,
            hub,
            metrics,
            patience,
            slow_apply,
            pending: Pending::default(),
            changing: Pending::default(),
            reads: Reads::default(),
            proposed: VecDeque::new(),
            compactions: Vec::new(),
            applying: None,
            outcome: Outcome::default(),
            times,
        }
    }

    /// Whether something arrived since the last call; if not, `waker` is kept for when it does.
    pub fn arrived(&self, waker: &Waker) -> bool {
        self.inbox.arrived(waker)
    }

    pub fn is_stopping(&self) -> bool {
        self.inbox.stopping()
    }

    /// Whether the member is about to stop.
    pub fn is_leaving(&self) -> bool {
        self.inbox.leaving()
    }

    /// Whether nobody waits for an answer.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty()
            && self.changing.is_empty()
            && self.inbox.changes().is_empty()
            && self.applying.is_none()
            && self.reads.is_empty()
            && self.compactions.is_empty()
            && !self.inbox.has_writes()
            && !self.inbox.has_reads()
    }

    /// The oldest batch that waits to be proposed, with its callers.
    pub fn next_batch(&self) -> Option<(Bytes, Vec<Waiting>)> {
        self.inbox.take_batch()
    }

    /// A batch is proposed: its callers wait until it is applied.
    pub fn proposed(&mut self, callers: Vec<Waiting>, now: Instant) {
        for caller in &callers {
            self.metrics.stage_queued.observe(now.since(caller.arrived).as_secs_f64());
        }
        self.proposed.push_back((callers[0].sequence, now));
        self.pending.extend(callers);
    }

    /// A change of the group is proposed: its caller waits until it is applied.
    pub fn proposed_change(&mut self, caller: Waiting) {
        self.changing.extend(vec![caller]);
    }

    pub fn refuse(&self, callers: impl IntoIterator<Item = Waiting>, error: Error) {
        for caller in callers {
            self.metrics.proposals_failed.inc();
            caller.proposal.refuse(error);
            self.inbox.answered(1);
        }
    }

    /// Refuses what is not proposed yet.
    pub fn refuse_all(&self, error: Error) {
        while let Some((_, callers)) = self.inbox.take_batch() {
            self.refuse(callers, error);
        }
        while let Some((_, caller)) = self.inbox.changes().take() {
            self.refuse([caller], error);
        }
    }

    /// Begins a round for all reads that wait; its number.
    pub fn begin_reads(&mut self) -> u64 {
        self.reads.begin(self.inbox.take_reads())
    }

    /// What must be applied before the readers of this round and of those before it go on.
    pub fn confirmed(&mut self, number: u64, index: LogIndex) {
        if !self.reads.confirmed(number, index) {
            self.metrics.slow_read_indexes.inc();
            warn!(number, "ignored out-of-date read index response");
        }
    }

    /// Lets go readers whose index is applied.
    pub fn release_reads(&mut self, applied: LogIndex) {
        self.reads.release(applied);
    }

    /// This member leads no more, and nobody answers the rounds under way: their readers wait to be asked for again.
    pub fn leadership_lost(&mut self) {
        let rounds: Vec<_> = self.reads.lost().collect();
        self.metrics.read_indexes_failed.inc_by(rounds.len() as u64);
        self.inbox.put_back_reads(rounds.into_iter().flatten().collect());
    }

    /// Tells callers who have waited too long; their request may still take effect. `can_read`: a round of reads would
    /// begin now. `writing_since`: when the log write under way began.
    pub fn expire(&mut self, now: Instant, can_read: bool, writing_since: Option<Instant>) {
        let patience = self.patience;
        let old = |at: Instant| now.since(at) > patience;
        let under_way = self.expired_under_way(old);
        let mut expired: Vec<_> = under_way.into_iter().chain(self.pending.expired(now, patience)).collect();
        expired.extend(self.changing.expired(now, patience));
        expired.extend(self.inbox.changes().take_expired(now, patience));
        self.refuse(expired, Error::Timeout);
        if writing_since.is_some_and(old) {
            // The disk does not answer: what waits behind that write would wait in vain.
            self.refuse_all(Error::Timeout);
        }
        // As in etcd, which counts rounds that nobody waits for any more, and not those who waited.
        let late = self.reads.expire(now, patience);
        self.metrics.slow_read_indexes.inc_by(late as u64);
        if self.inbox.has_reads() && !can_read {
            let (late, waiting): (Vec<_>, Vec<_>) =
                self.inbox.take_reads().into_iter().partition(|r| old(r.0));
            self.metrics.slow_read_indexes.inc_by(u64::from(!late.is_empty()));
            self.inbox.put_back_reads(waiting);
        }
    }

    /// Whether watches have not been told yet of all that was applied. Until then nothing of it may move.
    pub fn is_telling(&self) -> bool {
        !self.hub.borrow().is_at_rest()
    }

    /// Tells watches what was applied, for as long as a slice lasts.
    pub fn tell(&self, state: &StateMachine, clock: impl Fn() -> Instant) {
        let mut hub = self.hub.borrow_mut();
        let began = clock();
        while !hub.publish(state.history(), limits::WATCH_PUBLISH_STEPS) {
            if clock().since(began) >= limits::WATCH_SLICE {
                break;
            }
        }
        if hub.behind() > limits::WATCH_UNTOLD_REVISIONS {
            warn!(
                revisions = hub.behind(),
                "too much is written for what is watched: watches read it from history"
            );
            hub.lose(state.revision().0);
        }
    }

    /// Another state was put in the place of the one before.
    pub fn replaced(&self, state: &StateMachine) {
        self.standing.set_members(state.cluster().members());
        self.hub.borrow_mut().lose(state.revision().0);
    }

    fn observe_commit(&mut self, first: u64, now: Instant) {
        while let Some(&(sequence, at)) = self.proposed.front()
            && sequence <= first
        {
            self.proposed.pop_front();
            if sequence == first {
                self.metrics.stage_commit.observe(now.since(at).as_secs_f64());
            }
        }
    }

    /// A log write has ended.
    pub fn log_written(&self, took: Duration) {
        self.metrics.stage_log_write.observe(took.as_secs_f64());
    }

    /// Nothing is left to free.
    pub fn freed(&mut self) {
        if !self.compactions.is_empty() {
            self.inbox.answered(self.compactions.len());
            self.compactions.drain(..).for_each(Proposal::answer);
        }
    }

    /// Callers of defragmentations.
    pub fn take_defragments(&self) -> Vec<Reply<()>> {
        self.inbox.take_defragments()
    }

    /// Lets connections see who leads.
    pub fn show_leader(&self, leader: MemberId, term: Term) {
        if leader != self.standing.leader.replace(leader) && leader != MemberId(0) {
            self.metrics.leader_changes.inc();
            info!(leader = format_args!("{:x}", leader.0), term = term.0, "elected leader");
        }
    }
}

/// `etcd_mvcc_*_total`.
fn count(operations: &Operations, metrics: &ShardMetrics) {
    metrics.range_total.inc_by(operations.ranges);
    metrics.put_total.inc_by(operations.puts);
    metrics.total_put_size.add(operations.put_bytes as i64);
    metrics.delete_total.inc_by(operations.deletes);
    metrics.txn_total.inc_by(operations.txns);
}
