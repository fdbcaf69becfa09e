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
mod proposed;
mod questions;
mod quota;
mod reader;
mod reads;
mod standing;
#[cfg(test)]
mod tests;
mod transfer;
mod transfers;
mod tree;
mod turnstile;

use std::{cell::RefCell, rc::Rc, task::Waker, time::Duration};

use tracing::{info, warn};

use crate::{
    env::Instant,
    limits,
    metrics::ShardMetrics,
    pb::peer::{Answer, Question, aside::Word},
    shard::{Error, lease::Times, reply::Reply, waiting::Waiters, watch::Hub},
    state::{Operations, Outcome, StateMachine},
    types::{LogIndex, MemberId, Term},
};

use applying::Applying;
use pending::Pending;
use proposal::Proposal;
use proposed::{Batch, Proposed};
use questions::Asking;
use reads::Reads;

pub use backup::{Backup, BackupError};
pub use changes::is_change;
pub use feed::Feed;
pub use handle::{Chunks, Parts, Shard, ShardStatus};
pub use inbox::{Inbox, Taken, Taker, Waiting};
pub use proposed::Way;
pub use quota::Quota;
pub use reader::AnswerReader;
pub use standing::Standing;
pub use transfer::Transfer;
pub use transfers::Arriving;
pub use tree::Listing;
pub(in crate::shard) use turnstile::Turnstile;

/// The loop's end of its callers.
pub struct Serving {
    pub inbox: Taker,
    pub standing: Rc<Standing>,
    /// Whoever watches what is applied here.
    hub: Rc<RefCell<Hub>>,
    /// Whoever waits for what happens in the tree of the v2 API.
    waiters: Rc<RefCell<Waiters>>,
    metrics: Rc<ShardMetrics>,
    /// How long a request may wait for its commit.
    patience: Duration,
    /// Applying an entry for longer is worth a warning.
    slow_apply: Duration,
    pending: Pending,
    /// Callers of changes of the group that are in the log.
    changing: Pending,
    reads: Reads,
    /// Batches of ours that are not applied yet.
    proposed: Proposed,
    asking: Asking,
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
        (hub, waiters): (Rc<RefCell<Hub>>, Rc<RefCell<Waiters>>),
        metrics: Rc<ShardMetrics>,
        times: Times,
        patience: Duration,
        slow_apply: Duration,
    ) -> Self {
        Serving {
            inbox: Taker(inbox),
            standing,
            hub,
            waiters,
            metrics,
            patience,
            slow_apply,
            pending: Pending::default(),
            changing: Pending::default(),
            reads: Reads::default(),
            proposed: Proposed::default(),
            asking: Asking::default(),
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

    /// The oldest batch that waits to be proposed.
    pub fn next_batch(&self) -> Option<Taken> {
        self.inbox.take_batch()
    }

    /// Whether one more batch may be forwarded.
    pub fn may_forward(&self, now: Instant) -> bool {
        self.proposed.may_send(now)
    }

    /// A batch is proposed, or sent to who leads in `term`: its callers wait until it is applied. `word`: what it is sent
    /// as; none if no other leader may have it.
    pub fn proposed(
        &mut self,
        callers: Vec<Waiting>,
        term: Term,
        now: Instant,
        (way, word): (Way, Option<Word>),
    ) {
        for caller in &callers {
            self.metrics.stage_queued.observe(now.since(caller.arrived).as_secs_f64());
        }
        let (first, count) = (callers[0].sequence, callers.len() as u64);
        self.proposed.push(Batch { first, count, term, at: now, way, word });
        let pending = if is_change(first) { &mut self.changing } else { &mut self.pending };
        pending.extend(callers);
    }

    /// Number of the oldest batch that is in no log and is to get into another, and what it is sent as; `changes`: of the
    /// group, too.
    pub fn lost(&self, changes: bool) -> Option<(u64, Word)> {
        self.proposed.lost(changes)
    }

    /// It is proposed, or sent, once more.
    pub fn begin_anew(&mut self, first: u64, term: Term, way: Way) {
        self.proposed.begin_anew(first, term, way);
    }

    /// It gets into none.
    pub fn give_up_lost(&mut self, first: u64, error: Error) {
        if let Some(batch) = self.proposed.take(first) {
            self.give_up(batch, error);
        }
    }

    /// What was sent to the leader of `term` and is to be sent again.
    pub fn again(&mut self, term: Term, now: Instant) -> Vec<Word> {
        self.proposed.again(term, now)
    }

    /// The leader of `term` does not take a batch of this run that was sent to it.
    pub fn refused(&mut self, first: u64, term: Term, error: Error) {
        if let Some(batch) = self.proposed.refused(first, term) {
            self.give_up(batch, error);
        }
    }

    /// An entry of `term` is applied, the first of it: what was meant for a leader before and is not applied never will be,
    /// unless it starts anew.
    pub fn term_began(&mut self, term: Term) {
        for batch in self.proposed.lose(term) {
            self.give_up(batch, Error::LeaderLost);
        }
    }

    /// What is to be asked of the leader, for the first time; and again, if it was not answered for so long.
    pub fn questions(&mut self, now: Instant) -> Vec<Question> {
        let Self { asking, inbox, .. } = self;
        asking.take_due(inbox.questions(), inbox.origin.run, now)
    }

    pub fn questions_again(&mut self, now: Instant, unanswered: Duration) -> Vec<Question> {
        self.asking.again(self.inbox.origin.run, now, unanswered)
    }

    /// The leader's answer to one of them.
    pub fn answered(&mut self, answer: Answer) {
        if answer.run == self.inbox.origin.run {
            self.asking.answered(answer);
        }
    }

    /// This member leads: whoever asks finds out here.
    pub fn leads(&mut self) {
        self.asking.leads(self.inbox.questions());
    }

    fn give_up(&mut self, Batch { first, count, .. }: Batch, error: Error) {
        let pending = if is_change(first) { &mut self.changing } else { &mut self.pending };
        let callers: Vec<_> = pending.take_batch(first, count).collect();
        self.refuse(callers, error);
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
        while let Some(Taken { callers, .. }) = self.inbox.take_batch() {
            self.refuse(callers, error);
        }
        while let Some((_, caller)) = self.inbox.changes().take() {
            self.refuse([caller], error);
        }
    }

    /// Whether a round of reads is due.
    pub fn may_read(&self) -> bool {
        self.inbox.has_reads() && self.reads.may_begin()
    }

    /// Begins a round for all reads that wait; its number.
    pub fn begin_reads(&mut self, now: Instant) -> u64 {
        self.reads.begin(self.inbox.take_reads(), now)
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

    /// Whom the rounds under way were asked of leads no more, and nobody answers them: their readers wait to be asked for
    /// again.
    pub fn leader_lost(&mut self) {
        let rounds = self.ask_again();
        self.metrics.read_indexes_failed.inc_by(rounds);
    }

    /// How many rounds were under way.
    fn ask_again(&mut self) -> u64 {
        let rounds: Vec<_> = self.reads.lost().collect();
        let count = rounds.len() as u64;
        self.inbox.put_back_reads(rounds.into_iter().flatten().collect());
        count
    }

    /// Tells callers who have waited too long; their request may still take effect. `can_read`: a round of reads would
    /// begin now. `writing_since`: when the log write under way began.
    /// `why`: what to tell of a request that came at that time and may be in the log.
    pub fn expire(
        &mut self,
        now: Instant,
        can_read: bool,
        writing_since: Option<Instant>,
        why: impl Fn(Instant) -> Error,
    ) {
        let patience = self.patience;
        let old = |at: Instant| now.since(at) > patience;
        let under_way = self.expired_under_way(old);
        let mut expired: Vec<_> = under_way.into_iter().chain(self.pending.expired(now, patience)).collect();
        expired.extend(self.changing.expired(now, patience));
        for caller in expired {
            let error = why(caller.arrived);
            self.refuse([caller], error);
        }
        self.proposed.expire(now, patience);
        if writing_since.is_some_and(old) {
            // The disk does not answer: what waits behind that write would wait in vain.
            self.refuse_all(Error::Timeout);
        }
        while let Some(callers) = self.inbox.take_expired(now, patience) {
            self.refuse(callers, Error::NotProposed);
        }
        self.refuse(self.inbox.changes().take_abandoned(), Error::NotProposed);
        self.asking.expire(self.inbox.questions(), now, patience);
        self.expire_reads(now, can_read);
    }

    fn expire_reads(&mut self, now: Instant, can_read: bool) {
        let patience = self.patience;
        let old = |at: Instant| now.since(at) > patience;
        // As in etcd, which counts rounds that nobody waits for any more, and not those who waited.
        let late = self.reads.expire(now, patience);
        self.metrics.slow_read_indexes.inc_by(late as u64);
        if self.reads.are_late(now) {
            warn!(
                "retry-timeout" = ?limits::ASK_AGAIN,
                "waiting for ReadIndex response took too long, retrying"
            );
            self.ask_again();
        }
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

    /// Another state was put in the place of the one before. Whether what was under way is part of it nobody knows here.
    pub fn replaced(&mut self, state: &StateMachine) {
        self.proposed.clear();
        let callers: Vec<_> = self.pending.drain().chain(self.changing.drain()).collect();
        self.refuse(callers, Error::Timeout);
        self.standing.set_members(state.cluster().members());
        self.hub.borrow_mut().lose(state.revision().0);
        self.waiters.borrow_mut().replaced(state.v2(), state.v2_index());
    }

    fn observe_commit(&mut self, first: u64, now: Instant) {
        if let Some(batch) = self.proposed.take(first) {
            self.metrics.stage_commit.observe(now.since(batch.at).as_secs_f64());
        }
    }

    /// A leader's heartbeat leaves late.
    pub fn heartbeat_late(&self) {
        self.metrics.heartbeats_late.inc();
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
