//! A learner gets a vote. Whether it has come far enough for that is known to the leader alone, and looked at before.

use prost::Message;

use super::{Cluster, ClusterCommand};
use crate::{
    pb::etcdserverpb as pb,
    state::{Error, command::Kind, outcome::Change},
};

#[derive(Clone, PartialEq, Message)]
pub struct PromoteMember {
    #[prost(uint64, tag = "1")]
    pub id: u64,
}

impl ClusterCommand for PromoteMember {
    /// All members there are then.
    type Answer = Vec<pb::Member>;
    const KIND: Kind = Kind::first(42);

    fn change(&self, cluster: &mut Cluster, changes: &mut Vec<Change>) -> Result<Self::Answer, Error> {
        let learner = cluster.known(self.id)?;
        if !learner.is_learner {
            return Err(Error::MemberNotLearner);
        }
        cluster.set_member(pb::Member { is_learner: false, ..learner.clone() });
        changes.push(Change::Members);
        Ok(cluster.all())
    }
}
