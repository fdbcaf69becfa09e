//! Newtypes shared by every stage. Each is a plain number on the wire or in the log.

pub mod url;

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
number!(/// One log of one member's shard: drawn at random when it is founded.
    LogId, u64);
number!(/// Version of the set of commands in the log. A release knows those up to its own; the cluster uses what all its
    /// members know.
    Level, u32);
number!(/// Shard number; shard 0 holds the keyspace `default` and decides membership.
    ShardId, u32);

impl Level {
    /// That of a new cluster, until its members agree on another.
    pub const FIRST: Self = Self(1);
}

/// Whose a file on disk is. A log and its checkpoint have the same owner, and no two logs have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    pub cluster: ClusterId,
    pub member: MemberId,
    pub log: LogId,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Owner { cluster, member, log } = self;
        write!(f, "log {:016x} of member {:x} in cluster {:x}", log.0, member.0, cluster.0)
    }
}

/// A keyspace: what a client sees as an etcd, and the shard it lives in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyspace {
    pub name: String,
    pub shard: ShardId,
}

/// The one there is without any configuration.
impl Default for Keyspace {
    fn default() -> Self {
        Self { name: "default".to_owned(), shard: ShardId(0) }
    }
}

/// A number of bytes that is shown as etcd shows one (`humanize.Bytes`): in thousands, with a decimal below ten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
        if self.0 < 10 {
            return write!(f, "{} B", self.0);
        }
        let power = self.0.ilog(1000);
        let scaled = (self.0 as f64 / 1000f64.powi(power as i32) * 10.0 + 0.5).floor() / 10.0;
        let decimals = usize::from(scaled < 10.0);
        write!(f, "{scaled:.decimals$} {}", UNITS[power as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_read_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (24_576, "25 kB"),
            (65_536, "66 kB"),
            (1_540_000, "1.5 MB"),
            (2 << 30, "2.1 GB"),
            (8 << 30, "8.6 GB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
