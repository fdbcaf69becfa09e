//! Watches open on both servers while calls go on: streams, what came on each, and whether it was the same.
//!
//! Responses are taken apart: what a watch saw is a row of events, however a server cut them into messages. A message must
//! keep some rules by itself, and at a progress notification everything up to its revision must have come.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bench_harness::pb::{
    etcdserverpb::{self as pb, watch_client::WatchClient, watch_request::RequestUnion},
    mvccpb::Event,
};
use futures_util::stream;
use tokio::sync::mpsc;

use super::{
    call::{shown, with_token},
    pair::{Pair, Peer},
};

/// How long a server may take to say something.
const PATIENCE: Duration = Duration::from_secs(15);
/// Progress is asked for again after so long: a server that is not through drops the question.
const ASKED_AGAIN: Duration = Duration::from_millis(30);
const POLLED: Duration = Duration::from_millis(1);
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a watch saw, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    Created { canceled: bool, reason: String, compact_revision: i64 },
    Event(Event),
    Canceled { reason: String, compact_revision: i64 },
}

#[derive(Debug, Default)]
struct Record {
    /// By the watch's id.
    seen: BTreeMap<i64, Vec<Seen>>,
    created: usize,
    /// Of those created, the ones that never began.
    failed: usize,
    /// The id of the one created last.
    newest: i64,
    canceled: usize,
    /// Revisions of answers to requests for progress.
    progress: Vec<i64>,
    wrong: Vec<String>,
    ended: Option<String>,
    /// A revision cut by fragments goes on.
    fragments: bool,
}

impl Record {
    fn take(&mut self, response: pb::WatchResponse) {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        let id = response.watch_id;
        if self.fragments && (response.created || response.canceled || response.events.is_empty()) {
            self.wrong.push(format!("something else between fragments: {}", shown(&response)));
        }
        let continued = std::mem::replace(&mut self.fragments, response.fragment);
        let seen = self.seen.entry(id).or_default();
        let last = seen.iter().rev().find_map(|seen| match seen {
            Seen::Event(event) => event.kv.as_ref().map(|kv| kv.mod_revision),
            Seen::Created { .. } | Seen::Canceled { .. } => None,
        });
        let news = response.events.iter().filter_map(|event| event.kv.as_ref()).map(|kv| kv.mod_revision);
        let again = matches!(seen.last(), Some(Seen::Created { .. }) | None);
        let split = |first: i64, last: i64| first < last || first == last && !continued;
        if !again && news.clone().next().is_some_and(|first| last.is_some_and(|last| split(first, last))) {
            self.wrong.push(format!("not after revision {last:?}: {}", shown(&response)));
        }
        if news.clone().max().is_some_and(|newest| newest > revision) {
            self.wrong.push(format!("a header older than an event: {}", shown(&response)));
        }
        let nothing = response.events.is_empty() && !response.created && !response.canceled;
        if nothing && id == -1 {
            self.progress.push(revision);
        }
        let (reason, compact_revision) = (response.cancel_reason, response.compact_revision);
        if response.created {
            self.created += 1;
            self.newest = id;
            self.failed += usize::from(response.canceled);
            seen.push(Seen::Created { canceled: response.canceled, reason, compact_revision });
        } else if response.canceled {
            self.canceled += 1;
            seen.push(Seen::Canceled { reason, compact_revision });
        }
        seen.extend(response.events.into_iter().map(Seen::Event));
    }
}

/// One server's end of a stream.
struct End {
    requests: mpsc::UnboundedSender<pb::WatchRequest>,
    record: Arc<Mutex<Record>>,
    reader: tokio::task::JoinHandle<()>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl End {
    fn open(peer: &Peer, client: usize) -> Self {
        let (requests, incoming) = mpsc::unbounded_channel();
        let record = Arc::new(Mutex::new(Record::default()));
        let connection = &peer.connections[client];
        let mut watch =
            WatchClient::new(connection.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let (token, taken) = (connection.token(), Arc::clone(&record));
        let reader = tokio::spawn(async move {
            let incoming = stream::unfold(incoming, async |mut incoming| {
                incoming.recv().await.map(|request| (request, incoming))
            });
            let ended = match watch.watch(with_token(Box::pin(incoming), token.as_deref())).await {
                Ok(answers) => {
                    let mut answers = answers.into_inner();
                    loop {
                        match answers.message().await {
                            Ok(Some(response)) => taken.lock().expect("no panic").take(response),
                            Ok(None) => break "ended".to_owned(),
                            Err(status) => break format!("{status:?}"),
                        }
                    }
                }
                Err(status) => format!("{:?} {}", status.code(), status.message()),
            };
            taken.lock().expect("no panic").ended = Some(ended);
        });
        Self { requests, record, reader }
    }

    fn send(&self, request: RequestUnion) {
        // One whose stream has ended is found by its record.
        if self.requests.send(pb::WatchRequest { request_union: Some(request) }).is_err() {
            self.record.lock().expect("no panic").ended.get_or_insert("not read".to_owned());
        }
    }

    fn ask<T>(&self, question: impl FnOnce(&Record) -> T) -> T {
        question(&self.record.lock().expect("no panic"))
    }
}

/// A stream to both.
pub struct Stream {
    ends: [End; 2],
    created: usize,
    canceled: usize,
    /// Where each watch starts, by its id.
    starts: BTreeMap<i64, i64>,
    /// Questions for progress that were not answered, of each: dropped, or answered later.
    unanswered: [usize; 2],
    /// All that was created, for who wants to know why it does not settle.
    asked_for: Vec<pb::WatchCreateRequest>,
}

impl Stream {
    pub fn open(pair: &Pair, client: usize) -> Self {
        let ends = pair.both().map(|peer| End::open(peer, client));
        let starts = BTreeMap::new();
        Self { ends, created: 0, canceled: 0, starts, unanswered: [0; 2], asked_for: Vec::new() }
    }

    /// Creates a watch and waits until both have answered; and until they have ended it again, if it starts in what was
    /// compacted.
    pub async fn create(&mut self, request: pb::WatchCreateRequest, compacted: i64) -> Result<(), String> {
        let ends = request.start_revision > 0 && request.start_revision < compacted;
        let before = self.ends[0].ask(|record| record.failed);
        let start = request.start_revision;
        self.ends.iter().for_each(|end| end.send(RequestUnion::CreateRequest(request.clone())));
        self.created += 1;
        self.asked_for.push(request);
        let wanted = self.created;
        self.both("a watch is created", |record| record.created >= wanted).await?;
        if self.ends[0].ask(|record| record.failed) > before {
            return Ok(());
        }
        self.starts.insert(self.ends[0].ask(|record| record.newest), start);
        if ends {
            self.canceled += 1;
            self.cancelled().await?;
        }
        Ok(())
    }

    async fn cancelled(&self) -> Result<(), String> {
        let wanted = self.canceled;
        self.both("a watch is cancelled", |record| record.canceled >= wanted).await
    }

    /// Cancels a watch that there is, and waits until both have answered.
    pub async fn cancel(&mut self, watch_id: i64) -> Result<(), String> {
        let request = RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id });
        self.canceled += 1;
        self.ends.iter().for_each(|end| end.send(request.clone()));
        self.cancelled().await
    }

    /// Cancels one that there is not, which nobody answers.
    pub fn cancel_nothing(&self, watch_id: i64) {
        let request = RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id });
        self.ends.iter().for_each(|end| end.send(request.clone()));
    }

    async fn both(&self, what: &str, done: impl Fn(&Record) -> bool) -> Result<(), String> {
        let since = Instant::now();
        while !self.ends.iter().all(|end| end.ask(&done)) {
            let ended = self.ends.each_ref().map(|end| end.ask(|record| record.ended.clone()));
            if since.elapsed() > PATIENCE || ended.iter().any(Option::is_some) {
                let done = self.ends.each_ref().map(|end| end.ask(&done));
                return Err(format!("upstream and tested until {what}: {done:?}, streams ended: {ended:?}"));
            }
            tokio::time::sleep(POLLED).await;
        }
        Ok(())
    }

    /// Watches that start after a revision. They hold progress back until then.
    pub fn yet_to_begin(&self, revision: i64) -> Vec<i64> {
        let mut open = self.ids().0;
        open.retain(|id| self.starts.get(id).is_some_and(|start| *start > revision));
        open
    }

    /// Everything up to a revision has come on both, and was the same. Then it may be forgotten.
    pub async fn settled(&mut self, revision: i64) -> Result<bool, String> {
        // What has come yet may be more here than there, and nobody says so.
        if !self.yet_to_begin(revision).is_empty() {
            return Ok(false);
        }
        // It holds progress back until it is cancelled once more.
        for id in self.ids().1 {
            self.cancel(id).await?;
        }
        self.same_up_to(revision).await.map(|()| true)
    }

    async fn same_up_to(&mut self, revision: i64) -> Result<(), String> {
        // Nobody says how far a stream is that has no watch.
        if self.ids().0.is_empty() {
            return self.differences().map_or(Ok(()), Err);
        }
        // Answers to questions of before may come yet. One that says an older revision is known by that; any other is as
        // good as the one that is waited for.
        let allowed = self.unanswered;
        let asked = self.ends.each_ref().map(|end| end.ask(|record| record.progress.len()));
        let answer = |place: usize| {
            self.ends[place].ask(|record| {
                let mut said = record.progress[asked[place]..].iter().copied();
                let late = said.clone().take_while(|said| *said < revision).take(allowed[place]).count();
                said.nth(late)
            })
        };
        let mut questions = [0; 2];
        let since = Instant::now();
        let mut waiting = [true; 2];
        while waiting != [false; 2] {
            for (place, end) in self.ends.iter().enumerate() {
                if waiting[place] && answer(place).is_none() {
                    end.send(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
                    questions[place] += 1;
                }
            }
            let again = Instant::now();
            while waiting != [false; 2] && again.elapsed() < ASKED_AGAIN {
                for (place, waiting) in waiting.iter_mut().enumerate() {
                    *waiting = *waiting && answer(place).is_none();
                }
                tokio::time::sleep(POLLED).await;
            }
            let ended = self.ends.each_ref().map(|end| end.ask(|record| record.ended.clone()));
            if since.elapsed() > PATIENCE || ended.iter().any(Option::is_some) {
                let seen = self.differences().unwrap_or_else(|| "what they saw is the same".to_owned());
                let seen = format!("{seen}; created: {:?}", self.asked_for);
                return Err(format!(
                    "no progress from upstream, from tested: {waiting:?}, streams ended: {ended:?}; {seen}"
                ));
            }
        }
        let progress = [answer(0), answer(1)];
        for (place, unanswered) in self.unanswered.iter_mut().enumerate() {
            let answers = self.ends[place].ask(|record| record.progress.len()) - asked[place];
            *unanswered = (*unanswered + questions[place]).saturating_sub(answers);
        }
        if progress.iter().any(|said| *said != Some(revision)) {
            return Err(format!("progress at revision {revision}: {progress:?}"));
        }
        self.differences().map_or(Ok(()), Err)
    }

    /// The first watch that did not see the same.
    fn differences(&self) -> Option<String> {
        let [upstream, tested] = self.ends.each_ref().map(|end| end.record.lock().expect("no panic"));
        if let Some(wrong) = tested.wrong.first().or(upstream.wrong.first()) {
            return Some(wrong.clone());
        }
        let ids = upstream.seen.keys().chain(tested.seen.keys());
        for id in ids {
            let nothing = Vec::new();
            let [left, right] = [&upstream, &tested].map(|record| record.seen.get(id).unwrap_or(&nothing));
            if left == right {
                continue;
            }
            let same = left.iter().zip(right).take_while(|(a, b)| a == b).count();
            let next = |seen: &[Seen]| seen.get(same).map(shown);
            return Some(format!(
                "watch {id}: after {same} of upstream's {} and tested's {}, upstream saw {:?}, tested {:?}",
                left.len(),
                right.len(),
                next(left),
                next(right)
            ));
        }
        None
    }

    /// Ids of watches that are open, and of those that the server ended for a compaction.
    pub fn ids(&self) -> (Vec<i64>, Vec<i64>) {
        self.ends[0].ask(|record| {
            let of = |which: fn(&Seen) -> bool| {
                let ids = record.seen.iter().filter(|(id, _)| **id != -1);
                ids.filter(|(_, seen)| {
                    seen.iter().rev().find(|s| !matches!(s, Seen::Event(_))).is_some_and(which)
                })
                .map(|(id, _)| *id)
                .collect()
            };
            let compacted = |seen: &Seen| matches!(seen, Seen::Canceled { compact_revision: 1.., .. });
            (of(|seen| matches!(seen, Seen::Created { canceled: false, .. })), of(compacted))
        })
    }

    /// Kinds and revisions of all events that upstream sent and are not forgotten, watch after watch.
    pub fn events(&self) -> Vec<(i32, i64)> {
        let kind_and_revision = |seen: &Seen| match seen {
            Seen::Event(event) => event.kv.as_ref().map(|kv| (event.r#type, kv.mod_revision)),
            Seen::Created { .. } | Seen::Canceled { .. } => None,
        };
        self.ends[0].ask(|record| record.seen.values().flatten().filter_map(kind_and_revision).collect())
    }

    /// Why watches of upstream's were cancelled.
    pub fn reasons(&self) -> Vec<String> {
        let reason = |seen: &Seen| match seen {
            Seen::Created { reason, .. } | Seen::Canceled { reason, .. } => Some(reason.clone()),
            Seen::Event(_) => None,
        };
        self.ends[0].ask(|record| record.seen.values().flatten().filter_map(reason).collect())
    }

    pub fn forget(&mut self) {
        for end in &self.ends {
            let mut record = end.record.lock().expect("no panic");
            for seen in record.seen.values_mut().filter(|seen| !seen.is_empty()) {
                let news = seen.iter().rposition(|seen| !matches!(seen, Seen::Event(_))).unwrap_or(0);
                let last = seen.len() - 1;
                *seen = if news < last {
                    vec![seen[news].clone(), seen[last].clone()]
                } else {
                    vec![seen[news].clone()]
                };
            }
            record.progress.clear();
        }
    }
}
