//! What a member tells the others of itself: its name and where its clients find it. They follow its flags, so it says
//! so at a start if they are not what is known.

use prost::Message;

use super::{Cluster, ClusterCommand};
use crate::{
    pb::etcdserverpb as pb,
    state::{Error, command::Kind, outcome::Change},
};

#[derive(Clone, PartialEq, Message)]
pub struct PublishMember {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, repeated, tag = "3")]
    pub client_urls: Vec<String>,
}

impl ClusterCommand for PublishMember {
    type Answer = ();
    const KIND: Kind = Kind::first(7);

    fn change(&self, cluster: &mut Cluster, changes: &mut Vec<Change>) -> Result<(), Error> {
        // A member that was removed meanwhile tells nothing any more.
        if let Ok(known) = cluster.known(self.id) {
            let member = pb::Member {
                name: self.name.clone(),
                client_ur_ls: self.client_urls.clone(),
                ..known.clone()
            };
            cluster.set_member(member);
            changes.push(Change::Members);
        }
        Ok(())
    }
}
