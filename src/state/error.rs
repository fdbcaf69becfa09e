//! What can be wrong with a command or a read, as far as the state can tell.

use super::{auth, mvcc};

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
    #[error("lease already exists")]
    LeaseExists,
    #[error("too large lease TTL")]
    LeaseTtlTooLarge,
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
    #[error("member not found")]
    MemberNotFound,
    #[error("member id already exists")]
    MemberExists,
    #[error("peer URL already exists")]
    PeerUrlExists,
    #[error("only a learner can be promoted")]
    MemberNotLearner,
    #[error("too many learners")]
    TooManyLearners,
    /// Those that would be left cannot decide anything.
    #[error("not enough started members")]
    NotEnoughStarted,
    /// So many bytes of it are known when no more is read.
    #[error("an answer of {0} bytes or more is too long")]
    AnswerTooLong(usize),
    /// A read that was begun on a state in whose place another was put since: worth another try.
    #[error("the state was replaced while it was read")]
    Replaced,
    /// Whoever asks may not, or users and roles are not as the request would have them.
    #[error(transparent)]
    Auth(#[from] auth::Refusal),
    /// Worth another try once all members run a release that knows the command.
    #[error("not every member of the cluster knows this request yet")]
    NotSupportedYet,
}

impl From<mvcc::Error> for Error {
    fn from(error: mvcc::Error) -> Self {
        match error {
            mvcc::Error::Compacted => Self::Compacted,
            mvcc::Error::FutureRevision => Self::FutureRevision,
            mvcc::Error::Replaced => Self::Replaced,
        }
    }
}
