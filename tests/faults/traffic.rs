//! Clients of all members: they put, get, delete and compare, turn to another member when one does not answer, and remember what
//! they asked and were told.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bench_harness::pb::{
    etcdserverpb::{
        self as pb,
        compare::{CompareResult, CompareTarget, TargetUnion},
        kv_client::KvClient,
        maintenance_client::MaintenanceClient,
        request_op::Request as Op,
        response_op::Response,
    },
    mvccpb::KeyValue,
};
use tonic::transport::{Channel, Endpoint};

use crate::{
    keys::{Answer, History, Pair, Request},
    seeded::Rng,
};

const CLIENTS: u64 = 9;
const GROUPS: u64 = 3;
const KEYS: u64 = 4;
/// Keys of a group are in use for so long: what is explained together is not too much.
const EPOCH: Duration = Duration::from_millis(500);
/// A client waits so long for an answer, and then does not know what became of it.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE_MS: u64 = 30;

/// How much was answered.
#[derive(Default)]
pub struct Progress {
    done: AtomicU64,
    over: AtomicBool,
}

impl Progress {
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

struct Shared {
    history: Mutex<History>,
    progress: Progress,
    value: AtomicU64,
    began: Instant,
}

pub struct Traffic {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Traffic {
    pub fn start(members: Vec<SocketAddr>, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            history: Mutex::default(),
            progress: Progress::default(),
            value: AtomicU64::new(0),
            began: Instant::now(),
        });
        let everybody = shared.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let clients =
                    (0..CLIENTS).map(|n| client(everybody.clone(), &members, Rng::new(seed * 1_000 + n)));
                futures_util::future::join_all(clients).await;
            });
        });
        Self { shared, thread: Some(thread) }
    }

    pub fn progress(&self) -> &Progress {
        &self.shared.progress
    }

    /// What was asked and told.
    pub fn stop(mut self) -> History {
        self.end();
        std::mem::take(&mut self.shared.history.lock().expect("no client panicked"))
    }

    fn end(&mut self) {
        self.shared.progress.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("a client panicked");
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn value(&self) -> u64 {
        self.value.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Something to ask of one group.
    fn draw(&self, rng: &mut Rng) -> (u64, Request) {
        let epoch = self.began.elapsed().as_millis() / EPOCH.as_millis();
        let group = u64::try_from(epoch).expect("short") * GROUPS + rng.below(GROUPS);
        let key = format!("g{group}/k{}", rng.below(KEYS));
        let request = match rng.below(100) {
            0..35 => {
                let reads = if rng.below(2) == 0 { vec![key.clone()] } else { vec![] };
                Request { compare: None, reads, writes: vec![(key, Some(self.value()))] }
            }
            35..45 => Request { compare: None, reads: vec![key.clone()], writes: vec![(key, None)] },
            45..70 => {
                // Some value that may be there.
                let newest = self.value.load(Ordering::Relaxed);
                let expected = (rng.below(10) < 7).then(|| newest.saturating_sub(rng.below(8)));
                let writes = vec![(key.clone(), Some(self.value()))];
                Request { compare: Some((key.clone(), expected)), reads: vec![key], writes }
            }
            _ => Request { compare: None, reads: vec![key], writes: vec![] },
        };
        (group, request)
    }
}

fn channel(member: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{member}")).expect("an address");
    endpoint.connect_timeout(PATIENCE).connect_lazy()
}

async fn client(shared: Arc<Shared>, members: &[SocketAddr], mut rng: Rng) {
    let mut clients: Vec<_> = members.iter().map(|member| KvClient::new(channel(*member))).collect();
    let mut at = rng.below(members.len() as u64) as usize;
    while !shared.progress.over.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(rng.below(PAUSE_MS))).await;
        let (group, request) = shared.draw(&mut rng);
        let call = shared.history.lock().expect("no client panicked").call(group, request.clone());
        match tokio::time::timeout(PATIENCE, ask(&mut clients[at], &request)).await {
            Ok(Ok(answer)) => {
                shared.history.lock().expect("no client panicked").answer(call, answer);
                shared.progress.done.fetch_add(1, Ordering::Relaxed);
            }
            // It may or may not be there; another member may know.
            Ok(Err(_)) | Err(_) => {
                at = (at + 1) % members.len();
                clients[at] = KvClient::new(channel(members[at]));
            }
        }
    }
}

fn pair(kv: Option<&KeyValue>) -> Option<Pair> {
    kv.map(|kv| Pair {
        value: String::from_utf8_lossy(&kv.value).parse().expect("values are numbers"),
        mod_revision: kv.mod_revision,
    })
}

fn revision(header: Option<pb::ResponseHeader>) -> i64 {
    header.expect("a header").revision
}

async fn ask(client: &mut KvClient<Channel>, request: &Request) -> Result<Answer, tonic::Status> {
    match request {
        Request { compare: Some((key, expected)), reads, writes } => {
            let answer = client.txn(txn(key, *expected, reads, writes)).await?.into_inner();
            let read = answer.responses.iter().filter_map(|response| match &response.response {
                Some(Response::ResponseRange(range)) => Some(pair(range.kvs.first())),
                _ => None,
            });
            let read = read.collect();
            Ok(Answer { read, succeeded: answer.succeeded, revision: revision(answer.header) })
        }
        Request { writes, reads, .. } => match writes.first() {
            None => {
                let range = pb::RangeRequest { key: reads[0].clone().into(), ..Default::default() };
                let answer = client.range(range).await?.into_inner();
                let read = vec![pair(answer.kvs.first())];
                Ok(Answer { read, succeeded: true, revision: revision(answer.header) })
            }
            Some((key, Some(value))) => {
                let prev_kv = !reads.is_empty();
                let (key, value) = (key.clone().into(), value.to_string().into());
                let put = pb::PutRequest { key, value, prev_kv, ..Default::default() };
                let answer = client.put(put).await?.into_inner();
                let read = if prev_kv { vec![pair(answer.prev_kv.as_ref())] } else { vec![] };
                Ok(Answer { read, succeeded: true, revision: revision(answer.header) })
            }
            Some((key, None)) => {
                let key = key.clone().into();
                let delete = pb::DeleteRangeRequest { key, prev_kv: true, ..Default::default() };
                let answer = client.delete_range(delete).await?.into_inner();
                let read = vec![pair(answer.prev_kvs.first())];
                Ok(Answer { read, succeeded: true, revision: revision(answer.header) })
            }
        },
    }
}

fn txn(
    key: &str,
    expected: Option<u64>,
    reads: &[String],
    writes: &[(String, Option<u64>)],
) -> pb::TxnRequest {
    let operation = |request| pb::RequestOp { request: Some(request) };
    let reads = reads.iter().map(|key| {
        operation(Op::RequestRange(pb::RangeRequest { key: key.clone().into(), ..Default::default() }))
    });
    let writes = writes.iter().map(|(key, value)| {
        let value = value.expect("transactions here only put").to_string().into();
        operation(Op::RequestPut(pb::PutRequest { key: key.clone().into(), value, ..Default::default() }))
    });
    let (target, union) = match expected {
        Some(value) => (CompareTarget::Value, TargetUnion::Value(value.to_string().into())),
        None => (CompareTarget::Create, TargetUnion::CreateRevision(0)),
    };
    let compare = pb::Compare {
        result: CompareResult::Equal as i32,
        target: target as i32,
        key: key.to_owned().into(),
        target_union: Some(union),
        ..Default::default()
    };
    pb::TxnRequest {
        compare: vec![compare],
        success: reads.clone().chain(writes).collect(),
        failure: reads.collect(),
    }
}

/// Hash of everything a member has, and up to which revision, once it has all that is committed.
pub fn hash(member: SocketAddr) -> (u32, i64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let range = pb::RangeRequest { key: "k".into(), ..Default::default() };
        KvClient::new(channel(member)).range(range).await.expect("it answers");
        let request = pb::HashKvRequest { revision: 0 };
        let hashed = MaintenanceClient::new(channel(member)).hash_kv(request).await;
        let hashed = hashed.expect("it answers").into_inner();
        (hashed.hash, revision(hashed.header))
    })
}
