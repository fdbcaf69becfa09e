//! Where the other members find one of them. Who votes stays as it is, so it is no change for Raft.

use prost::Message;

use super::{Cluster, ClusterCommand};
use crate::{
    pb::etcdserverpb as pb,
    state::{Error, command::Kind, outcome::Change},
};

#[derive(Clone, PartialEq, Message)]
pub struct UpdateMember {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(string, repeated, tag = "2")]
    pub peer_urls: Vec<String>,
}

impl ClusterCommand for UpdateMember {
    /// All members there are then.
    type Answer = Vec<pb::Member>;
    const KIND: Kind = Kind::first(43);

    fn change(&self, cluster: &mut Cluster, changes: &mut Vec<Change>) -> Result<Self::Answer, Error> {
        let known = cluster.known(self.id)?.clone();
        cluster.check_peer_urls(self.id, &self.peer_urls)?;
        cluster.set_member(pb::Member { peer_ur_ls: self.peer_urls.clone(), ..known });
        changes.push(Change::Members);
        Ok(cluster.all())
    }
}
