//! The state machine against the model, over generated requests.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

use super::{
    any::{Got, Request, Response, Slow, apply},
    model::Model,
    outcome::Follower,
};
use crate::pb::etcdserverpb::{self as pb, compare::TargetUnion, request_op::Request as Op};
use crate::state::{
    Error, Operations, Outcome, StateMachine,
    kv::{Answer, Chunk, Evaluation, Range, RangeStream, StreamStep, validate},
    mvcc::Freed,
};

fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec![
        "a",
        "ab",
        "ab\0",
        "b",
        "ba",
        "c",
        "\0",
        "\u{7f}zz",
        "abcdefghij",
        "abcdefghik",
    ])
    .prop_map(|key| Bytes::from_static(key.as_bytes()))
}

fn end() -> impl Strategy<Value = Bytes> {
    prop_oneof![4 => Just(Bytes::new()), 2 => Just(Bytes::from_static(b"\0")), 4 => key()]
}

fn revision() -> impl Strategy<Value = i64> {
    prop_oneof![4 => Just(0i64), 1 => -2i64..3, 6 => 1i64..30]
}

fn range() -> impl Strategy<Value = pb::RangeRequest> {
    let filter = || prop_oneof![6 => Just(0i64), 1 => 1i64..20];
    (
        (key(), end(), prop_oneof![Just(0i64), -1i64..6], revision(), 0i32..3, 0i32..5),
        (any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.2)),
        (filter(), filter(), filter(), filter()),
    )
        .prop_map(|((key, range_end, limit, revision, sort_order, sort_target), flags, filters)| {
            pb::RangeRequest {
                key,
                range_end,
                limit,
                revision,
                sort_order,
                sort_target,
                serializable: flags.0,
                keys_only: flags.1,
                count_only: flags.2,
                min_mod_revision: filters.0,
                max_mod_revision: filters.1,
                min_create_revision: filters.2,
                max_create_revision: filters.3,
            }
        })
}

pub fn put() -> impl Strategy<Value = pb::PutRequest> {
    let flag = || prop::bool::weighted(0.2);
    (
        key(),
        prop::sample::select(vec!["", "x", "y", "long value"]),
        flag(),
        flag(),
        flag(),
        prop::bool::weighted(0.05),
    )
        .prop_map(|(key, value, prev_kv, ignore_value, ignore_lease, lease)| pb::PutRequest {
            key,
            value: if ignore_value { Bytes::new() } else { Bytes::from_static(value.as_bytes()) },
            lease: i64::from(lease && !ignore_lease),
            prev_kv,
            ignore_value,
            ignore_lease,
        })
}

pub fn delete() -> impl Strategy<Value = pb::DeleteRangeRequest> {
    (key(), end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| pb::DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

fn compare() -> impl Strategy<Value = pb::Compare> {
    let union = prop_oneof![
        (0i64..5).prop_map(|n| Some(TargetUnion::Version(n))),
        (0i64..20).prop_map(|n| Some(TargetUnion::CreateRevision(n))),
        (0i64..20).prop_map(|n| Some(TargetUnion::ModRevision(n))),
        (0i64..2).prop_map(|n| Some(TargetUnion::Lease(n))),
        Just(Some(TargetUnion::Value(Bytes::from_static(b"x")))),
        Just(None),
    ];
    (0i32..4, 0i32..5, key(), end(), union, any::<bool>()).prop_map(
        |(result, target, key, range_end, target_union, fitting)| pb::Compare {
            result,
            target: match &target_union {
                Some(TargetUnion::Version(_)) if fitting => 0,
                Some(TargetUnion::CreateRevision(_)) if fitting => 1,
                Some(TargetUnion::ModRevision(_)) if fitting => 2,
                Some(TargetUnion::Value(_)) if fitting => 3,
                _ => target,
            },
            key,
            range_end,
            target_union,
        },
    )
}

pub fn txn() -> impl Strategy<Value = pb::TxnRequest> {
    let op = prop_oneof![
        range().prop_map(Op::RequestRange),
        put().prop_map(Op::RequestPut),
        delete().prop_map(Op::RequestDeleteRange),
    ];
    let leaf = txn_of(op.clone().boxed());
    leaf.prop_recursive(3, 12, 3, move |inner| {
        txn_of(prop_oneof![3 => op.clone(), 1 => inner.prop_map(Op::RequestTxn)].boxed())
    })
}

fn txn_of(op: BoxedStrategy<Op>) -> BoxedStrategy<pb::TxnRequest> {
    let ops = move || {
        let op = op.clone().prop_map(|op| pb::RequestOp { request: Some(op) });
        prop::collection::vec(op, 0..4)
    };
    (prop::collection::vec(compare(), 0..3), ops(), ops())
        .prop_map(|(compare, success, failure)| pb::TxnRequest { compare, success, failure })
        .boxed()
}

#[derive(Clone, Debug)]
enum Step {
    Write(Request),
    Read(pb::RangeRequest),
    /// A read under way while what follows happens, and how many steps later it goes on.
    Slow(pb::RangeRequest, usize),
    Sweep(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => put().prop_map(|put| Step::Write(Request::Put(put))),
        2 => delete().prop_map(|delete| Step::Write(Request::DeleteRange(delete))),
        4 => txn().prop_map(|txn| Step::Write(Request::Txn(txn))),
        1 => (-1i64..30).prop_map(|revision| Step::Write(Request::Compact(pb::CompactionRequest { revision, physical: true }))),
        6 => range().prop_map(Step::Read),
        1 => (range(), 1usize..8).prop_map(|(range, later)| Step::Slow(range, later)),
        2 => prop_oneof![Just(usize::MAX), 1usize..4].prop_map(Step::Sweep),
    ]
}

/// What the API checks before proposing.
pub fn valid(request: &Request) -> bool {
    match request {
        Request::Put(put) => validate::put(put),
        Request::DeleteRange(delete) => validate::delete_range(delete),
        Request::Txn(txn) => validate::txn(txn, 128),
        Request::Compact(_) => Ok(()),
    }
    .is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn answers_as_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let mut state = StateMachine::new();
        let mut model = Model::default();
        let mut slow = Vec::new();
        let mut slow_answers: Vec<(Slow, Result<Response, Error>)> = Vec::new();
        // The same log without anybody who waits, and somebody who only hears what changed.
        let (mut replayed, mut followed, mut outcome) = (StateMachine::new(), Follower::default(), Outcome::default());
        for (now, step) in steps.iter().enumerate() {
            match step {
                Step::Write(request) if valid(request) => {
                    let (answer, expected);
                    if let Request::Txn(txn) = request && validate::is_read_only(txn) {
                        let read = state.read_txn(txn, &mut Operations::default());
                        answer = read.map(|answer| Got::of(answer, Response::Txn));
                        expected = model.txn(txn).map(Response::Txn);
                    } else {
                        answer = request.apply(&mut state, &mut outcome);
                        request.replay(&mut replayed);
                        expected = model.apply(request);
                        followed.follow(&state, &outcome);
                        outcome.clear();
                    }
                    match answer {
                        Ok(Got::Whole(answer)) => prop_assert_eq!(Ok(answer), expected),
                        Ok(Got::Slow(mut answer)) => {
                            if now % 3 > 0 {
                                answer.keep_at_most(now * 7 % 50);
                            }
                            slow_answers.push((answer, expected));
                        }
                        Err(error) => prop_assert_eq!(Err(error), expected),
                    }
                }
                Step::Write(_) => {}
                Step::Read(request) => prop_assert_eq!(state.range(request), model.range(request)),
                Step::Slow(request, later) => {
                    let expected = model.range(request);
                    match Range::begin(&state, request, true) {
                        Ok(range) => slow.push((now + later, range, expected)),
                        Err(error) => prop_assert_eq!(Err(error), expected),
                    }
                }
                Step::Sweep(budget) => {
                    state.compact_step(*budget, *budget % 3 > 0);
                }
            }
            // One step each, as far as it has come; many last to the end.
            for (answer, expected) in slow_answers.extract_if(.., |(answer, _)| !answer.step(&state, 1, 30)) {
                prop_assert_eq!(answer.bytes(), expected.unwrap().encode_to_vec());
            }
            for (_, range, expected) in slow.extract_if(.., |(due, ..)| *due <= now) {
                prop_assert_eq!(Ok(finish(&state, range, 1)), expected);
            }
            prop_assert_eq!(state.revision().0, model.revision);
            prop_assert_eq!(state.compact_revision().0, model.compacted);
            prop_assert_eq!(state.key_count() as usize, model.at(model.revision).len());
            prop_assert_eq!(&followed.keys, &model.at(model.revision));
            prop_assert_eq!((followed.revision, followed.compacted), (model.revision, model.compacted));
        }
        for (mut answer, expected) in slow_answers {
            while answer.step(&state, 2, 10) {}
            prop_assert_eq!(answer.bytes(), expected.unwrap().encode_to_vec());
        }
        for (_, range, expected) in slow {
            prop_assert_eq!(Ok(finish(&state, range, 2)), expected);
        }
        while state.compact_step(3, true) != Freed::All {}
        for revision in model.compacted.max(1)..=model.revision {
            let all = pb::RangeRequest {
                key: Bytes::from_static(b"\0"), range_end: Bytes::from_static(b"\0"), revision, ..Default::default()
            };
            prop_assert_eq!(state.range(&all), model.range(&all));
            prop_assert_eq!(replayed.range(&all), model.range(&all));
        }
        prop_assert!(state.size_in_use_bytes() <= state.size_bytes());
    }

    #[test]
    fn a_stream_delivers_the_range(
        puts in prop::collection::vec((0u16..400, 0usize..2000), 1..300), limit in 0i64..300, chunk_bytes in 1usize..20_000,
        keys_only in any::<bool>(), budget in 1usize..50, kept in 0usize..6_000,
    ) {
        let mut state = StateMachine::new();
        for (key, len) in &puts {
            let put = pb::PutRequest {
                key: format!("key{key:05}").into(), value: vec![b'v'; *len].into(), ..Default::default()
            };
            apply(&mut state, &put).unwrap();
        }
        let request = pb::RangeRequest {
            key: Bytes::from_static(b"key"), range_end: Bytes::from_static(b"kez"), limit, keys_only, ..Default::default()
        };
        let expected = state.range(&request).unwrap();
        let mut stream = RangeStream::new(&request, chunk_bytes).keep_at_most(kept);
        let mut kvs = Vec::new();
        let last = loop {
            match stream.step(&state, budget).unwrap() {
                StreamStep::Pending => {}
                StreamStep::Chunk(chunk) => {
                    // Not seen: the revision is pinned.
                    let put = pb::PutRequest { key: Bytes::from_static(b"key99999"), ..Default::default() };
                    apply(&mut state, &put).unwrap();
                    let chunk = sent(&state, *chunk);
                    prop_assert!(chunk.header.is_none() && chunk.count == 0 && !chunk.more);
                    kvs.extend(chunk.kvs);
                }
                StreamStep::Last(last) => break sent(&state, *last),
            }
        };
        kvs.extend(last.kvs.clone());
        prop_assert_eq!(kvs, expected.kvs);
        prop_assert_eq!((last.header, last.more, last.count), (expected.header, expected.more, expected.count));
    }
}

/// A chunk as its client reads it.
fn sent(state: &StateMachine, chunk: Chunk) -> pb::RangeResponse {
    let message = match chunk.answer() {
        Answer::Whole(message) => message,
        Answer::Long(mut answer) => {
            let (len, mut pieces) = (answer.encoded_len(), Vec::new());
            while answer.step(state, 3, 500, &mut pieces).unwrap() {}
            let bytes = pieces.concat();
            assert_eq!(bytes.len(), len);
            pb::RangeStreamResponse::decode(&bytes[..]).unwrap()
        }
    };
    message.range_response.unwrap()
}

fn finish(state: &StateMachine, mut range: Range, budget: usize) -> pb::RangeResponse {
    while !range.step(state, budget).unwrap() {}
    range.finish().whole()
}

#[test]
fn compaction_frees_memory_in_slices_and_keeps_what_can_be_read() {
    let mut state = StateMachine::new();
    let keys = 500;
    let put = |state: &mut StateMachine, key: u64, round: u64| {
        let put = pb::PutRequest {
            key: format!("key{key}").into(),
            value: format!("{round}").repeat(100).into(),
            ..Default::default()
        };
        apply(state, &put).unwrap().header.unwrap().revision
    };
    let mut middle = 0;
    for round in 0..20 {
        for key in 0..keys {
            let revision = put(&mut state, key, round);
            if round == 10 && key == keys / 2 {
                middle = revision;
            }
        }
    }
    let all = |revision| pb::RangeRequest {
        key: "key".into(),
        range_end: "kez".into(),
        revision,
        ..Default::default()
    };
    let (at_middle, newest) = (state.range(&all(middle)).unwrap(), state.range(&all(0)).unwrap());
    let before = state.size_bytes();
    apply(&mut state, &pb::CompactionRequest { revision: middle, physical: false }).unwrap();
    let mut slices = 0;
    while state.compact_step(100, true) != Freed::All {
        slices += 1;
    }
    assert!(slices > 30, "{slices}");
    assert!(state.size_bytes() < before * 3 / 4, "{} of {before}", state.size_bytes());
    assert!(state.size_in_use_bytes() > state.size_bytes() * 9 / 10, "{}", state.size_in_use_bytes());
    assert_eq!(state.range(&all(middle)).unwrap(), at_middle);
    assert_eq!(state.range(&all(0)).unwrap(), newest);
}
