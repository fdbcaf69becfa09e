//! `etcdserverpb.KV` on tonic's trait.

use send_wrapper::SendWrapper;
use tonic::{Request, Response, Status, async_trait};

use super::call::{Answers, Call};
use crate::{
    api::{Api, Keyspace},
    pb::etcdserverpb::{self as pb, kv_server::Kv},
};

const NAME: &str = "etcdserverpb.KV";
pub(super) const METHODS: &[&str] = &["Range", "Put", "Txn", "DeleteRange", "Compact", "RangeStream"];

pub(super) struct Service<K> {
    api: SendWrapper<Api<K>>,
    range: Call,
    range_stream: Call,
    put: Call,
    delete_range: Call,
    txn: Call,
    compact: Call,
}

impl<K: Keyspace> Service<K> {
    pub(super) fn new(api: &Api<K>) -> Self {
        Self {
            api: SendWrapper::new(api.clone()),
            range: Call::read(api, NAME, "Range"),
            range_stream: Call::server_stream(api, NAME, "RangeStream"),
            put: Call::write(api, NAME, "Put"),
            delete_range: Call::write(api, NAME, "DeleteRange"),
            txn: Call::write(api, NAME, "Txn"),
            compact: Call::write(api, NAME, "Compact"),
        }
    }
}

#[async_trait]
impl<K: Keyspace> Kv for Service<K> {
    type RangeStreamStream = Answers<pb::RangeStreamResponse>;

    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        self.range.unary(&self.api, request, |request| self.api.range(request)).await
    }

    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        self.range_stream.stream(&self.api, request, |request| self.api.range_stream(request))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        self.put.unary(&self.api, request, |request| self.api.put(request)).await
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        self.delete_range.unary(&self.api, request, |request| self.api.delete_range(request)).await
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        self.txn.unary(&self.api, request, |request| self.api.txn(request)).await
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        self.compact.unary(&self.api, request, |request| self.api.compact(request)).await
    }
}
