//! One method's calls: counted, bounded by the client's deadline, errors turned into gRPC's.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::stream::Stream;
use prometheus::IntCounter;
use prost::Message;

use super::{
    asked::Asked,
    message::{Framing, Zipping, framed, prefix},
    status::{self, Status},
};
use crate::{
    api::{Api, Code, Error, Keyspace, List},
    env::{Env, Instant},
    limits, metrics,
    net::http2::{Body, Call, Gone, Reply, Sending},
    state::kv::RangeAnswer,
};

/// A call that has come in for a method.
pub(super) struct Incoming {
    /// Or why it cannot be served.
    pub(super) asked: Result<Asked, Status>,
    pub(super) requests: Requests,
    pub(super) reply: Reply,
}

/// The messages that a client sends.
pub(super) struct Requests {
    body: Body,
    framing: Framing,
}

/// Why there is no (further) outcome of a call.
enum Halt {
    /// The client is told.
    Status(Status),
    /// Nobody is left to be told.
    Gone,
}

impl From<Status> for Halt {
    fn from(status: Status) -> Self {
        Halt::Status(status)
    }
}

impl From<Gone> for Halt {
    fn from(_: Gone) -> Self {
        Halt::Gone
    }
}

impl Requests {
    pub(super) fn new(body: Body, framing: Framing) -> Self {
        Self { body, framing }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Halt>> {
        loop {
            if let Some(message) = self.framing.cut()? {
                return Poll::Ready(Ok(Some(message)));
            }
            match ready!(self.body.poll_data(context)) {
                Some(data) => self.framing.add(data?),
                None if self.framing.is_between_messages() => return Poll::Ready(Ok(None)),
                None => {
                    let text = "grpc: the request ended within a message";
                    return Poll::Ready(Err(Status::new(Code::Internal, text).into()));
                }
            }
        }
    }

    /// The one message of a call that has one; any more are skipped.
    async fn only<Q: Message + Default>(mut self, asked: Result<Asked, Status>) -> Result<(Asked, Q), Halt> {
        let asked = asked?;
        let Some(first) = poll_fn(|context| self.poll_next(context)).await? else {
            return Err(Status::new(Code::Internal, "grpc: the request has no message").into());
        };
        let message = Q::decode(first).map_err(|error| {
            Status::new(Code::Internal, format!("grpc: error unmarshalling request: {error}"))
        })?;
        while poll_fn(|context| self.poll_next(context)).await?.is_some() {}
        Ok((asked, message))
    }
}

/// A method of a service.
pub(super) struct Method<E> {
    env: E,
    counts: Arc<metrics::Method>,
    sent_bytes: IntCounter,
    /// The answer when the client's deadline passes first.
    late: Error,
}

impl<E: Env> Method<E> {
    fn new<K: Keyspace>(
        env: &E,
        api: &Api<K>,
        service: &str,
        method: &str,
        kind: &str,
        late: Error,
    ) -> Rc<Self> {
        let metrics = api.metrics();
        Rc::new(Self {
            env: env.clone(),
            counts: Arc::new(metrics.grpc.method(service, method, kind)),
            sent_bytes: metrics.grpc_sent_bytes.clone(),
            late,
        })
    }

    /// What goes through the log has its own word for late: it may or may not take effect.
    pub(super) fn write<K: Keyspace>(env: &E, api: &Api<K>, service: &str, method: &str) -> Rc<Self> {
        Self::new(env, api, service, method, "unary", Error::Timeout)
    }

    pub(super) fn read<K: Keyspace>(env: &E, api: &Api<K>, service: &str, method: &str) -> Rc<Self> {
        Self::new(env, api, service, method, "unary", Error::DeadlineExceeded)
    }

    pub(super) fn server_stream<K: Keyspace>(env: &E, api: &Api<K>, service: &str, method: &str) -> Rc<Self> {
        Self::new(env, api, service, method, "server_stream", Error::DeadlineExceeded)
    }

    /// Runs a handler that answers a message with a message.
    pub(super) fn unary<K, Q, R>(
        self: &Rc<Self>,
        api: &Api<K>,
        incoming: Incoming,
        handler: impl AsyncFnOnce(&Api<K>, Q) -> Result<R, Error> + 'static,
    ) -> Call
    where
        K: Keyspace,
        Q: Message + Default + 'static,
        R: Message + 'static,
    {
        let (method, api) = (self.clone(), api.clone());
        Box::pin(async move {
            let Some(handled) = method.handle(&api, incoming, handler).await else { return };
            let Handled { running, reply, gzip, answer } = handled;
            match answer.map_err(|error| Status::from(&error)).and_then(|answer| method.framed(&answer, gzip))
            {
                Ok(message) => {
                    running.end(Code::Ok);
                    said(whole(reply, message, gzip));
                }
                Err(status) => {
                    running.end(status.code);
                    refuse(reply, &status);
                }
            }
        })
    }

    /// Runs a handler whose answer may be long: such a one is encoded as the client makes room for it.
    pub(super) fn list<K, Q, L>(
        self: &Rc<Self>,
        api: &Api<K>,
        incoming: Incoming,
        handler: impl AsyncFnOnce(&Api<K>, Q) -> Result<RangeAnswer<L>, Error> + 'static,
    ) -> Call
    where
        K: Keyspace,
        Q: Message + Default + 'static,
        L: List,
    {
        let (method, api) = (self.clone(), api.clone());
        Box::pin(async move {
            let Some(handled) = method.handle(&api, incoming, handler).await else { return };
            let Handled { running, reply, gzip, answer } = handled;
            let prepared = match answer.map_err(|error| Status::from(&error)) {
                Ok(RangeAnswer::Whole(answer)) => method.framed(&answer, gzip).map(Prepared::Whole),
                Ok(RangeAnswer::Long(list)) if gzip => method.gathered(list).await.map(Prepared::Whole),
                Ok(RangeAnswer::Long(list)) => prefix(list.encoded_len()).map(|prefix| {
                    method.count(list.encoded_len());
                    Prepared::Long(prefix, list)
                }),
                Err(status) => Err(status),
            };
            match prepared {
                Ok(Prepared::Whole(message)) => {
                    running.end(Code::Ok);
                    said(whole(reply, message, gzip));
                }
                Ok(Prepared::Long(prefix, list)) => {
                    running.end(Code::Ok);
                    // Boxed: rare, and every call would have to have room for it.
                    said(Box::pin(pieces(reply, prefix, list)).await);
                }
                Err(status) => {
                    running.end(status.code);
                    refuse(reply, &status);
                }
            }
        })
    }

    /// Runs a handler for the one message of a call. `None` if there is nobody left to be told, or it was refused.
    async fn handle<K, Q, R>(
        &self,
        api: &Api<K>,
        incoming: Incoming,
        handler: impl AsyncFnOnce(&Api<K>, Q) -> Result<R, Error>,
    ) -> Option<Handled<'_, E, R>>
    where
        K: Keyspace,
        Q: Message + Default,
    {
        let Incoming { asked, requests, mut reply } = incoming;
        let (asked, request) = match requests.only::<Q>(asked).await {
            Ok(begun) => begun,
            Err(halt) => {
                end(reply, halt);
                return None;
            }
        };
        let running = Running::begin(&self.env, &self.counts);
        let gzip = asked.gzip_answers;
        if let Err(error) = asked.check(api, false) {
            return Some(Handled { running, reply, gzip, answer: Err(error) });
        }
        let mut handling = pin!(handler(api, request));
        let mut timer = asked.timeout.map(|timeout| self.env.sleep(timeout));
        let answer = poll_fn(|context| {
            if let Poll::Ready(answer) = handling.as_mut().poll(context) {
                return Poll::Ready(Ok(answer));
            }
            if is_over(&mut timer, context) {
                return Poll::Ready(Ok(Err(self.late.clone())));
            }
            reply.poll_gone(context).map(Err)
        });
        match answer.await {
            Ok(answer) => Some(Handled { running, reply, gzip, answer }),
            Err(Gone) => None,
        }
    }

    /// Runs a handler that answers a message with a stream of them.
    pub(super) fn stream<K, Q, R, S>(
        self: &Rc<Self>,
        api: &Api<K>,
        incoming: Incoming,
        handler: impl FnOnce(&Api<K>, Q) -> Result<S, Error> + 'static,
    ) -> Call
    where
        K: Keyspace,
        Q: Message + Default + 'static,
        R: Message + 'static,
        S: Stream<Item = Result<R, Error>> + 'static,
    {
        let (method, api) = (self.clone(), api.clone());
        Box::pin(async move {
            let Incoming { asked, requests, reply } = incoming;
            let (asked, request) = match requests.only::<Q>(asked).await {
                Ok(begun) => begun,
                Err(halt) => return end(reply, halt),
            };
            let running = Running::begin(&method.env, &method.counts);
            let answers = match asked.check(&api, true).and_then(|()| handler(&api, request)) {
                Ok(answers) => answers,
                Err(error) => {
                    let status = Status::from(&error);
                    running.end(status.code);
                    return refuse(reply, &status);
                }
            };
            let mut way = Way::Closed(reply);
            match method.answer(&asked, pin!(answers), &mut way).await {
                Ok(()) => {
                    running.end(Code::Ok);
                    said(
                        way.open(asked.gzip_answers).and_then(|sending| sending.trailers(status::success())),
                    );
                }
                Err(Halt::Status(status)) => {
                    running.end(status.code);
                    match way {
                        Way::Closed(reply) => refuse(reply, &status),
                        Way::Open(sending) => said(sending.trailers(status.trailers())),
                        Way::Lost => {}
                    }
                }
                Err(Halt::Gone) => {}
            }
        })
    }

    /// Sends all answers, each once the client has made room for it.
    async fn answer<R: Message>(
        &self,
        asked: &Asked,
        mut answers: Pin<&mut impl Stream<Item = Result<R, Error>>>,
        way: &mut Way,
    ) -> Result<(), Halt> {
        let mut timer = asked.timeout.map(|timeout| self.env.sleep(timeout));
        loop {
            let next = poll_fn(|context| {
                if is_over(&mut timer, context) {
                    return Poll::Ready(Ok(Some(Err(self.late.clone()))));
                }
                match answers.as_mut().poll_next(context) {
                    Poll::Ready(next) => Poll::Ready(Ok(next)),
                    Poll::Pending => way.poll_gone(context).map(Err),
                }
            });
            let Some(answer) = next.await? else { return Ok(()) };
            let answer = answer.map_err(|error| Status::from(&error))?;
            let message = self.framed(&answer, asked.gzip_answers)?;
            drop(answer);
            way.opened(asked.gzip_answers)?.send(message).await?;
        }
    }

    fn framed<R: Message>(&self, answer: &R, gzip: bool) -> Result<Bytes, Status> {
        let len = answer.encoded_len();
        let message = framed(answer, len, gzip)?;
        self.count(len);
        Ok(message)
    }

    /// A long answer, compressed: its length is known only then.
    async fn gathered(&self, mut list: impl List) -> Result<Bytes, Status> {
        let len = list.encoded_len();
        let (mut zipping, mut pieces) = (Zipping::new(), Vec::new());
        let mut more = true;
        while more {
            more = next(&mut list, limits::RANGE_ZIPPED_BYTES, &mut pieces).await?;
            pieces.drain(..).for_each(|piece| zipping.add(&piece));
        }
        let message = zipping.finish()?;
        self.count(len);
        Ok(message)
    }

    fn count(&self, len: usize) {
        self.counts.sent.inc();
        self.sent_bytes.inc_by(len as u64);
    }
}

/// A call that has its answer.
struct Handled<'a, E: Env, R> {
    running: Running<'a, E>,
    reply: Reply,
    gzip: bool,
    answer: Result<R, Error>,
}

/// An answer that will be sent.
enum Prepared<L> {
    Whole(Bytes),
    /// With the prefix of its message.
    Long(Bytes, L),
}

fn whole(reply: Reply, message: Bytes, gzip: bool) -> Result<(), Gone> {
    let mut sending = reply.begin(status::head(gzip))?;
    sending.queue(message, false)?;
    sending.trailers(status::success())
}

/// Sends an answer piece by piece, each made once the client has room for some of it.
async fn pieces(reply: Reply, prefix: Bytes, mut list: impl List) -> Result<(), Gone> {
    let mut sending = reply.begin(status::head(false))?;
    sending.queue(prefix, false)?;
    let (mut pieces, mut more) = (Vec::new(), true);
    while more {
        sending.room(limits::RANGE_PIECE_BYTES).await?;
        more = match next(&mut list, limits::RANGE_PIECE_BYTES, &mut pieces).await {
            Ok(more) => more,
            // Of the message a part is sent already.
            Err(status) => return sending.trailers(status.trailers()),
        };
        for piece in pieces.drain(..) {
            sending.send(piece).await?;
        }
    }
    sending.trailers(status::success())
}

async fn next(list: &mut impl List, bytes: usize, pieces: &mut Vec<Bytes>) -> Result<bool, Status> {
    list.next(bytes, pieces).await.map_err(|error| Status::from(&Error::from(error)))
}

/// The way back of a stream: its head leaves with the first answer.
enum Way {
    Closed(Reply),
    Open(Sending),
    /// The head could not be sent.
    Lost,
}

impl Way {
    fn opened(&mut self, gzip: bool) -> Result<&mut Sending, Gone> {
        if let Way::Closed(_) = self
            && let Way::Closed(reply) = std::mem::replace(self, Way::Lost)
        {
            *self = Way::Open(reply.begin(status::head(gzip))?);
        }
        match self {
            Way::Open(sending) => Ok(sending),
            Way::Closed(_) | Way::Lost => Err(Gone),
        }
    }

    fn open(mut self, gzip: bool) -> Result<Sending, Gone> {
        self.opened(gzip)?;
        match self {
            Way::Open(sending) => Ok(sending),
            Way::Closed(_) | Way::Lost => Err(Gone),
        }
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<Gone> {
        match self {
            Way::Closed(reply) => reply.poll_gone(context),
            Way::Open(sending) => sending.poll_gone(context),
            Way::Lost => Poll::Ready(Gone),
        }
    }
}

fn is_over(timer: &mut Option<impl Future<Output = ()> + Unpin>, context: &mut Context<'_>) -> bool {
    timer.as_mut().is_some_and(|timer| Pin::new(timer).poll(context).is_ready())
}

/// Ends a call that has not been answered yet.
fn end(reply: Reply, halt: Halt) {
    match halt {
        Halt::Status(status) => refuse(reply, &status),
        Halt::Gone => {}
    }
}

/// Ends a call without success.
pub(super) fn refuse(reply: Reply, status: &Status) {
    said(reply.finish(status.head()));
}

/// A client need not wait for its answer.
fn said(sent: Result<(), Gone>) {
    if let Err(Gone) = sent {
        tracing::debug!("the client did not wait for an answer");
    }
}

/// A call that has begun: counted as cancelled unless it ends otherwise.
struct Running<'a, E: Env> {
    env: &'a E,
    counts: &'a metrics::Method,
    /// Only where handling time is measured.
    since: Option<Instant>,
    code: Code,
}

impl<'a, E: Env> Running<'a, E> {
    fn begin(env: &'a E, counts: &'a metrics::Method) -> Self {
        counts.started.inc();
        counts.received.inc();
        let since = counts.seconds.as_ref().map(|_| env.now());
        Self { env, counts, since, code: Code::Canceled }
    }

    fn end(mut self, code: Code) {
        self.code = code;
    }
}

impl<E: Env> Drop for Running<'_, E> {
    fn drop(&mut self) {
        self.counts.handled(self.code as usize);
        if let (Some(seconds), Some(since)) = (&self.counts.seconds, self.since) {
            seconds.observe(self.env.now().since(since).as_secs_f64());
        }
    }
}
