//! Comparisons of a transaction (`applyCompare`, `compareKV` in etcd v3.7 server/etcdserver/txn/txn.go).

use crate::{
    pb::{
        etcdserverpb::{
            self as pb,
            compare::{CompareResult, CompareTarget, TargetUnion},
        },
        mvccpb::KeyValue,
    },
    state::{
        kv::work::Work,
        mvcc::{ReadView, Span},
    },
};

/// A comparison under way. It holds if it does for every existing key of its span. A span without keys compares as zeros,
/// except that no value compares with a missing one (`applyCompare`).
#[derive(Debug, Default)]
pub struct Comparing {
    /// The key to go on with, once it was begun.
    next: Option<Vec<u8>>,
    /// Some key exists.
    any: bool,
}

impl Comparing {
    /// Goes on, on the same state, up to the first key for which it does not hold. None: there is more to look at.
    pub fn step(&mut self, state: &ReadView<'_>, compare: &pb::Compare, work: &mut Work<'_>) -> Option<bool> {
        if self.next.is_none() {
            if work.is_over() {
                return None;
            }
            work.spend(1);
        }
        let by_value = compare.target == CompareTarget::Value as i32;
        let key = self.next.as_deref().unwrap_or(&compare.key);
        for (seen, hit) in state.scan(Span::new(key, &compare.range_end)).enumerate() {
            // What was begun has paid for its first key.
            if seen > 0 || self.next.is_some() {
                if work.is_over() {
                    self.next = Some(state.record(hit.pos).key.to_vec());
                    return None;
                }
                work.spend(1);
            }
            if !hit.exists {
                continue;
            }
            self.any = true;
            let record = state.record(hit.pos);
            let kv = KeyValue {
                create_revision: record.create,
                mod_revision: record.main,
                version: record.version,
                lease: record.lease,
                ..KeyValue::default()
            };
            if !compare_one(compare, &kv, record.value) {
                return Some(false);
            }
        }
        Some(self.any || (!by_value && compare_one(compare, &KeyValue::default(), &[])))
    }
}

/// An operand of another kind than the target counts as zero or empty; an unknown target compares as equal, an
/// unknown result always holds (`compareKV`).
fn compare_one(compare: &pb::Compare, kv: &KeyValue, value: &[u8]) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let union = compare.target_union.as_ref();
    let number = |kv: i64, operand: Option<i64>| kv.cmp(&operand.unwrap_or(0));
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => value.cmp(match union {
            Some(TargetUnion::Value(operand)) => operand,
            _ => &[],
        }),
        Ok(CompareTarget::Create) => number(
            kv.create_revision,
            match union {
                Some(TargetUnion::CreateRevision(operand)) => Some(*operand),
                _ => None,
            },
        ),
        Ok(CompareTarget::Mod) => number(
            kv.mod_revision,
            match union {
                Some(TargetUnion::ModRevision(operand)) => Some(*operand),
                _ => None,
            },
        ),
        Ok(CompareTarget::Version) => number(
            kv.version,
            match union {
                Some(TargetUnion::Version(operand)) => Some(*operand),
                _ => None,
            },
        ),
        Ok(CompareTarget::Lease) => number(
            kv.lease,
            match union {
                Some(TargetUnion::Lease(operand)) => Some(*operand),
                _ => None,
            },
        ),
        Err(_) => Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering == Equal,
        Ok(CompareResult::NotEqual) => ordering != Equal,
        Ok(CompareResult::Greater) => ordering == Greater,
        Ok(CompareResult::Less) => ordering == Less,
        Err(_) => true,
    }
}
