//! `etcdserverpb.Watch`: streams of watches (etcd v3.7 `api/v3rpc/watch.go`).
//!
//! What is watched and what there is to tell is the shard's; here are names, texts and headers. Watches go on when the
//! client has said that it will ask for nothing more.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::Stream;
use prost::Message;

use super::{Api, Caller, Error, Outgoing, Requests};
use crate::{
    limits,
    metrics::CODES,
    pb::etcdserverpb::{
        self as pb, WatchCreateRequest, WatchResponse, watch_create_request::FilterType,
        watch_request::RequestUnion,
    },
    shard::{Duplicate, EmptyRange, Feed, Keys, Pieces, Taste, Told, Wanted},
    state::{
        self,
        auth::{Access, Refusal},
    },
};

/// Stands for no watch, or for all of a stream.
const NO_WATCH: i64 = -1;

const DUPLICATE: &str = "mvcc: duplicate watch ID provided on the WatchStream";
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";

type Timer = Pin<Box<dyn Future<Output = ()>>>;

/// Watches as the client creates and cancels them, until it leaves.
pub fn watch(
    api: &Api,
    caller: &Caller,
    requests: Requests<pb::WatchRequest>,
) -> Result<impl Stream<Item = Result<Outgoing<WatchResponse>, Error>> + 'static + use<>, Error> {
    let interval = api.options().watch_progress_interval;
    // So that not all streams that began together speak up together.
    let spread = u64::try_from(interval.as_nanos() / 10).unwrap_or(u64::MAX).max(1);
    let jitter = Duration::from_nanos(api.shard().random_u64() % spread);
    Ok(Watching {
        feed: api.shard_of(caller).feed(),
        api: api.clone(),
        caller: caller.clone(),
        requests: Some(requests),
        ready: VecDeque::new(),
        is_requests_turn: true,
        notice_interval: interval + jitter,
        notice: None,
        is_over: false,
    })
}

/// In etcd's words, which have gRPC's before them. It knows a few reasons; all others are one.
fn refusal(error: Error) -> String {
    let known = [Refusal::InvalidToken, Refusal::OldRevision, Refusal::UserEmpty];
    let error = match error {
        Error::Apply(state::Error::Auth(refusal)) if known.contains(&refusal) => error,
        _ => Error::from(Refusal::PermissionDenied),
    };
    let (code, text) = error.grpc();
    format!("rpc error: code = {} desc = {text}", CODES[code as usize])
}

struct Watching {
    api: Api,
    caller: Caller,
    feed: Feed,
    /// None once the client has said everything.
    requests: Option<Requests<pb::WatchRequest>>,
    ready: VecDeque<Outgoing<WatchResponse>>,
    /// Requests and what there is to tell take turns.
    is_requests_turn: bool,
    notice_interval: Duration,
    /// Runs once a watch wants notices.
    notice: Option<Timer>,
    is_over: bool,
}

impl Stream for Watching {
    type Item = Result<Outgoing<WatchResponse>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let next = self.poll(context);
        self.is_over = matches!(next, Poll::Ready(Err(_)));
        next.map(Some)
    }
}

impl Watching {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Outgoing<WatchResponse>, Error>> {
        let mut unanswered = 0;
        loop {
            if let Some(next) = self.ready.pop_front() {
                return Poll::Ready(Ok(next));
            }
            let mut waits = true;
            if self.is_requests_turn && !self.feed.is_in_message() {
                match self.poll_request(context) {
                    Poll::Ready(Ok(request)) => {
                        self.is_requests_turn = false;
                        self.take(request)?;
                        unanswered += 1;
                        if self.ready.is_empty() && unanswered == limits::WATCH_REQUESTS_UNANSWERED {
                            context.waker().wake_by_ref();
                            return Poll::Pending;
                        }
                        continue;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {}
                }
            } else {
                waits = self.feed.is_in_message();
            }
            self.is_requests_turn = true;
            self.poll_notice(context);
            match self.feed.poll_next(context) {
                Poll::Ready(told) => self.say(told?)?,
                Poll::Pending if waits => return Poll::Pending,
                Poll::Pending => {}
            }
        }
    }

    fn poll_request(&mut self, context: &mut Context<'_>) -> Poll<Result<pb::WatchRequest, Error>> {
        let Some(requests) = &mut self.requests else { return Poll::Pending };
        match Pin::new(requests).poll_next(context) {
            Poll::Ready(Some(request)) => Poll::Ready(request),
            Poll::Ready(None) => {
                self.requests = None;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_notice(&mut self, context: &mut Context<'_>) {
        while let Some(notice) = &mut self.notice
            && notice.as_mut().poll(context).is_ready()
        {
            self.feed.notify();
            self.notice = Some(Box::pin(self.api.shard().sleep(self.notice_interval)));
        }
    }

    fn take(&mut self, request: pb::WatchRequest) -> Result<(), Error> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => {
                let response = self.create(create)?;
                self.ready.push_back(response.into());
            }
            Some(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id })) => {
                if self.feed.cancel(watch_id)? {
                    let header = self.header(self.revision());
                    let response = WatchResponse { header, watch_id, canceled: true, ..Default::default() };
                    self.ready.push_back(response.into());
                }
            }
            Some(RequestUnion::ProgressRequest(_)) => self.feed.ask_for_progress(),
            None => tracing::info!("invalid watch request type <nil> received in gRPC stream"),
        }
        Ok(())
    }

    fn create(&mut self, request: WatchCreateRequest) -> Result<WatchResponse, Error> {
        if request.start_revision < 0 {
            let (_, text) = Error::Apply(state::Error::Compacted).grpc();
            return Ok(self.refused(&text));
        }
        if let Err(error) = self.may_watch(&request) {
            return Ok(self.refused(&refusal(error)));
        }
        let keys = match Keys::new(&request.key, &request.range_end) {
            Ok(keys) => keys,
            Err(EmptyRange) => return Ok(self.refused(EMPTY_RANGE)),
        };
        let has = |filter| request.filters.contains(&(filter as i32));
        let taste = Taste {
            puts: !has(FilterType::Noput),
            deletes: !has(FilterType::Nodelete),
            prior: request.prev_kv,
        };
        let wanted = Wanted {
            id: request.watch_id,
            keys,
            taste,
            start: request.start_revision,
            notify: request.progress_notify,
            fragment: request.fragment,
        };
        let watch_id = match self.feed.create(wanted)? {
            Ok(id) => id,
            Err(Duplicate) => return Ok(self.refused(DUPLICATE)),
        };
        if request.progress_notify && self.notice.is_none() {
            self.notice = Some(Box::pin(self.api.shard().sleep(self.notice_interval)));
        }
        let header = self.header(self.revision());
        Ok(WatchResponse { header, watch_id, created: true, ..Default::default() })
    }

    /// Looked at when a watch is created and not again, as in etcd.
    fn may_watch(&self, request: &WatchCreateRequest) -> Result<(), Error> {
        let who = self.api.who(&self.caller)?;
        let key = if request.key.is_empty() { &[0] } else { &request.key[..] };
        self.api.shard().with_state(|state| state.asking(&who).may(Access::Read, key, &request.range_end))?;
        Ok(())
    }

    fn refused(&self, text: &str) -> WatchResponse {
        WatchResponse {
            header: self.header(self.revision()),
            watch_id: NO_WATCH,
            created: true,
            canceled: true,
            cancel_reason: text.to_owned(),
            ..Default::default()
        }
    }

    fn revision(&self) -> i64 {
        self.api.shard().revision().0
    }

    fn header(&self, revision: i64) -> Option<pb::ResponseHeader> {
        let mut header = pb::ResponseHeader { revision, ..Default::default() };
        self.api.fill_without_revision(&mut header);
        Some(header)
    }

    fn say(&mut self, told: Told) -> Result<(), Error> {
        match told {
            Told::Events { id, revision, events, fragment, more } => {
                let header = self.header(revision);
                let response = WatchResponse { header, watch_id: id, fragment: more, ..Default::default() };
                if fragment {
                    self.say_in_fragments(response, events);
                } else {
                    self.ready.push_back(Outgoing::Message(response, events));
                }
            }
            Told::Begin { id, revision, bytes, .. } => {
                let header = self.header(revision);
                let response = WatchResponse { header, watch_id: id, ..Default::default() };
                self.ready.push_back(Outgoing::Begin(response, bytes));
            }
            Told::Piece(pieces) => self.ready.push_back(Outgoing::Piece(pieces)),
            Told::Compacted { id, compacted } => {
                let header = self.header(0);
                let response = WatchResponse {
                    header,
                    watch_id: id,
                    canceled: true,
                    compact_revision: compacted,
                    ..Default::default()
                };
                self.ready.push_back(response.into());
            }
            Told::Progress { id, revision } => {
                let (header, watch_id) = (self.header(revision), id.unwrap_or(NO_WATCH));
                self.ready.push_back(WatchResponse { header, watch_id, ..Default::default() }.into());
            }
            Told::Broken => return Err(state::Error::Compacted.into()),
        }
        Ok(())
    }

    /// Each but the last says that it is not all, and has as many events as fit, one at least (`sendFragments`).
    fn say_in_fragments(&mut self, response: WatchResponse, events: Pieces) {
        let max = self.api.options().max_request_bytes + limits::GRPC_OVERHEAD_BYTES;
        let bytes = |events: &[bytes::Bytes]| events.iter().map(bytes::Bytes::len).sum::<usize>();
        if response.encoded_len() + bytes(&events) < max || events.len() < 2 {
            self.ready.push_back(Outgoing::Message(response, events));
            return;
        }
        let part = WatchResponse { fragment: true, ..response.clone() };
        let head = part.encoded_len();
        let mut gathered = Pieces::new();
        let mut len = head;
        for event in events {
            if !gathered.is_empty() && len + event.len() >= max {
                let events = std::mem::take(&mut gathered);
                self.ready.push_back(Outgoing::Message(part.clone(), events));
                len = head;
            }
            len += event.len();
            gathered.push(event);
        }
        self.ready.push_back(Outgoing::Message(response, gathered));
    }
}
