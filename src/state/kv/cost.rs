//! What a request may add to the store, as the space quota counts it (etcd v3.7 `storage/quota.go`).

use crate::pb::etcdserverpb::{self as pb, request_op::Request as Op};

/// What a version takes beside its key and value.
const VERSION_BYTES: u64 = 256;

/// What a lease takes.
pub const LEASE_BYTES: u64 = 64;

pub fn put(request: &pb::PutRequest) -> u64 {
    VERSION_BYTES + (request.key.len() + request.value.len()) as u64
}

/// That of the dearer branch. 0 for what puts nothing: it is never refused for want of space.
pub fn txn(request: &pb::TxnRequest) -> u64 {
    ops(&request.success).max(ops(&request.failure))
}

fn ops(branch: &[pb::RequestOp]) -> u64 {
    let cost = |op: &pb::RequestOp| match &op.request {
        Some(Op::RequestPut(request)) => put(request),
        Some(Op::RequestTxn(request)) => txn(request),
        Some(Op::RequestRange(_) | Op::RequestDeleteRange(_)) | None => 0,
    };
    branch.iter().map(cost).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(request: Op) -> pb::RequestOp {
        pb::RequestOp { request: Some(request) }
    }

    #[test]
    fn the_dearer_branch_counts_nested_ones_included() {
        let request = pb::PutRequest { key: "key".into(), value: "value".into(), ..Default::default() };
        assert_eq!(put(&request), 264);
        let nested =
            pb::TxnRequest { failure: vec![op(Op::RequestPut(request.clone()))], ..Default::default() };
        let outer = pb::TxnRequest {
            success: vec![op(Op::RequestTxn(nested)), op(Op::RequestPut(request.clone()))],
            failure: vec![op(Op::RequestPut(request))],
            ..Default::default()
        };
        assert_eq!(txn(&outer), 528);
        let deletes = vec![op(Op::RequestDeleteRange(pb::DeleteRangeRequest::default()))];
        assert_eq!(txn(&pb::TxnRequest { success: deletes, ..Default::default() }), 0);
    }
}
