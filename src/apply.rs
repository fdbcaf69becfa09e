//! Deterministic evaluation: a request and the state in, a response and the new state out.
//!
//! Pure: no I/O, clock or randomness. The same log gives the same state on every member.

mod request;

pub use request::{Error, Request, Response};
