//! One method's calls: counted, bounded by the client's deadline, errors turned into gRPC's.

mod feed;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use prometheus::IntCounter;
use prost::Message;

use super::{
    Incoming,
    answers::{Halt, Way, end, pieces, refuse, whole},
    asked::Asked,
    deadline::is_over,
    framing::{framed, prefix},
    status::Status,
};
use crate::{
    env::{Env, Instant},
    metrics,
    protocol::exchange::Reply,
    service::{
        Api, Caller, Code, Error, Method, Requests,
        slow::{Answered, Excerpt, Measured},
    },
    shard::AnswerReader,
    state::kv::Answer,
};

/// What the calls of a method have in common.
pub(super) struct Calls<E> {
    env: E,
    api: Api,
    method: Method,
    counts: Arc<metrics::Method>,
    sent_bytes: IntCounter,
}

impl<E: Env> Calls<E> {
    pub(super) fn new(env: &E, api: &Api, method: Method, kind: &str) -> Self {
        let metrics = api.metrics();
        Self {
            env: env.clone(),
            api: api.clone(),
            method,
            counts: Arc::new(metrics.grpc.method(method.service, method.name, kind)),
            sent_bytes: metrics.grpc_sent_bytes.clone(),
        }
    }

    /// Runs a handler that answers a message with a message.
    ///
    /// A block, not an async function: those have room for what they are given twice.
    #[expect(clippy::manual_async_fn, reason = "an async function is half as large again")]
    pub(super) fn unary<Q, R>(
        self: Rc<Self>,
        mut incoming: Incoming,
        handler: impl AsyncFn(&Api, &Caller, Q) -> Result<R, Error>,
    ) -> impl Future<Output = ()>
    where
        Q: Message + Default,
        R: Message + 'static,
    {
        async move {
            let handled = self.handle(&mut incoming, &handler, Measured::of).await;
            let Handled { running, gzip, answer } = match handled {
                Ok(handled) => handled,
                Err(halt) => return end(incoming.reply, halt),
            };
            match answer.map_err(|error| Status::from(&error)).and_then(|answer| self.framed(&answer, gzip)) {
                Ok(message) => {
                    running.end(Code::Ok);
                    whole(incoming.reply, message, gzip);
                }
                Err(status) => {
                    running.end(status.code);
                    refuse(incoming.reply, &status);
                }
            }
        }
    }

    /// Runs a handler whose answer may be long: such a one is encoded as the client makes room for it.
    pub(super) fn long<Q, R>(
        self: Rc<Self>,
        mut incoming: Incoming,
        handler: impl AsyncFn(&Api, &Caller, Q) -> Result<Answer<R, AnswerReader>, Error>,
    ) -> impl Future<Output = ()>
    where
        Q: Message + Default,
        R: Message + 'static,
    {
        let measure = |answer: &Answer<R, AnswerReader>| match answer {
            Answer::Whole(answer) => Measured::of(answer),
            Answer::Long(long) => Measured::long(long.encoded_len()),
        };
        async move {
            let Handled { running, gzip, answer } = match self.handle(&mut incoming, &handler, measure).await
            {
                Ok(handled) => handled,
                Err(halt) => return end(incoming.reply, halt),
            };
            let prepared = match answer.map_err(|error| Status::from(&error)) {
                Ok(Answer::Whole(answer)) => self.framed(&answer, gzip).map(Prepared::Whole),
                Ok(Answer::Long(long)) => self.prefix(&long).map(|prefix| Prepared::Long(prefix, long)),
                Err(status) => Err(status),
            };
            match prepared {
                Ok(Prepared::Whole(message)) => {
                    running.end(Code::Ok);
                    whole(incoming.reply, message, gzip);
                }
                Ok(Prepared::Long(prefix, long)) => {
                    running.end(Code::Ok);
                    // Boxed: rare, and every call would have to have room for it.
                    Box::pin(pieces(incoming.reply, prefix, long, gzip)).await;
                }
                Err(status) => {
                    running.end(status.code);
                    refuse(incoming.reply, &status);
                }
            }
        }
    }

    /// Runs a handler that answers a message with a stream of them.
    pub(super) async fn server_stream<Q, R, S>(
        self: Rc<Self>,
        incoming: Incoming,
        handler: impl Fn(&Api, &Caller, Q) -> Result<S, Error>,
    ) where
        Q: Message + Default,
        R: Message,
        S: Stream<Item = Result<R, Error>>,
    {
        let whole = |api: &Api, caller: &Caller, request| {
            handler(api, caller, request).map(|answers| answers.map_ok(Answer::Whole))
        };
        self.long_stream(incoming, whole).await;
    }

    /// Runs a handler that answers a message with a stream of them, which may be long.
    pub(super) async fn long_stream<Q, R, S>(
        self: Rc<Self>,
        incoming: Incoming,
        handler: impl Fn(&Api, &Caller, Q) -> Result<S, Error>,
    ) where
        Q: Message + Default,
        R: Message,
        S: Stream<Item = Result<Answer<R, AnswerReader>, Error>>,
    {
        let Incoming { connection, asked, messages, reply } = incoming;
        let asked = match asked {
            Ok(asked) => asked,
            Err(status) => return refuse(reply, &status),
        };
        let mut timer = asked.timeout.map(|timeout| self.env.sleep(timeout));
        let mut messages = messages.expect("nobody has read them");
        let (request, _charge) = match messages.only::<Q>(&self.method, &mut timer, |_| {}).await {
            Ok(read) => read,
            Err(halt) => return end(reply, halt),
        };
        drop(messages);
        let running = Running::begin(&self.env, &self.counts);
        self.counts.received.inc();
        let caller = asked.caller(&self.env, connection);
        self.meet(&caller).await;
        let answers = self.admit(&asked, true, &caller).and_then(|()| handler(&self.api, &caller, request));
        self.answer(running, (&asked, timer), &caller, answers, reply).await;
    }

    /// Runs a handler that answers messages with messages.
    pub(super) async fn both<Q, R, S>(
        self: Rc<Self>,
        incoming: Incoming,
        handler: impl Fn(&Api, &Caller, Requests<Q>) -> Result<S, Error>,
    ) where
        Q: Message + Default + 'static,
        R: Message,
        S: Stream<Item = Result<R, Error>>,
    {
        let Some((begun, answers)) = self.begin_both(incoming, handler).await else { return };
        let answers = answers.map(|answers| answers.map_ok(Answer::Whole));
        let Begun { running, asked, timer, caller, reply } = begun;
        self.answer(running, (&asked, timer), &caller, answers, reply).await;
    }

    /// Begins a call with messages both ways: `None` if it was refused.
    async fn begin_both<Q: Message + Default + 'static, S>(
        &self,
        incoming: Incoming,
        handler: impl Fn(&Api, &Caller, Requests<Q>) -> Result<S, Error>,
    ) -> Option<(Begun<'_, E>, Result<S, Error>)> {
        let Incoming { connection, asked, messages, reply } = incoming;
        let asked = match asked {
            Ok(asked) => asked,
            Err(status) => {
                refuse(reply, &status);
                return None;
            }
        };
        let timer = asked.timeout.map(|timeout| self.env.sleep(timeout));
        let running = Running::begin(&self.env, &self.counts);
        let caller = asked.caller(&self.env, connection);
        self.meet(&caller).await;
        let messages = messages.expect("nobody has read them");
        let requests = Requests::new(messages.decoded(self.counts.clone()));
        let answers = self.admit(&asked, true, &caller).and_then(|()| handler(&self.api, &caller, requests));
        Some((Begun { running, asked, timer, caller, reply }, answers))
    }

    fn admit(&self, asked: &Asked, is_stream: bool, caller: &Caller) -> Result<(), Error> {
        self.api.admit(&self.method, is_stream, caller, asked.client_version())
    }

    /// Whoever shows a token that another member gave just now is not a stranger.
    async fn meet(&self, caller: &Caller) {
        if !self.api.knows(caller) {
            // Boxed: rare, and every call would have to have room for it.
            Box::pin(self.api.catch_up()).await;
        }
    }

    /// Runs a handler for the one message of a call. It is refused, or there is nobody left to be told, if it does not come
    /// so far.
    async fn handle<Q, R>(
        &self,
        incoming: &mut Incoming,
        handler: &impl AsyncFn(&Api, &Caller, Q) -> Result<R, Error>,
        measure: impl FnOnce(&R) -> Measured,
    ) -> Result<Handled<'_, E, R>, Halt>
    where
        Q: Message + Default,
    {
        let Incoming { connection, asked, messages, reply } = incoming;
        let asked = match asked {
            Ok(asked) => &*asked,
            Err(status) => return Err(status.clone().into()),
        };
        let mut timer = asked.timeout.map(|timeout| self.env.sleep(timeout));
        let mut excerpt = Excerpt::default();
        let look = |message: &[u8]| excerpt.take(message);
        let read =
            messages.as_mut().expect("nobody has read them").only(&self.method, &mut timer, look).await;
        *messages = None;
        let (request, _charge) = read?;
        let began = self.env.roughly();
        let running = Running::begin(&self.env, &self.counts);
        self.counts.received.inc();
        let gzip = asked.gzip_answers;
        let caller = asked.caller(&self.env, connection.clone());
        self.meet(&caller).await;
        if let Err(error) = self.admit(asked, false, &caller) {
            return Ok(Handled { running, gzip, answer: Err(error) });
        }
        let mut handling = pin!(handler(&self.api, &caller, request));
        let answer = poll_fn(|context| {
            if let Poll::Ready(answer) = handling.as_mut().poll(context) {
                return Poll::Ready(Ok(answer));
            }
            if is_over(&mut timer, context) {
                return Poll::Ready(Ok(Err(self.method.late())));
            }
            reply.poll_gone(context).map(Err)
        });
        let answer = answer.await?;
        let took = self.env.roughly().since(began);
        if self.api.options().patience.is_over(took) {
            let answer = answer.as_ref().map(measure);
            let began = self.env.wall().saturating_sub(took);
            self.api.tell_of(&self.method, &caller, Answered { began, took, request: &excerpt, answer });
        }
        Ok(Handled { running, gzip, answer })
    }

    /// Sends a stream of answers to its end.
    async fn answer<R: Message>(
        &self,
        running: Running<'_, E>,
        (asked, timer): (&Asked, Option<E::Sleep>),
        caller: &Caller,
        answers: Result<impl Stream<Item = Result<Answer<R, AnswerReader>, Error>>, Error>,
        reply: Reply,
    ) {
        let answers = match answers {
            Ok(answers) => answers,
            Err(error) => {
                let status = Status::from(&error);
                running.end(status.code);
                return refuse(reply, &status);
            }
        };
        let mut way = Way::Closed(reply);
        let gzip = asked.gzip_answers;
        let sent = self.in_time(timer, caller, self.send_all(answers, gzip, &mut way)).await;
        running.finish(sent, way, gzip);
    }

    /// For as long as the client's deadline has not passed, there is a leader if the client wants one and, with an endless
    /// method, the server goes on.
    async fn in_time(
        &self,
        mut timer: Option<E::Sleep>,
        caller: &Caller,
        sending: impl Future<Output = Result<(), Halt>>,
    ) -> Result<(), Halt> {
        let mut sending = pin!(sending);
        let mut leaderless = caller.needs_leader.then(|| self.api.leaderless().given());
        let mut stopping = self.method.endless.then(|| caller.stopping().given());
        poll_fn(|context| {
            let halted = if is_over(&mut timer, context) {
                self.method.late()
            } else if is_over(&mut stopping, context) {
                Error::Stopped
            } else if is_over(&mut leaderless, context) {
                Error::NoLeader
            } else {
                return sending.as_mut().poll(context);
            };
            Poll::Ready(Err(Status::from(&halted).into()))
        })
        .await
    }

    /// Sends all answers, each once the client has made room for it; until then the next one is not asked for.
    async fn send_all<R: Message>(
        &self,
        answers: impl Stream<Item = Result<Answer<R, AnswerReader>, Error>>,
        gzip: bool,
        way: &mut Way,
    ) -> Result<(), Halt> {
        let mut answers = pin!(answers);
        loop {
            let next = poll_fn(|context| match answers.as_mut().poll_next(context) {
                Poll::Ready(next) => Poll::Ready(Ok(next)),
                Poll::Pending => way.poll_gone(context).map(Err),
            });
            let Some(answer) = next.await? else { return Ok(()) };
            match answer.map_err(|error| Status::from(&error))? {
                Answer::Whole(answer) => {
                    let message = self.framed(&answer, gzip)?;
                    drop(answer);
                    way.send(message, gzip).await?;
                }
                Answer::Long(long) => {
                    let prefix = self.prefix(&long)?;
                    // Boxed: rare, and every call would have to have room for it.
                    Box::pin(way.send_long(prefix, long, gzip)).await?;
                }
            }
        }
    }

    fn framed<R: Message>(&self, answer: &R, gzip: bool) -> Result<Bytes, Status> {
        let len = answer.encoded_len();
        let message = framed(answer, len, gzip)?;
        self.count(len);
        Ok(message)
    }

    /// What precedes a long answer. It is never compressed: its length would be known only once all of it is.
    fn prefix(&self, long: &AnswerReader) -> Result<Bytes, Status> {
        let prefix = prefix(long.encoded_len())?;
        self.count(long.encoded_len());
        Ok(prefix)
    }

    fn count(&self, len: usize) {
        self.counts.sent.inc();
        self.sent_bytes.inc_by(len as u64);
    }
}

/// A call with messages both ways.
struct Begun<'a, E: Env> {
    running: Running<'a, E>,
    asked: Asked,
    timer: Option<E::Sleep>,
    caller: Caller,
    reply: Reply,
}

/// A call that has its answer.
struct Handled<'a, E: Env, R> {
    running: Running<'a, E>,
    gzip: bool,
    answer: Result<R, Error>,
}

/// An answer that will be sent.
enum Prepared {
    Whole(Bytes),
    /// With the prefix of its message.
    Long(Bytes, AnswerReader),
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
        let since = counts.seconds.as_ref().map(|_| env.now());
        Self { env, counts, since, code: Code::Canceled }
    }

    fn end(mut self, code: Code) {
        self.code = code;
    }

    /// The end of a stream of answers.
    fn finish(self, sent: Result<(), Halt>, way: Way, gzip: bool) {
        match sent {
            Ok(()) => {
                self.end(Code::Ok);
                way.end(Ok(()), gzip);
            }
            Err(Halt::Status(status)) => {
                self.end(status.code);
                way.end(Err(&status), gzip);
            }
            Err(Halt::Gone) => {}
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{env::sim::SimEnv, service::kv};

    /// Of what a call of the method is while it is under way.
    fn bytes<F>(_: impl FnOnce(Rc<Calls<SimEnv>>, Incoming) -> F) -> usize {
        size_of::<F>()
    }

    /// A thousand of them are under way with a thousand clients, and each is copied to its place when it begins.
    #[test]
    fn calls_are_small() {
        let put = bytes(|calls, incoming| calls.unary(incoming, kv::put));
        let range = bytes(|calls, incoming| calls.long(incoming, kv::range));
        assert!(put <= 1_600, "a put takes {put} bytes");
        assert!(range <= 3_500, "a range takes {range} bytes");
    }
}
