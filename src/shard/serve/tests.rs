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
        Rc::default(),
        Rc::new(metrics),
        Times::new(Duration::ZERO, false),
        PATIENCE,
        Duration::MAX,
    )
}

fn put(serving: &Serving, at: Instant) -> proposal::Answer<pb::PutRequest> {
    let (proposal, answer) = proposal();
    let put = pb::PutRequest { key: "k".into(), ..Default::default() };
    serving.inbox.push_write(&Principal::default(), &put, at, proposal, None).unwrap();
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
    let (batch, callers) = serving.next_batch().unwrap();
    serving.proposed(callers, Instant(1));
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
    let (batch, callers) = serving.next_batch().unwrap();
    serving.proposed(callers, Instant(0));
    let behind = put(&serving, Instant(50));
    serving.expire(Instant(101), true, Some(Instant(50)));
    assert!(matches!(block_on(answer), Some(Err(Error::Timeout))));
    assert!(serving.inbox.has_writes(), "the log write may end yet");
    serving.expire(Instant(151), true, Some(Instant(50)));
    assert!(matches!(block_on(behind), Some(Err(Error::Timeout))));
    assert_eq!(apply(&mut serving, LogIndex(5), batch, &state, 1), 1);
    assert_eq!(state.borrow().revision().0, 2);
}

#[test]
fn slow_rounds_are_counted_when_they_are_given_up_and_when_their_answer_comes() {
    let mut serving = serving();
    let answer = read(&serving, Instant(0));
    let number = serving.begin_reads();
    serving.expire(Instant(100), true, None);
    assert_eq!(serving.metrics.slow_read_indexes.get(), 0);
    serving.expire(Instant(101), true, None);
    assert_eq!(serving.metrics.slow_read_indexes.get(), 1);
    assert_eq!(block_on(answer), None);
    serving.confirmed(number, LogIndex(1));
    assert_eq!(serving.metrics.slow_read_indexes.get(), 2, "too late");
    assert_eq!(serving.metrics.read_indexes_failed.get(), 0);

    // Without a leader no round begins.
    let answer = read(&serving, Instant(200));
    serving.expire(Instant(301), false, None);
    assert_eq!(serving.metrics.slow_read_indexes.get(), 3);
    assert_eq!(block_on(answer), None);
}

#[test]
fn rounds_of_a_lost_leadership_are_asked_for_again() {
    let mut serving = serving();
    let answer = read(&serving, Instant(0));
    let lost = serving.begin_reads();
    serving.leadership_lost();
    assert_eq!(serving.metrics.read_indexes_failed.get(), 1);
    assert!(serving.inbox.has_reads());
    let number = serving.begin_reads();
    assert_ne!(lost, number);
    serving.confirmed(number, LogIndex(3));
    serving.release_reads(LogIndex(3));
    assert_eq!(block_on(answer), Some(()));
}

#[test]
fn callers_are_answered_at_the_end_of_the_step_that_did_what_they_asked() {
    let mut serving = serving();
    let state = RefCell::new(StateMachine::new());
    let mut answers: Vec<_> = (0..3).map(|_| put(&serving, Instant(0))).collect();
    let (batch, callers) = serving.next_batch().unwrap();
    serving.proposed(callers, Instant(0));
    serving.begin(LogIndex(5), batch, Instant(0)).unwrap();
    for at in 0..3 {
        assert_eq!(serving.step(&state, 1, || Instant(0)), Ok(Stepped { keys: 1, applied: None }));
        let answered = answers.iter_mut().map(|answer| block_on(poll_once(answer)).is_some());
        assert_eq!(answered.collect::<Vec<_>>(), (0..3 - at).map(|other| other == 0).collect::<Vec<_>>());
        answers.remove(0);
        assert_eq!((serving.inbox.pending(), state.borrow().applied()), (2 - at, LogIndex(0)));
    }
    assert_eq!(serving.step(&state, 1, || Instant(0)), Ok(Stepped { keys: 0, applied: Some(3) }));
    assert_eq!(state.borrow().applied(), LogIndex(5));
}

#[test]
fn who_waits_for_what_is_left_to_the_next_start_is_told() {
    let mut serving = serving();
    let state = RefCell::new(StateMachine::new());
    let mut seeded = put(&serving, Instant(0));
    let (batch, callers) = serving.next_batch().unwrap();
    serving.proposed(callers, Instant(0));
    apply(&mut serving, LogIndex(5), batch, &state, usize::MAX);
    assert!(block_on(poll_once(&mut seeded)).is_some());

    // A deletion of one key and its neighbourhood, of which one key is done, a put behind it, one not proposed, a read.
    let two = pb::TxnRequest {
        success: ["k", "l"].map(|key| pb::RequestOp { request: Some(deletion(key)) }).to_vec(),
        ..Default::default()
    };
    let (proposal, under_way) = proposal::<pb::TxnRequest>();
    serving.inbox.push_write(&Principal::default(), &two, Instant(0), proposal, None).unwrap();
    let behind = put(&serving, Instant(0));
    let (batch, callers) = serving.next_batch().unwrap();
    serving.proposed(callers, Instant(0));
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
