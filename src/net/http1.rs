//! HTTP/1.1: hyper's state machine on our socket, for the plain endpoints only. gRPC needs HTTP/2.

mod host;

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_lite::future::or;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response,
    body::Incoming,
    rt::{Read, ReadBufCursor, Write},
    server::conn::http1,
    service::Service,
};
use send_wrapper::SendWrapper;

use super::{
    connections::{Permit, Phase},
    socket::Socket,
};
use crate::{
    env::{self, Env, StdClock, StdInstant},
    limits,
    protocol::{
        Surface,
        http::{self, Endpoints},
    },
};

/// A client that has begun a request must finish its head within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves one connection to its end. A listener without plain endpoints knows no path.
pub(super) async fn serve<E: Env>(
    env: &E,
    endpoints: Endpoints,
    surface: Option<Surface>,
    socket: Socket<impl env::Socket>,
    permit: &Permit,
) -> Result<(), hyper::Error> {
    let front = Front { env: env.clone(), endpoints, surface };
    let mut settings = http1::Builder::new();
    settings.timer(Timers::new(env)).header_read_timeout(HEAD_TIMEOUT).max_buf_size(limits::HTTP1_HEAD_BYTES);
    let mut connection = pin!(settings.serve_connection(Stream(socket), front));
    let mut draining = false;
    poll_fn(|context| {
        match permit.poll_phase(context) {
            Phase::Serving => {}
            Phase::Draining | Phase::Parting if draining => {}
            Phase::Draining | Phase::Parting => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            Phase::Closing => return Poll::Ready(Ok(())),
        }
        connection.as_mut().poll(context)
    })
    .await
}

/// What hyper calls for each request of a connection.
struct Front<E> {
    env: E,
    endpoints: Endpoints,
    surface: Option<Surface>,
}

impl<E: Env> Service<Request<Incoming>> for Front<E> {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (env, endpoints, surface) = (self.env.clone(), self.endpoints.clone(), self.surface);
        Box::pin(async move {
            let (head, body) = request.into_parts();
            if let Some(refusal) = host::refusal(&head) {
                return Ok(refusal.map(Full::new));
            }
            let body = match http::reads_body(surface, &head) {
                true => whole(&env, body).await,
                false => Bytes::new(),
            };
            Ok(http::answer(&endpoints, surface, &head, body).await.map(Full::new))
        })
    }
}

/// One that is too long, or does not come to its end in time, is none and makes as little sense.
async fn whole<E: Env>(env: &E, body: Incoming) -> Bytes {
    let body = async { Limited::new(body, limits::HTTP1_BODY_BYTES).collect().await.ok() };
    let late = async {
        env.sleep(limits::MESSAGE_WAIT).await;
        None
    };
    or(body, late).await.map_or_else(Bytes::new, |body| body.to_bytes())
}

struct Stream<S>(Socket<S>);

impl<S: env::Socket> Read for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // SAFETY: nothing is uninitialised by this, `Socket` only writes into the memory and nobody reads
        // what it has not written.
        let buffer = unsafe {
            let unfilled = cursor.as_mut();
            std::slice::from_raw_parts_mut(unfilled.as_mut_ptr().cast::<u8>(), unfilled.len())
        };
        let read = ready!(self.0.poll_read(context, buffer))?;
        // SAFETY: `Socket` has written this many bytes.
        unsafe { cursor.advance(read) };
        Poll::Ready(Ok(()))
    }
}

impl<S: env::Socket> Write for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is held back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_close(context)
    }
}

/// The environment's timers in the shape hyper asks for: `Send + Sync`, though they never leave their core.
struct Timers<E>(SendWrapper<StdClock<E>>);

impl<E: Env> Timers<E> {
    fn new(env: &E) -> Self {
        Self(SendWrapper::new(StdClock::new(env.clone())))
    }
}

impl<E: Env> hyper::rt::Timer for Timers<E> {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(SendWrapper::new(self.0.env().sleep(duration))))
    }

    fn sleep_until(&self, deadline: StdInstant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(SendWrapper::new(self.0.sleep_until(deadline))))
    }

    fn now(&self) -> StdInstant {
        self.0.now()
    }
}

struct Sleep<T>(SendWrapper<T>);

impl<T: Future<Output = ()> + Unpin + 'static> hyper::rt::Sleep for Sleep<T> {}

impl<T: Future<Output = ()> + Unpin> Future for Sleep<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut *self.0).poll(context)
    }
}
