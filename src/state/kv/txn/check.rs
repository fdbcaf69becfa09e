//! What could fail while executing is refused before (`checkTxn` in etcd v3.7 server/etcdserver/txn/txn.go).

use bytes::Bytes;

use super::walk::{Chosen, Met, Place};
use crate::{
    pb::etcdserverpb::{self as pb, request_op::Request as Op},
    state::{
        Error,
        kv::{put, work::Work},
        lease::Leases,
        mvcc::{Span, Store},
    },
};

/// The check under way.
#[derive(Debug)]
pub struct Checking {
    /// The newest revision.
    revision: i64,
    place: Option<Place>,
    /// The first key of what an earlier "everything from here on" deletion of this transaction takes away.
    deleted_from: Option<Bytes>,
}

impl Checking {
    pub fn new(revision: i64) -> Self {
        Self { revision, place: None, deleted_from: None }
    }

    /// Goes on, on the same state, along the branches chosen. True when nothing of them can fail.
    pub fn step(
        &mut self,
        chosen: Chosen<'_>,
        store: &Store,
        leases: &Leases,
        work: &mut Work<'_>,
    ) -> Result<bool, Error> {
        let mut walk = chosen.walk(self.place.take().as_ref());
        loop {
            if work.is_over() {
                self.place = Some(walk.place());
                return Ok(false);
            }
            work.spend(1);
            match walk.next() {
                Some(Met::Op(op)) => self.op(op, store, leases)?,
                Some(Met::Nested(nested)) => drop(chosen.enter(&mut walk, nested)),
                Some(Met::Nothing | Met::Left) => {}
                None => return Ok(true),
            }
        }
    }

    fn op(&mut self, op: &Op, store: &Store, leases: &Leases) -> Result<(), Error> {
        match op {
            Op::RequestRange(request) => self.range(request, store),
            Op::RequestPut(request) => self.put(request, store, leases),
            Op::RequestDeleteRange(delete) => {
                if let Span::From(key) = Span::new(&delete.key, &delete.range_end)
                    && self.deleted_from.as_ref().is_none_or(|from| key < &from[..])
                {
                    self.deleted_from = Some(delete.key.clone());
                }
                Ok(())
            }
            Op::RequestTxn(_) => unreachable!("a nested transaction is no operation of its own"),
        }
    }

    /// A put that needs the key's value or lease after the transaction has deleted it would have nothing to take it
    /// from. Validation refuses that except after a deletion up to the end, where etcd 3.7 stops with a panic; here
    /// it is the same error as for a key that was never there.
    fn put(&self, request: &pb::PutRequest, store: &Store, leases: &Leases) -> Result<(), Error> {
        put::check(&store.now(), leases, request)?;
        let deleted = self.deleted_from.as_ref().is_some_and(|from| from[..] <= request.key[..]);
        if deleted && (request.ignore_value || request.ignore_lease) {
            return Err(Error::KeyNotFound);
        }
        Ok(())
    }

    /// Unlike outside a transaction, a negative revision is not "the newest" but an old one (`checkRange`): -1 passes
    /// until the first compaction, because "nothing compacted" is -1.
    fn range(&self, request: &pb::RangeRequest, store: &Store) -> Result<(), Error> {
        if request.revision == 0 {
            Ok(())
        } else if request.revision > self.revision {
            Err(Error::FutureRevision)
        } else if request.revision < store.compacted().0 {
            Err(Error::Compacted)
        } else {
            Ok(())
        }
    }
}
