use futures_lite::future::{block_on, poll_once};

use super::*;
use crate::{
    metrics::ShardMetrics,
    pb::etcdserverpb as pb,
    shard::{reply::channel, serve::proposal::proposal},
    state::{Origin, Principal},
};

const PATIENCE: Duration = Duration::from_nanos(100);

fn serving() -> Serving {
    let inbox = Inbox::new(Origin { member: MemberId(1), run: 7 }, 1 << 20);
    let metrics = ShardMetrics::new().unwrap();
    Serving::new(Rc::new(inbox), Rc::default(), Rc::new(metrics), PATIENCE, Duration::MAX)
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

#[test]
fn callers_are_answered_once_their_batch_is_applied() {
    let mut serving = serving();
    let state = RefCell::new(StateMachine::new());
    let mut answer = put(&serving, Instant(0));
    let (batch, callers) = serving.next_batch().unwrap();
    serving.proposed(callers, Instant(1));
    assert!(block_on(poll_once(&mut answer)).is_none() && !serving.is_idle());
    assert_eq!(serving.apply(LogIndex(5), batch, &state, || Instant(2)), Ok(1));
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
    assert_eq!(serving.apply(LogIndex(5), batch, &state, || Instant(2)), Ok(1));
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
