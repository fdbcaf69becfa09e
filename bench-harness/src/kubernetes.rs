//! What kube-apiserver asks of etcd, as a load and as a test: objects created, updated and deleted by transactions that
//! compare revisions, a watch cache for each kind of object, lists in pages at one revision, leases that nobody keeps
//! alive for events that end, and compactions guarded by a key of their own.
//!
//! What is seen is checked as it comes: [`Seen::faults`] has what a server must never show. One thread, over tonic.

mod cache;
mod housekeeping;
mod objects;
mod writer;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};

use crate::admin::Error;
use crate::pb::etcdserverpb::kv_client::KvClient;
use cache::Cache;
use objects::{KINDS, Kind};
use writer::Writer;

/// A connection for the caches, and one for everybody else: what kube-apiserver has for each kind is as much.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A call that takes longer has failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Caches are as new as the store within this time after the last write.
const SYNC_MAX: Duration = Duration::from_secs(30);
const FAULTS_SHOWN: usize = 20;

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    /// Who write, each objects of its own, one at a time.
    pub writers: usize,
    /// Of each kind.
    pub objects: usize,
    pub value_size: usize,
    pub listers: usize,
    /// Objects in a page of a list.
    pub page: i64,
    /// How long an event lives, in seconds.
    pub event_ttl: i64,
    pub compact_every: Duration,
    /// Between two requests for progress of each cache.
    pub progress_every: Duration,
}

/// What was seen in some time.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub seconds: f64,
    pub transactions: u64,
    /// Transactions whose object was not as it was thought to be.
    pub conflicts: u64,
    /// From when each was due to its answer.
    pub latencies: Vec<Duration>,
    /// From when a transaction was sent to when its event was there.
    pub lags: Vec<Duration>,
    /// From the request for progress to the progress.
    pub progress: Vec<Duration>,
    pub events: u64,
    pub pages: u64,
    pub listed: u64,
    /// Lists that were begun again because the revision of their first page was compacted meanwhile.
    pub relists: u64,
    pub leases: u64,
    pub compactions: u64,
    /// What failed, and how often.
    pub errors: BTreeMap<String, u64>,
    /// What must not be.
    pub faults: Vec<String>,
}

impl Seen {
    fn failed(&mut self, what: &str, status: &tonic::Status) {
        *self.errors.entry(format!("{what}: {:?}: {}", status.code(), status.message())).or_default() += 1;
    }

    fn fault(&mut self, fault: impl FnOnce() -> String) {
        if self.faults.len() < FAULTS_SHOWN {
            self.faults.push(fault());
        }
    }
}

/// What all parts share.
#[derive(Clone)]
struct Shared {
    began: Instant,
    seen: Arc<Mutex<Seen>>,
    pattern: Pattern,
    /// A compaction up to there was asked for.
    compacted: Arc<AtomicI64>,
}

impl Shared {
    fn see<T>(&self, with: impl FnOnce(&mut Seen) -> T) -> T {
        with(&mut self.seen.lock().expect("nobody panics with it"))
    }

    /// Since the beginning, as values carry it.
    fn nanos(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }
}

/// An apiserver with its caches, against one server.
pub struct Apiserver {
    runtime: Runtime,
    shared: Shared,
    kv: KvClient<Channel>,
    channel: Channel,
    writers: Vec<Writer>,
    caches: Vec<Cache>,
}

impl Apiserver {
    /// Fills the store and opens the caches.
    pub fn start(addr: SocketAddr, pattern: Pattern) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| Error::Io { what: "start a runtime".to_owned(), source })?;
        let endpoint = Endpoint::from_shared(format!("http://{addr}"))?.connect_timeout(CONNECT_TIMEOUT);
        let shared =
            Shared { began: Instant::now(), seen: Arc::default(), pattern, compacted: Arc::default() };
        let (channel, watching) = runtime.block_on(async {
            let calls = endpoint.clone().timeout(CALL_TIMEOUT).connect().await?;
            Ok::<_, Error>((calls, endpoint.connect().await?))
        })?;
        let kv = KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
        let mut writers: Vec<_> = (0..pattern.writers).map(|number| Writer::new(number, &shared)).collect();
        let filled = async {
            let mut tasks = tokio::task::JoinSet::new();
            for mut writer in writers.drain(..) {
                let kv = kv.clone();
                tasks.spawn(async move { writer.fill(kv).await.map(|()| writer) });
            }
            tasks.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()
        };
        let writers = runtime.block_on(filled)?;
        let caches = runtime.block_on(async {
            let mut caches = Vec::new();
            for kind in KINDS {
                caches.push(Cache::open(kind, &watching, kv.clone(), &shared).await?);
            }
            Ok::<_, Error>(caches)
        })?;
        Ok(Self { runtime, shared, kv, channel, writers, caches })
    }

    /// Goes on for so long: `rate` transactions a second, or as many as are answered.
    pub fn run(&mut self, rate: Option<f64>, duration: Duration) -> Seen {
        self.shared.see(|seen| *seen = Seen { faults: std::mem::take(&mut seen.faults), ..Seen::default() });
        let Self { runtime, shared, kv, channel, writers, .. } = self;
        let began = Instant::now();
        runtime.block_on(async {
            let (stop, stopped) = watch::channel(false);
            let mut keeping = tokio::task::JoinSet::new();
            let leases = housekeeping::Leases::new(channel.clone(), shared.clone());
            for kind in KINDS.into_iter().cycle().take(shared.pattern.listers) {
                keeping.spawn(housekeeping::list(kind, kv.clone(), shared.clone(), stopped.clone()));
            }
            keeping.spawn(housekeeping::compact(kv.clone(), shared.clone(), stopped.clone()));
            let mut writing = tokio::task::JoinSet::new();
            let count = writers.len();
            for (at, mut writer) in writers.drain(..).enumerate() {
                let (kv, leases) = (kv.clone(), leases.clone());
                // Between two of one writer's, and when its first is due.
                let every = rate.map(|rate| Duration::from_secs_f64(count as f64 / rate));
                let first = every.map_or(Duration::ZERO, |every| every.mul_f64(at as f64 / count as f64));
                writing.spawn(async move {
                    writer.write(kv, leases, (first, every), duration).await;
                    writer
                });
            }
            *writers = writing.join_all().await;
            stop.send_replace(true);
            keeping.join_all().await;
        });
        let seconds = began.elapsed().as_secs_f64();
        self.shared.see(|seen| {
            seen.seconds = seconds;
            seen.lags.sort();
            seen.latencies.sort();
            seen.progress.sort();
            seen.clone()
        })
    }

    /// Waits until the caches are as new as the store, compares them with it, and gives the faults there were.
    pub fn finish(mut self) -> Vec<String> {
        let Self { runtime, shared, kv, caches, .. } = &mut self;
        runtime.block_on(async {
            for cache in caches {
                if let Err(fault) = tokio::time::timeout(SYNC_MAX, cache.compare(kv.clone())).await {
                    shared.see(|seen| seen.fault(|| format!("a cache is not in sync: {fault}")));
                }
            }
        });
        self.shared.see(|seen| std::mem::take(&mut seen.faults))
    }

    /// How many events there are in the store.
    pub fn count_events(&mut self) -> Result<i64, Error> {
        let Self { runtime, kv, .. } = self;
        Ok(runtime.block_on(objects::count(kv, Kind::Events))?)
    }
}
