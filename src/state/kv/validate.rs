//! What a request must fulfil whatever the state is: checked before it is proposed
//! (etcd v3.7 server/etcdserver/api/v3rpc/key.go, same order, same errors).
//!
//! Recursion follows nested transactions, of which decoding has bounded the levels (`pb::txn_request`).

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    pb::etcdserverpb::{
        self as pb,
        range_request::{SortOrder, SortTarget},
        request_op::Request as Op,
    },
    state::Error,
};

pub fn range(request: &pb::RangeRequest) -> Result<(), Error> {
    non_empty(&request.key)?;
    if SortOrder::try_from(request.sort_order).is_err() || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(Error::InvalidSortOption);
    }
    Ok(())
}

/// Like [`range`], and only what a stream of chunks in key order can answer.
pub fn range_stream(request: &pb::RangeRequest) -> Result<(), Error> {
    range(request)?;
    if !in_key_order(request) {
        return Err(Error::RangeStreamSortOrder);
    }
    if has_revision_filters(request) {
        return Err(Error::RangeStreamFilters);
    }
    Ok(())
}

pub fn put(request: &pb::PutRequest) -> Result<(), Error> {
    non_empty(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

pub fn delete_range(request: &pb::DeleteRangeRequest) -> Result<(), Error> {
    non_empty(&request.key)
}

/// `ops_max` bounds each list of the transaction; a nested one has what its parents leave.
pub fn txn(request: &pb::TxnRequest, ops_max: usize) -> Result<(), Error> {
    txn_ops(request, ops_max)?;
    for ops in [&request.success, &request.failure] {
        let lone = matches!(
            ops[..],
            [] | [pb::RequestOp { request: Some(Op::RequestPut(_) | Op::RequestRange(_)) }]
        );
        if !lone {
            Writes::of(ops)?;
        }
    }
    Ok(())
}

/// Operations and comparisons of the transaction, on all branches and in nested ones.
pub fn operations(request: &pb::TxnRequest) -> usize {
    let ops = request.success.iter().chain(&request.failure);
    let nested = ops.map(|op| match &op.request {
        Some(Op::RequestTxn(nested)) => 1 + operations(nested),
        _ => 1,
    });
    request.compare.len() + nested.sum::<usize>()
}

/// Whether some comparison is made on a range of keys.
pub fn compares_ranges(request: &pb::TxnRequest) -> bool {
    let nested =
        |op: &pb::RequestOp| matches!(&op.request, Some(Op::RequestTxn(nested)) if compares_ranges(nested));
    request.compare.iter().any(|compare| !compare.range_end.is_empty())
        || request.success.iter().chain(&request.failure).any(nested)
}

/// Whether the transaction can be answered without the log. One with a nested transaction never is, whatever that
/// does (`IsTxnReadonly` in etcd's etcdserver/txn/txn.go).
pub fn is_read_only(request: &pb::TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|op| matches!(op.request, Some(Op::RequestRange(_))))
}

/// Whether a read-only transaction may be answered from this member's state as it is (`IsTxnSerializable`).
pub fn is_serializable(request: &pb::TxnRequest) -> bool {
    let serializable =
        |op: &pb::RequestOp| matches!(&op.request, Some(Op::RequestRange(range)) if range.serializable);
    request.success.iter().chain(&request.failure).all(serializable)
}

/// Whether the request asks for the order the store has anyway. No order with any target counts as such, although
/// the result is then sorted by the target (`IsDefaultOrdering` in etcd's etcdserver/txn/range.go).
pub(super) fn in_key_order(request: &pb::RangeRequest) -> bool {
    request.sort_order == SortOrder::None as i32
        || (request.sort_target == SortTarget::Key as i32 && request.sort_order == SortOrder::Ascend as i32)
}

pub(super) fn has_revision_filters(request: &pb::RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

fn non_empty(key: &[u8]) -> Result<(), Error> {
    if key.is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

fn txn_ops(request: &pb::TxnRequest, ops_max: usize) -> Result<(), Error> {
    let ops = request.compare.len().max(request.success.len()).max(request.failure.len());
    if ops > ops_max {
        return Err(Error::TooManyOps);
    }
    for compare in &request.compare {
        non_empty(&compare.key)?;
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Op::RequestRange(request)) => range(request)?,
            Some(Op::RequestPut(request)) => put(request)?,
            Some(Op::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Op::RequestTxn(request)) => txn_ops(request, ops_max - ops)?,
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// Keys and ranges that a list of operations may write.
///
/// A key must not be put twice, nor put and deleted where the deletion may come first; the two branches of one nested
/// transaction exclude each other. A deletion of everything from a key on (`range_end` of one zero byte) conflicts
/// with nothing: etcd takes the zero byte for an ordinary end there (`checkIntervals`), which makes the range empty.
#[derive(Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a [u8]>,
    /// Disjoint deleted ranges: start to excluded end.
    deletes: BTreeMap<&'a [u8], End<'a>>,
}

/// Whether the key lies in one of these ranges.
fn is_within<'a>(deletes: &BTreeMap<&'a [u8], End<'a>>, key: &'a [u8]) -> bool {
    deletes.range(..=key).next_back().is_some_and(|(_, end)| (key, false) < *end)
}

/// An excluded end: the key itself, or (true) the first possible key after it.
type End<'a> = (&'a [u8], bool);

impl<'a> Writes<'a> {
    /// What is merged goes into the larger of both, so a key is moved a few times however deep it lies.
    fn of(ops: &'a [pb::RequestOp]) -> Result<Self, Error> {
        let mut all = Self::default();
        for op in ops {
            if let Some(Op::RequestDeleteRange(delete)) = &op.request {
                let end = match &delete.range_end[..] {
                    [] => (&delete.key[..], true),
                    end => (end, false),
                };
                all.delete(&delete.key, end);
            }
        }
        for op in ops {
            if let Some(Op::RequestTxn(txn)) = &op.request {
                let mut either = Self::of(&txn.success)?;
                either.join(Self::of(&txn.failure)?);
                if either.puts_within(&all.deletes) || either.shares_puts(&all) {
                    return Err(Error::DuplicateKey);
                }
                all.join(either);
            }
        }
        for op in ops {
            if let Some(Op::RequestPut(put)) = &op.request {
                all.put(&put.key)?;
            }
        }
        Ok(all)
    }

    /// Takes in what the other one has.
    fn join(&mut self, mut other: Self) {
        if other.puts.len() > self.puts.len() {
            std::mem::swap(&mut self.puts, &mut other.puts);
        }
        self.puts.extend(other.puts);
        if other.deletes.len() > self.deletes.len() {
            std::mem::swap(&mut self.deletes, &mut other.deletes);
        }
        other.deletes.into_iter().for_each(|(start, end)| self.delete(start, end));
    }

    fn shares_puts(&self, other: &Self) -> bool {
        let (few, many) = if self.puts.len() < other.puts.len() { (self, other) } else { (other, self) };
        few.puts.iter().any(|key| many.puts.contains(key))
    }

    /// Whether a key that is put lies in one of these ranges.
    fn puts_within(&self, deletes: &BTreeMap<&'a [u8], End<'a>>) -> bool {
        if self.puts.len() < deletes.len() {
            return self.puts.iter().any(|key| is_within(deletes, key));
        }
        let first = |start: &'a [u8]| self.puts.range(start..).next();
        deletes.iter().any(|(start, end)| first(start).is_some_and(|key| (*key, false) < *end))
    }

    fn put(&mut self, key: &'a [u8]) -> Result<(), Error> {
        if is_within(&self.deletes, key) || !self.puts.insert(key) {
            return Err(Error::DuplicateKey);
        }
        Ok(())
    }

    fn delete(&mut self, mut start: &'a [u8], mut end: End<'a>) {
        if end <= (start, false) {
            return;
        }
        if let Some((before, before_end)) = self.deletes.range(..=start).next_back()
            && (start, false) <= *before_end
        {
            start = before;
        }
        while let Some((next, next_end)) =
            self.deletes.range(start..).next().map(|(start, end)| (*start, *end))
            && (next, false) <= end
        {
            end = end.max(next_end);
            self.deletes.remove(next);
        }
        self.deletes.insert(start, end);
    }
}
