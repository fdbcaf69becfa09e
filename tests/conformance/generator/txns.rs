//! Txn: compares of every target and result, nested, overlapping and overfull.

use bench_harness::pb::etcdserverpb::{self as pb, compare::TargetUnion, request_op::Request as Op};
use bytes::Bytes;

use super::{Generator, writes::CROWD};

const NESTING_MAX: u32 = 3;
/// Keys of long values.
const LONG: &[u8] = b"l";
const LONG_END: &[u8] = b"m";
/// `--max-txn-ops` by default.
const TXN_OPS_MAX: i64 = 128;

impl Generator {
    pub(super) fn txn(&mut self) -> pb::TxnRequest {
        match self.rng.below(1000) {
            0..6 => self.crowd_txn(),
            6..26 => {
                let mut txn = self.long_txn();
                spare_upstream(&mut txn);
                txn
            }
            26..200 => self.read_only_txn(),
            _ => {
                let mut txn = self.any_txn(0);
                spare_upstream(&mut txn);
                txn
            }
        }
    }

    fn any_txn(&mut self, depth: u32) -> pb::TxnRequest {
        pb::TxnRequest {
            compare: self.compares(),
            success: self.ops(depth),
            failure: if self.rng.percent(60) { self.ops(depth) } else { Vec::new() },
        }
    }

    fn read_only_txn(&mut self) -> pb::TxnRequest {
        let compare = self.compares();
        let mut ranges = || -> Vec<pb::RequestOp> {
            let count = self.rng.below(4);
            (0..count).map(|_| op(Op::RequestRange(self.range_in_txn()))).collect()
        };
        pb::TxnRequest { compare, success: ranges(), failure: ranges() }
    }

    /// As many operations as allowed, and one more.
    fn crowd_txn(&mut self) -> pb::TxnRequest {
        let count = self.rng.between(TXN_OPS_MAX - 1, TXN_OPS_MAX + 1);
        if self.rng.percent(20) {
            let compare = (0..count).map(|_| self.compare()).collect();
            return pb::TxnRequest { compare, success: self.ops(0), failure: Vec::new() };
        }
        self.crowded = true;
        let put = |n: i64| {
            let key = [CROWD, format!("{n:03}").as_bytes()].concat();
            op(Op::RequestPut(pb::PutRequest { key: key.into(), value: "c".into(), ..Default::default() }))
        };
        let success: Vec<_> = (0..count).map(put).collect();
        let mut txn = pb::TxnRequest { compare: Vec::new(), success, failure: Vec::new() };
        if self.rng.percent(30) {
            // The operations of all levels count.
            let outer = self.rng.between(1, 2) as usize;
            let inner = op(Op::RequestTxn(txn));
            let filler = op(Op::RequestRange(pb::RangeRequest { key: "a".into(), ..Default::default() }));
            txn = pb::TxnRequest {
                compare: Vec::new(),
                success: [vec![inner], vec![filler; outer - 1]].concat(),
                failure: Vec::new(),
            };
        }
        txn
    }

    /// An answer longer than what a server keeps of it: everything, between puts or around a deletion, once more in a
    /// transaction within.
    fn long_txn(&mut self) -> pb::TxnRequest {
        let deletes = self.rng.percent(40);
        let mut branches = [0, 1].map(|branch| {
            let mut ops = Vec::new();
            for n in 0..self.rng.between(1, 3) {
                if !deletes {
                    let value = vec![b'w'; self.rng.between(5_000, 20_000) as usize].into();
                    let key = [LONG, format!("{branch}{n}").as_bytes()].concat().into();
                    let prev_kv = self.rng.percent(50);
                    ops.push(op(Op::RequestPut(pb::PutRequest {
                        key,
                        value,
                        prev_kv,
                        ..Default::default()
                    })));
                } else if n == branch {
                    let (key, range_end) = (LONG.into(), LONG_END.into());
                    ops.push(op(Op::RequestDeleteRange(pb::DeleteRangeRequest {
                        key,
                        range_end,
                        prev_kv: true,
                    })));
                }
                let mut range = self.range_in_txn();
                if self.rng.percent(80) {
                    (range.key, range.range_end) = (b"\0"[..].into(), b"\0"[..].into());
                }
                ops.push(op(Op::RequestRange(range)));
            }
            ops
        });
        let within = std::mem::take(&mut branches[1]);
        let within = pb::TxnRequest { compare: self.compares(), success: within.clone(), failure: within };
        let at = self.rng.below(branches[0].len() as u64 + 1) as usize;
        branches[0].insert(at, op(Op::RequestTxn(within)));
        let [success, _] = branches;
        pb::TxnRequest { compare: Vec::new(), success, failure: Vec::new() }
    }

    fn compares(&mut self) -> Vec<pb::Compare> {
        let count = self.rng.pick(&[0, 1, 1, 1, 2, 3]);
        (0..count).map(|_| self.compare()).collect()
    }

    fn compare(&mut self) -> pb::Compare {
        let target = match self.rng.below(100) {
            0..97 => self.rng.below(5) as i32,
            _ => self.rng.pick(&[5, -1, 100]),
        };
        let result = match self.rng.below(100) {
            0..97 => self.rng.below(4) as i32,
            _ => self.rng.pick(&[4, -1, 100]),
        };
        // The union belongs to the target, to another target, or is missing.
        let union = match self.rng.below(100) {
            0..78 => Some(target),
            78..90 => Some(self.rng.below(5) as i32),
            _ => None,
        };
        let near = |generator: &mut Self| match generator.rng.below(10) {
            0..3 => 0,
            3..8 => generator.rng.between((generator.revision - 50).max(0), generator.revision + 1),
            8 => generator.rng.between(-2, 2),
            _ => generator.rng.pick(&[i64::MIN, i64::MAX]),
        };
        let target_union = union.and_then(|union| {
            Some(match union {
                0 => TargetUnion::Version(self.rng.between(-1, 4)),
                1 => TargetUnion::CreateRevision(near(self)),
                2 => TargetUnion::ModRevision(near(self)),
                3 => TargetUnion::Value(self.value()),
                4 => TargetUnion::Lease(self.rng.between(-1, 2)),
                _ => return None,
            })
        });
        let (key, range_end) = self.key_range(25);
        pb::Compare { result, target, key, target_union, range_end }
    }

    fn ops(&mut self, depth: u32) -> Vec<pb::RequestOp> {
        let count = self.rng.pick(&[0, 1, 1, 2, 2, 3, 4, 6]);
        (0..count).map(|_| self.any_op(depth)).collect()
    }

    fn any_op(&mut self, depth: u32) -> pb::RequestOp {
        match self.rng.below(100) {
            0..30 => op(Op::RequestRange(self.range_in_txn())),
            30..73 => {
                let key = self.key();
                op(Op::RequestPut(self.small_put(key)))
            }
            73..88 => op(Op::RequestDeleteRange(self.delete_range())),
            88..99 if depth < NESTING_MAX => op(Op::RequestTxn(self.any_txn(depth + 1))),
            88..99 => op(Op::RequestRange(self.range_in_txn())),
            _ => pb::RequestOp { request: None },
        }
    }

    /// Revisions and sort options that fail would fail most transactions: fewer of them than in plain ranges.
    fn range_in_txn(&mut self) -> pb::RangeRequest {
        let mut range = self.range();
        if self.rng.percent(60) {
            range.revision = 0;
        }
        if self.rng.percent(80) {
            (range.sort_order, range.sort_target) =
                (range.sort_order.clamp(0, 2), range.sort_target.clamp(0, 4));
        }
        if range.key.is_empty() && self.rng.percent(80) {
            range.key = Bytes::from_static(b"a");
        }
        range
    }
}

fn op(request: Op) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn every_op(txn: &mut pb::TxnRequest) -> impl Iterator<Item = &mut Op> {
    txn.success.iter_mut().chain(&mut txn.failure).filter_map(|op| op.request.as_mut())
}

fn every_op_within(txn: &mut pb::TxnRequest, visit: &mut impl FnMut(&mut Op)) {
    for op in every_op(txn) {
        visit(op);
        if let Op::RequestTxn(nested) = op {
            every_op_within(nested, visit);
        }
    }
}

/// Upstream's check for puts into what the same transaction deletes does not see deletes without an end, and two
/// things such a transaction may do stop it for good, so they are not calls to compare: a put that keeps the value
/// or the lease of a key just deleted, and a put after a delete of the same key at a revision that is compacted at.
fn spare_upstream(txn: &mut pb::TxnRequest) {
    let (mut puts, mut ranges) = (false, false);
    every_op_within(txn, &mut |op| match op {
        Op::RequestPut(_) => puts = true,
        Op::RequestDeleteRange(delete) => ranges |= !delete.range_end.is_empty(),
        _ => (),
    });
    if !(puts && ranges) {
        return;
    }
    every_op_within(txn, &mut |op| match op {
        Op::RequestPut(put) => (put.ignore_value, put.ignore_lease) = (false, false),
        Op::RequestDeleteRange(delete) if delete.range_end[..] == *b"\0" => {
            delete.range_end = Bytes::from_static(b"\xff\xff\xff");
        }
        _ => (),
    });
}
