//! The deepest transaction there may be goes the whole way on a small stack.

use std::thread;

use bytes::Bytes;
use prost::Message;

use super::any::{Got, Response, Slow};
use crate::{
    limits,
    pb::etcdserverpb::{self as pb, request_op::Request as Op},
    state::{
        Batch, Builder, Context, Outcome, Principal, StateMachine,
        kv::{cost, validate},
    },
};

/// A quarter of what a thread has unless it asks for more.
const STACK_BYTES: usize = 512 * 1024;

fn op(request: Op) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

/// As deep as may be. At the bottom a put and what else there is to do.
fn deepest(below: Option<Op>) -> pb::TxnRequest {
    let put = pb::PutRequest { key: "key".into(), ..Default::default() };
    let bottom = [Some(Op::RequestPut(put)), below].into_iter().flatten().map(op).collect();
    let compare = pb::Compare { key: "none".into(), range_end: "nonf".into(), ..Default::default() };
    let innermost = pb::TxnRequest { success: bottom, ..Default::default() };
    (0..limits::TXN_NESTING_MAX).fold(innermost, |inner, _| pb::TxnRequest {
        compare: vec![compare.clone()],
        success: vec![op(Op::RequestTxn(inner))],
        ..Default::default()
    })
}

/// The length of its answer.
fn whole_way(request: &pb::TxnRequest) -> usize {
    let request = pb::TxnRequest::decode(Bytes::from(request.encode_to_vec())).expect("it may be so deep");
    validate::txn(&request, 2 * limits::TXN_NESTING_MAX).expect("sound");
    assert!(cost::txn(&request) > 0 && !validate::is_read_only(&request));
    let entry = Builder::single(&request);
    let mut replayed = StateMachine::new();
    for envelope in Batch::decode(entry).expect("a batch") {
        envelope.expect("an envelope").apply(&mut replayed, &mut Outcome::default()).expect("it is known");
    }
    let (mut state, principal) = (StateMachine::new(), Principal::default());
    let answer = state.apply(&request, Context::asked_by(&principal), &mut Outcome::default());
    assert_eq!((state.revision().0, replayed.revision().0), (2, 2));
    match Got::of(answer.expect("applied"), Response::Txn) {
        Got::Whole(response) => response.encode_to_vec().len(),
        Got::Slow(slow) => read(&state, slow).len(),
    }
}

fn read(state: &StateMachine, mut slow: Slow) -> Vec<u8> {
    while slow.step(state, 10, 1_000) {}
    slow.bytes()
}

#[test]
fn the_deepest_transaction_goes_the_whole_way_on_a_small_stack() {
    let range = pb::RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
    for (below, least) in [(None, 0), (Some(Op::RequestRange(range)), 20)] {
        let request = deepest(below);
        let way = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || whole_way(&request));
        let len = way.expect("a thread").join().expect("it has come to its end");
        assert!(len > 4 * limits::TXN_NESTING_MAX + least, "{len}");
    }
}
