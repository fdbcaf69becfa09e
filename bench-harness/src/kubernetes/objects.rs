//! Keys, values and transactions of objects (`storage/etcd3` of kube-apiserver).

use crate::pb::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::kv_client::KvClient;
use pb::request_op::Request;
use tonic::transport::Channel;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Pods,
    /// Heartbeats of nodes.
    Leases,
    ConfigMaps,
    /// They end by themselves.
    Events,
}

pub const KINDS: [Kind; 4] = [Kind::Pods, Kind::Leases, Kind::ConfigMaps, Kind::Events];

impl Kind {
    pub fn prefix(self) -> &'static str {
        match self {
            Kind::Pods => "/registry/pods/",
            Kind::Leases => "/registry/leases/",
            Kind::ConfigMaps => "/registry/configmaps/",
            Kind::Events => "/registry/events/",
        }
    }

    /// The first key behind all of them.
    pub fn end(self) -> String {
        let mut end = self.prefix().to_owned().into_bytes();
        *end.last_mut().expect("it is not empty") += 1;
        String::from_utf8(end).expect("ASCII")
    }

    pub fn key(self, writer: usize, number: u64) -> String {
        format!("{}default/object-{writer:04}-{number:08}", self.prefix())
    }
}

/// A value that says when it was sent.
pub fn value(nanos: u64, size: usize) -> bytes::Bytes {
    let mut value = vec![b'o'; size.max(8)];
    value[..8].copy_from_slice(&nanos.to_be_bytes());
    value.into()
}

/// When a value was sent.
pub fn sent(value: &[u8]) -> Option<u64> {
    value.first_chunk().map(|nanos| u64::from_be_bytes(*nanos))
}

fn at_revision(key: &str, revision: i64) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Mod as i32,
        key: key.to_owned().into(),
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Default::default()
    }
}

fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

/// The object as it is, where a transaction finds it otherwise than thought.
fn get(key: &str) -> pb::RequestOp {
    op(Request::RequestRange(pb::RangeRequest { key: key.to_owned().into(), ..Default::default() }))
}

pub fn create(key: &str, value: bytes::Bytes, lease: i64) -> pb::TxnRequest {
    let put = pb::PutRequest { key: key.to_owned().into(), value, lease, ..Default::default() };
    let success = vec![op(Request::RequestPut(put))];
    pb::TxnRequest { compare: vec![at_revision(key, 0)], success, failure: Vec::new() }
}

pub fn update(key: &str, revision: i64, value: bytes::Bytes) -> pb::TxnRequest {
    let put = pb::PutRequest { key: key.to_owned().into(), value, ..Default::default() };
    let success = vec![op(Request::RequestPut(put))];
    pb::TxnRequest { compare: vec![at_revision(key, revision)], success, failure: vec![get(key)] }
}

pub fn delete(key: &str, revision: i64) -> pb::TxnRequest {
    let delete = pb::DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() };
    let success = vec![op(Request::RequestDeleteRange(delete))];
    pb::TxnRequest { compare: vec![at_revision(key, revision)], success, failure: vec![get(key)] }
}

/// The object that a transaction has found instead.
pub fn found(response: &pb::TxnResponse) -> Option<i64> {
    match response.responses.first()?.response.as_ref()? {
        pb::response_op::Response::ResponseRange(range) => range.kvs.first().map(|kv| kv.mod_revision),
        _ => None,
    }
}

pub async fn count(kv: &mut KvClient<Channel>, kind: Kind) -> Result<i64, tonic::Status> {
    let request = pb::RangeRequest {
        key: kind.prefix().into(),
        range_end: kind.end().into(),
        count_only: true,
        ..Default::default()
    };
    Ok(kv.range(request).await?.into_inner().count)
}
