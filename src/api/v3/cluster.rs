//! `etcdserverpb.Cluster`.

use crate::{
    api::{Api, Error, Keyspace},
    pb::etcdserverpb as pb,
};

impl<K: Keyspace> Api<K> {
    pub async fn member_list(&self, request: pb::MemberListRequest) -> Result<pb::MemberListResponse, Error> {
        if request.linearizable {
            self.keyspace().linearize().await?;
        }
        // Headers of this service carry no revision.
        let mut header = pb::ResponseHeader::default();
        self.fill_without_revision(&mut header);
        Ok(pb::MemberListResponse { header: Some(header), members: self.keyspace().status().members })
    }
}
