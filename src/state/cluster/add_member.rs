//! A member of the cluster, as the log's configuration changes bring it: the change says to Raft who votes, this to
//! everybody else who it is.

use prost::Message;

use super::{Cluster, ClusterCommand};
use crate::{
    pb::etcdserverpb as pb,
    state::{Error, command::Kind, outcome::Change},
};

#[derive(Clone, PartialEq, Message)]
pub struct AddMember {
    #[prost(message, optional, tag = "1")]
    pub member: Option<pb::Member>,
}

impl ClusterCommand for AddMember {
    type Answer = ();
    const KIND: Kind = Kind::first(6);

    fn change(&self, cluster: &mut Cluster, changes: &mut Vec<Change>) -> Result<(), Error> {
        if let Some(member) = &self.member {
            cluster.set_member(member.clone());
            changes.push(Change::Members);
        }
        Ok(())
    }
}
