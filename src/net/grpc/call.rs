//! One method's calls: counted, bounded by the client's deadline, errors turned into gRPC's.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Poll, ready},
    time::{Duration, Instant},
};

use futures_util::stream::{Stream, poll_fn};
use glommio::timer::Timer;
use prometheus::IntCounter;
use prost::Message;
use send_wrapper::SendWrapper;
use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::deadline;
use crate::{
    api::{Api, Code, Error, Keyspace},
    metrics::Method,
};

/// The messages of a streamed answer. tonic wants `Send`, though they stay on one core.
pub(super) type Answers<R> = SendWrapper<Pin<Box<dyn Stream<Item = Result<R, Status>>>>>;

/// A method of a service.
pub(super) struct Call {
    method: Arc<Method>,
    sent_bytes: IntCounter,
    /// The answer when the client's deadline passes first.
    late: Error,
}

impl Call {
    fn new<K: Keyspace>(api: &Api<K>, service: &str, method: &str, kind: &str, late: Error) -> Self {
        let metrics = api.metrics();
        Self {
            method: Arc::new(metrics.grpc.method(service, method, kind)),
            sent_bytes: metrics.grpc_sent_bytes.clone(),
            late,
        }
    }

    /// What goes through the log has its own word for late: it may or may not take effect.
    pub(super) fn write<K: Keyspace>(api: &Api<K>, service: &str, method: &str) -> Self {
        Self::new(api, service, method, "unary", Error::Timeout)
    }

    pub(super) fn read<K: Keyspace>(api: &Api<K>, service: &str, method: &str) -> Self {
        Self::new(api, service, method, "unary", Error::DeadlineExceeded)
    }

    pub(super) fn server_stream<K: Keyspace>(api: &Api<K>, service: &str, method: &str) -> Self {
        Self::new(api, service, method, "server_stream", Error::DeadlineExceeded)
    }

    /// Runs a handler on a request.
    pub(super) fn unary<K, Q, R, F>(
        &self,
        api: &Api<K>,
        request: Request<Q>,
        handler: impl FnOnce(Q) -> F,
    ) -> impl Future<Output = Result<Response<R>, Status>> + Send
    where
        K: Keyspace,
        R: Message,
        F: Future<Output = Result<R, Error>>,
    {
        SendWrapper::new(async move {
            let running = Running::begin(&self.method);
            let (metadata, _, message) = request.into_parts();
            let asked = Asked::of(&metadata);
            let answer = match asked.check(api, false) {
                Err(error) => Err(error),
                Ok(()) => {
                    let late = async {
                        asked.timer().await;
                        Err(self.late.clone())
                    };
                    futures_lite::future::or(handler(message), late).await
                }
            };
            match answer {
                Ok(message) => {
                    self.method.sent.inc();
                    self.sent_bytes.inc_by(message.encoded_len() as u64);
                    running.end(Code::Ok);
                    Ok(Response::new(message))
                }
                Err(error) => {
                    running.end(error.grpc().0);
                    Err(status(&error))
                }
            }
        })
    }

    /// Starts a handler that answers with a stream.
    pub(super) fn stream<K, Q, R, S>(
        &self,
        api: &Api<K>,
        request: Request<Q>,
        handler: impl FnOnce(Q) -> Result<S, Error>,
    ) -> Result<Response<Answers<R>>, Status>
    where
        K: Keyspace,
        R: Message,
        S: Stream<Item = Result<R, Error>> + 'static,
    {
        let running = Running::begin(&self.method);
        let (metadata, _, message) = request.into_parts();
        let asked = Asked::of(&metadata);
        let answers = match asked.check(api, true).and_then(|()| handler(message)) {
            Ok(answers) => answers,
            Err(error) => {
                running.end(error.grpc().0);
                return Err(status(&error));
            }
        };
        let mut answers = Box::pin(answers);
        let mut timer = asked.timeout.map(Timer::new);
        let mut running = Some(running);
        let (late, sent_bytes) = (self.late.clone(), self.sent_bytes.clone());
        let counted = poll_fn(move |context| {
            let Some(call) = &running else { return Poll::Ready(None) };
            let overdue = timer.as_mut().is_some_and(|timer| Pin::new(timer).poll(context).is_ready());
            let next =
                if overdue { Some(Err(late.clone())) } else { ready!(answers.as_mut().poll_next(context)) };
            let (code, answer) = match next {
                Some(Ok(message)) => {
                    call.method.sent.inc();
                    sent_bytes.inc_by(message.encoded_len() as u64);
                    return Poll::Ready(Some(Ok(message)));
                }
                Some(Err(error)) => (error.grpc().0, Some(Err(status(&error)))),
                None => (Code::Ok, None),
            };
            if let Some(call) = running.take() {
                call.end(code);
            }
            Poll::Ready(answer)
        });
        Ok(Response::new(SendWrapper::new(Box::pin(counted))))
    }
}

/// A call that has begun: counted as cancelled unless it ends otherwise.
struct Running {
    method: Arc<Method>,
    /// Only where handling time is measured.
    since: Option<Instant>,
    code: Code,
}

impl Running {
    fn begin(method: &Arc<Method>) -> Self {
        method.started.inc();
        method.received.inc();
        let since = method.seconds.as_ref().map(|_| Instant::now());
        Self { method: method.clone(), since, code: Code::Canceled }
    }

    fn end(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.method.handled(self.code as usize);
        if let (Some(seconds), Some(since)) = (&self.method.seconds, self.since) {
            seconds.observe(since.elapsed().as_secs_f64());
        }
    }
}

/// What a client's metadata asks for. One pass over the few headers of a call: looking each up by
/// name costs more.
#[derive(Default)]
struct Asked<'a> {
    client_version: Option<&'a [u8]>,
    leader: bool,
    timeout: Option<Duration>,
}

impl<'a> Asked<'a> {
    /// The first of each name counts.
    fn of(metadata: &'a MetadataMap) -> Self {
        let mut asked = Asked::default();
        let mut timeout = None;
        let mut leader = None;
        for (name, value) in metadata.as_ref() {
            let slot = match name.as_str() {
                "client-api-version" => &mut asked.client_version,
                "grpc-timeout" => &mut timeout,
                "hasleader" => &mut leader,
                _ => continue,
            };
            slot.get_or_insert(value.as_bytes());
        }
        asked.leader = leader == Some(b"true");
        asked.timeout = deadline::parse(timeout);
        asked
    }

    /// What etcd's interceptors look at before any handler runs.
    fn check<K: Keyspace>(&self, api: &Api<K>, stream: bool) -> Result<(), Error> {
        let version = match self.client_version {
            None => "unknown",
            Some(version) => std::str::from_utf8(version).map_err(|_| Error::InvalidClientApiVersion)?,
        };
        api.metrics().client_requests.count(version, stream);
        if self.leader { api.require_leader() } else { Ok(()) }
    }

    /// Until the client's deadline, for ever if it gave none.
    async fn timer(&self) {
        match self.timeout {
            Some(timeout) => drop(Timer::new(timeout).await),
            None => std::future::pending().await,
        }
    }
}

fn status(error: &Error) -> Status {
    let (code, text) = error.grpc();
    Status::new(tonic::Code::from_i32(code as i32), text)
}
