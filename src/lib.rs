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
//! | types   | newtypes shared by all stages                                       |                                           |
//! | limits  | every bound                                                         |                                           |
//! | pb      | wire messages generated from `proto/`                               |                                           |
//! | env     | disk, network, clock, randomness: real (glommio) and simulated      | limits, types                             |
//! | logging | JSON and console log lines in etcd's shape                          | config                                    |
//! | config  | flags, environment and YAML to one immutable `Config`               | types, limits                             |
//! | bbolt   | the container of etcd's backup files: written in one pass, read in place |                                      |
//! | row     | versions as etcd files them, and `HashKV` over them                 |                                           |
//! | backup  | etcd's backup files over it: facts, versions, restore                 | bbolt, pb, row, types                     |
//! | ctl     | `pinion` as `etcdutl`                                               | backup, bbolt, config, data_dir, mvcc, server, snapshot, types |
//! | metrics | etcd's metric names and our stage histograms                        |                                           |
//! | wal     | segment and record format, group commit, recovery, cutting the front | env, limits, types                        |
//! | snapshot | the state on disk: manifest, segments, checkpoints, merges          | env, limits, types                        |
//! | data_dir | the data directory: lock, version, a folder per shard              | env, types, wal                           |
//! | mvcc    | key index, revisions, compaction                                    | row, types                                |
//! | apply   | validation and deterministic evaluation of requests                 | mvcc, pb, types                           |
//! | raft    | pipeline around raft-rs: log window, proposals, read index          | types                                     |
//! | shard   | the loop: admission, pending replies, one turn after another        | apply, backup, env, limits, metrics, mvcc, pb, raft, snapshot, types, wal |
//! | api     | etcd's services as plain handlers, and the error table              | apply, backup, limits, metrics, pb, shard, types  |
//! | net     | listeners, HTTP and gRPC: adapters between the wire and `api`       | api, limits, metrics, pb                  |
//! | server  | a member from all parts: start, readiness, stop                     | api, config, data_dir, env, limits, logging, metrics, mvcc, net, raft, shard, snapshot, types, wal |
//!
//! `main.rs` parses and runs.

pub mod api;
pub mod apply;
pub mod backup;
pub mod bbolt;
pub mod config;
pub mod ctl;
pub mod data_dir;
pub mod env;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod mvcc;
pub mod net;
pub mod pb;
pub mod raft;
pub mod row;
pub mod server;
pub mod shard;
pub mod snapshot;
pub mod types;
pub mod wal;
