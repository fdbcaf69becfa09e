//! Commands that take several steps, beside the same ones done at once; and what replay does for them.

use std::task::Poll;

use proptest::prelude::*;

use super::{
    any::{self, Request, apply, apply_long},
    properties::{delete, put, txn, valid},
};
use crate::pb::etcdserverpb::{
    self as pb,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request as Op,
};
use crate::state::{
    Applied, Batch, Builder, Command, Context, Error, Outcome, Principal, StateMachine, Steps,
    kv::{Choice, validate},
};

fn all(revision: i64) -> pb::RangeRequest {
    pb::RangeRequest { key: "\0".into(), range_end: "\0".into(), revision, ..Default::default() }
}

/// What everybody else sees.
fn seen(state: &StateMachine) -> (pb::RangeResponse, u64) {
    (state.range(&all(0)).expect("readable"), state.key_count())
}

/// Applies a command in steps of so many keys, and looks at the state between two of them.
fn stepwise<C: Command>(
    state: &mut StateMachine,
    command: &C,
    keys: usize,
    outcome: &mut Outcome,
) -> Result<C::Answer, Error> {
    let before = seen(state);
    let principal = Principal::default();
    let mut steps = Steps::default();
    loop {
        let context = Context::asked_by(&principal).in_steps_of(keys);
        let visited = outcome.visited;
        match state.step(command, &mut steps, context, outcome) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => {
                assert_eq!(seen(state), before, "nobody sees half of a command");
                assert!(outcome.visited > visited, "each step gets on");
                assert!(outcome.changes.is_empty());
            }
        }
    }
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        4 => put().prop_map(Request::Put),
        2 => delete().prop_map(Request::DeleteRange),
        4 => txn().prop_map(Request::Txn),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn steps_of_any_size_come_to_the_same(requests in prop::collection::vec((request(), 1usize..7), 1..40)) {
        let (mut whole, mut state, mut replayed) = (StateMachine::new(), StateMachine::new(), StateMachine::new());
        for (request, keys) in requests.iter().filter(|(request, _)| valid(request)) {
            if matches!(request, Request::Txn(txn) if validate::is_read_only(txn)) {
                continue;
            }
            let (mut at_once, mut outcome) = (Outcome::default(), Outcome::default());
            match request {
                Request::Put(put) => prop_assert_eq!(
                    stepwise(&mut state, put, *keys, &mut outcome),
                    whole.apply(put, Context::asked_by(&Principal::default()), &mut at_once)
                ),
                Request::DeleteRange(delete) => {
                    let answer = stepwise(&mut state, delete, *keys, &mut outcome);
                    let expected = whole.apply(delete, Context::asked_by(&Principal::default()), &mut at_once);
                    prop_assert_eq!(
                        answer.map(|answer| any::whole(&state, answer)),
                        expected.map(|answer| any::whole(&whole, answer))
                    );
                }
                Request::Txn(txn) => {
                    let answer = stepwise(&mut state, txn, *keys, &mut outcome);
                    let expected = whole.apply(txn, Context::asked_by(&Principal::default()), &mut at_once);
                    prop_assert_eq!(
                        answer.map(|answer| any::whole(&state, answer)),
                        expected.map(|answer| any::whole(&whole, answer))
                    );
                }
                Request::Compact(_) => unreachable!("not drawn"),
            }
            prop_assert_eq!(outcome, at_once);
            request.replay(&mut replayed);
            prop_assert_eq!(seen(&state), seen(&whole));
        }
        prop_assert_eq!(seen(&replayed), seen(&whole));
        for revision in 1..=whole.revision().0 {
            prop_assert_eq!(state.range(&all(revision)), whole.range(&all(revision)));
            prop_assert_eq!(replayed.range(&all(revision)), whole.range(&all(revision)));
        }
        let hash = |state: &StateMachine| {
            let mut cursor = state.hash_kv(0).expect("readable");
            state.hash_step(&mut cursor, usize::MAX).expect("its own state")
        };
        prop_assert_eq!(hash(&state), hash(&whole));
    }
}

const KEYS: u64 = 2_000;

fn loaded() -> StateMachine {
    let mut state = StateMachine::new();
    for number in 0..KEYS {
        let put = pb::PutRequest { key: format!("key{number:05}").into(), ..Default::default() };
        apply(&mut state, &put).expect("a put succeeds");
    }
    state
}

fn op(request: Op) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn whole_range() -> pb::RequestOp {
    op(Op::RequestRange(all(0)))
}

/// Holds for every key, so all of them are looked at.
fn compare_all(key: &'static str) -> pb::Compare {
    pb::Compare {
        key: key.into(),
        range_end: "\0".into(),
        target: CompareTarget::Version as i32,
        result: CompareResult::Greater as i32,
        target_union: Some(TargetUnion::Version(0)),
    }
}

/// Keys that replay looks at for a command.
fn replayed(state: &mut StateMachine, command: &impl Command) -> u64 {
    let mut outcome = Outcome::default();
    for envelope in Batch::decode(Builder::single(command)).expect("a batch") {
        envelope.expect("an envelope").apply(state, &mut outcome).expect("a command of this release");
    }
    outcome.visited
}

#[test]
fn replay_of_a_transaction_costs_what_it_changes_and_not_what_it_reads() {
    let mut state = loaded();
    let put = pb::PutRequest { key: "key00000".into(), prev_kv: true, ..Default::default() };
    let mut success = vec![whole_range(); 127];
    success.push(op(Op::RequestPut(put)));
    let visited = replayed(&mut state, &pb::TxnRequest { success, ..Default::default() });
    assert!(visited < 128 * 3, "{visited}");
    assert_eq!(state.revision().0, KEYS as i64 + 2);

    let delete = pb::DeleteRangeRequest { key: "key".into(), range_end: "kez".into(), prev_kv: true };
    let visited = replayed(&mut state, &delete);
    assert_eq!((visited, state.key_count()), (KEYS, 0));
}

#[test]
fn comparing_ends_with_the_first_key_that_differs() {
    let mut state = loaded();
    let mut compare = compare_all("key");
    compare.target_union = Some(TargetUnion::Version(1));
    let request = pb::TxnRequest { compare: vec![compare; 100], ..Default::default() };
    assert!(replayed(&mut state, &request) < 10);
    assert!(!apply_long(&mut state, &request).expect("answered").succeeded);
}

#[test]
fn a_long_command_is_left_and_taken_up_again_by_whoever_applies_the_log() {
    let mut state = loaded();
    let delete = pb::DeleteRangeRequest { key: "key".into(), range_end: "kez".into(), prev_kv: false };
    let envelope = Batch::decode(Builder::single(&delete)).expect("a batch").next().expect("one");
    let mut outcome = Outcome::default();
    let applied = envelope.expect("an envelope").begin(&mut state, 300, &mut outcome).expect("decoded");
    let Applied::Partly(mut unfinished) = applied else { panic!("it has {KEYS} keys to delete") };
    let mut steps = 1;
    while unfinished.step(&mut state, 300, &mut outcome).is_none() {
        assert_eq!((state.key_count(), state.is_paused()), (KEYS, true));
        steps += 1;
    }
    assert_eq!((steps, state.key_count(), state.is_paused()), (KEYS / 300, 0, false));
}

#[test]
fn a_transaction_is_weighed_by_the_keys_its_comparisons_look_at() {
    let state = loaded();
    let weigh = |compare: Vec<pb::Compare>, keys_max: u64| {
        let request = pb::TxnRequest { compare, ..Default::default() };
        let mut choice = Choice::begin(&state, keys_max);
        let mut steps = 0;
        loop {
            steps += 1;
            match choice.step(&request, &state, 100) {
                Ok(false) => {}
                Ok(true) => return Ok(steps),
                Err(error) => return Err((error, steps)),
            }
        }
    };
    assert_eq!(weigh(vec![compare_all("key"); 3], 3 * KEYS), Ok(60));
    assert_eq!(weigh(vec![compare_all("key"); 100], 3 * KEYS), Err((Error::TooManyOps, 61)));
    // The first one does not hold: nothing after it is looked at.
    let mut never = compare_all("key");
    never.result = CompareResult::Less as i32;
    let mut compares = vec![compare_all("key"); 100];
    compares.insert(0, never);
    assert_eq!(weigh(compares, 10), Ok(1));
}

/// Operations at the bottom, in as many transactions around them as decoding lets through.
#[test]
fn deeply_nested_transactions_are_validated_and_applied_without_end() {
    let put = |number: usize| {
        op(Op::RequestPut(pb::PutRequest { key: format!("{number:04x}").into(), ..Default::default() }))
    };
    let mut leaves = (0..).map(put);
    let mut inner: Vec<pb::RequestOp> = (0..20)
        .map(|_| {
            let success = leaves.by_ref().take(20).collect();
            op(Op::RequestTxn(pb::TxnRequest { success, ..Default::default() }))
        })
        .collect();
    let gone = |key: &str| {
        op(Op::RequestDeleteRange(pb::DeleteRangeRequest {
            key: key.to_owned().into(),
            ..Default::default()
        }))
    };
    for level in 0..40 {
        let nested = pb::TxnRequest { success: inner, ..Default::default() };
        inner = vec![gone(&format!("x{level:02}")), op(Op::RequestTxn(nested))];
    }
    let request = pb::TxnRequest { success: inner, ..Default::default() };
    assert_eq!(validate::operations(&request), 2 * 40 + 20 + 400);
    assert_eq!(validate::txn(&request, 128), Ok(()));
    let mut state = StateMachine::new();
    apply_long(&mut state, &request).expect("applied");
    assert_eq!(state.key_count(), 400);
    assert!(validate::compares_ranges(&pb::TxnRequest {
        failure: vec![op(Op::RequestTxn(pb::TxnRequest {
            compare: vec![compare_all("x")],
            ..Default::default()
        }))],
        ..Default::default()
    }));
    assert!(!validate::compares_ranges(&request));

    // A key that is put at the bottom is deleted further out, or put again.
    for other in [gone("0007"), put(7)] {
        let mut request = request.clone();
        request.success.push(other);
        assert_eq!(validate::txn(&request, 128), Err(Error::DuplicateKey));
    }
}
