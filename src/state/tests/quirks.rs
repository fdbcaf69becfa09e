//! One test per fact about etcd v3.7 that is easy to get wrong; each names the file the fact comes from.

use bytes::Bytes;

use super::any::{apply, apply_long, read_txn};
use crate::pb::{
    etcdserverpb::{
        self as pb, AlarmType,
        alarm_request::AlarmAction,
        compare::{CompareResult, CompareTarget, TargetUnion},
        range_request::{SortOrder, SortTarget},
        request_op::Request as Op,
        response_op::Response as Answer,
    },
    mvccpb::KeyValue,
};
use crate::state::{
    Error, StateMachine,
    kv::{RangeStream, StreamStep, validate},
};

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn put(key: &'static str, value: &'static str) -> pb::PutRequest {
    pb::PutRequest { key: bytes(key), value: bytes(value), ..Default::default() }
}

fn delete(key: &'static str, end: &'static str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: bytes(key), range_end: bytes(end), prev_kv: false }
}

fn range(key: &'static str, end: &'static str) -> pb::RangeRequest {
    pb::RangeRequest { key: bytes(key), range_end: bytes(end), ..Default::default() }
}

fn ops(ops: impl IntoIterator<Item = Op>) -> Vec<pb::RequestOp> {
    ops.into_iter().map(|op| pb::RequestOp { request: Some(op) }).collect()
}

fn txn(list: impl IntoIterator<Item = Op>) -> pb::TxnRequest {
    pb::TxnRequest { success: ops(list), ..Default::default() }
}

fn apply_txn(state: &mut StateMachine, request: pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
    apply_long(state, &request)
}

/// Revisions 2, 3, ...: one put each.
fn with(puts: &[(&'static str, &'static str)]) -> StateMachine {
    let mut state = StateMachine::new();
    for (key, value) in puts {
        apply(&mut state, &put(key, value)).unwrap();
    }
    state
}

fn keys(kvs: &[KeyValue]) -> Vec<&[u8]> {
    kvs.iter().map(|kv| &kv.key[..]).collect()
}

/// etcdserver/txn/range.go, rangeLimit and sortRangeResults: without an order the limit is taken in key order, and
/// what it leaves (one more than the limit) is sorted by the target.
#[test]
fn no_order_with_a_target_sorts_the_first_keys_only() {
    let state = with(&[("c", "1"), ("b", "2"), ("a", "3"), ("d", "0")]);
    let mut request = range("a", "z");
    request.sort_target = SortTarget::Value as i32;
    request.limit = 2;
    let response = state.range(&request).unwrap();
    assert_eq!((keys(&response.kvs), response.more, response.count), (vec![&b"c"[..], b"b"], true, 4));
    request.sort_order = SortOrder::Ascend as i32;
    assert_eq!(keys(&state.range(&request).unwrap().kvs), [&b"d"[..], b"c"]);
    assert_eq!(validate::range_stream(&request), Err(Error::RangeStreamSortOrder));
    request.sort_order = SortOrder::None as i32;
    assert_eq!(validate::range_stream(&request), Ok(()));
}

/// etcdserver/txn/range.go: filters do not lower the count, and the limit counts what passed them.
#[test]
fn the_count_ignores_filters_and_limit() {
    let state = with(&[("a", ""), ("b", ""), ("c", ""), ("d", "")]);
    let request = pb::RangeRequest { min_mod_revision: 3, limit: 2, ..range("a", "z") };
    let response = state.range(&request).unwrap();
    assert_eq!((keys(&response.kvs), response.more, response.count), (vec![&b"b"[..], b"c"], true, 4));
    let response = state.range(&pb::RangeRequest { count_only: true, limit: 1, ..request }).unwrap();
    assert_eq!((response.kvs.len(), response.more, response.count), (0, false, 4));
}

/// storage/mvcc/kvstore_txn.go, rangeKeys: a revision of 0 and below is the newest one, and the header shows the newest
/// revision whatever was read.
#[test]
fn a_range_header_shows_the_newest_revision() {
    let state = with(&[("a", "1"), ("a", "2")]);
    let response = state.range(&pb::RangeRequest { revision: 2, ..range("a", "") }).unwrap();
    assert_eq!((&response.kvs[0].value[..], response.header.unwrap().revision), (&b"1"[..], 3));
    assert_eq!(
        &state.range(&pb::RangeRequest { revision: -7, ..range("a", "") }).unwrap().kvs[0].value[..],
        b"2"
    );
    assert_eq!(state.range(&pb::RangeRequest { revision: 4, ..range("a", "") }), Err(Error::FutureRevision));
}

/// etcdserver/txn/txn.go, checkRange: inside a transaction a negative revision is an old one; "not compacted" is -1.
#[test]
fn a_negative_revision_in_a_transaction_is_compacted() {
    let mut state = with(&[("a", "1")]);
    let at = |revision| txn([Op::RequestRange(pb::RangeRequest { revision, ..range("a", "") })]);
    assert!(read_txn(&state, &at(-1)).is_ok());
    assert_eq!(read_txn(&state, &at(-2)), Err(Error::Compacted));
    apply(&mut state, &pb::CompactionRequest { revision: 1, physical: false }).unwrap();
    assert_eq!(read_txn(&state, &at(-1)), Err(Error::Compacted));
    assert_eq!(read_txn(&state, &at(3)), Err(Error::FutureRevision));
}

/// storage/mvcc/kvstore.go, updateCompactRev: the compacted revision starts at -1, so revision 0 can be compacted once.
#[test]
fn compaction_bounds() {
    let mut state = with(&[("a", "1"), ("a", "2")]);
    let mut compact = |revision| apply(&mut state, &pb::CompactionRequest { revision, physical: true });
    assert_eq!(compact(-1), Err(Error::Compacted));
    let header = Some(pb::ResponseHeader { revision: 3, ..Default::default() });
    assert_eq!(compact(0), Ok(pb::CompactionResponse { header }));
    assert_eq!(compact(0), Err(Error::Compacted));
    assert_eq!(compact(4), Err(Error::FutureRevision));
    assert!(compact(3).is_ok());
    assert_eq!(state.range(&pb::RangeRequest { revision: 2, ..range("a", "") }), Err(Error::Compacted));
    assert!(state.range(&pb::RangeRequest { revision: 3, ..range("a", "") }).is_ok());
}

/// etcdserver/txn/txn.go, newTxnResp and executeTxn: the outermost header has the final revision, a nested
/// transaction's header is empty, and each operation's shows what had changed by then.
#[test]
fn headers_inside_a_transaction() {
    let mut state = with(&[("a", "1")]);
    let nested = txn([Op::RequestRange(range("a", ""))]);
    let response = apply_txn(
        &mut state,
        txn([
            Op::RequestRange(range("a", "")),
            Op::RequestDeleteRange(delete("none", "")),
            Op::RequestPut(put("b", "")),
            Op::RequestRange(range("b", "")),
            Op::RequestDeleteRange(delete("none", "")),
            Op::RequestTxn(nested),
        ]),
    )
    .unwrap();
    let revisions: Vec<i64> = response
        .responses
        .iter()
        .map(|op| match op.response.as_ref().unwrap() {
            Answer::ResponseRange(range) => range.header.as_ref(),
            Answer::ResponsePut(put) => put.header.as_ref(),
            Answer::ResponseDeleteRange(delete) => delete.header.as_ref(),
            Answer::ResponseTxn(txn) => txn.header.as_ref(),
        })
        .map(|header| header.unwrap().revision)
        .collect();
    assert_eq!(revisions, [2, 2, 3, 3, 3, 0]);
    assert_eq!(response.header.unwrap().revision, 3);
    let nothing =
        apply_txn(&mut state, txn([Op::RequestTxn(txn([Op::RequestDeleteRange(delete("none", ""))]))]));
    assert_eq!((nothing.unwrap().header.unwrap().revision, state.revision().0), (3, 3));
}

/// etcdserver/txn/txn.go, compareToPath: nested comparisons see the state before the whole transaction.
#[test]
fn nested_comparisons_do_not_see_the_transaction() {
    let mut state = StateMachine::new();
    let compare = pb::Compare {
        target: CompareTarget::Version as i32,
        result: CompareResult::Greater as i32,
        key: bytes("a"),
        ..Default::default()
    };
    let nested = pb::TxnRequest { compare: vec![compare], ..Default::default() };
    let response =
        apply_txn(&mut state, txn([Op::RequestPut(put("a", "")), Op::RequestTxn(nested)])).unwrap();
    match response.responses[1].response.as_ref().unwrap() {
        Answer::ResponseTxn(nested) => assert!(!nested.succeeded),
        other => panic!("{other:?}"),
    }
}

/// etcdserver/txn/txn.go, applyCompare: a missing key compares as zeros, but never by value; an operand of another
/// kind than the target counts as zero.
#[test]
fn comparing_missing_keys() {
    let state = StateMachine::new();
    let holds = |target: CompareTarget, result: CompareResult, target_union| {
        let (target, result) = (target as i32, result as i32);
        let compare =
            vec![pb::Compare { target, result, key: bytes("a"), target_union, range_end: Bytes::new() }];
        read_txn(&state, &pb::TxnRequest { compare, ..Default::default() }).unwrap().succeeded
    };
    assert!(holds(CompareTarget::Mod, CompareResult::Equal, Some(TargetUnion::ModRevision(0))));
    assert!(holds(CompareTarget::Mod, CompareResult::Equal, Some(TargetUnion::Version(5))));
    for result in [CompareResult::Equal, CompareResult::NotEqual, CompareResult::Greater, CompareResult::Less]
    {
        assert!(!holds(CompareTarget::Value, result, Some(TargetUnion::Value(Bytes::new()))));
    }
}

/// etcdserver/txn/txn.go, checkTxn: what is refused has changed nothing, and only the branch taken is checked.
#[test]
fn a_refused_transaction_changes_nothing() {
    let mut state = with(&[("a", "1")]);
    let keep = |key| pb::PutRequest { ignore_value: true, ..put(key, "") };
    let future = pb::RangeRequest { revision: 3, ..range("a", "") };
    let leased = pb::PutRequest { lease: 7, ..put("c", "") };
    for (op, error) in [
        (Op::RequestRange(future.clone()), Error::FutureRevision),
        (Op::RequestPut(keep("c")), Error::KeyNotFound),
        (Op::RequestPut(leased.clone()), Error::LeaseNotFound),
        (Op::RequestTxn(txn([Op::RequestPut(leased.clone())])), Error::LeaseNotFound),
    ] {
        assert_eq!(apply_txn(&mut state, txn([Op::RequestPut(put("b", "")), op.clone()])), Err(error));
        assert_eq!((state.revision().0, state.key_count()), (2, 1));
        let other = pb::TxnRequest { failure: ops([op]), ..Default::default() };
        assert!(apply_txn(&mut state, other).is_ok());
    }
    // etcdserver/txn/put.go: the lease is looked at first.
    let both = pb::PutRequest { ignore_value: true, ..leased };
    assert_eq!(apply(&mut state, &both), Err(Error::LeaseNotFound));
}

/// v3rpc/key.go, checkIntervals: a deletion up to the end (one zero byte) conflicts with no put. etcd 3.7 panics when a
/// put then wants the deleted value; here that is refused.
#[test]
fn a_deletion_up_to_the_end_does_not_conflict_with_puts() {
    let request = |ops: [Op; 2]| validate::txn(&txn(ops), 128);
    let fresh = Op::RequestPut(put("b", "2"));
    assert_eq!(request([Op::RequestDeleteRange(delete("a", "c")), fresh.clone()]), Err(Error::DuplicateKey));
    assert_eq!(request([Op::RequestDeleteRange(delete("b", "")), fresh.clone()]), Err(Error::DuplicateKey));
    assert_eq!(request([Op::RequestDeleteRange(delete("c", "a")), fresh.clone()]), Ok(()));
    assert_eq!(request([Op::RequestDeleteRange(delete("a", "\0")), fresh.clone()]), Ok(()));

    let mut state = with(&[("a", ""), ("b", "1")]);
    apply_txn(&mut state, txn([Op::RequestDeleteRange(delete("a", "\0")), fresh])).unwrap();
    let kv = &state.range(&range("a", "\0")).unwrap().kvs[..];
    assert_eq!((kv.len(), kv[0].create_revision, kv[0].version), (1, 4, 1));
    let keep = Op::RequestPut(pb::PutRequest { ignore_value: true, ..put("b", "") });
    let refused = apply_txn(&mut state, txn([Op::RequestDeleteRange(delete("a", "\0")), keep]));
    assert_eq!((refused, state.revision().0), (Err(Error::KeyNotFound), 4));
}

/// v3rpc/key.go, checkIntervals: branches of one nested transaction exclude each other, other lists do not.
#[test]
fn keys_put_twice() {
    let a = || Op::RequestPut(put("a", ""));
    let both = pb::TxnRequest { success: ops([a()]), failure: ops([a()]), ..Default::default() };
    assert_eq!(validate::txn(&both, 128), Ok(()));
    assert_eq!(validate::txn(&txn([Op::RequestTxn(both.clone())]), 128), Ok(()));
    assert_eq!(validate::txn(&txn([Op::RequestTxn(both.clone()), a()]), 128), Err(Error::DuplicateKey));
    assert_eq!(
        validate::txn(&txn([Op::RequestTxn(both), Op::RequestTxn(txn([a()]))]), 128),
        Err(Error::DuplicateKey)
    );
    let (put_a, delete_a) =
        (Op::RequestTxn(txn([a()])), Op::RequestTxn(txn([Op::RequestDeleteRange(delete("a", ""))])));
    assert_eq!(validate::txn(&txn([put_a.clone(), delete_a.clone()]), 128), Ok(()));
    assert_eq!(validate::txn(&txn([delete_a, put_a]), 128), Err(Error::DuplicateKey));
}

/// v3rpc/key.go, checkTxnRequest: the longest list counts, and a nested transaction has what its parents leave.
#[test]
fn operations_are_bounded_per_path() {
    let puts = |count: usize| ops((0..count).map(|_| Op::RequestRange(range("a", ""))));
    let flat = |count| pb::TxnRequest { success: puts(count), ..Default::default() };
    assert_eq!(validate::txn(&flat(128), 128), Ok(()));
    assert_eq!(validate::txn(&flat(129), 128), Err(Error::TooManyOps));
    assert_eq!(validate::txn(&txn([Op::RequestTxn(flat(127))]), 128), Ok(()));
    assert_eq!(validate::txn(&txn([Op::RequestTxn(flat(128))]), 128), Err(Error::TooManyOps));
    let empty = pb::TxnRequest { success: vec![pb::RequestOp { request: None }], ..Default::default() };
    assert_eq!(validate::txn(&empty, 128), Err(Error::KeyNotFound));
}

/// v3rpc/key.go, checkRangeRequest and checkPutRequest.
#[test]
fn single_requests_are_checked() {
    assert_eq!(validate::range(&range("", "\0")), Err(Error::EmptyKey));
    assert_eq!(
        validate::range(&pb::RangeRequest { sort_order: 3, ..range("a", "") }),
        Err(Error::InvalidSortOption)
    );
    assert_eq!(
        validate::range(&pb::RangeRequest { sort_target: 5, ..range("a", "") }),
        Err(Error::InvalidSortOption)
    );
    assert_eq!(
        validate::put(&pb::PutRequest { ignore_value: true, ..put("a", "v") }),
        Err(Error::ValueProvided)
    );
    let leased = pb::PutRequest { ignore_lease: true, lease: 1, ..put("a", "v") };
    assert_eq!(validate::put(&leased), Err(Error::LeaseProvided));
    assert_eq!(validate::delete_range(&delete("", "")), Err(Error::EmptyKey));
}

/// etcdserver/txn/txn.go, IsTxnReadonly: a nested transaction counts as a write even if it only reads.
#[test]
fn what_is_read_only() {
    assert!(validate::is_read_only(&txn([Op::RequestRange(range("a", ""))])));
    assert!(validate::is_read_only(&pb::TxnRequest::default()));
    assert!(!validate::is_read_only(&txn([Op::RequestTxn(pb::TxnRequest::default())])));
}

/// etcdserver/v3_server.go, rangeStream: each chunk fails if the pinned revision was compacted before it began.
#[test]
fn a_stream_ends_when_its_revision_is_compacted() {
    let mut state = StateMachine::new();
    for number in 0..100 {
        let key = format!("k{number:03}").into();
        apply(&mut state, &pb::PutRequest { key, ..Default::default() }).unwrap();
    }
    let mut stream = RangeStream::new(&range("k", "l"), 1 << 20);
    assert!(matches!(stream.step(&state, 512), Ok(StreamStep::Chunk(chunk)) if chunk.pair_count() == 10));
    assert!(matches!(stream.step(&state, 512), Ok(StreamStep::Chunk(chunk)) if chunk.pair_count() == 20));
    apply(&mut state, &put("other", "")).unwrap();
    let revision = state.revision().0;
    apply(&mut state, &pb::CompactionRequest { revision, physical: false }).unwrap();
    assert!(matches!(stream.step(&state, 512), Err(Error::Compacted)));
}

fn alarm(state: &mut StateMachine, action: AlarmAction, kind: AlarmType) {
    let request = pb::AlarmRequest { action: action as i32, member_id: 1, alarm: kind as i32 };
    apply(state, &request).unwrap();
}

/// etcdserver/apply/capped.go.
#[test]
fn a_full_keyspace_takes_nothing_that_puts_and_everything_else() {
    let mut state = with(&[("a", "1"), ("b", "2")]);
    alarm(&mut state, AlarmAction::Activate, AlarmType::Nospace);
    let deletes = Op::RequestDeleteRange(delete("a", ""));
    let puts_if_not = pb::TxnRequest {
        success: ops([deletes.clone()]),
        failure: ops([Op::RequestPut(put("c", "3"))]),
        ..Default::default()
    };
    assert_eq!(apply(&mut state, &put("c", "3")), Err(Error::NoSpace));
    // Whichever branch would be taken.
    assert_eq!(apply_txn(&mut state, puts_if_not), Err(Error::NoSpace));
    assert_eq!(state.revision().0, 3);
    apply_txn(&mut state, txn([deletes])).unwrap();
    apply(&mut state, &delete("b", "")).unwrap();
    apply(&mut state, &pb::CompactionRequest { revision: 5, physical: false }).unwrap();
    alarm(&mut state, AlarmAction::Deactivate, AlarmType::Nospace);
    apply(&mut state, &put("c", "3")).unwrap();
}

/// etcdserver/apply/corrupt.go; ranges do not go through the applier since 3.5.
#[test]
fn a_corrupt_cluster_takes_no_write_and_tells_so_before_being_full() {
    let mut state = with(&[("a", "1")]);
    alarm(&mut state, AlarmAction::Activate, AlarmType::Nospace);
    alarm(&mut state, AlarmAction::Activate, AlarmType::Corrupt);
    assert_eq!(apply(&mut state, &put("a", "2")), Err(Error::Corrupt));
    assert_eq!(apply_long(&mut state, &delete("a", "")), Err(Error::Corrupt));
    let deletes = txn([Op::RequestDeleteRange(delete("a", ""))]);
    assert_eq!(apply_long(&mut state, &deletes), Err(Error::Corrupt));
    let compaction = pb::CompactionRequest { revision: 2, physical: false };
    assert_eq!(apply(&mut state, &compaction), Err(Error::Corrupt));
    assert_eq!(state.range(&range("a", "")).unwrap().count, 1);
    alarm(&mut state, AlarmAction::Deactivate, AlarmType::Corrupt);
    assert_eq!(apply(&mut state, &put("a", "2")), Err(Error::NoSpace));
}
