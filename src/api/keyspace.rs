//! What the handlers need of the shard behind them.

use std::future::Future;

use bytes::Bytes;

use crate::{
    backup::Facts,
    pb::etcdserverpb as pb,
    shard::{self, BackupError, Error, Shard, Status},
    state::{Command, Principal, cluster::Alarms, kv::RangeAnswer, mvcc::HashKv},
    types::{ClusterId, MemberId, Revision, Term},
};

/// One keyspace, as seen by its handlers. Cheap to clone.
///
/// [`Shard`] is the one the server uses; tests of the protocol answer from their own.
pub trait Keyspace: Clone + 'static {
    type Chunks: Chunks;
    type List: List;
    type Backup: Backup;

    /// Through the log: answered once durable, committed and applied.
    fn write<C: Command>(
        &self,
        principal: &Principal,
        command: C,
    ) -> impl Future<Output = Result<C::Answer, Error>>;
    /// Linearizable unless `serializable` is set. The header carries only the revision.
    fn range(&self, request: pb::RangeRequest) -> impl Future<Output = Result<pb::RangeResponse, Error>>;
    /// The same, without having all of a long answer in memory.
    fn list(&self, request: pb::RangeRequest)
    -> impl Future<Output = Result<RangeAnswer<Self::List>, Error>>;
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

    /// A backup of this member's state of this moment. `facts` tells the versions of cluster and schema.
    fn backup(&self, facts: Facts) -> impl Future<Output = Result<Self::Backup, BackupError>>;
}

/// A range stream under way.
pub trait Chunks: 'static {
    /// The next chunk; `None` after the last one or an error.
    fn next(&mut self) -> impl Future<Output = Option<Result<pb::RangeResponse, Error>>>;
}

/// A long answer under way.
pub trait List: 'static {
    /// To be completed before the first piece.
    fn header_mut(&mut self) -> &mut Option<pb::ResponseHeader>;
    /// Length of the answer: of all pieces together. To be asked before the first piece.
    fn encoded_len(&self) -> usize;
    /// Appends what comes next of the encoded answer, about `bytes` of it. False when that was all.
    fn next(&mut self, bytes: usize, pieces: &mut Vec<Bytes>) -> impl Future<Output = Result<bool, Error>>;
}

impl List for shard::List {
    fn header_mut(&mut self) -> &mut Option<pb::ResponseHeader> {
        shard::List::header_mut(self)
    }

    fn encoded_len(&self) -> usize {
        shard::List::encoded_len(self)
    }

    fn next(&mut self, bytes: usize, pieces: &mut Vec<Bytes>) -> impl Future<Output = Result<bool, Error>> {
        shard::List::next(self, bytes, pieces)
    }
}

impl Chunks for shard::Chunks {
    fn next(&mut self) -> impl Future<Output = Option<Result<pb::RangeResponse, Error>>> {
        shard::Chunks::next(self)
    }
}

/// A backup under way.
pub trait Backup: 'static {
    /// Size of the database.
    fn bytes(&self) -> u64;
    /// The database in pieces, then its SHA-256; `None` after that or an error.
    fn next(&mut self) -> impl Future<Output = Option<Result<Bytes, BackupError>>>;
}

impl Backup for shard::Backup {
    fn bytes(&self) -> u64 {
        shard::Backup::bytes(self)
    }

    fn next(&mut self) -> impl Future<Output = Option<Result<Bytes, BackupError>>> {
        shard::Backup::next(self)
    }
}

impl Keyspace for Shard {
    type Chunks = shard::Chunks;
    type List = shard::List;
    type Backup = shard::Backup;

    fn write<C: Command>(
        &self,
        principal: &Principal,
        command: C,
    ) -> impl Future<Output = Result<C::Answer, Error>> {
        Shard::write(self, principal, command)
    }

    fn range(&self, request: pb::RangeRequest) -> impl Future<Output = Result<pb::RangeResponse, Error>> {
        Shard::range(self, request)
    }

    fn list(
        &self,
        request: pb::RangeRequest,
    ) -> impl Future<Output = Result<RangeAnswer<Self::List>, Error>> {
        Shard::list(self, request)
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

    fn backup(&self, facts: Facts) -> impl Future<Output = Result<Self::Backup, BackupError>> {
        Shard::backup(self, facts)
    }
}
