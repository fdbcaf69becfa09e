//! A call that waits until others give way: for a lock, or to be elected.
//!
//! Whether it still must wait is told by the keys, which are in the order in which their owners came.

use std::time::{Duration, Instant};

use bench_harness::{pb::etcdserverpb as pb, prom};
use bytes::Bytes;
use tokio::task::JoinHandle;

use super::{
    call::{Answer, Call, shown},
    pair::{NOBODY, Pair},
};

const PATIENCE: Duration = Duration::from_secs(15);
const POLLED: Duration = Duration::from_millis(2);
/// For upstream to have it follow; if other watches come and go meanwhile, that is not seen.
const FOLLOWS_MAX: Duration = Duration::from_secs(1);
const WATCHERS: &str = "etcd_debugging_mvcc_watcher_total";
const SLOW_WATCHERS: &str = "etcd_debugging_mvcc_slow_watcher_total";

pub struct Waiting {
    client: usize,
    call: Call,
    answers: [JoinHandle<Answer>; 2],
    /// Of all who want the same, and of this one.
    prefix: Bytes,
    key: Bytes,
    /// When its key came, in upstream's revisions.
    since: i64,
    /// Upstream tells it of all that comes from now on: it reads nothing from history any more.
    follows: bool,
}

/// As the servers name the key of a lease.
pub fn key(name: &[u8], lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    Bytes::from([name, format!("/{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat())
}

/// Upstream's watchers, and those of them that are behind.
fn watchers(pair: &Pair) -> Result<(u64, u64), String> {
    let scrape = prom::scrape(pair.upstream.server.addr()).map_err(|error| error.to_string())?;
    let gauge = |name| scrape.value(name, &[]).map(|value| value as u64).ok_or(format!("no {name}"));
    Ok((gauge(WATCHERS)?, gauge(SLOW_WATCHERS)?))
}

impl Waiting {
    /// Sends the call to both, and waits until it waits or is done.
    pub async fn begin(pair: &Pair, client: usize, call: Call) -> Result<Self, String> {
        let (name, lease) = match &call {
            Call::Lock(r) => (&r.name, r.lease),
            Call::Campaign(r) => (&r.name, r.lease),
            other => unreachable!("{} does not wait", other.name()),
        };
        let (prefix, key) = (Bytes::from([&name[..], b"/"].concat()), key(name, lease));
        let before = watchers(pair)?;
        let answers = pair.both().map(|peer| peer.begin(client, call.clone()));
        let mut waiting = Self { client, call, answers, prefix, key, since: 0, follows: false };
        let since = Instant::now();
        loop {
            let done = waiting.answers.each_ref().map(JoinHandle::is_finished);
            let there = waiting.there(pair).await;
            if (done[0] || there[0].is_some()) && (done[1] || there[1].is_some()) {
                waiting.since = there[0].unwrap_or(0);
                let since = Instant::now();
                while !waiting.answers[0].is_finished() && !waiting.follows && since.elapsed() < FOLLOWS_MAX {
                    let now = watchers(pair)?;
                    waiting.follows = now == (before.0 + 1, 0);
                    tokio::time::sleep(POLLED).await;
                }
                return Ok(waiting);
            }
            if since.elapsed() > PATIENCE {
                return Err(format!("neither waits nor is done, upstream and tested: {done:?}, {there:?}"));
            }
            tokio::time::sleep(POLLED).await;
        }
    }

    /// Since when its key is there, on each.
    async fn there(&self, pair: &Pair) -> [Option<i64>; 2] {
        let key = self.key.clone();
        let call = Call::Range(pb::RangeRequest { key, ..Default::default() });
        let (upstream, tested) = pair.answers(NOBODY, &call).await;
        [upstream, tested].map(|answer| match answer {
            Answer::Range(r) => r.kvs.first().map(|kv| kv.create_revision),
            _ => None,
        })
    }

    /// Whether history may be compacted without upstream losing sight of it.
    pub fn follows(&self) -> bool {
        self.follows
    }

    pub fn since(&self) -> i64 {
        self.since
    }

    /// Whether somebody is before this one, as upstream has it.
    pub async fn must_wait(&self, pair: &Pair, reader: usize) -> bool {
        let mut end = self.prefix.to_vec();
        *end.last_mut().expect("a slash") += 1;
        let call = Call::Range(pb::RangeRequest {
            key: self.prefix.clone(),
            range_end: end.into(),
            ..Default::default()
        });
        let (upstream, _) = pair.answers(reader, &call).await;
        let Answer::Range(all) = upstream else { return false };
        all.kvs.iter().any(|kv| kv.create_revision < self.since)
    }

    /// Both answers, which must come now.
    pub async fn end(self, pair: &Pair) -> Result<(usize, Call, Answer, Answer), String> {
        let Self { client, call, answers: [upstream, tested], .. } = self;
        let came = tokio::time::timeout(PATIENCE, async { (upstream.await, tested.await) }).await;
        match came {
            Ok((Ok(upstream), Ok(tested))) => {
                let answers = (pair.upstream.end(upstream), pair.tested.end(tested));
                Ok((client, call, answers.0, answers.1))
            }
            _ => Err(format!("nobody is before it, and yet it waits: {}", shown(&call))),
        }
    }

    /// The client goes away, and with it its place in the line.
    pub async fn give_up(self, pair: &Pair) -> Result<(), String> {
        self.answers.iter().for_each(JoinHandle::abort);
        let since = Instant::now();
        loop {
            let there = self.there(pair).await;
            if there == [None; 2] {
                return Ok(());
            }
            if since.elapsed() > PATIENCE {
                return Err(format!("who gave up has a place in the line still: {there:?}"));
            }
            tokio::time::sleep(POLLED).await;
        }
    }
}
