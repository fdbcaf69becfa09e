//! What a connection holds of a shard. Local form: same core, no locks. Cheap to clone.

use crate::{
    apply,
    pb::etcdserverpb as pb,
    types::{ClusterId, LogIndex, MemberId, Revision, Term},
};

/// Why a shard did not answer with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Apply(#[from] apply::Error),
    /// The admission queue is full: try again.
    #[error("too many requests")]
    TooManyRequests,
    /// No leader is known: try again.
    #[error("no leader")]
    NoLeader,
    /// The request waited too long for its commit: it may or may not take effect.
    #[error("request timed out")]
    Timeout,
    /// The member is stopping.
    #[error("server stopped")]
    Stopped,
}

/// A shard as its owner core's connections see it.
#[derive(Clone)]
pub struct Shard {}

/// A snapshot of the shard's condition.
#[derive(Clone, Debug, Default)]
pub struct Status {
    pub cluster_id: ClusterId,
    pub member_id: MemberId,
    /// 0 while no leader is known.
    pub leader: MemberId,
    pub term: Term,
    pub committed: LogIndex,
    pub applied: LogIndex,
    pub revision: Revision,
    pub compact_revision: Revision,
    /// Bytes the keyspace occupies, all history included.
    pub size_bytes: u64,
    /// Bytes still reachable.
    pub size_in_use_bytes: u64,
    pub members: Vec<pb::Member>,
}

impl Shard {
    /// Through the log: answered once durable, committed and applied.
    pub async fn write(&self, _request: apply::Request) -> Result<apply::Response, Error> {
        todo!()
    }

    /// Linearizable unless `serializable` is set. The header carries only the revision.
    pub async fn range(&self, _request: pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        todo!()
    }

    /// A range in chunks that grow towards `chunk_bytes`; linearizable unless `serializable` is set.
    pub async fn range_stream(
        &self,
        _request: pb::RangeRequest,
        _chunk_bytes: usize,
    ) -> Result<Chunks, Error> {
        todo!()
    }

    /// A transaction without writes, off the log.
    pub async fn read_txn(&self, _request: pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        todo!()
    }

    /// Returns once everything committed before the call is applied here.
    pub async fn linearize(&self) -> Result<(), Error> {
        todo!()
    }

    pub fn cluster_id(&self) -> ClusterId {
        self.status().cluster_id
    }

    pub fn member_id(&self) -> MemberId {
        self.status().member_id
    }

    pub fn term(&self) -> Term {
        self.status().term
    }

    pub fn revision(&self) -> Revision {
        self.status().revision
    }

    /// 0 while no leader is known.
    pub fn leader(&self) -> MemberId {
        self.status().leader
    }

    pub fn status(&self) -> Status {
        todo!()
    }
}

/// A range stream under way.
pub struct Chunks {}

impl Chunks {
    /// The next chunk; `None` after the last one or an error.
    pub async fn next(&mut self) -> Option<Result<pb::RangeResponse, Error>> {
        todo!()
    }
}
