//! What has arrived and waits for the shard's next turn. Bounded; nothing here waits for anything.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, VecDeque},
    rc::Rc,
    task::Waker,
    time::Duration,
};

use bytes::Bytes;

use super::{
    changes::Changes,
    places::{Place, Places},
    proposal::Proposal,
    questions::{Questions, Told},
    transfers::{Arriving, Transfers},
};
use crate::{
    env::Instant,
    limits,
    pb::peer::question::About,
    shard::{
        Error,
        group::Seat,
        reply::{self, Reply},
    },
    state,
    state::{Builder, Command, Origin, Principal},
    types::{MemberId, Term},
};

/// A write whose caller waits.
pub struct Waiting {
    /// Position in this run's sequence of requests.
    pub sequence: u64,
    pub arrived: Instant,
    pub proposal: Proposal,
    /// What it takes of its client's part; none if no client has asked for it.
    pub _place: Option<Place>,
}

struct OpenBatch {
    builder: Builder,
    waiting: Vec<Waiting>,
    only_in: Option<Term>,
}

/// A batch that is to be proposed.
pub struct Taken {
    /// An entry's payload.
    pub payload: Bytes,
    pub callers: Vec<Waiting>,
    /// Only by this member, and only while it leads in this term.
    pub only_in: Option<Term>,
}

/// Arrivals of one shard. Connections push, the shard's loop takes.
pub struct Inbox {
    /// This run's name in the log.
    pub origin: Origin,
    /// Payload of an entry that the log takes in one write.
    entry_bytes_max: usize,
    pub places: Rc<Places>,
    next_sequence: Cell<u64>,
    batches: RefCell<VecDeque<OpenBatch>>,
    changes: Changes,
    reads: RefCell<Vec<(Instant, Reply<()>)>>,
    frames: RefCell<VecDeque<(MemberId, Bytes)>>,
    frame_bytes: Cell<usize>,
    /// Members for whom something got lost; each at most once.
    defragments: RefCell<Vec<Reply<()>>>,
    pub transfers: Transfers,
    questions: Questions,
    handover: Cell<Option<Option<MemberId>>>,
    unreachable: RefCell<BTreeSet<MemberId>>,
    /// Writes admitted and not answered, and their bytes while they wait here.
    pending: Cell<usize>,
    queued_bytes: Cell<usize>,
    batch_bytes: Cell<usize>,
    log_busy: Cell<bool>,
    /// A new write only waits: it does not wake the loop.
    writes_wait: Cell<bool>,
    woken: Cell<bool>,
    waker: Cell<Option<Waker>>,
    leaving: Cell<bool>,
    refusing: Cell<bool>,
    stopping: Cell<bool>,
}

impl Inbox {
    pub fn new(origin: Origin, entry_bytes_max: usize) -> Self {
        Inbox {
            origin,
            entry_bytes_max,
            places: Rc::default(),
            next_sequence: Cell::new(0),
            batches: RefCell::default(),
            changes: Changes::default(),
            reads: RefCell::default(),
            frames: RefCell::default(),
            frame_bytes: Cell::new(0),
            defragments: RefCell::default(),
            transfers: Transfers::default(),
            questions: Questions::default(),
            handover: Cell::new(None),
            unreachable: RefCell::default(),
            pending: Cell::new(0),
            queued_bytes: Cell::new(0),
            batch_bytes: Cell::new(0),
            log_busy: Cell::new(false),
            writes_wait: Cell::new(false),
            woken: Cell::new(false),
            waker: Cell::new(None),
            leaving: Cell::new(false),
            refusing: Cell::new(false),
            stopping: Cell::new(false),
        }
    }

    /// Admits a write or says why not. `only_in`: it is the leader's own, and of no use in another term.
    pub fn push_write<C: Command>(
        &self,
        principal: &Principal,
        (command, only_in): (&C, Option<Term>),
        arrived: Instant,
        proposal: Proposal,
        place: Option<Place>,
    ) -> Result<(), Error> {
        if self.refusing.get() {
            return Err(Error::Stopped);
        }
        let full = self.pending.get() >= limits::SHARD_PENDING_MAX
            || self.queued_bytes.get() >= limits::SHARD_QUEUED_BYTES_MAX;
        if full {
            return Err(Error::TooManyRequests);
        }
        let bytes = place.as_ref().map_or_else(|| Builder::cost(principal, command), |place| place.bytes);
        if Builder::HEADER_BYTES + bytes > self.entry_bytes_max {
            return Err(state::Error::RequestTooLarge.into());
        }
        let sequence = self.next_sequence.get();
        self.next_sequence.set(sequence + 1);
        let mut batches = self.batches.borrow_mut();
        let closed = batches.back().is_none_or(|open| {
            let payload = Builder::HEADER_BYTES + open.builder.bytes() + bytes;
            open.builder.count() >= limits::ENTRY_REQUESTS_MAX
                || payload > self.entry_bytes_max.min(limits::ENTRY_BYTES_MAX)
                || open.only_in != only_in
                || arrived.since(open.waiting[0].arrived) > limits::BATCH_AGE
        });
        if closed {
            let builder = Builder::new(self.origin, sequence, self.batch_bytes.get());
            batches.push_back(OpenBatch { builder, waiting: Vec::new(), only_in });
        }
        let open = batches.back_mut().expect("a batch is open");
        open.builder.push(principal, command);
        self.queued_bytes.set(self.queued_bytes.get() + bytes);
        open.waiting.push(Waiting { sequence, arrived, proposal, _place: place });
        self.pending.set(self.pending.get() + 1);
        drop(batches);
        if !self.writes_wait.get() {
            self.wake();
        }
        Ok(())
    }

    /// The same for a change of the group.
    pub fn push_change<C: Command>(
        &self,
        principal: &Principal,
        change: (Seat, MemberId),
        command: &C,
        arrived: Instant,
        proposal: Proposal,
    ) -> Result<(), Error> {
        if self.refusing.get() {
            return Err(Error::Stopped);
        }
        let caller = |sequence| Waiting { sequence, arrived, proposal, _place: None };
        self.changes.push(self.origin, principal, change, command, caller)?;
        self.pending.set(self.pending.get() + 1);
        self.wake();
        Ok(())
    }

    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Registers a caller that waits until everything committed before now is applied.
    pub fn push_read(&self, arrived: Instant, reply: Reply<()>) -> Result<(), Error> {
        if self.refusing.get() {
            return Err(Error::Stopped);
        }
        let mut reads = self.reads.borrow_mut();
        if reads.len() >= limits::SHARD_READS_MAX {
            return Err(Error::TooManyRequests);
        }
        reads.push((arrived, reply));
        drop(reads);
        self.wake();
        Ok(())
    }

    /// Registers a caller that waits until nothing is left to free.
    pub fn push_defragment(&self, reply: Reply<()>) -> Result<(), Error> {
        if self.refusing.get() {
            return Err(Error::Stopped);
        }
        let mut defragments = self.defragments.borrow_mut();
        if defragments.len() >= limits::DEFRAGMENTS_MAX {
            return Err(Error::TooManyRequests);
        }
        defragments.push(reply);
        drop(defragments);
        self.wake();
        Ok(())
    }

    /// Asks something of whoever leads.
    pub fn push_question(&self, about: About, began: Instant) -> Result<reply::Answer<Told>, Error> {
        if self.refusing.get() {
            return Err(Error::Stopped);
        }
        let answer = self.questions.push(about, began)?;
        self.wake();
        Ok(answer)
    }

    /// Leadership is to be handed over, to a certain member or to any.
    pub fn push_handover(&self, to: Option<MemberId>) {
        // The newest counts.
        self.handover.set(Some(to));
        self.wake();
    }

    pub fn take_handover(&self) -> Option<Option<MemberId>> {
        self.handover.take()
    }

    pub fn questions(&self) -> &Questions {
        &self.questions
    }

    pub fn take_defragments(&self) -> Vec<Reply<()>> {
        self.defragments.take()
    }

    /// A frame from another member. False if too many wait: it is dropped, as Raft allows.
    pub fn push_frame(&self, sender: MemberId, frame: Bytes) -> bool {
        let mut frames = self.frames.borrow_mut();
        let bytes = self.frame_bytes.get() + frame.len();
        let has_room = frames.len() < limits::SHARD_FRAMES_MAX && bytes <= limits::SHARD_FRAMES_BYTES_MAX;
        if has_room {
            self.frame_bytes.set(bytes);
            frames.push_back((sender, frame));
        }
        drop(frames);
        self.wake();
        has_room
    }

    /// Something for a member got lost.
    pub fn push_unreachable(&self, member: MemberId) {
        if self.unreachable.borrow_mut().insert(member) {
            self.wake();
        }
    }

    pub fn take_unreachable(&self) -> BTreeSet<MemberId> {
        self.unreachable.take()
    }

    /// The member is about to stop: from now on nobody waits for long.
    pub fn leave(&self) {
        self.leaving.set(true);
        self.wake();
    }

    pub fn leaving(&self) -> bool {
        self.leaving.get()
    }

    /// Refuses what arrives from now on.
    pub fn refuse(&self) {
        self.refusing.set(true);
    }

    pub fn refusing(&self) -> bool {
        self.refusing.get()
    }

    /// Refuses what arrives from now on; the loop finishes what was admitted and ends.
    pub fn stop(&self) {
        self.refuse();
        self.stopping.set(true);
        self.leave();
    }

    /// Nobody takes anything any more: what waits is dropped, which tells its callers.
    fn close(&self) {
        self.refuse();
        self.stopping.set(true);
        // Dropping a reply wakes its caller, never runs it; still, not while borrowed.
        drop(self.batches.take());
        while self.changes.take().is_some() {}
        drop(self.reads.take());
        drop(self.frames.take());
        drop(self.defragments.take());
        self.questions.clear();
        self.transfers.close();
    }

    pub fn stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Another member has a checkpoint for this one.
    pub fn push_arriving(&self, arriving: Arriving) {
        if !self.stopping.get() {
            self.transfers.arrive(arriving);
            self.wake();
        }
    }

    /// A checkpoint was brought to another member, or was not.
    pub fn end_transfer(&self, to: MemberId, came: bool) {
        self.transfers.end(to, came);
        self.wake();
    }

    fn wake(&self) {
        self.woken.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether something arrived since the last call; if not, `waker` is kept for when it does.
    pub fn arrived(&self, waker: &Waker) -> bool {
        if self.woken.replace(false) {
            return true;
        }
        self.waker.set(Some(waker.clone()));
        false
    }

    pub fn set_log_busy(&self, busy: bool) {
        self.log_busy.set(busy);
    }

    pub fn set_writes_wait(&self, wait: bool) {
        self.writes_wait.set(wait);
    }

    /// Whether a log write is in flight.
    pub fn is_log_busy(&self) -> bool {
        self.log_busy.get()
    }

    /// The oldest batch of writes.
    pub fn take_batch(&self) -> Option<Taken> {
        let OpenBatch { builder, waiting: callers, only_in } = self.batches.borrow_mut().pop_front()?;
        self.queued_bytes.set(self.queued_bytes.get() - builder.bytes());
        // The next batch is likely to be as large as this one.
        self.batch_bytes.set(builder.bytes());
        Some(Taken { payload: builder.finish(), callers, only_in })
    }

    /// The callers of the oldest batch, which is given up, if it has waited longer than `patience`.
    pub fn take_expired(&self, now: Instant, patience: Duration) -> Option<Vec<Waiting>> {
        let is_old = |open: &OpenBatch| now.since(open.waiting[0].arrived) > patience;
        if !self.batches.borrow().front().is_some_and(is_old) {
            return None;
        }
        self.take_batch().map(|taken| taken.callers)
    }

    pub fn has_writes(&self) -> bool {
        !self.batches.borrow().is_empty()
    }

    pub fn take_reads(&self) -> Vec<(Instant, Reply<()>)> {
        self.reads.take()
    }

    /// Readers whose round cannot begin yet go back to the front.
    pub fn put_back_reads(&self, mut waiting: Vec<(Instant, Reply<()>)>) {
        let mut reads = self.reads.borrow_mut();
        waiting.append(&mut reads);
        *reads = waiting;
    }

    pub fn has_reads(&self) -> bool {
        !self.reads.borrow().is_empty()
    }

    /// The next frame, and who sent it.
    pub fn take_frame(&self) -> Option<(MemberId, Bytes)> {
        let (sender, frame) = self.frames.borrow_mut().pop_front()?;
        self.frame_bytes.set(self.frame_bytes.get() - frame.len());
        Some((sender, frame))
    }

    /// `count` admitted writes were answered.
    pub fn answered(&self, count: usize) {
        let pending = self.pending.get();
        assert!(count <= pending, "{count} answers to {pending} requests");
        self.pending.set(pending - count);
    }

    pub fn pending(&self) -> usize {
        self.pending.get()
    }
}

/// The loop's hold on its inbox: however the loop ends, nobody waits for it in vain.
pub struct Taker(pub Rc<Inbox>);

impl Drop for Taker {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl std::ops::Deref for Taker {
    type Target = Inbox;

    fn deref(&self) -> &Inbox {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pb::etcdserverpb as pb,
        shard::{reply::channel, serve::proposal::proposal},
    };

    const ORIGIN: Origin = Origin { member: crate::types::MemberId(1), run: 1 };

    fn put(bytes: usize) -> pb::PutRequest {
        pb::PutRequest { key: "k".into(), value: vec![0; bytes].into(), ..Default::default() }
    }

    fn push(inbox: &Inbox, put: &pb::PutRequest) -> Result<(), Error> {
        inbox.push_write(&Principal::default(), (put, None), Instant(0), proposal::<pb::PutRequest>().0, None)
    }

    #[test]
    fn one_more_than_the_queue_holds_is_refused_until_one_is_answered() {
        let inbox = Inbox::new(ORIGIN, 8 << 20);
        for _ in 0..limits::SHARD_PENDING_MAX {
            push(&inbox, &put(1)).unwrap();
        }
        assert_eq!(push(&inbox, &put(1)), Err(Error::TooManyRequests));
        while inbox.take_batch().is_some() {}
        assert_eq!(push(&inbox, &put(1)), Err(Error::TooManyRequests), "proposed is not answered");
        inbox.answered(1);
        push(&inbox, &put(1)).unwrap();
    }

    #[test]
    fn queued_bytes_are_bounded_and_given_back() {
        let inbox = Inbox::new(ORIGIN, 8 << 20);
        let mib = put(1 << 20);
        while push(&inbox, &mib).is_ok() {}
        assert!(inbox.pending() <= limits::SHARD_QUEUED_BYTES_MAX / (1 << 20) + 1);
        while let Some(Taken { payload, callers: waiting, .. }) = inbox.take_batch() {
            assert!(payload.len() <= limits::ENTRY_BYTES_MAX + (1 << 20) + 64);
            inbox.answered(waiting.len());
        }
        assert_eq!((inbox.queued_bytes.get(), inbox.pending()), (0, 0));
        push(&inbox, &mib).unwrap();
    }

    #[test]
    fn sequences_are_consecutive_over_batches() {
        let inbox = Inbox::new(ORIGIN, 8 << 20);
        for _ in 0..limits::ENTRY_REQUESTS_MAX + 1 {
            push(&inbox, &put(1)).unwrap();
        }
        let first = inbox.take_batch().unwrap().callers;
        let second = inbox.take_batch().unwrap().callers;
        assert_eq!(first.len(), limits::ENTRY_REQUESTS_MAX);
        assert_eq!(second[0].sequence, first.last().unwrap().sequence + 1);
    }

    #[test]
    fn a_request_no_log_write_holds_is_refused() {
        let inbox = Inbox::new(ORIGIN, 1000);
        assert_eq!(push(&inbox, &put(1000)), Err(Error::Apply(state::Error::RequestTooLarge)));
        (0..10).for_each(|_| push(&inbox, &put(400)).unwrap());
        while let Some(Taken { payload, .. }) = inbox.take_batch() {
            assert!(payload.len() <= 1000);
        }
    }

    #[test]
    fn frames_beyond_the_bound_are_not_taken_until_others_are() {
        let inbox = Inbox::new(ORIGIN, 8 << 20);
        let push = |frame: &Bytes| inbox.push_frame(MemberId(2), frame.clone());
        let short = Bytes::from_static(b"x");
        assert!((0..limits::SHARD_FRAMES_MAX).all(|_| push(&short)));
        assert!(!push(&short));
        assert!(inbox.take_frame().is_some() && push(&short));
        while inbox.take_frame().is_some() {}
        let long = Bytes::from(vec![0; limits::PEER_FRAME_BYTES_MAX]);
        assert!(push(&long) && push(&long));
        assert!(!push(&short), "and their bytes");
    }

    #[test]
    fn callers_hear_when_the_loop_is_gone() {
        let inbox = Rc::new(Inbox::new(ORIGIN, 8 << 20));
        let taker = Taker(inbox.clone());
        let ((write, answer), (read, ready)) = (proposal::<pb::PutRequest>(), channel());
        inbox.push_write(&Principal::default(), (&put(1), None), Instant(0), write, None).unwrap();
        inbox.push_read(Instant(0), read).unwrap();
        drop(taker);
        assert_eq!(futures_lite::future::block_on(answer), None);
        assert_eq!(futures_lite::future::block_on(ready), None);
        assert_eq!(push(&inbox, &put(1)), Err(Error::Stopped));
    }

    #[test]
    fn a_stopping_shard_admits_nothing() {
        let inbox = Inbox::new(ORIGIN, 8 << 20);
        push(&inbox, &put(1)).unwrap();
        inbox.stop();
        assert_eq!(push(&inbox, &put(1)), Err(Error::Stopped));
        assert_eq!(inbox.push_read(Instant(0), channel().0), Err(Error::Stopped));
        assert!(inbox.has_writes(), "what was admitted is finished");
    }
}
