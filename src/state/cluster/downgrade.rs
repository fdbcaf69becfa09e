//! The cluster is to go down to the release before, or is not any more (`membership.DowngradeInfo` in etcd v3.7).

use prost::Message;

use super::{Cluster, ClusterCommand, Release};
use crate::state::{Error, command::Kind, outcome::Change};

#[derive(Clone, PartialEq, Message)]
pub struct SetDowngrade {
    /// None ends it.
    #[prost(message, optional, tag = "1")]
    pub target: Option<Release>,
}

impl ClusterCommand for SetDowngrade {
    type Answer = ();
    const KIND: Kind = Kind::first(44);

    fn change(&self, cluster: &mut Cluster, _: &mut Vec<Change>) -> Result<(), Error> {
        cluster.unsaved |= cluster.downgrade != self.target;
        cluster.downgrade = self.target;
        Ok(())
    }
}
