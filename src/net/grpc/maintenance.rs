//! `etcdserverpb.Maintenance` on tonic's trait.

use futures_util::stream::Empty;
use send_wrapper::SendWrapper;
use tonic::{Request, Response, Status, async_trait};

use super::call::{Answers, Call};
use crate::{
    api::{Api, Error, Keyspace},
    pb::etcdserverpb::{self as pb, maintenance_server::Maintenance},
};

const NAME: &str = "etcdserverpb.Maintenance";
pub(super) const METHODS: &[&str] =
    &["Status", "Alarm", "Defragment", "Hash", "HashKV", "Snapshot", "MoveLeader", "Downgrade"];

pub(super) struct Service<K> {
    api: SendWrapper<Api<K>>,
    alarm: Call,
    status: Call,
    defragment: Call,
    hash: Call,
    hash_kv: Call,
    snapshot: Call,
    move_leader: Call,
    downgrade: Call,
}

impl<K: Keyspace> Service<K> {
    pub(super) fn new(api: &Api<K>) -> Self {
        Self {
            api: SendWrapper::new(api.clone()),
            alarm: Call::write(api, NAME, "Alarm"),
            status: Call::read(api, NAME, "Status"),
            defragment: Call::write(api, NAME, "Defragment"),
            hash: Call::read(api, NAME, "Hash"),
            hash_kv: Call::read(api, NAME, "HashKV"),
            snapshot: Call::server_stream(api, NAME, "Snapshot"),
            move_leader: Call::write(api, NAME, "MoveLeader"),
            downgrade: Call::write(api, NAME, "Downgrade"),
        }
    }
}

#[async_trait]
impl<K: Keyspace> Maintenance for Service<K> {
    type SnapshotStream = Answers<pb::SnapshotResponse>;

    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        self.alarm.unary(&self.api, request, |request| self.api.alarm(request)).await
    }

    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        self.status.unary(&self.api, request, |request| self.api.status(request)).await
    }

    async fn defragment(
        &self,
        request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        let error = Error::Unimplemented("there is nothing to defragment yet");
        self.defragment.unary(&self.api, request, |_| async { Err(error) }).await
    }

    async fn hash(&self, request: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        let error = Error::Unimplemented("hashes are not available yet");
        self.hash.unary(&self.api, request, |_| async { Err(error) }).await
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        let error = Error::Unimplemented("hashes are not available yet");
        self.hash_kv.unary(&self.api, request, |_| async { Err(error) }).await
    }

    async fn snapshot(
        &self,
        request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        self.snapshot.stream(&self.api, request, |_| {
            Err::<Empty<_>, _>(Error::Unimplemented("snapshots cannot be taken yet"))
        })
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        let error = Error::Unimplemented("leadership cannot be moved yet");
        self.move_leader.unary(&self.api, request, |_| async { Err(error) }).await
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        let error = Error::Unimplemented("a downgrade is not supported yet");
        self.downgrade.unary(&self.api, request, |_| async { Err(error) }).await
    }
}
