//! The replicated state and what changes it: a command and the state in, an answer and what changed out.
//!
//! Pure: no I/O, clock or randomness. The same log gives the same state on every member. Owned by one shard.
//!
//! ```text
//! log entry --batch--> envelope --command--> [StateMachine] --answer--> whoever asked
//!                                                  |  \--changes--> views, metrics, upkeep
//!                                                  v
//!                                 spaces: history (mvcc), leases, users and roles (auth), cluster, tree of the v2 API
//! ```
//!
//! A request passes [`kv::validate`] before it is proposed (what is wrong with it alone), and the [`StateMachine`] when
//! its entry is committed (what is wrong with it in this state). What is refused changes nothing.

pub mod auth;
pub mod batch;
pub mod cluster;
pub mod command;
mod commands;
mod error;
pub mod kv;
pub mod lease;
mod loading;
mod machine;
pub mod mvcc;
mod outcome;
mod seed;
pub mod space;
mod steps;
pub mod v2;

pub use batch::{Batch, BatchError, Builder, Origin};
pub use command::{Command, Completion, Context, Principal};
pub use commands::{COMMANDS, Commands, Row};
pub use error::Error;
pub use loading::{LoadError, Loading};
pub use machine::StateMachine;
pub use outcome::{Change, Operations, Outcome};
pub use seed::Seed;
pub use steps::{Applied, Asked, Steps, Unfinished};

#[cfg(test)]
mod tests;
