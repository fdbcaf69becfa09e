//! The one table from errors to gRPC codes, HTTP codes and etcd's texts.
//!
//! Clients compare the texts, so they are etcd's to the letter (`api/v3rpc/rpctypes/error.go`).

use std::borrow::Cow;

use crate::{
    backup, limits, shard,
    state::{self, auth::Refusal},
};

/// gRPC status codes, with their numbers on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    Ok = 0,
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// The HTTP code of grpc-gateway for it (`runtime.HTTPStatusFromCode`).
    pub fn http(self) -> u16 {
        match self {
            Code::Ok => 200,
            Code::Canceled => 499,
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
            Code::Unauthenticated => 401,
            Code::PermissionDenied => 403,
            Code::NotFound => 404,
            Code::AlreadyExists | Code::Aborted => 409,
            Code::ResourceExhausted => 429,
            Code::Unknown | Code::Internal | Code::DataLoss => 500,
            Code::Unimplemented => 501,
            Code::Unavailable => 503,
            Code::DeadlineExceeded => 504,
        }
    }
}

/// Why a handler has no response. Three families: the caller's fault, worth another try, not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    Apply(state::Error),
    /// The `client-api-version` metadata is not text.
    InvalidClientApiVersion,

    TooManyRequests,
    NoLeader,
    /// The leader failed before it had the request decided.
    LeaderLost,
    /// This member has no link to who would have decided.
    Unlinked,
    Timeout,
    Stopped,
    /// A learner has not the say that the call needs.
    NotForLearners,
    /// The caller's deadline passed before a read could be answered.
    DeadlineExceeded,

    /// What only the leader can tell or do is asked of another member.
    NotLeader,
    BadTransferee,
    /// Who was to lead does not.
    NotHandedOver,
    /// A learner that is to get a vote has not come far enough.
    LearnerNotReady,
    BadMemberUrls,
    /// Too few members are connected to change them.
    Unhealthy,
    DowngradeFormat,
    DowngradeTarget,
    DowngradeUnderWay,
    /// The request asks for an action that there is not.
    UnknownMethod,

    /// The client has left in the middle of its requests.
    Canceled,
    /// A request that cannot be read or asks for nothing there is, in the words of its protocol.
    Malformed {
        code: Code,
        text: Cow<'static, str>,
    },

    /// A new password is longer than what would be hashed of it.
    PasswordTooLong,
    /// There is a key to know tokens by, and none to sign any.
    VerifyOnly,
    /// A token could not be signed.
    NotSigned,

    /// A backup that was begun cannot be finished.
    Backup(backup::WriteError),

    /// The service has no such part yet.
    Unimplemented(&'static str),
}

impl From<state::Error> for Error {
    fn from(error: state::Error) -> Self {
        Error::Apply(error)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Error::Apply(refusal.into())
    }
}

impl From<shard::Error> for Error {
    fn from(error: shard::Error) -> Self {
        match error {
            shard::Error::Apply(error) => Error::Apply(error),
            shard::Error::TooManyRequests => Error::TooManyRequests,
            shard::Error::LearnerNotReady => Error::LearnerNotReady,
            shard::Error::NoLeader => Error::NoLeader,
            shard::Error::NotProposed => Error::DeadlineExceeded,
            shard::Error::LeaderLost => Error::LeaderLost,
            shard::Error::NotHandedOver => Error::NotHandedOver,
            shard::Error::Unlinked => Error::Unlinked,
            shard::Error::Timeout => Error::Timeout,
            shard::Error::Stopped => Error::Stopped,
        }
    }
}

impl Error {
    /// Code and text as a gRPC client of etcd sees them.
    pub fn grpc(&self) -> (Code, Cow<'static, str>) {
        use state::Error as Apply;
        let (code, text) = match self {
            Error::Apply(error) => match error {
                Apply::EmptyKey => (Code::InvalidArgument, "etcdserver: key is not provided"),
                Apply::KeyNotFound => (Code::InvalidArgument, "etcdserver: key not found"),
                Apply::ValueProvided => (Code::InvalidArgument, "etcdserver: value is provided"),
                Apply::LeaseProvided => (Code::InvalidArgument, "etcdserver: lease is provided"),
                Apply::LeaseNotFound => (Code::NotFound, "etcdserver: requested lease not found"),
                Apply::LeaseExists => (Code::FailedPrecondition, "etcdserver: lease already exists"),
                Apply::LeaseTtlTooLarge => (Code::OutOfRange, "etcdserver: too large lease TTL"),
                Apply::TooManyOps => {
                    (Code::InvalidArgument, "etcdserver: too many operations in txn request")
                }
                Apply::DuplicateKey => {
                    (Code::InvalidArgument, "etcdserver: duplicate key given in txn request")
                }
                Apply::InvalidSortOption => (Code::InvalidArgument, "etcdserver: invalid sort option"),
                Apply::Compacted => {
                    (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted")
                }
                Apply::FutureRevision => {
                    (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision")
                }
                Apply::RangeStreamSortOrder => {
                    (Code::Unimplemented, "RangeStream does not support custom sort orders")
                }
                Apply::RangeStreamFilters => {
                    (Code::Unimplemented, "RangeStream does not support revision filters")
                }
                Apply::AnswerTooLong(bytes) => {
                    // grpc-go's, which has all of it by then.
                    let max = limits::SEND_MESSAGE_BYTES_MAX;
                    let text = format!("grpc: trying to send message larger than max ({bytes} vs. {max})");
                    return (Code::ResourceExhausted, Cow::Owned(text));
                }
                Apply::RequestTooLarge => (Code::InvalidArgument, "etcdserver: request is too large"),
                Apply::NoSpace => (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
                Apply::Corrupt => (Code::DataLoss, "etcdserver: corrupt cluster"),
                Apply::Auth(refusal) => refused(*refusal),
                // Clients try again when they hear this.
                Apply::Replaced => (Code::Unavailable, "etcdserver: leader changed"),
                Apply::MemberNotFound => (Code::NotFound, "etcdserver: member not found"),
                Apply::MemberExists => (Code::FailedPrecondition, "etcdserver: member ID already exist"),
                Apply::PeerUrlExists => (Code::FailedPrecondition, "etcdserver: Peer URLs already exists"),
                Apply::MemberNotLearner => {
                    (Code::FailedPrecondition, "etcdserver: can only promote a learner member")
                }
                Apply::TooManyLearners => {
                    (Code::FailedPrecondition, "etcdserver: too many learner members in cluster")
                }
                // A plain error there, so that the code its table has never arrives.
                Apply::NotEnoughStarted => {
                    (Code::Unknown, "etcdserver: re-configuration failed due to not enough started members")
                }
                Apply::NotSupportedYet => {
                    (Code::Unavailable, "etcdserver: not every member knows this request yet")
                }
            },
            Error::InvalidClientApiVersion => {
                (Code::InvalidArgument, "etcdserver: invalid client api version")
            }
            // etcd's table says ResourceExhausted, yet its server hands this one to gRPC as a plain error:
            // what arrives at a client is Unknown, and clients go by the text.
            Error::TooManyRequests => (Code::Unknown, "etcdserver: too many requests"),
            Error::NoLeader => (Code::Unavailable, "etcdserver: no leader"),
            Error::LeaderLost => {
                (Code::Unavailable, "etcdserver: request timed out, possibly due to previous leader failure")
            }
            Error::Timeout => (Code::Unavailable, "etcdserver: request timed out"),
            Error::Stopped => (Code::Unavailable, "etcdserver: server stopped"),
            Error::NotForLearners => (Code::FailedPrecondition, "etcdserver: rpc not supported for learner"),
            Error::NotLeader => (Code::FailedPrecondition, "etcdserver: not leader"),
            Error::Unlinked => {
                (Code::Unavailable, "etcdserver: request timed out, possibly due to connection lost")
            }
            Error::NotHandedOver => {
                (Code::Unavailable, "etcdserver: request timed out, leader transfer took too long")
            }
            Error::BadTransferee => (Code::FailedPrecondition, "etcdserver: bad leader transferee"),
            Error::LearnerNotReady => (
                Code::FailedPrecondition,
                "etcdserver: can only promote a learner member which is in sync with leader",
            ),
            Error::Unhealthy => (Code::Unavailable, "etcdserver: unhealthy cluster"),
            Error::BadMemberUrls => (Code::InvalidArgument, "etcdserver: given member URLs are invalid"),
            Error::DowngradeFormat => {
                (Code::InvalidArgument, "etcdserver: wrong downgrade target version format")
            }
            Error::DowngradeTarget => (Code::InvalidArgument, "etcdserver: invalid downgrade target version"),
            Error::DowngradeUnderWay => {
                (Code::FailedPrecondition, "etcdserver: cluster has a downgrade job in progress")
            }
            Error::UnknownMethod => (Code::Unknown, "etcdserver: unknown method"),
            Error::Canceled => (Code::Canceled, "context canceled"),
            Error::Malformed { code, text } => return (*code, text.clone()),
            Error::DeadlineExceeded => (Code::DeadlineExceeded, "context deadline exceeded"),
            // etcd hands these three to gRPC as they are.
            Error::PasswordTooLong => (Code::Unknown, "bcrypt: password length exceeds 72 bytes"),
            Error::VerifyOnly => (Code::Unknown, "auth: token signing attempted with verify-only key"),
            Error::NotSigned => (Code::Unknown, "auth: the token could not be signed"),
            Error::Backup(error) => return (Code::Internal, Cow::Owned(format!("etcdserver: {error}"))),
            Error::Unimplemented(text) => (Code::Unimplemented, *text),
        };
        (code, Cow::Borrowed(text))
    }

    /// HTTP code and text of the same error.
    pub fn http(&self) -> (u16, Cow<'static, str>) {
        let (code, text) = self.grpc();
        (code.http(), text)
    }
}

/// What keeps somebody out, or users and roles as they are.
fn refused(refusal: Refusal) -> (Code, &'static str) {
    use Code::{FailedPrecondition, InvalidArgument};
    match refusal {
        Refusal::RootUserNotExist => (FailedPrecondition, "etcdserver: root user does not exist"),
        Refusal::RootRoleNotExist => (FailedPrecondition, "etcdserver: root user does not have root role"),
        Refusal::UserAlreadyExists => (FailedPrecondition, "etcdserver: user name already exists"),
        Refusal::UserEmpty => (InvalidArgument, "etcdserver: user name is empty"),
        Refusal::UserNotFound => (FailedPrecondition, "etcdserver: user name not found"),
        Refusal::RoleAlreadyExists => (FailedPrecondition, "etcdserver: role name already exists"),
        Refusal::RoleNotFound => (FailedPrecondition, "etcdserver: role name not found"),
        Refusal::RoleEmpty => (InvalidArgument, "etcdserver: role name is empty"),
        Refusal::AuthFailed => {
            (InvalidArgument, "etcdserver: authentication failed, invalid user ID or password")
        }
        // Not in etcd's table, so that clients see its inner text.
        Refusal::NoPasswordUser => {
            (Code::Unknown, "auth: authentication failed, password was given for no password user")
        }
        Refusal::PermissionNotGiven => (InvalidArgument, "etcdserver: permission not given"),
        Refusal::PermissionDenied => (Code::PermissionDenied, "etcdserver: permission denied"),
        Refusal::RoleNotGranted => (FailedPrecondition, "etcdserver: role is not granted to the user"),
        Refusal::PermissionNotGranted => {
            (FailedPrecondition, "etcdserver: permission is not granted to the role")
        }
        Refusal::NotEnabled => (FailedPrecondition, "etcdserver: authentication is not enabled"),
        Refusal::InvalidToken => (Code::Unauthenticated, "etcdserver: invalid auth token"),
        Refusal::InvalidManagement => (InvalidArgument, "etcdserver: invalid auth management"),
        Refusal::OldRevision => (InvalidArgument, "etcdserver: revision of auth store is old"),
        Refusal::NoSpace => (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
    }
}

#[cfg(test)]
mod tests;
