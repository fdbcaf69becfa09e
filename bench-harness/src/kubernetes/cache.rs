//! The watch cache of one kind: a list, then every change of it, in order and with what was there before.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tonic::transport::Channel;

use super::Shared;
use super::objects::{self, Kind};
use crate::admin::Error;
use crate::pb::{etcdserverpb as pb, mvccpb::event::EventType};
use crate::requests::Receiving;
use pb::kv_client::KvClient;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;

/// How often a cache that waits looks again.
const LOOK: Duration = Duration::from_millis(20);
/// Requests that wait to be sent.
const QUEUE: usize = 64;

/// What it knows.
#[derive(Default)]
struct Known {
    /// By key: the revision.
    objects: HashMap<bytes::Bytes, i64>,
    /// Everything up to there was seen.
    revision: i64,
    /// When progress was asked for and has not come yet.
    asked: VecDeque<Instant>,
    is_open: bool,
}

pub struct Cache {
    kind: Kind,
    shared: Shared,
    known: Arc<Mutex<Known>>,
}

impl Cache {
    pub async fn open(
        kind: Kind,
        channel: &Channel,
        mut kv: KvClient<Channel>,
        shared: &Shared,
    ) -> Result<Self, Error> {
        let range = pb::RangeRequest {
            key: kind.prefix().into(),
            range_end: kind.end().into(),
            ..Default::default()
        };
        let list = kv.range(range).await?.into_inner();
        let revision = list.header.as_ref().map_or(0, |header| header.revision);
        let objects = list.kvs.into_iter().map(|kv| (kv.key, kv.mod_revision)).collect();
        let known = Arc::new(Mutex::new(Known { objects, revision, ..Known::default() }));
        let create = pb::WatchCreateRequest {
            key: kind.prefix().into(),
            range_end: kind.end().into(),
            start_revision: revision + 1,
            prev_kv: true,
            progress_notify: true,
            ..Default::default()
        };
        let (requests, queue) = mpsc::channel(QUEUE);
        let send = |union| pb::WatchRequest { request_union: Some(union) };
        requests.try_send(send(RequestUnion::CreateRequest(create))).expect("there is room");
        let mut request = tonic::Request::new(Receiving(queue));
        request.metadata_mut().insert("hasleader", "true".parse().expect("ASCII"));
        let mut client = WatchClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
        let mut answers = client.watch(request).await?.into_inner();
        let created = answers.message().await?;
        if !created.is_some_and(|created| created.created && !created.canceled) {
            return Err(tonic::Status::unknown("the watch was not created").into());
        }
        let cache = Self { kind, shared: shared.clone(), known };
        cache.with(|known| known.is_open = true);
        let (asking, every) = (cache.clone(), shared.pattern.progress_every);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                asking.with(|known| known.asked.push_back(Instant::now()));
                let progress = send(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
                if requests.send(progress).await.is_err() {
                    return;
                }
            }
        });
        let watching = cache.clone();
        tokio::spawn(async move {
            loop {
                match answers.message().await {
                    Ok(Some(answer)) => watching.take(answer),
                    Ok(None) => return watching.end("its stream has ended".to_owned()),
                    Err(status) => return watching.end(format!("its stream has failed: {status}")),
                }
            }
        });
        Ok(cache)
    }

    fn clone(&self) -> Self {
        Self { kind: self.kind, shared: self.shared.clone(), known: self.known.clone() }
    }

    fn with<T>(&self, with: impl FnOnce(&mut Known) -> T) -> T {
        with(&mut self.known.lock().expect("nobody panics with it"))
    }

    fn end(&self, why: String) {
        self.with(|known| known.is_open = false);
        self.fault(why);
    }

    fn fault(&self, what: String) {
        let kind = self.kind;
        self.shared.see(|seen| seen.fault(|| format!("the cache of {kind:?}: {what}")));
    }

    fn take(&self, answer: pb::WatchResponse) {
        let revision = answer.header.as_ref().map_or(0, |header| header.revision);
        if answer.canceled {
            return self.end(format!("cancelled: {}", answer.cancel_reason));
        }
        if answer.events.is_empty() {
            return self.progress(answer.watch_id, revision);
        }
        let now = self.shared.nanos();
        let mut lags = Vec::with_capacity(answer.events.len());
        let mut faults = Vec::new();
        self.with(|known| {
            for event in &answer.events {
                let Some(kv) = &event.kv else {
                    faults.push("an event of nothing".to_owned());
                    continue;
                };
                if kv.mod_revision < known.revision {
                    faults.push(format!("an event of {} after {}", kv.mod_revision, known.revision));
                }
                known.revision = known.revision.max(kv.mod_revision);
                let before = if event.r#type() == EventType::Delete {
                    known.objects.remove(&kv.key)
                } else {
                    lags.extend(
                        objects::sent(&kv.value).map(|sent| Duration::from_nanos(now.saturating_sub(sent))),
                    );
                    known.objects.insert(kv.key.clone(), kv.mod_revision)
                };
                let told = event.prev_kv.as_ref().map(|kv| kv.mod_revision);
                if told != before {
                    faults.push(format!(
                        "before {} there was {before:?}, and it says {told:?}",
                        kv.mod_revision
                    ));
                }
            }
        });
        faults.into_iter().for_each(|fault| self.fault(fault));
        self.shared.see(|seen| {
            seen.events += answer.events.len() as u64;
            seen.lags.append(&mut lags);
        });
    }

    /// Everything up to this revision was seen.
    fn progress(&self, watch_id: i64, revision: i64) {
        let (asked, before) = self.with(|known| {
            let before = known.revision;
            known.revision = before.max(revision);
            (if watch_id == -1 { known.asked.pop_front() } else { None }, before)
        });
        if revision < before {
            self.fault(format!("progress to {revision} after {before}"));
        }
        if let Some(asked) = asked {
            let took = asked.elapsed();
            self.shared.see(|seen| seen.progress.push(took));
        }
    }

    /// Once it has seen all there is: whether it has the same objects as the store.
    pub async fn compare(&self, mut kv: KvClient<Channel>) {
        loop {
            let range = pb::RangeRequest {
                key: self.kind.prefix().into(),
                range_end: self.kind.end().into(),
                keys_only: true,
                ..Default::default()
            };
            let list = match kv.range(range).await {
                Ok(list) => list.into_inner(),
                Err(status) => return self.fault(format!("the store cannot be read: {status}")),
            };
            let revision = list.header.as_ref().map_or(0, |header| header.revision);
            while self.with(|known| known.revision < revision) {
                if !self.with(|known| known.is_open) {
                    return;
                }
                tokio::time::sleep(LOOK).await;
            }
            // Beyond it there are ends of events that the list has still seen.
            if self.with(|known| known.revision > revision) {
                continue;
            }
            let stored: HashMap<_, _> = list.kvs.into_iter().map(|kv| (kv.key, kv.mod_revision)).collect();
            if self.with(|known| known.objects != stored) {
                let known = self.with(|known| known.objects.len());
                self.fault(format!("at {revision} it has {known} objects, and the store {}", stored.len()));
            }
            return;
        }
    }
}
