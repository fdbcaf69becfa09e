//! A request from a log entry: whatever decodes survives validation and evaluation, and encodes to what it was.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pinion::{
    state::{Freed, Request, StateMachine, validate},
    limits::MAX_TXN_OPS,
    types::LogIndex,
};

fuzz_target!(|bytes: &[u8]| {
    let Ok(request) = Request::decode(Bytes::copy_from_slice(bytes)) else { return };
    let mut again = Vec::new();
    request.encode(&mut again);
    assert_eq!(again.len(), request.encoded_len());
    assert_eq!(Request::decode(again.into()).as_ref(), Ok(&request));
    let valid = match &request {
        Request::Put(put) => validate::put(put),
        Request::DeleteRange(delete) => validate::delete_range(delete),
        Request::Txn(txn) => validate::txn(txn, MAX_TXN_OPS),
        Request::Compact(_) | Request::Alarm(_) => Ok(()),
    };
    if valid.is_ok() {
        let mut state = StateMachine::new();
        for index in 1..3 {
            // Both outcomes are fine; what counts is that there is one, and the same log gives the same state.
            drop(state.apply(LogIndex(index), &request));
        }
        while state.compact_step(16, true) != Freed::All {}
    }
});
