//! Consensus without I/O: raft-rs's `RawNode` with asynchronous persistence, for one shard.
//!
//! [`Pipeline`] takes proposals, ticks, messages and "this is durable now", and gives back
//! [`Ready`]s: what to log, what to send, what is committed. Owned by the shard's loop. Randomness
//! (election timeouts) is an argument. It never touches the disk: the shard appends a `Ready`'s
//! entries to the log and reports back with [`Pipeline::persisted`].
//!
//! Invariants: `applied <= committed <= last`; a committed entry is given out only once this
//! member's own disk has it.

mod log_window;
mod logger;
mod membership;
mod pipeline;

pub use log_window::LogWindow;
pub use membership::{ConfChange, Member, Membership, MembershipError, first_entry};
pub use pipeline::{Options, Pipeline, ProposeError, Ready, Role};

pub use raft::eraftpb::{ConfState, Entry, EntryType, HardState, Message};
