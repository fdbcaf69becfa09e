//! `etcdserverpb.Cluster` on tonic's trait.

use send_wrapper::SendWrapper;
use tonic::{Request, Response, Status, async_trait};

use super::call::Call;
use crate::{
    api::{Api, Error, Keyspace},
    pb::etcdserverpb::{self as pb, cluster_server::Cluster},
};

const NAME: &str = "etcdserverpb.Cluster";
pub(super) const METHODS: &[&str] =
    &["MemberList", "MemberAdd", "MemberRemove", "MemberUpdate", "MemberPromote"];

const FIXED: Error = Error::Unimplemented("the cluster's membership cannot be changed yet");

pub(super) struct Service<K> {
    api: SendWrapper<Api<K>>,
    list: Call,
    add: Call,
    remove: Call,
    update: Call,
    promote: Call,
}

impl<K: Keyspace> Service<K> {
    pub(super) fn new(api: &Api<K>) -> Self {
        Self {
            api: SendWrapper::new(api.clone()),
            list: Call::read(api, NAME, "MemberList"),
            add: Call::write(api, NAME, "MemberAdd"),
            remove: Call::write(api, NAME, "MemberRemove"),
            update: Call::write(api, NAME, "MemberUpdate"),
            promote: Call::write(api, NAME, "MemberPromote"),
        }
    }
}

#[async_trait]
impl<K: Keyspace> Cluster for Service<K> {
    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        self.list.unary(&self.api, request, |request| self.api.member_list(request)).await
    }

    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        self.add.unary(&self.api, request, |_| async { Err(FIXED) }).await
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        self.remove.unary(&self.api, request, |_| async { Err(FIXED) }).await
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        self.update.unary(&self.api, request, |_| async { Err(FIXED) }).await
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        self.promote.unary(&self.api, request, |_| async { Err(FIXED) }).await
    }
}
