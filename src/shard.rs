//! The shard: one Raft group, one log, one keyspace, owned by one core.
//!
//! [`Shard`] is the boundary that connections talk to; [`start`] opens the log and gives the handle
//! and the [`Loop`] that drives it. Stages never call each other: the loop hands `Ready`s, durable
//! acknowledgements and responses on.
//!
//! Invariants: a reply leaves only after its entry is durable here and committed; requests of one
//! core are proposed in the order they were admitted; a failed log write ends the loop before
//! anything depends on it.

mod autocompact;
mod backlog;
mod backup;
mod checkpoint;
mod corruption;
mod group;
mod handle;
mod held;
mod inbox;
mod pending;
mod proposal;
mod quota;
mod reads;
mod replay;
mod reply;
mod run;
mod start;
mod sweeping;
mod turnstile;
mod view;

pub use autocompact::AutoCompaction;
pub use backup::{Backup, BackupError};
pub use checkpoint::Due;
pub use corruption::CorruptionChecks;
pub use handle::{Chunks, List, Shard, Status};
pub use quota::Quota;
pub use run::{Fatal, Loop};
pub use start::{Options, Started, start};

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
