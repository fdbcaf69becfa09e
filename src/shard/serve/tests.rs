use std::cell::RefCell;

use bytes::Bytes;
use futures_lite::future::{block_on, poll_once};

use super::{applying::Stepped, *};
use crate::{
    metrics::ShardMetrics,
    pb::etcdserverpb as pb,
    shard::{reply::channel, serve::proposal::proposal},
    state::{Origin, Principal, StateMachine},
};

const PATIENCE: Duration = Duration::from_nanos(100);

fn serving() -> Serving {
    let inbox = Inbox::new(Origin { member: MemberId(1), run: 7 }, 1 << 20);
    let metrics = ShardMetrics::new().unwrap();
    Serving::new(
        Rc::new(inbox),
        Rc::default(),
        (Rc::default(), Rc::default()),
        Rc::new(metrics),
        Times::new(Duration::ZERO, false),
        PATIENCE,
        Duration::MAX,
    )
}

fn put(serving: &Serving, at: Instant) -> proposal::Answer<pb::PutRequest> {
    let (proposal, answer) = proposal();
    let put = pb::PutRequest { key: "k".into(), ..Default::default() };
    serving.inbox.push_write(&Principal::default(), (&put, None), at, proposal, None).unwrap();
    answer
}

fn read(serving: &Serving, at: Instant) -> crate::shard::reply::Answer<()> {
    let (reply, answer) = channel();
    serving.inbox.push_read(at, reply).unwrap();
    answer
}

/// Applies an entry to its end, in steps of so many keys; how many commands it had.
fn apply(
    serving: &mut Serving,
    index: LogIndex,
    batch: Bytes,
    state: &RefCell<StateMachine>,
    keys: usize,
) -> usize {
    serving.begin(index, batch, Instant(2)).unwrap();
    loop {
        let stepped = serving.step(state, keys, || Instant(2)).unwrap();
        match stepped.applied {
            Some(commands) => return commands,
            None => assert!(stepped.keys >= keys as u64 && state.borrow().applied() < index),
        }
    }
}

#[test]
fn callers_are_answered_once_their_batch_is_applied() {
    let mut serving = serving();
    let state = RefCell::new(StateMachine::new());
    let mut answer = put(&serving, Instant(0));
    let Taken { payload: batch, callers, .. } = serving.next_batch().unwrap();
    serving.proposed(callers, Term(2), Instant(1), (Way::Here, None));
    assert!(block_on(poll_once(&mut answer)).is_none() && !serving.is_idle());
    assert_eq!(apply(&mut serving, LogIndex(5), batch, &state, 1), 1);
    assert!(matches!(block_on(answer), Some(Ok(_))));
    assert!(serving.is_idle());
    assert_eq!((state.borrow().applied(), serving.inbox.pending()), (LogIndex(5), 0));
}

#[test]
fn what_waits_too_long_is_given_up_and_applied_all_the_same() {
    let mut serving = serving();
    let state = RefCell::new(StateMachine::new());
    let answer = put(&serving, Instant(0));
    let Taken { payload: batch, callers, .. } = serving.next_batch().unwrap();
    serving.proposed(callers, Term(2), Instant(0), (Way::Here, None));
    let behind = put(&serving, Instant(50));
    serving.expire(Instant(101), true, Some(Instant(50)), |_| Error::Timeout);
    assert!(matches!(block_on(answer), Some(Err(Error::Timeout))));
    assert!(serving.inbox.has_writes(), "the log write may end yet");
    serving.expire(Instant(151), true, Some(Instant(50)), |_| Error::Timeout);
    assert!(matches!(block_on(behind), Some(Err(Error::Timeout))));
    assert_eq!(apply(&mut serving, LogIndex(5), batch, &state, 1), 1);
    assert_eq!(state.borrow().revision().0, 2);
}

#[test]
fn slow_rounds_are_counted_when_they_are_given_up_and_when_their_answer_comes() {
    let mut serving = serving();
    let answer = read(&serving, Instant(0));
    let number = serving.begin_reads(Instant(0));
    serving.expire(Instant(100), true, None, |_| Error::Timeout);
    assert_eq!(serving.metrics.slow_read_indexes.get(), 0);
    serving.expire(Instant(101), true, None, |_| Error::Timeout);
    assert_eq!(serving.metrics.slow_read_indexes.get(), 1);
    assert_eq!(block_on(answer), None);
    serving.confirmed(number, LogIndex(1));
    assert_eq!(serving.metrics.slow_read_indexes.get(), 2, "too late");
    assert_eq!(serving.metrics.read_indexes_failed.get(), 0);

    // Without a leader no round begins.
    let answer = read(&serving, Instant(200));
    serving.expire(Instant(301), false, None, |_| Error::Timeout);
    assert_eq!(serving.metrics.slow_read_indexes.get(), 3);
    assert_eq!(block_on(answer), None);
}

#[test]
fn rounds_of_a_lost_leadership_are_asked_for_again() {
    let mut serving = serving();
    let answer = read(&serving, Instant(0));
    let lost = serving.begin_reads(Instant(0));
    serving.leader_lost();
    assert_eq!(serving.metrics.read_indexes_failed.get(), 1);
    assert!(serving.inbox.has_reads());
    let number = serving.begin_reads(Instant(0));
    assert_ne!(lost, number);
    serving.confirmed(number, LogIndex(3));
    serving.release_reads(LogIndex(3));
    assert_eq!(block_on(answer), Some(()));
}

#[test]
fn what_was_meant_for_a_leader_that_is_gone_is_given_up_once_the_next_one_begins() {
    let mut serving = serving();
    let state = RefCell::new(StateMachine::new());
    let lost = put(&serving, Instant(0));
    let Taken { callers, .. } = serving.next_batch().unwrap();
    serving.proposed(callers, Term(2), Instant(0), (Way::Here, None));
    let mut kept = put(&serving, Instant(0));
    let Taken { payload, callers, .. } = serving.next_batch().unwrap();
    let word = Word::Forward(crate::pb::peer::Forward { batch: payload.clone() });
    serving.proposed(callers, Term(3), Instant(0), (Way::Sent(Instant(0)), Some(word.clone())));
    serving.term_began(Term(3));
    assert!(matches!(block_on(lost), Some(Err(Error::LeaderLost))));
    assert!(block_on(poll_once(&mut kept)).is_none());
    let later = Instant(0).after(limits::ASK_AGAIN);
    assert_eq!(serving.again(Term(3), later), vec![word]);
    apply(&mut serving, LogIndex(9), payload, &state, usize::MAX);
    assert!(matches!(block_on(kept), Some(Ok(_))));

    let refused = put(&serving, Instant(0));
    let Taken { callers, .. } = serving.next_batch().unwrap();
    let first = callers[0].sequence;
    let word = Word::Forward(Default::default());
    serving.proposed(callers, Term(3), Instant(0), (Way::Sent(Instant(0)), Some(word)));
    serving.refused(first, Term(2), Error::TooManyRequests);
    serving.refused(first, Term(3), Error::TooManyRequests);
    assert!(matches!(block_on(refused), Some(Err(Error::TooManyRequests))));
    assert!(serving.is_idle() && serving.inbox.pending() == 0);
}

#[test]
fn without_a_leader_writes_wait_and_are_given_up_together() {
    let mut serving = serving();
    let first = put(&serving, Instant(0));
    let with_it = put(&serving, Instant(50));
    let later = Instant(1).after(limits::BATCH_AGE);
    let mut alone = put(&serving, later);
    serving.expire(Instant(101), false, None, |_| Error::Timeout);
    assert!(matches!(block_on(first), Some(Err(Error::NotProposed))));
    assert!(matches!(block_on(with_it), Some(Err(Error::NotProposed))));
    assert!(block_on(poll_once(&mut alone)).is_none() && serving.inbox.has_writes());
    assert_eq!(serving.next_batch().map(|taken| taken.callers.len()), Some(1));
}

#[test]
fn callers_are_answered_at_the_end_of_the_step_that_did_what_they_asked() {
    let mut serving = serving();
    let state = RefCell::new(StateMachine::new());
    let mut answers: Vec<_> = (0..3).map(|_| put(&serving, Instant(0))).collect();
    let Taken { payload: batch, callers, .. } = serving.next_batch().unwrap();
    serving.proposed(callers, Term(2), Instant(0), (Way::Here, None));
    serving.begin(LogIndex(5), batch, Instant(0)).unwrap();
    for at in 0..3 {
        assert_eq!(
            serving.step(&state, 1, || Instant(0)),
            Ok(Stepped { keys: 1, applied: None, of_members: false })
        );
        let answered = answers.iter_mut().map(|answer| block_on(poll_once(answer)).is_some());
        assert_eq!(answered.collect::<Vec<_>>(), (0..3 - at).map(|other| other == 0).collect::<Vec<_>>());
        answers.remove(0);
        assert_eq!((serving.inbox.pending(), state.borrow().applied()), (2 - at, LogIndex(0)));
    }
    assert_eq!(
        serving.step(&state, 1, || Instant(0)),
        Ok(Stepped { keys: 0, applied: Some(3), of_members: false })
    );
    assert_eq!(state.borrow().applied(), LogIndex(5));
}

#[test]
fn who_waits_for_what_is_left_to_the_next_start_is_told() {
    let mut serving = serving();
    let state = RefCell::new(StateMachine::new());
    let mut seeded = put(&serving, Instant(0));
    let Taken { payload: batch, callers, .. } = serving.next_batch().unwrap();
    serving.proposed(callers, Term(2), Instant(0), (Way::Here, None));
    apply(&mut serving, LogIndex(5), batch, &state, usize::MAX);
    assert!(block_on(poll_once(&mut seeded)).is_some());

    // A deletion of one key and its neighbourhood, of which one key is done, a put behind it, one not proposed, a read.
    let two = pb::TxnRequest {
        success: ["k", "l"].map(|key| pb::RequestOp { request: Some(deletion(key)) }).to_vec(),
        ..Default::default()
    };
    let (proposal, under_way) = proposal::<pb::TxnRequest>();
    serving.inbox.push_write(&Principal::default(), (&two, None), Instant(0), proposal, None).unwrap();
    let behind = put(&serving, Instant(0));
    let Taken { payload: batch, callers, .. } = serving.next_batch().unwrap();
    serving.proposed(callers, Term(2), Instant(0), (Way::Here, None));
    let queued = put(&serving, Instant(0));
    let reading = read(&serving, Instant(0));
    serving.begin(LogIndex(6), batch, Instant(0)).unwrap();
    while !state.borrow().is_paused() {
        assert_eq!(serving.step(&state, 1, || Instant(0)).unwrap().applied, None);
    }
    serving.leave();
    assert!(matches!(block_on(under_way), Some(Err(Error::Stopped))));
    assert!(matches!(block_on(behind), Some(Err(Error::Stopped))));
    assert!(matches!(block_on(queued), Some(Err(Error::Stopped))));
    assert_eq!(block_on(reading), None);
    let refused = serving.inbox.push_read(Instant(0), channel().0);
    assert_eq!((refused, serving.inbox.refusing()), (Err(Error::Stopped), true));
    assert!(serving.is_idle() && serving.inbox.pending() == 0);
    assert_eq!((state.borrow().key_count(), state.borrow().revision().0), (1, 2), "it is as before");
}

fn deletion(key: &'static str) -> pb::request_op::Request {
    let delete = pb::DeleteRangeRequest { key: key.into(), ..Default::default() };
    pb::request_op::Request::RequestDeleteRange(delete)
}
