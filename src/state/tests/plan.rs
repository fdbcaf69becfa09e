//! Answers of which parts are put off: what they show, what they hold, and when they are given up.

use super::{
    any::{Got, Request, Slow, apply},
    model::Model,
};
use crate::{
    limits,
    pb::etcdserverpb::{self as pb, request_op::Request as Op},
    state::{
        Error, Outcome, StateMachine,
        kv::{Answer, Evaluation},
        mvcc::Freed,
    },
};

const KEYS: usize = 40;
const VALUE_BYTES: usize = 3_000;

fn put(key: usize, value_bytes: usize) -> pb::PutRequest {
    pb::PutRequest {
        key: format!("key{key:05}").into(),
        value: vec![b'v'; value_bytes].into(),
        ..Default::default()
    }
}

fn all() -> pb::RangeRequest {
    pb::RangeRequest { key: "key".into(), range_end: "kez".into(), ..Default::default() }
}

fn point(key: usize) -> pb::RangeRequest {
    pb::RangeRequest { key: put(key, 0).key, ..Default::default() }
}

fn delete_all() -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: "key".into(), range_end: "kez".into(), prev_kv: true }
}

fn txn(ops: impl IntoIterator<Item = Op>) -> pb::TxnRequest {
    let success = ops.into_iter().map(|op| pb::RequestOp { request: Some(op) }).collect();
    pb::TxnRequest { success, ..Default::default() }
}

/// A state and what is to be expected of it.
struct Both(StateMachine, Model);

impl Both {
    fn new() -> Self {
        let mut both = Self(StateMachine::new(), Model::default());
        (0..KEYS).for_each(|key| drop(both.apply(Request::Put(put(key, VALUE_BYTES)))));
        both
    }

    fn apply(&mut self, request: Request) -> (Got, Vec<u8>) {
        let expected = self.1.apply(&request).expect("sound").encode_to_vec();
        (request.apply(&mut self.0, &mut Outcome::default()).expect("sound"), expected)
    }

    fn slow(&mut self, request: Request) -> (Slow, Vec<u8>) {
        match self.apply(request) {
            (Got::Slow(slow), expected) => (slow, expected),
            (Got::Whole(answer), _) => panic!("all of it at once: {answer:?}"),
        }
    }

    /// The answer is as expected, although everything is deleted and compacted by then. The most bytes that were kept.
    fn check(&mut self, (mut slow, expected): (Slow, Vec<u8>)) -> usize {
        self.clear();
        let mut kept_max = 0;
        while slow.step(&self.0, 3, 1_000) {
            kept_max = kept_max.max(slow.kept_bytes());
        }
        assert!(slow.bytes() == expected, "another answer");
        kept_max
    }

    fn clear(&mut self) {
        let state = &mut self.0;
        drop(apply(state, &delete_all()).expect("sound"));
        apply(state, &put(0, 1)).expect("sound");
        let revision = state.revision().0;
        apply(state, &pb::CompactionRequest { revision, physical: true }).expect("sound");
        state.defragment();
        while state.compact_step(100, true) != Freed::All {}
    }
}

#[test]
fn what_may_be_long_is_read_afterwards_and_as_it_was() {
    let mut both = Both::new();
    let nested = txn([
        Op::RequestRange(all()),
        Op::RequestPut(pb::PutRequest { prev_kv: true, ..put(7, 100) }),
        Op::RequestRange(pb::RangeRequest { revision: 5, ..all() }),
    ]);
    let ops = [
        Op::RequestPut(pb::PutRequest { prev_kv: true, ..put(1, 40_000) }),
        Op::RequestRange(all()),
        Op::RequestTxn(nested),
        Op::RequestRange(pb::RangeRequest { limit: 3, ..all() }),
        Op::RequestRange(pb::RangeRequest { count_only: true, ..all() }),
        Op::RequestDeleteRange(pb::DeleteRangeRequest {
            key: put(2, 0).key,
            prev_kv: true,
            ..Default::default()
        }),
        Op::RequestRange(point(1)),
        Op::RequestDeleteRange(pb::DeleteRangeRequest { range_end: "key00020".into(), ..delete_all() }),
        Op::RequestRange(all()),
    ];
    let answer = both.slow(Request::Txn(txn(ops)));
    let kept = both.check(answer);
    assert!(kept <= limits::RANGE_KEPT_BYTES, "{kept}");
    let mut both = Both::new();
    let answer = both.slow(Request::DeleteRange(delete_all()));
    let kept = both.check(answer);
    assert!(kept <= limits::RANGE_KEPT_BYTES, "{kept}");
}

#[test]
fn many_points_are_put_off_as_one_range_of_them_would_be() {
    let mut both = Both::new();
    let puts = (0..KEYS).map(|key| Op::RequestPut(pb::PutRequest { prev_kv: true, ..put(key, VALUE_BYTES) }));
    let reads = (0..KEYS).map(|key| Op::RequestRange(point(key)));
    let answer = both.slow(Request::Txn(txn(puts.chain(reads))));
    assert!(both.check(answer) <= limits::RANGE_KEPT_BYTES);
}

#[test]
fn small_answers_are_there_at_once_and_so_is_a_single_value() {
    let mut both = Both::new();
    both.apply(Request::Put(put(3, 2 * limits::RANGE_KEPT_BYTES)));
    let update = txn([
        Op::RequestPut(put(1, 10)),
        Op::RequestRange(point(3)),
        Op::RequestDeleteRange(pb::DeleteRangeRequest { key: "none".into(), ..delete_all() }),
    ]);
    let (answer, expected) = both.apply(Request::Txn(update));
    let Got::Whole(answer) = answer else { panic!("nothing is to be put off") };
    assert!(answer.encode_to_vec() == expected);
}

/// Memory is that of one sorted range, however many there are.
#[test]
fn sorted_ranges_are_sorted_again_when_their_turn_comes() {
    let mut both = Both::new();
    let sorted = |sort_target, limit| {
        Op::RequestRange(pb::RangeRequest { sort_target, sort_order: 2, limit, ..all() })
    };
    let ops = (0..20).map(|at| sorted(at % 5, i64::from(at % 3) * 15));
    let answer = both.slow(Request::Txn(txn(ops.chain([Op::RequestPut(put(1, 1))]))));
    let kept = both.check(answer);
    assert!(kept <= limits::RANGE_KEPT_BYTES + KEYS * (VALUE_BYTES + 50), "{kept}");
}

#[test]
fn an_answer_of_many_operations_is_encoded_bit_by_bit() {
    let mut both = Both::new();
    let ops = limits::TXN_ENCODED_OPS;
    let nested = txn((0..ops).map(|key| Op::RequestRange(point(KEYS + key))));
    let request = txn([Op::RequestTxn(nested), Op::RequestPut(put(1, 1))]);
    let (mut slow, expected) = both.slow(Request::Txn(request));
    let mut steps = 0;
    while slow.step(&both.0, 16, 1_000) {
        steps += 1;
    }
    assert!(steps > ops / 16, "{steps}");
    assert!(slow.bytes() == expected);
}

#[test]
fn an_answer_that_cannot_be_sent_is_given_up_as_soon_as_that_is_known() {
    let mut both = Both::new();
    let request = txn((0..100).map(|_| Op::RequestRange(all())));
    let answer = both.0.read_txn(&request, &mut Default::default()).expect("sound");
    let Answer::Long(mut plan) = answer else { panic!("it is long") };
    plan.send_at_most(2 * KEYS * VALUE_BYTES);
    let mut steps = 0;
    let error = loop {
        match plan.step(&both.0, KEYS) {
            Ok(finished) => assert!(!finished && steps < 10, "after {steps} steps"),
            Err(error) => break error,
        }
        steps += 1;
    };
    let Error::AnswerTooLong(bytes) = error else { panic!("{error:?}") };
    assert!((2 * KEYS * VALUE_BYTES..3 * KEYS * (VALUE_BYTES + 50)).contains(&bytes), "{bytes}");
    both.clear();
}

#[test]
fn whoever_leaves_holds_nothing_back() {
    let mut both = Both::new();
    let ops = [
        Op::RequestPut(put(1, 1)),
        Op::RequestRange(all()),
        Op::RequestRange(pb::RangeRequest { revision: 9, ..all() }),
    ];
    let (slow, _) = both.slow(Request::Txn(txn(ops)));
    both.clear();
    assert!(both.0.size_bytes() as usize > KEYS * VALUE_BYTES, "what the answer shows is held");
    drop(slow);
    both.0.defragment();
    while both.0.compact_step(100, true) != Freed::All {}
    assert!((both.0.size_bytes() as usize) < VALUE_BYTES, "{} bytes are left", both.0.size_bytes());
}

#[test]
fn another_state_in_place_of_the_one_that_was_pinned_ends_it() {
    let mut both = Both::new();
    let Ok(Answer::Long(mut plan)) = apply(&mut both.0, &delete_all()) else { panic!("it is long") };
    assert_eq!(plan.step(&StateMachine::new(), 10), Err(Error::Replaced));
}
