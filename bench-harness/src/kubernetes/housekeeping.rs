//! What goes on beside the writers: lists in pages, leases for events, compaction.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tonic::transport::Channel;

use super::Shared;
use super::objects::Kind;
use crate::pb::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::request_op::Request;

/// Between two lists of a client.
const LIST_PAUSE: Duration = Duration::from_millis(100);
/// So long, and for so many objects, a lease is used for new ones (`LeaseManagerConfig` of kube-apiserver, where it is a
/// minute and a thousand).
const LEASE_USE: Duration = Duration::from_secs(1);
const LEASE_OBJECTS: u32 = 1_000;

/// Leases that nobody keeps alive, each for the events of some time.
#[derive(Clone)]
pub struct Leases {
    client: LeaseClient<Channel>,
    shared: Shared,
    current: Arc<Mutex<Option<(i64, Instant, u32)>>>,
}

impl Leases {
    pub fn new(channel: Channel, shared: Shared) -> Self {
        Self { client: LeaseClient::new(channel), shared, current: Arc::default() }
    }

    pub async fn lease(&self) -> Result<i64, tonic::Status> {
        if let Some((id, since, used)) = self.current.lock().expect("nobody panics with it").as_mut()
            && since.elapsed() < LEASE_USE
            && *used < LEASE_OBJECTS
        {
            *used += 1;
            return Ok(*id);
        }
        let request = pb::LeaseGrantRequest { ttl: self.shared.pattern.event_ttl, id: 0 };
        let granted = self.client.clone().lease_grant(request).await?.into_inner();
        self.shared.see(|seen| seen.leases += 1);
        *self.current.lock().expect("nobody panics with it") = Some((granted.id, Instant::now(), 1));
        Ok(granted.id)
    }
}

async fn is_over(stopped: &mut watch::Receiver<bool>, pause: Duration) -> bool {
    if tokio::time::timeout(pause, stopped.wait_for(|stopped| *stopped)).await.is_ok() {
        return true;
    }
    false
}

/// Whole lists, page by page, all of them as of the revision of the first.
pub async fn list(kind: Kind, mut kv: KvClient<Channel>, shared: Shared, mut stopped: watch::Receiver<bool>) {
    while !is_over(&mut stopped, LIST_PAUSE).await {
        if let Err(status) = list_once(kind, &mut kv, &shared).await {
            shared.see(|seen| seen.failed("a page", &status));
        }
    }
}

/// Whether it was refused because of a compaction that there was.
fn is_expired(status: &tonic::Status, revision: i64, shared: &Shared) -> bool {
    let compacted = shared.compacted.load(Ordering::Relaxed);
    status.code() == tonic::Code::OutOfRange && (1..compacted).contains(&revision)
}

async fn list_once(kind: Kind, kv: &mut KvClient<Channel>, shared: &Shared) -> Result<(), tonic::Status> {
    let mut request = pb::RangeRequest {
        key: kind.prefix().into(),
        range_end: kind.end().into(),
        limit: shared.pattern.page,
        ..Default::default()
    };
    let (mut listed, mut expected) = (0, None);
    loop {
        let page = match kv.range(request.clone()).await {
            Ok(page) => page.into_inner(),
            // As whoever lists does when kube-apiserver says that the list has expired.
            Err(status) if is_expired(&status, request.revision, shared) => {
                shared.see(|seen| seen.relists += 1);
                (listed, expected) = (0, None);
                (request.key, request.revision) = (kind.prefix().into(), 0);
                continue;
            }
            Err(status) => return Err(status),
        };
        listed += page.kvs.len() as i64;
        shared.see(|seen| {
            seen.pages += 1;
            seen.listed += page.kvs.len() as u64;
        });
        // The count of a page is that of the rest.
        let whole = *expected.get_or_insert(page.count);
        if page.count + listed - page.kvs.len() as i64 != whole {
            shared.see(|seen| seen.fault(|| format!("a list of {whole} has {} after {listed}", page.count)));
        }
        let Some(last) = page.kvs.last().filter(|_| page.more) else { break };
        let mut next = last.key.to_vec();
        next.push(0);
        request.key = next.into();
        if request.revision == 0 {
            request.revision = page.header.as_ref().map_or(0, |header| header.revision);
        }
    }
    if Some(listed) != expected {
        shared.see(|seen| seen.fault(|| format!("a list of {expected:?} has {listed} objects")));
    }
    Ok(())
}

/// `compact_rev_key` says who compacts, and how far: whoever changes it first (`storage/etcd3/compact.go`).
pub async fn compact(mut kv: KvClient<Channel>, shared: Shared, mut stopped: watch::Receiver<bool>) {
    const KEY: &str = "compact_rev_key";
    let (mut version, mut revision) = (0, 0);
    while !is_over(&mut stopped, shared.pattern.compact_every).await {
        let compare = pb::Compare {
            result: CompareResult::Equal as i32,
            target: CompareTarget::Version as i32,
            key: KEY.into(),
            target_union: Some(TargetUnion::Version(version)),
            ..Default::default()
        };
        let put =
            pb::PutRequest { key: KEY.into(), value: revision.to_string().into(), ..Default::default() };
        let get = pb::RangeRequest { key: KEY.into(), ..Default::default() };
        let op = |request| pb::RequestOp { request: Some(request) };
        let txn = pb::TxnRequest {
            compare: vec![compare],
            success: vec![op(Request::RequestPut(put))],
            failure: vec![op(Request::RequestRange(get))],
        };
        let answer = match kv.txn(txn).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => {
                shared.see(|seen| seen.failed("compact_rev_key", &status));
                continue;
            }
        };
        let now = answer.header.as_ref().map_or(0, |header| header.revision);
        if !answer.succeeded {
            // From the run before.
            if let Some(pb::response_op::Response::ResponseRange(range)) =
                answer.responses.first().and_then(|response| response.response.as_ref())
            {
                version = range.kvs.first().map_or(0, |kv| kv.version);
            }
            revision = now;
            continue;
        }
        version += 1;
        let due = std::mem::replace(&mut revision, now);
        if due > 0 {
            shared.compacted.fetch_max(due, Ordering::Relaxed);
            match kv.compact(pb::CompactionRequest { revision: due, physical: false }).await {
                Ok(_) => shared.see(|seen| seen.compactions += 1),
                Err(status) => shared.see(|seen| seen.failed("a compaction", &status)),
            }
        }
    }
}
