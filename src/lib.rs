//! Pinion: an etcd-compatible key-value server, io_uring from the disk up, one pinned core per shard,
//! replicated by Raft.
//!
//! The way of the data:
//!
//! ```text
//!  client --TCP--> [net] --bytes--> [api] --request--> [shard] --proposal batch--> [raft] --Ready--> [wal]
//!                                                       ^  |                                          | O_DIRECT write
//!                                                       |  +<------------ durable acknowledgement ----+
//!  client <-- bytes -- [net] <-- response -- [api] <----+ [apply -> mvcc] --changes--> [snapshot] in the background,
//!                                                                                      then the log is cut
//! ```
//!
//! | folder  | what lives there                                                    | may use                                   |
//! |---------|---------------------------------------------------------------------|-------------------------------------------|
//! | types   | newtypes shared by all stages                                       |  |
//! | limits  | every bound                                                         |  |
//! | pb      | wire messages generated from `proto/`                               |  |
//! | env     | disk, network, clock, randomness: real (glommio) and simulated      | limits, types |
//! | logging | JSON and console log lines in etcd's shape                          | config |
//! | config  | flags, environment and YAML to one immutable `Config`               | limits, types |
//! | row     | versions as etcd files them, and `HashKV` over them                 |  |
//! | backup  | etcd's backup files over it: facts, versions, restore                 | pb, row, types |
//! | ctl     | `pinion` as `etcdutl`                                               | backup, config, server, state, storage, types |
//! | metrics | etcd's metric names and our stage histograms                        |  |
//! | storage | the log, checkpoints of the state, the directory that holds both         | env, limits, types |
//! | state   | the replicated state and what changes it: versions, commands; pure           | pb, row, types |
//! | consensus | pipeline around raft-rs: log window, proposals, read index               | types |
//! | shard   | the loop: admission, pending replies, one turn after another        | backup, consensus, env, limits, metrics, pb, state, storage, types |
//! | api     | etcd's services as plain handlers, and the error table              | backup, limits, metrics, pb, shard, state, types |
//! | net     | listeners, HTTP and gRPC: adapters between the wire and `api`       | api, limits, metrics, pb |
//! | server  | a member from all parts: start, readiness, stop                     | api, config, consensus, env, limits, logging, metrics, net, shard, state, storage, types |
//!
//! `main.rs` parses and runs.

pub mod api;
pub mod backup;
pub mod config;
pub mod consensus;
pub mod ctl;
pub mod env;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod net;
pub mod pb;
pub mod row;
pub mod server;
pub mod shard;
pub mod state;
pub mod storage;
pub mod types;
