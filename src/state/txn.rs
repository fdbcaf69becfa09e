//! Evaluation of writes and transactions (etcd v3.7 server/etcdserver/txn/{put,delete,txn}.go).
//!
//! A transaction is compared, nested ones included, and checked against the state before it; only then it is
//! executed, and executing cannot fail. Recursion follows nested transactions, which protobuf decoding has bounded to
//! about 50 levels.

use super::{
    Error,
    range::{Evaluation, header, key_value},
};
use crate::{
    pb::{
        etcdserverpb::{
            self as pb,
            compare::{CompareResult, CompareTarget, TargetUnion},
            request_op::Request as Op,
            response_op::Response as Answer,
        },
        mvccpb::KeyValue,
    },
    state::mvcc::{ReadView, Span, Store, Write},
};

pub fn put(store: &mut Store, request: &pb::PutRequest) -> Result<pb::PutResponse, Error> {
    check_put(&store.now(), request)?;
    let mut write = store.write();
    let response = execute_put(&mut write, request);
    write.end();
    Ok(response)
}

pub fn delete_range(store: &mut Store, request: &pb::DeleteRangeRequest) -> pb::DeleteRangeResponse {
    let mut write = store.write();
    let response = execute_delete(&mut write, request);
    write.end();
    response
}

pub fn write(store: &mut Store, request: &pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
    let mut path = Vec::new();
    choose(&store.now(), request, &mut path);
    Check { store, deleted_from: None }.txn(request, &mut path.iter())?;
    let mut write = store.write();
    let mut response = execute(&mut Execution::Write(&mut write), request, &mut path.iter());
    // Only the outermost response gets a revision; nested ones keep an empty header.
    response.header = Some(header(write.revision()));
    write.end();
    Ok(response)
}

pub fn read(store: &Store, request: &pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
    let mut path = Vec::new();
    choose(&store.now(), request, &mut path);
    Check { store, deleted_from: None }.txn(request, &mut path.iter())?;
    let mut response = execute(&mut Execution::Read(store), request, &mut path.iter());
    response.header = Some(header(store.revision().0));
    Ok(response)
}

/// Which branch each transaction takes, in the order they are met on the branches taken.
type Path<'a> = std::slice::Iter<'a, bool>;

fn branch<'a>(request: &'a pb::TxnRequest, path: &mut Path<'_>) -> (bool, &'a [pb::RequestOp]) {
    let succeeded = *path.next().expect("each transaction met has a branch chosen");
    (succeeded, if succeeded { &request.success } else { &request.failure })
}

fn choose(state: &ReadView<'_>, request: &pb::TxnRequest, path: &mut Vec<bool>) {
    let succeeded = request.compare.iter().all(|compare| holds(state, compare));
    path.push(succeeded);
    for op in if succeeded { &request.success } else { &request.failure } {
        if let Some(Op::RequestTxn(nested)) = &op.request {
            choose(state, nested, path);
        }
    }
}

/// Whether a comparison holds for every existing key of its span. A span without keys compares as zeros, except that
/// no value compares with a missing one (`applyCompare`).
fn holds(state: &ReadView<'_>, compare: &pb::Compare) -> bool {
    let by_value = compare.target == CompareTarget::Value as i32;
    let mut any = false;
    for hit in state.scan(Span::new(&compare.key, &compare.range_end)).filter(|hit| hit.exists) {
        any = true;
        let record = state.record(hit.pos);
        let kv = KeyValue {
            create_revision: record.create,
            mod_revision: record.main,
            version: record.version,
            lease: record.lease,
            ..KeyValue::default()
        };
        if !compare_one(compare, &kv, record.value) {
            return false;
        }
    }
    any || (!by_value && compare_one(compare, &KeyValue::default(), &[]))
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

/// Refuses what could fail while executing (`checkTxn`).
struct Check<'a> {
    store: &'a Store,
    /// The first key of what an earlier "everything from here on" deletion of this transaction takes away.
    deleted_from: Option<&'a [u8]>,
}

impl<'a> Check<'a> {
    fn txn(&mut self, request: &'a pb::TxnRequest, path: &mut Path<'_>) -> Result<(), Error> {
        let (_, ops) = branch(request, path);
        for op in ops {
            match &op.request {
                Some(Op::RequestRange(range)) => self.range(range)?,
                Some(Op::RequestPut(put)) => self.put(put)?,
                Some(Op::RequestDeleteRange(delete)) => {
                    if let Span::From(key) = Span::new(&delete.key, &delete.range_end)
                        && self.deleted_from.is_none_or(|from| key < from)
                    {
                        self.deleted_from = Some(key);
                    }
                }
                Some(Op::RequestTxn(nested)) => self.txn(nested, path)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Unlike outside a transaction, a negative revision is not "the newest" but an old one (`checkRange`): -1 passes
    /// until the first compaction, because "nothing compacted" is -1.
    fn range(&self, request: &pb::RangeRequest) -> Result<(), Error> {
        if request.revision == 0 {
            Ok(())
        } else if request.revision > self.store.revision().0 {
            Err(Error::FutureRevision)
        } else if request.revision < self.store.compacted().0 {
            Err(Error::Compacted)
        } else {
            Ok(())
        }
    }

    /// A put that needs the key's value or lease after the transaction has deleted it would have nothing to take it
    /// from. Validation refuses that except after a deletion up to the end, where etcd 3.7 stops with a panic; here
    /// it is the same error as for a key that was never there.
    fn put(&self, request: &pb::PutRequest) -> Result<(), Error> {
        check_put(&self.store.now(), request)?;
        let deleted = self.deleted_from.is_some_and(|from| from <= &request.key[..]);
        if deleted && (request.ignore_value || request.ignore_lease) {
            return Err(Error::KeyNotFound);
        }
        Ok(())
    }
}

fn check_put(state: &ReadView<'_>, request: &pb::PutRequest) -> Result<(), Error> {
    check_lease(request.lease)?;
    if (request.ignore_value || request.ignore_lease) && state.find(&request.key).is_none() {
        return Err(Error::KeyNotFound);
    }
    Ok(())
}

/// No lease can be granted yet, so none is found.
fn check_lease(lease: i64) -> Result<(), Error> {
    if lease == 0 { Ok(()) } else { Err(Error::LeaseNotFound) }
}

enum Execution<'a, 'w> {
    Read(&'a Store),
    Write(&'a mut Write<'w>),
}

impl<'w> Execution<'_, 'w> {
    fn range(&self, request: &pb::RangeRequest) -> pb::RangeResponse {
        let (snapshot, revision) = match self {
            Self::Read(store) => (store.at(request.revision), store.revision().0),
            Self::Write(write) => (write.at(request.revision), write.revision()),
        };
        let snapshot = snapshot.expect("the revision was checked before the transaction");
        Evaluation::new(request, revision, true).run(&snapshot)
    }

    fn writer(&mut self) -> &mut Write<'w> {
        match self {
            Self::Write(write) => write,
            Self::Read(_) => unreachable!("a read-only transaction has only ranges"),
        }
    }
}

fn execute(
    execution: &mut Execution<'_, '_>,
    request: &pb::TxnRequest,
    path: &mut Path<'_>,
) -> pb::TxnResponse {
    let (succeeded, ops) = branch(request, path);
    let mut responses = Vec::with_capacity(ops.len());
    for op in ops {
        let response = op.request.as_ref().map(|op| match op {
            Op::RequestRange(range) => Answer::ResponseRange(execution.range(range)),
            Op::RequestPut(put) => Answer::ResponsePut(execute_put(execution.writer(), put)),
            Op::RequestDeleteRange(delete) => {
                Answer::ResponseDeleteRange(execute_delete(execution.writer(), delete))
            }
            Op::RequestTxn(nested) => Answer::ResponseTxn(execute(execution, nested, path)),
        });
        responses.push(pb::ResponseOp { response });
    }
    pb::TxnResponse { header: Some(header(0)), succeeded, responses }
}

fn execute_put(write: &mut Write<'_>, request: &pb::PutRequest) -> pb::PutResponse {
    let mut prev_kv = None;
    if request.prev_kv || request.ignore_value || request.ignore_lease {
        let now = write.now();
        prev_kv = now.find(&request.key).map(|pos| key_value(&now, pos, true));
    }
    let kept = || prev_kv.as_ref().expect("a put that keeps something was checked to have a predecessor");
    let value = if request.ignore_value { kept().value.clone() } else { request.value.clone() };
    let lease = if request.ignore_lease { kept().lease } else { request.lease };
    write.put(&request.key, &value, lease);
    let prev_kv = prev_kv.filter(|_| request.prev_kv);
    pb::PutResponse { header: Some(header(write.next_revision())), prev_kv }
}

fn execute_delete(write: &mut Write<'_>, request: &pb::DeleteRangeRequest) -> pb::DeleteRangeResponse {
    let span = Span::new(&request.key, &request.range_end);
    let mut prev_kvs = Vec::new();
    if request.prev_kv {
        let now = write.now();
        prev_kvs =
            now.scan(span).filter(|hit| hit.exists).map(|hit| key_value(&now, hit.pos, true)).collect();
    }
    let deleted = write.delete(span);
    pb::DeleteRangeResponse { header: Some(header(write.revision())), deleted, prev_kvs }
}
