//! What a batch of applied requests adds to `etcd_mvcc_*_total`.

use crate::{
    metrics::Metrics,
    pb::etcdserverpb::{self as pb, request_op::Request as Op, response_op::Response as Answer},
    state::{Request, Response},
};

/// Operations of a batch, nested ones included.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    ranges: u64,
    puts: u64,
    put_bytes: u64,
    deletes: u64,
    /// Requests of more than one operation.
    txns: u64,
}

impl Counts {
    /// Adds a request that was applied, not refused.
    pub(super) fn add(&mut self, request: &Request, response: &Response) {
        let before = self.operations();
        match (request, response) {
            (Request::Put(request), _) => self.put(request),
            (Request::DeleteRange(request), _) => self.delete(request),
            (Request::Txn(request), Response::Txn(response)) => self.txn(request, response),
            (Request::Txn(_), other) => panic!("a txn was answered with {other:?}"),
            (Request::Compact(_) | Request::Alarm(_), _) => {}
        }
        self.txns += u64::from(self.operations() > before + 1);
    }

    pub(super) fn record(&self, metrics: &Metrics) {
        metrics.range_total.inc_by(self.ranges);
        metrics.put_total.inc_by(self.puts);
        metrics.total_put_size.add(self.put_bytes as i64);
        metrics.delete_total.inc_by(self.deletes);
        metrics.txn_total.inc_by(self.txns);
    }

    fn operations(&self) -> u64 {
        self.ranges + self.puts + self.deletes
    }

    fn put(&mut self, request: &pb::PutRequest) {
        self.puts += 1;
        self.put_bytes += (request.key.len() + request.value.len()) as u64;
        self.ranges += u64::from(request.prev_kv || request.ignore_value || request.ignore_lease);
    }

    fn delete(&mut self, request: &pb::DeleteRangeRequest) {
        self.deletes += 1;
        self.ranges += u64::from(request.prev_kv);
    }

    fn txn(&mut self, request: &pb::TxnRequest, response: &pb::TxnResponse) {
        let branch = if response.succeeded { &request.success } else { &request.failure };
        for (op, answer) in branch.iter().zip(&response.responses) {
            match (&op.request, &answer.response) {
                (Some(Op::RequestRange(_)), _) => self.ranges += 1,
                (Some(Op::RequestPut(put)), _) => self.put(put),
                (Some(Op::RequestDeleteRange(delete)), _) => self.delete(delete),
                (Some(Op::RequestTxn(txn)), Some(Answer::ResponseTxn(nested))) => self.txn(txn, nested),
                (op, answer) => panic!("{op:?} was answered with {answer:?}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(prev_kv: bool) -> pb::PutRequest {
        pb::PutRequest { key: "key".into(), value: "value".into(), prev_kv, ..Default::default() }
    }

    fn op(request: Op) -> pb::RequestOp {
        pb::RequestOp { request: Some(request) }
    }

    fn answer(response: Answer) -> pb::ResponseOp {
        pb::ResponseOp { response: Some(response) }
    }

    #[test]
    fn a_put_that_reads_first_is_a_txn() {
        let mut counts = Counts::default();
        counts.add(&Request::Put(put(false)), &Response::Put(pb::PutResponse::default()));
        assert_eq!(counts, Counts { puts: 1, put_bytes: 8, ..Counts::default() });
        counts.add(&Request::Put(put(true)), &Response::Put(pb::PutResponse::default()));
        assert_eq!(counts, Counts { puts: 2, put_bytes: 16, ranges: 1, txns: 1, ..Counts::default() });
    }

    #[test]
    fn only_the_branch_taken_counts() {
        let nested = pb::TxnRequest {
            success: vec![op(Op::RequestPut(put(false)))],
            failure: vec![
                op(Op::RequestDeleteRange(pb::DeleteRangeRequest::default())),
                op(Op::RequestRange(pb::RangeRequest::default())),
            ],
            ..Default::default()
        };
        let nested_answer = pb::TxnResponse {
            succeeded: false,
            responses: vec![
                answer(Answer::ResponseDeleteRange(pb::DeleteRangeResponse::default())),
                answer(Answer::ResponseRange(pb::RangeResponse::default())),
            ],
            ..Default::default()
        };
        let request = pb::TxnRequest {
            success: vec![op(Op::RequestTxn(nested)), op(Op::RequestPut(put(false)))],
            failure: vec![op(Op::RequestPut(put(false)))],
            ..Default::default()
        };
        let response = pb::TxnResponse {
            succeeded: true,
            responses: vec![
                answer(Answer::ResponseTxn(nested_answer)),
                answer(Answer::ResponsePut(pb::PutResponse::default())),
            ],
            ..Default::default()
        };
        let mut counts = Counts::default();
        counts.add(&Request::Txn(request), &Response::Txn(response));
        assert_eq!(counts, Counts { ranges: 1, puts: 1, put_bytes: 8, deletes: 1, txns: 1 });
    }
}
