//! Leases as a load: many are granted, some are kept alive on one stream, and how late they end is read from the server's
//! own count.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};

use crate::admin::Error;
use crate::pb::etcdserverpb as pb;
use crate::prom;
use crate::requests::Receiving;
use pb::lease_client::LeaseClient;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECTIONS: usize = 10;
/// Keepalives of one stream that are not answered yet.
const IN_FLIGHT: usize = 256;
/// How often the server is asked how many are gone.
const LOOK: Duration = Duration::from_millis(50);
const REVOKED: &str = "etcd_debugging_lease_revoked_total";

/// What came of granting.
#[derive(Debug, Default)]
pub struct Granted {
    pub seconds: f64,
    /// Sorted.
    pub latencies: Vec<Duration>,
    pub ids: Vec<i64>,
    /// Before which none may end, sorted.
    pub ends: Vec<Instant>,
}

/// What came of keeping alive.
#[derive(Debug)]
pub struct Renewed {
    pub seconds: f64,
    pub renewals: u64,
}

/// How leases ended.
#[derive(Debug, Default)]
pub struct Ended {
    /// After their time, sorted; to the next look.
    pub lags: Vec<Duration>,
    pub early: u64,
    /// Those that were still there when nobody waited any longer.
    pub left: u64,
}

#[derive(Debug)]
pub struct Leases {
    runtime: Runtime,
    channels: Vec<Channel>,
    addr: SocketAddr,
}

impl Leases {
    pub fn connect(addr: SocketAddr) -> Result<Self, Error> {
        let io = |source| Error::Io { what: "start a runtime".to_owned(), source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io)?;
        let endpoint = Endpoint::from_shared(format!("http://{addr}"))?.connect_timeout(CONNECT_TIMEOUT);
        let channels = runtime.block_on(async {
            let mut channels = Vec::new();
            for _ in 0..CONNECTIONS {
                channels.push(endpoint.connect().await?);
            }
            Ok::<_, tonic::transport::Error>(channels)
        })?;
        Ok(Self { runtime, channels, addr })
    }

    /// So many leases by so many clients at a time; `ttl` says the seconds of one that is asked for now.
    pub fn grant(
        &self,
        count: u64,
        clients: usize,
        ttl: impl Fn() -> i64 + Send + Sync + 'static,
    ) -> Result<Granted, Error> {
        let (next, ttl) = (Arc::new(AtomicU64::new(0)), Arc::new(ttl));
        let since = Instant::now();
        let mut granted = self.runtime.block_on(async {
            let client = |number: usize| {
                let (next, ttl) = (next.clone(), ttl.clone());
                let mut client = LeaseClient::new(self.channels[number % CONNECTIONS].clone());
                tokio::spawn(async move {
                    let mut granted = Granted::default();
                    while next.fetch_add(1, Ordering::Relaxed) < count {
                        let (sent, ttl) = (Instant::now(), ttl());
                        let answer =
                            client.lease_grant(pb::LeaseGrantRequest { id: 0, ttl }).await?.into_inner();
                        granted.latencies.push(sent.elapsed());
                        granted.ids.push(answer.id);
                        granted.ends.push(sent + Duration::from_secs(answer.ttl.unsigned_abs()));
                    }
                    Ok::<_, tonic::Status>(granted)
                })
            };
            let clients: Vec<_> = (0..clients).map(client).collect();
            let mut all = Granted::default();
            for client in clients {
                let granted = client.await.expect("a client does not panic")?;
                all.latencies.extend(granted.latencies);
                all.ids.extend(granted.ids);
                all.ends.extend(granted.ends);
            }
            Ok::<_, tonic::Status>(all)
        })?;
        granted.seconds = since.elapsed().as_secs_f64();
        granted.latencies.sort();
        granted.ends.sort();
        Ok(granted)
    }

    /// Renews these, one after the other, on one stream, for so long.
    pub fn keep_alive(&self, ids: &[i64], duration: Duration) -> Result<Renewed, Error> {
        let renewed = self.runtime.block_on(async {
            let (ask, asked) = mpsc::channel(IN_FLIGHT);
            let mut client = LeaseClient::new(self.channels[0].clone());
            let mut next = ids.iter().copied().cycle();
            for _ in 0..IN_FLIGHT {
                let id = next.next().expect("there are leases");
                ask.send(pb::LeaseKeepAliveRequest { id }).await.expect("the stream is not over");
            }
            let mut answers = client.lease_keep_alive(Receiving(asked)).await?.into_inner();
            let (since, mut renewals) = (Instant::now(), 0);
            while since.elapsed() < duration {
                let answer = answers.message().await?.ok_or(Error::KeepAliveEnded)?;
                renewals += u64::from(answer.ttl > 0);
                let id = next.next().expect("there are leases");
                if ask.send(pb::LeaseKeepAliveRequest { id }).await.is_err() {
                    // Nobody sends any more; why, the answers say.
                    continue;
                }
            }
            Ok::<_, Error>(Renewed { seconds: since.elapsed().as_secs_f64(), renewals })
        })?;
        Ok(renewed)
    }

    /// How many were revoked since the server began.
    pub fn revoked(&self) -> Result<u64, Error> {
        let scrape = prom::scrape(self.addr).map_err(|error| Error::Io {
            what: "read the metrics".to_owned(),
            source: std::io::Error::other(error.to_string()),
        })?;
        Ok(scrape.value(REVOKED, &[]).ok_or(Error::NoSeries(REVOKED))? as u64)
    }

    /// Waits until those that end then are gone, at most so long after the last of them; `before` were gone earlier.
    pub fn watch(&self, ends: &[Instant], before: u64, patience: Duration) -> Result<Ended, Error> {
        let mut ended = Ended::default();
        let last = *ends.last().expect("there are leases");
        let mut seen = 0;
        while seen < ends.len() && last.elapsed() < patience {
            std::thread::sleep(LOOK);
            let now = Instant::now();
            let gone = (self.revoked()?.saturating_sub(before) as usize).min(ends.len());
            for end in &ends[seen..gone.max(seen)] {
                // The server may have looked a little later than `now`.
                ended.early += u64::from(*end > Instant::now());
                ended.lags.push(now.saturating_duration_since(*end));
            }
            seen = gone.max(seen);
        }
        ended.left = (ends.len() - seen) as u64;
        ended.lags.extend(ends[seen..].iter().map(Instant::elapsed));
        ended.lags.sort();
        Ok(ended)
    }
}
