//! A member does not belong to the cluster any more, and its id never will again.

use prost::Message;

use super::{Cluster, ClusterCommand};
use crate::{
    pb::etcdserverpb as pb,
    state::{Error, command::Kind, outcome::Change},
};

#[derive(Clone, PartialEq, Message)]
pub struct RemoveMember {
    #[prost(uint64, tag = "1")]
    pub id: u64,
}

impl ClusterCommand for RemoveMember {
    /// All members there are then.
    type Answer = Vec<pb::Member>;
    const KIND: Kind = Kind::first(41);

    fn change(&self, cluster: &mut Cluster, changes: &mut Vec<Change>) -> Result<Self::Answer, Error> {
        cluster.known(self.id)?;
        // The last one with a vote stays: without it nothing would ever be decided.
        if cluster.members().all(|member| member.is_learner || member.id == self.id) {
            return Err(Error::NotEnoughStarted);
        }
        cluster.members.remove(&self.id);
        cluster.removed.insert(self.id);
        cluster.told.remove(&self.id);
        cluster.settle_level();
        cluster.unsaved = true;
        changes.push(Change::Members);
        Ok(cluster.all())
    }
}
