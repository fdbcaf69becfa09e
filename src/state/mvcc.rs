//! The multi-version store: every version of every key since the last compaction.
//!
//! Pure and owned by one shard: no I/O, clock or randomness, no locks. Versions live in a revision-ordered
//! [`log`] of chunks; an ordered [`index`] leads from a key to the positions of its versions.
//!
//! ```text
//!  index (key order)                     log (revision order)
//!  "a" -> pos                            chunk 0 | (2,0) a  (3,0) b  (4,0) b | sealed, shared with responses
//!  "b" -> [pos, pos, pos^]               chunk 1 | (5,0) b^ (5,1) d  ...     | open, appended to
//!  "d" -> pos                                                  ^ = tombstone
//! ```
//!
//! Invariants:
//! - a position orders like the revision of its record, so "written at or before revision R" is one comparison of
//!   positions and needs no look at the record ([`Log::after`](log::Log::after));
//! - every position in the index names a record of that key; within a key positions ascend;
//! - what a read at a revision >= the compacted one sees never depends on how far physical compaction has come;
//! - what a [`write`] has done is part of the state once it has ended, however often it paused.
//!
//! A checkpoint is the chunks that changed since the one before it, and the offsets of dead records in the others
//! (see [`Space`](super::space::Space)); the index is not part of it, [`Loading`] builds it again.
//!
//! Not here: validation, limits, sorting and wire messages' evaluation (see `apply`).

mod compaction;
mod hash;
mod history;
mod index;
mod loader;
mod log;
mod record;
mod span;
mod store;
mod write;

pub use crate::row::Record;
pub use compaction::Freed;
pub use hash::{HashCursor, HashKv};
pub use history::HistoryCursor;
pub use index::{Counted, Hit, Hits};
pub use loader::Loader;
pub use log::Pos;
pub use span::Span;
pub use store::{Error, Loading, Mark, Pin, ReadView, SPACE, Store};
pub use write::{Deleted, Write, Writing, Written};

#[cfg(test)]
mod tests;
