//! The release whose features all members have, as the leader finds it (`version.Monitor` in etcd v3.7).

use std::fmt;

use prost::Message;

use super::{Cluster, ClusterCommand};
use crate::{
    state::{Error, command::Kind, outcome::Change},
    types::Level,
};

/// A release without its patch level.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Message)]
pub struct Release {
    #[prost(uint64, tag = "1")]
    pub major: u64,
    #[prost(uint64, tag = "2")]
    pub minor: u64,
}

impl Release {
    /// The one this server has the behaviour of.
    pub const OURS: Self = Self { major: 3, minor: 7 };

    /// The one that a cluster is of before its leader has said so: the same to members of all releases to come.
    pub const FOUNDED: Self = Self { major: 3, minor: 7 };

    /// The first one that clusters of members like these may be of (`version.MinClusterVersion` of etcd v3.7).
    pub const LOWEST: Self = Self { major: 3, minor: 0 };

    /// `3.7.0` or `3.7.1`, as a version of which nothing else counts.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let (major, minor) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next().map(|_| Self { major, minor })
    }

    /// The newest set of commands that a cluster of this release may use: those before knew no more than the first.
    pub fn level_max(self) -> Level {
        if self < Self::FOUNDED { Level::FIRST } else { Level(u32::MAX) }
    }

    /// The one that comes next.
    pub fn after(self) -> Self {
        Self { minor: self.minor + 1, ..self }
    }

    /// The one that a cluster of this release may go down to.
    pub fn before(self) -> Option<Self> {
        Some(Self { minor: self.minor.checked_sub(1)?, ..self })
    }
}

/// As etcd stores it: `3.7.0`.
impl fmt::Display for Release {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.0", self.major, self.minor)
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct SetVersion {
    #[prost(message, optional, tag = "1")]
    pub version: Option<Release>,
}

impl ClusterCommand for SetVersion {
    type Answer = ();
    const KIND: Kind = Kind::first(45);

    fn change(&self, cluster: &mut Cluster, _: &mut Vec<Change>) -> Result<(), Error> {
        let version = self.version.filter(|version| *version != Release::FOUNDED);
        cluster.unsaved |= cluster.version != version;
        cluster.version = version;
        cluster.settle_level();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_release_is_the_one_of_the_version() {
        let Release { major, minor } = Release::OURS;
        assert!(crate::types::ETCD_VERSION.starts_with(&format!("{major}.{minor}.")));
        assert_eq!(Release::OURS.before().map(|release| release.to_string()).as_deref(), Some("3.6.0"));
        assert_eq!(Release { major: 4, minor: 0 }.before(), None);
        assert_eq!(Release::parse(crate::types::ETCD_VERSION), Some(Release::OURS));
        assert_eq!(
            Release::parse(&Release::OURS.after().to_string()),
            Some(Release { major, minor: minor + 1 })
        );
        for text in ["not_decided", "", "3.7", "3.x.1"] {
            assert_eq!(Release::parse(text), None, "{text}");
        }
    }
}
