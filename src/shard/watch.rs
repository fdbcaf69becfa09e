//! Watches: who is to be told of what, from which revision on, and how far each has come.
//!
//! ```text
//!  loop --note, publish--> [Hub] --due--> [Watches] of a stream --told--> whoever owns the stream
//!                            ^  follow       |  behind
//!                            +---- arrived --+----> [Pass] over the history, [Long] for a single long revision
//! ```
//!
//! The [`Hub`] belongs to the shard, [`Watches`] to a stream. Pure: no I/O, clock or randomness, no tasks; a hub keeps
//! wakers of tasks and wakes them. How and when is `shard::serve`'s.
//!
//! Invariant: a watch is told of every event of its keys from its first revision on, once and in order, or that it cannot be.

mod event;
mod hub;
mod index;
mod intervals;
mod keys;
mod long;
mod pass;
mod prefixes;
mod slots;
#[cfg(test)]
mod tests;
mod watches;

pub use event::{Pieces, Taste};
pub use hub::{Counts, Hub};
pub use keys::{EmptyRange, Keys};
pub use watches::{Duplicate, Told, Wanted, Watches};
