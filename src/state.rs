//! Deterministic evaluation: a request and the state in, a response and the new state out.
//!
//! Pure: no I/O, clock or randomness. The same log gives the same state on every member. Owned by one shard.
//!
//! A request passes [`validate`] before it is proposed (what is wrong with it alone), and the [`StateMachine`] when its
//! entry is committed (what is wrong with it in this state). What is refused changes nothing. Facts about behaviour
//! are etcd's: `server/etcdserver/{apply,txn}`, `server/etcdserver/api/v3rpc/key.go` of v3.7.

mod alarm;
mod codec;
pub mod cost;
mod cursor;
mod filter;
mod list;
mod machine;
pub mod mvcc;
mod pairs;
mod range;
mod request;
mod sort;
mod stream;
mod txn;
pub mod validate;

pub use crate::state::mvcc::{Freed, HashCursor, HashKv};
pub use alarm::Alarms;
pub use codec::DecodeError;
pub use cursor::RangeCursor;
pub use list::{List, Ranged};
pub use machine::StateMachine;
pub use pairs::{Leave, Pairs};
pub use request::{Error, Request, Response};
pub use stream::{RangeStream, StreamStep};

#[cfg(test)]
mod tests;
