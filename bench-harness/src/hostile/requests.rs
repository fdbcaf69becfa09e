//! The messages of the calls that cost much, with their gRPC prefix.

use prost::Message;

use crate::load::PREFIX;
use crate::pb::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget};
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request;

pub const RANGE: &str = "/etcdserverpb.KV/Range";
pub const RANGE_STREAM: &str = "/etcdserverpb.KV/RangeStream";
pub const PUT: &str = "/etcdserverpb.KV/Put";
pub const TXN: &str = "/etcdserverpb.KV/Txn";
pub const DELETE: &str = "/etcdserverpb.KV/DeleteRange";

/// From this key to this end are all keys.
const ALL: &[u8] = &[0];

pub fn framed(message: &impl Message) -> Vec<u8> {
    let length = message.encoded_len();
    let mut out = Vec::with_capacity(PREFIX + length);
    out.push(0);
    out.extend_from_slice(&u32::try_from(length).expect("a message is below 4 GiB").to_be_bytes());
    message.encode(&mut out).expect("a vector has room");
    out
}

/// Everything there is.
pub fn whole() -> pb::RangeRequest {
    pb::RangeRequest { key: ALL.into(), range_end: ALL.into(), ..Default::default() }
}

/// The largest value of all.
pub fn sorted() -> pb::RangeRequest {
    pb::RangeRequest {
        limit: 1,
        sort_order: SortOrder::Descend.into(),
        sort_target: SortTarget::Value.into(),
        ..whole()
    }
}

pub fn delete_all() -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: ALL.into(), range_end: ALL.into(), prev_kv: true }
}

pub fn put(key: &str, value_bytes: usize) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: vec![b'v'; value_bytes].into(), ..Default::default() }
}

fn operation(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn written() -> pb::RequestOp {
    operation(Request::RequestPut(put("hostile", 10)))
}

/// So many ranges over everything, and a put if it is to go through the log.
pub fn ranges(count: usize, writes: bool) -> pb::TxnRequest {
    let mut success = vec![operation(Request::RequestRange(whole())); count];
    success.extend(writes.then(written));
    pb::TxnRequest { success, ..Default::default() }
}

/// A compare that every key there is fulfils.
fn compare() -> pb::Compare {
    pb::Compare {
        result: CompareResult::Greater.into(),
        target: CompareTarget::Version.into(),
        key: ALL.into(),
        range_end: ALL.into(),
        target_union: None,
    }
}

/// Compares over everything: `widths` says how many Txns are in each Txn, from the outermost in, and last how many
/// compares are in each of the innermost. Their sum must not pass the server's `--max-txn-ops`. One of the Txns puts.
pub fn compares(widths: &[usize]) -> pb::TxnRequest {
    nested(widths, true)
}

/// `writes`: the first of the innermost puts.
fn nested(widths: &[usize], writes: bool) -> pb::TxnRequest {
    match widths {
        [] => pb::TxnRequest::default(),
        [compares] => pb::TxnRequest {
            compare: vec![compare(); *compares],
            success: writes.then(written).into_iter().collect(),
            ..Default::default()
        },
        [width, inner @ ..] => {
            let operation = |writes| operation(Request::RequestTxn(nested(inner, writes)));
            let mut success = vec![operation(false); *width];
            success[0] = operation(writes);
            pb::TxnRequest { success, ..Default::default() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(request: &pb::TxnRequest) -> usize {
        let inner = request.success.iter().map(|operation| match &operation.request {
            Some(Request::RequestTxn(inner)) => count(inner),
            _ => 0,
        });
        request.compare.len() + inner.sum::<usize>()
    }

    #[test]
    fn nested_compares_are_as_many_as_the_widths_say() {
        let request = compares(&[3, 4, 5]);
        assert_eq!(count(&request), 60);
        let back = pb::TxnRequest::decode(&framed(&request)[PREFIX..]).unwrap();
        assert_eq!(back, request);
    }

    #[test]
    fn a_put_makes_it_a_write() {
        assert_eq!(ranges(127, true).success.len(), 128);
        assert_eq!(ranges(10, false).success.len(), 10);
    }
}
