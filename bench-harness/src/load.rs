//! The load generator: many clients on few connections, one thread, as little CPU per operation as possible.
//!
//! ```text
//! [workload] --request--> [http2::Connection] --bytes--> socket      one [driver] task per connection
//!     ^                          |
//! [pace] intended times          +--reply--> [record] --> Summary
//! ```
//!
//! | module     | what lives there                                                            |
//! |------------|-----------------------------------------------------------------------------|
//! | `options`  | what to run, as flags and as a value                                        |
//! | `workload` | which operation on which key comes next; what a reply means                 |
//! | `keys`     | the keys                                                                    |
//! | `list`     | where each client's list stands: pages, one revision for all of them        |
//! | `message`  | the requests and replies of the hot path, encoded and walked without copies |
//! | `http2`    | one client connection as a machine without I/O                              |
//! | `pace`     | the intended start times of an open loop                                    |
//! | `driver`   | sockets, threads, the clock                                                 |
//! | `cores`    | which processors those threads use, and who goes first                      |
//! | `record`   | percentiles, errors, the summary                                            |
//!
//! Closed loop: each client sends its next operation when the last one was answered. Open loop (`rate`): every
//! operation has an intended start, and its latency counts from there, however late it could be sent: a server
//! that stalls is charged for everyone who had to wait (no coordinated omission).

pub mod cores;
mod driver;
pub(crate) mod http2;
mod keys;
mod list;
mod message;
mod options;
mod pace;
mod record;
mod workload;

pub use driver::{Error, Live, Phase, own_cpu, run};
pub use keys::key;
pub(crate) use message::PREFIX;
pub use options::{Operation, Options, seconds as options_seconds};
pub use record::{Latency, Listed, Summary, Traced};
