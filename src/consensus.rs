//! Consensus without I/O: raft-rs's `RawNode` with asynchronous persistence, for one shard.
//!
//! [`Pipeline`] takes proposals, ticks, messages and "this is durable now", and gives back
//! [`Ready`]s: what to log, what to send, what is committed. Owned by the shard's loop. Randomness
//! (election timeouts) is an argument. It never touches the disk: the shard appends a `Ready`'s
//! entries to the log and reports back with [`Pipeline::persisted`]. Types of raft-rs and of protobuf 2, which it
//! is built on, stay in here, and protobuf 2 decodes nothing that came from disk or over a wire.
//!
//! Invariants: `applied <= committed <= last`; a committed entry is given out only once this
//! member's own disk has it.

mod admission;
mod config;
mod entry;
mod flow;
mod frame;
mod log_window;
mod logger;
mod older;
mod pipeline;

pub use config::{ChangeKind, Config, ConfigChange, ConfigError};
pub use entry::{Entry, EntryKind, HardState, LogPosition, Payload};
pub use frame::{Aside, Frame, FrameError, Received};
pub use log_window::{Baseline, LogWindow};
pub use older::Terms;
pub use pipeline::{ChangeError, Error, Options, Outgoing, Pipeline, ProposeError, Ready, Role, StepError};
