//! The shard: one Raft group, one log, one keyspace, owned by one core.
//!
//! [`Shard`](handle::Shard) is the boundary that connections talk to.

pub mod handle;

pub use handle::{Chunks, Error, Shard, Status};
