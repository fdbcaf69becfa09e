//! The shard: one Raft group, one log, one keyspace, owned by one core.
//!
//! [`Shard`] is the boundary that connections talk to; [`start`] opens the log and gives the handle
//! and the [`Loop`] that drives it. The loop hands values between three stages, which never call each other:
//! `replica` (Raft and the log), `serve` (callers and replies) and `upkeep` (checkpoints and compaction).
//!
//! What is committed is applied in slices of a turn ([`Pace`]), so no command holds up what else the core has to do.
//!
//! Invariants: a reply leaves only after its entry is durable here and committed; requests of one
//! core are proposed in the order they were admitted; a failed log write ends the loop before
//! anything depends on it.

mod answering;
mod committed;
mod forwarded;
mod group;
mod handover;
mod lease;
mod pace;
mod propose;
mod replica;
mod reply;
mod run;
mod serve;
mod start;
mod upkeep;
mod waiting;
mod watch;

pub use group::Seat;
pub use pace::Pace;
pub use run::{Fatal, Loop};
pub use serve::{
    AnswerReader, Backup, BackupError, Chunks, Feed, Listing, Quota, Shard, ShardStatus, Transfer,
};
pub use start::{Options, Started, start};
pub use upkeep::{AutoCompaction, CorruptionChecks, Due, Duty, Others, end_v2_nodes, publish, watch_version};
pub use waiting::{Wait, Wanted as WantedEvents};
pub use watch::{Duplicate, EmptyRange, Keys, Pieces, Taste, Told, Wanted};

use crate::state;

/// Why a shard did not answer with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The client's fault.
    #[error(transparent)]
    Apply(#[from] state::Error),
    /// The admission queue is full: try again.
    #[error("too many requests")]
    TooManyRequests,
    /// A learner has not come far enough for a vote.
    #[error("the learner is not in sync with the leader")]
    LearnerNotReady,
    /// This member does not lead, and only the leader may: try again.
    #[error("no leader")]
    NoLeader,
    /// There was no leader for as long as one waits for it, and the request was given up: it never takes effect.
    #[error("no leader took the request in time")]
    NotProposed,
    /// Its leader was lost, and the request with it as far as is known.
    #[error("the leader was lost, and maybe the request with it")]
    LeaderLost,
    /// The request waited too long for its commit: it may or may not take effect.
    #[error("request timed out")]
    Timeout,
    /// The request waited too long, and this member has no link to those who would have decided.
    #[error("request timed out, without a link to the leader or to a quorum")]
    Unlinked,
    /// Another member was to lead, and does not.
    #[error("leadership was not taken over in time")]
    NotHandedOver,
    /// The member is stopping.
    #[error("server stopped")]
    Stopped,
}

impl From<state::auth::Refusal> for Error {
    fn from(refusal: state::auth::Refusal) -> Self {
        Error::Apply(refusal.into())
    }
}
