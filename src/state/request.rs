//! What goes through the log, what comes back, and what can go wrong.

use crate::{pb::etcdserverpb as pb, state::mvcc};

/// A write, as carried by a log entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    Put(pb::PutRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact(pb::CompactionRequest),
    Alarm(pb::AlarmRequest),
}

/// The answer to a [`Request`]; its header carries only the revision.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    Put(pb::PutResponse),
    DeleteRange(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    Compact(pb::CompactionResponse),
    Alarm(pb::AlarmResponse),
}

/// The client's fault. Texts and codes are given by the one table in `api`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("key is not provided")]
    EmptyKey,
    #[error("key not found")]
    KeyNotFound,
    #[error("value is provided with ignore_value")]
    ValueProvided,
    #[error("lease is provided with ignore_lease")]
    LeaseProvided,
    #[error("requested lease not found")]
    LeaseNotFound,
    #[error("too many operations in txn request")]
    TooManyOps,
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    #[error("invalid sort option")]
    InvalidSortOption,
    #[error("required revision has been compacted")]
    Compacted,
    #[error("required revision is a future revision")]
    FutureRevision,
    /// Unimplemented; etcd's text (v3rpc/key.go) is not one of rpctypes' errors.
    #[error("RangeStream does not support custom sort orders")]
    RangeStreamSortOrder,
    /// Unimplemented, as above.
    #[error("RangeStream does not support revision filters")]
    RangeStreamFilters,
    #[error("request is too large")]
    RequestTooLarge,
    /// The keyspace has reached its quota, or had and the alarm was not lifted yet.
    #[error("database space exceeded")]
    NoSpace,
    #[error("corrupt cluster")]
    Corrupt,
}

impl From<mvcc::Error> for Error {
    fn from(error: mvcc::Error) -> Self {
        match error {
            mvcc::Error::Compacted => Self::Compacted,
            mvcc::Error::FutureRevision => Self::FutureRevision,
        }
    }
}
