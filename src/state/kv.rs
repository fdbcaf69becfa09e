//! Keys and values: commands that write them, reads of them, and what requests must fulfil.
//!
//! A file per command, which goes on as far as `work` reaches; `range` evaluates reads, whole or slice by slice, `plan`
//! what else is read for an answer, and `answer`, `list` and `range_stream` bring long ones to the client. Facts about
//! behaviour are etcd's: `server/etcdserver/{apply,txn}`, `server/etcdserver/api/v3rpc/key.go` of
//! v3.7.

mod answer;
mod compact;
mod compare;
pub mod cost;
mod delete_range;
mod event;
mod field;
mod filter;
mod list;
mod pairs;
mod plan;
mod put;
mod range;
mod range_stream;
mod sort;
mod txn;
pub mod validate;
mod work;

pub use answer::{Answer, Evaluation, LongAnswer};
pub use event::{event, event_len};
pub use pairs::{Leave, Pairs};
pub use plan::Plan;
pub use range::Range;
pub use range_stream::{Chunk, RangeStream, StreamStep};
pub use txn::Choice;

pub(super) use range::header;
pub(super) use work::Work;
