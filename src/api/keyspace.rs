//! What the handlers need of the shard behind them.

use std::future::Future;

use crate::{
    apply::{self, Alarms, HashKv},
    pb::etcdserverpb as pb,
    shard::{self, Error, Shard, Status},
    types::{ClusterId, MemberId, Revision, Term},
};

/// One keyspace, as seen by its handlers. Cheap to clone.
///
/// [`Shard`] is the one the server uses; tests of the protocol answer from their own.
pub trait Keyspace: Clone + 'static {
    type Chunks: Chunks;

    /// Through the log: answered once durable, committed and applied.
    fn write(&self, request: apply::Request) -> impl Future<Output = Result<apply::Response, Error>>;
    /// Linearizable unless `serializable` is set. The header carries only the revision.
    fn range(&self, request: pb::RangeRequest) -> impl Future<Output = Result<pb::RangeResponse, Error>>;
    /// A range in chunks that grow towards `chunk_bytes`; only the last one has header, count and more.
    fn range_stream(
        &self,
        request: pb::RangeRequest,
        chunk_bytes: usize,
    ) -> impl Future<Output = Result<Self::Chunks, Error>>;
    /// A transaction of ranges only.
    fn read_txn(&self, request: pb::TxnRequest) -> impl Future<Output = Result<pb::TxnResponse, Error>>;
    /// Returns once everything committed before the call is applied here.
    fn linearize(&self) -> impl Future<Output = Result<(), Error>>;
    /// Frees everything that may be freed.
    fn defragment(&self) -> impl Future<Output = Result<(), Error>>;
    /// The hash of all versions up to a revision (0: the newest), and the newest revision.
    fn hash_kv(&self, revision: i64) -> impl Future<Output = Result<(HashKv, Revision), Error>>;
    fn status(&self) -> Status;

    // Asked for on every request, so not taken from `status`.
    fn cluster_id(&self) -> ClusterId;
    fn member_id(&self) -> MemberId;
    fn term(&self) -> Term;
    fn revision(&self) -> Revision;
    /// 0 while no leader is known.
    fn leader(&self) -> MemberId;
    /// Bytes the keyspace occupies, all history included.
    fn size_bytes(&self) -> u64;

    fn alarms(&self) -> Alarms;
}

/// A range stream under way.
pub trait Chunks: 'static {
    /// The next chunk; `None` after the last one or an error.
    fn next(&mut self) -> impl Future<Output = Option<Result<pb::RangeResponse, Error>>>;
}

impl Chunks for shard::Chunks {
    fn next(&mut self) -> impl Future<Output = Option<Result<pb::RangeResponse, Error>>> {
        shard::Chunks::next(self)
    }
}

impl Keyspace for Shard {
    type Chunks = shard::Chunks;

    fn write(&self, request: apply::Request) -> impl Future<Output = Result<apply::Response, Error>> {
        Shard::write(self, request)
    }

    fn range(&self, request: pb::RangeRequest) -> impl Future<Output = Result<pb::RangeResponse, Error>> {
        Shard::range(self, request)
    }

    fn range_stream(
        &self,
        request: pb::RangeRequest,
        chunk_bytes: usize,
    ) -> impl Future<Output = Result<Self::Chunks, Error>> {
        Shard::range_stream(self, request, chunk_bytes)
    }

    fn read_txn(&self, request: pb::TxnRequest) -> impl Future<Output = Result<pb::TxnResponse, Error>> {
        Shard::read_txn(self, request)
    }

    fn linearize(&self) -> impl Future<Output = Result<(), Error>> {
        Shard::linearize(self)
    }

    fn defragment(&self) -> impl Future<Output = Result<(), Error>> {
        Shard::defragment(self)
    }

    fn hash_kv(&self, revision: i64) -> impl Future<Output = Result<(HashKv, Revision), Error>> {
        Shard::hash_kv(self, revision)
    }

    fn status(&self) -> Status {
        Shard::status(self)
    }

    fn cluster_id(&self) -> ClusterId {
        Shard::cluster_id(self)
    }

    fn member_id(&self) -> MemberId {
        Shard::member_id(self)
    }

    fn term(&self) -> Term {
        Shard::term(self)
    }

    fn revision(&self) -> Revision {
        Shard::revision(self)
    }

    fn leader(&self) -> MemberId {
        Shard::leader(self)
    }

    fn size_bytes(&self) -> u64 {
        Shard::size_bytes(self)
    }

    fn alarms(&self) -> Alarms {
        Shard::alarms(self)
    }
}
