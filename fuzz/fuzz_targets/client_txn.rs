//! Transactions as clients send them, nested and not: the bytes themselves, and those of a request that is built from
//! them. Each is answered one way or another, and others are served.
#![no_main]

use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pinion::pb::etcdserverpb as pb;
use pinion_fuzz::Served;
use prost::Message;

const TXN: &str = "/etcdserverpb.KV/Txn";
const DEPTH_MAX: usize = 60;
/// Operations and compares of one request.
const PARTS_MAX: usize = 300;

/// Bytes that say what to build.
struct Plan<'a> {
    bytes: &'a [u8],
    parts: usize,
}

impl Plan<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    /// One of the keys that are there, one that is not, or an end of ranges.
    fn key(&mut self) -> Bytes {
        match self.byte() {
            0 => Bytes::new(),
            1 => Bytes::from_static(&[0]),
            byte => format!("k{:02}", byte % 64).into(),
        }
    }

    fn compare(&mut self) -> pb::Compare {
        use pb::compare::TargetUnion::{CreateRevision, Lease, ModRevision, Value, Version};
        let number = i64::from(self.byte());
        let union = match self.byte() % 6 {
            0 => Some(Version(number)),
            1 => Some(CreateRevision(number)),
            2 => Some(ModRevision(number)),
            3 => Some(Value(vec![number as u8].into())),
            4 => Some(Lease(number)),
            _ => None,
        };
        pb::Compare {
            result: i32::from(self.byte() % 5),
            target: i32::from(self.byte() % 6),
            key: self.key(),
            range_end: self.key(),
            target_union: union,
        }
    }

    fn operation(&mut self, depth: usize) -> pb::RequestOp {
        use pb::request_op::Request::{RequestDeleteRange, RequestPut, RequestRange, RequestTxn};
        let request = match self.byte() % 6 {
            0 => Some(RequestRange(pb::RangeRequest {
                key: self.key(),
                range_end: self.key(),
                limit: i64::from(self.byte() % 4),
                revision: i64::from(self.byte() % 80),
                sort_order: i32::from(self.byte() % 4),
                sort_target: i32::from(self.byte() % 6),
                ..Default::default()
            })),
            1 => Some(RequestPut(pb::PutRequest {
                key: self.key(),
                value: vec![self.byte()].into(),
                prev_kv: self.byte() % 2 == 0,
                ignore_value: self.byte() % 8 == 0,
                ..Default::default()
            })),
            2 => Some(RequestDeleteRange(pb::DeleteRangeRequest {
                key: self.key(),
                range_end: self.key(),
                prev_kv: self.byte() % 2 == 0,
            })),
            3 | 4 if depth < DEPTH_MAX => Some(RequestTxn(self.txn(depth + 1))),
            _ => None,
        };
        pb::RequestOp { request }
    }

    fn txn(&mut self, depth: usize) -> pb::TxnRequest {
        let mut request = pb::TxnRequest::default();
        while !self.bytes.is_empty() && self.parts > 0 {
            self.parts -= 1;
            match self.byte() % 8 {
                0 | 1 => request.compare.push(self.compare()),
                2..=4 => request.success.push(self.operation(depth)),
                5 | 6 => request.failure.push(self.operation(depth)),
                _ if depth > 0 => break,
                _ => {}
            }
        }
        request
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut plan = Plan { bytes, parts: PARTS_MAX };
    let built = plan.txn(0).encode_to_vec();
    let served = Served::start();
    served.meets(&pinion_fuzz::calls(TXN, &[bytes.to_vec(), built]), Duration::from_millis(200));
});
