//! Newtypes shared by every stage. Each is a plain number on the wire or in the log.

use std::fmt;

/// The etcd release whose API, flags, messages and behaviour this server follows; clients turn features
/// on by it.
pub const ETCD_VERSION: &str = "3.7.1";

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(/// Main revision of a keyspace: starts at 1, grows by one per write transaction.
    Revision, i64);
number!(/// Position in a shard's Raft log; the first entry is 1.
    LogIndex, u64);
number!(/// Raft term.
    Term, u64);
number!(/// Member id as shown by `etcdctl member list` (there in hexadecimal).
    MemberId, u64);
number!(/// Cluster id as carried by every response header.
    ClusterId, u64);
number!(/// Shard number; shard 0 holds the keyspace `default` and decides membership.
    ShardId, u32);
