//! Pinion: an etcd-compatible key-value server, io_uring from the disk up, one pinned core per shard,
//! replicated by Raft.
//!
//! The way of the data:
//!
//! ```text
//!  client --TCP--> [net] --> [protocol] --> [service] --command--> [shard] --batch--> [consensus] --Ready--> [wal]
//!                                                                   ^  |                                 | O_DIRECT write
//!                                                                   |  +<--- durable acknowledgement ----+
//!  client <------- [net] <-- [protocol] <-- [service] <---answer----+ [state] --changes--> [checkpoint] in the
//!                                                                        background, then the log is cut
//! ```
//!
//! | folder             | what lives there                                               | may use |
//! |--------------------|----------------------------------------------------------------|---------|
//! | types              | newtypes shared by all stages                                  |  |
//! | limits             | every bound                                                    |  |
//! | pb                 | wire messages generated from `proto/`                          | limits |
//! | client             | what is held for each client, and who waits in which line       | limits |
//! | block              | what the state is made of on disk: blocks, named by their space |  |
//! | env                | disk, links, sockets, clock, tasks: real and simulated         | limits, types |
//! | logging            | JSON and console log lines in etcd's shape                     | config |
//! | config             | flags, environment and YAML to one immutable `Config`          | limits, types |
//! | row                | versions as etcd files them, and `HashKV` over them            |  |
//! | backup             | etcd's backup files over it: metadata, versions, restore       | pb, row, types |
//! | ctl                | `pinion` as `etcdutl`                                          | backup, config, row, server, state, state/lease, state/mvcc, storage/data_dir, types |
//! | metrics            | etcd's metric names and our stage histograms                   | types |
//! | storage            | what is on disk                                                |  |
//! | storage/wal        | the log: durable records in order, recovery                    | env, limits, types |
//! | storage/checkpoint | checkpoints of the state as incremental segments               | block, env, limits, types |
//! | storage/data_dir   | the directory that holds both: whose it is, which log it has    | env, types |
//! | state              | the replicated state and what changes it: commands; pure       | block, limits, pb, row, state/lease, state/mvcc, state/space, types |
//! | state/space        | the parts of the state, as a checkpoint sees them              | block |
//! | state/mvcc         | versions of keys, their index, compaction; pure                | block, row, state/space, types |
//! | state/lease        | leases and the keys attached to them; pure                     | block, limits, pb, state, state/mvcc, state/space |
//! | consensus          | raft-rs behind own types: log window, proposals, read index    | limits, pb, types |
//! | shard              | the loop, which hands values between the three parts below     | consensus, env, limits, metrics, pb, shard/group, shard/lease, shard/replica, shard/serve, shard/upkeep, shard/watch, state, state/mvcc, storage/checkpoint, storage/data_dir, storage/wal, types |
//! | shard/group        | who is in the group, as Raft and as the state has it           | consensus, env, pb, state, types |
//! | shard/lease        | when leases end, as their leader has it                        | env, limits, shard, state/lease |
//! | shard/replica      | Raft and the log's turns, replay, the start of a log           | consensus, env, limits, pb, shard/group, state, storage/checkpoint, storage/wal, types |
//! | shard/watch        | who watches what, and how far each has come; pure              | limits, row, state, state/mvcc |
//! | shard/serve        | admission, batches, reads, replies, what connections hold      | backup, client, env, limits, metrics, pb, row, shard, shard/group, shard/lease, shard/watch, state, state/lease, state/mvcc, storage/checkpoint, types |
//! | shard/upkeep       | checkpoints, compaction, checks                                | block, consensus, env, inquiry, limits, metrics, pb, shard, shard/group, shard/lease, shard/serve, state, state/lease, state/mvcc, storage/checkpoint, types |
//! | peer               | links to other members: greetings, frames, checkpoints         | env, limits, metrics, pb, shard, shard/serve, storage/checkpoint, types |
//! | service            | etcd's services as plain handlers, table of methods, errors    | backup, client, env, inquiry, limits, logging, metrics, pb, shard, shard/group, shard/serve, shard/watch, state, types |
//! | protocol           | gRPC and plain HTTP: codecs over the table of methods          | client, env, inquiry, limits, metrics, pb, service, shard, shard/serve, state, types |
//! | net                | listeners, connections, HTTP/1 and HTTP/2                      | client, env, limits, peer, protocol, service |
//! | server             | a member from all parts: start, readiness, stop                | block, client, config, env, inquiry, limits, logging, metrics, net, pb, peer, protocol, service, shard, shard/serve, shard/upkeep, state, state/lease, state/mvcc, storage/checkpoint, storage/data_dir, storage/wal, types |
//! | inquiry            | what a member asks others in plain HTTP, and its form          | env, limits, pb, types |
//!
//! A row such as `storage/wal` is a part of its folder with rules of its own. Whoever names something that another module
//! hands on by `pub use` uses both.
//!
//! `main.rs` parses and runs.

pub mod backup;
pub mod block;
pub mod client;
pub mod config;
pub mod consensus;
pub mod ctl;
pub mod env;
pub mod inquiry;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod net;
pub mod pb;
pub mod peer;
pub mod protocol;
pub mod row;
pub mod server;
pub mod service;
pub mod shard;
pub mod state;
pub mod storage;
pub mod types;
