//! `Txn`: comparisons, and the operations of the branch they choose (etcd v3.7 server/etcdserver/txn/txn.go).
//!
//! A transaction is compared, nested ones included, and checked against the state before it; only then it is
//! executed, and executing cannot fail. Recursion follows nested transactions, of which decoding has
//! bounded the levels (`pb::txn_request`).

use super::{
    answer::Answer as Answered,
    compare::holds,
    cost, delete_range,
    plan::{Plan, Planning},
    put,
    range::header,
};
use crate::{
    pb::etcdserverpb::{self as pb, request_op::Request as Op, response_op::Response as Answer},
    state::{
        Error, StateMachine,
        command::{Command, Context, Kind, Needs},
        mvcc::{ReadView, Span, Store, Write},
        outcome::{Change, Operations, Outcome},
    },
};

impl Command for pb::TxnRequest {
    type Answer = Answered<pb::TxnResponse, Box<Plan>>;
    const KIND: Kind = Kind::first(3);

    fn needs(&self) -> Needs {
        if cost::txn(self) > 0 { Needs::Space } else { Needs::Integrity }
    }

    fn apply(
        &self,
        state: &mut StateMachine,
        context: Context<'_>,
        outcome: &mut Outcome,
    ) -> Result<Self::Answer, Error> {
        let store = state.history_mut();
        let mut path = Vec::new();
        choose(&store.now(), self, &mut path);
        Check { store, deleted_from: None }.txn(self, &mut path.iter())?;
        let mut write = store.write();
        let mut execution = Execution {
            on: On::Write(&mut write),
            planning: Planning::new(context.answer_wanted),
            operations: &mut outcome.operations,
        };
        let mut response = execution.txn(self, &mut path.iter());
        let planning = execution.planning;
        // Only the outermost response gets a revision; nested ones keep an empty header.
        response.header = Some(header(write.revision()));
        outcome.changes.extend(write.end().map(Change::Versions));
        Ok(planning.txn(response))
    }
}

/// A transaction of ranges only, and how many those were.
pub fn read(
    store: &Store,
    request: &pb::TxnRequest,
    operations: &mut Operations,
) -> Result<Answered<pb::TxnResponse, Box<Plan>>, Error> {
    let mut path = Vec::new();
    choose(&store.now(), request, &mut path);
    Check { store, deleted_from: None }.txn(request, &mut path.iter())?;
    let mut execution = Execution { on: On::Read(store), planning: Planning::new(true), operations };
    let mut response = execution.txn(request, &mut path.iter());
    response.header = Some(header(store.revision().0));
    Ok(execution.planning.txn(response))
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
        put::check(&self.store.now(), request)?;
        let deleted = self.deleted_from.is_some_and(|from| from <= &request.key[..]);
        if deleted && (request.ignore_value || request.ignore_lease) {
            return Err(Error::KeyNotFound);
        }
        Ok(())
    }
}

/// What a transaction is executed on.
enum On<'a, 'w> {
    Read(&'a Store),
    Write(&'a mut Write<'w>),
}

struct Execution<'a, 'w> {
    on: On<'a, 'w>,
    planning: Planning,
    operations: &'a mut Operations,
}

impl<'w> Execution<'_, 'w> {
    fn txn(&mut self, request: &pb::TxnRequest, path: &mut Path<'_>) -> pb::TxnResponse {
        let (succeeded, ops) = branch(request, path);
        let answer_wanted = self.planning.answer_wanted();
        let mut responses = Vec::with_capacity(if answer_wanted { ops.len() } else { 0 });
        for op in ops {
            let response = match &op.request {
                None => None,
                Some(Op::RequestRange(range)) => self.range(range).map(Answer::ResponseRange),
                Some(Op::RequestPut(request)) => {
                    let (write, planning, operations) = self.writer();
                    Some(Answer::ResponsePut(put::execute(write, request, planning, operations)))
                }
                Some(Op::RequestDeleteRange(request)) => {
                    let (write, planning, operations) = self.writer();
                    let response = delete_range::execute(write, request, planning, operations);
                    Some(Answer::ResponseDeleteRange(response))
                }
                Some(Op::RequestTxn(nested)) => Some(Answer::ResponseTxn(self.txn(nested, path))),
            };
            if answer_wanted {
                responses.push(pb::ResponseOp { response });
            }
        }
        pb::TxnResponse { header: Some(header(0)), succeeded, responses }
    }

    /// None if nobody wants to know: a range has no effect.
    fn range(&mut self, request: &pb::RangeRequest) -> Option<pb::RangeResponse> {
        const CHECKED: &str = "the revision was checked before the transaction";
        self.operations.ranges += 1;
        self.planning.op();
        let read = request.revision;
        match &self.on {
            On::Read(store) => {
                let view = store.at(read).expect(CHECKED);
                let pin = || store.pin_at(read).expect(CHECKED);
                self.planning.range(request, store.revision().0, &view, pin)
            }
            On::Write(write) => {
                let view = write.at(read).expect(CHECKED);
                let pin = || write.pin_at(read).expect(CHECKED);
                self.planning.range(request, write.revision(), &view, pin)
            }
        }
    }

    fn writer(&mut self) -> (&mut Write<'w>, &mut Planning, &mut Operations) {
        match &mut self.on {
            On::Write(write) => (write, &mut self.planning, self.operations),
            On::Read(_) => unreachable!("a read-only transaction has only ranges"),
        }
    }
}
