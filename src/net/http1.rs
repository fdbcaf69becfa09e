//! HTTP/1.1: hyper's state machine on our socket, for the plain endpoints only. gRPC needs HTTP/2.

mod host;

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming, SizeHint},
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
        http::{self, Content, Endpoints},
    },
    service::Connection,
};

/// A client that has begun a request must finish its head within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves one connection to its end. A listener without plain endpoints knows no path.
pub(super) async fn serve<E: Env>(
    env: &E,
    endpoints: Endpoints,
    surface: Option<Surface>,
    (socket, of): (Socket<impl env::Socket>, &Rc<Connection>),
    permit: &Permit,
) -> Result<(), hyper::Error> {
    let mut settings = http1::Builder::new();
    settings.timer(Timers::new(env)).header_read_timeout(HEAD_TIMEOUT).max_buf_size(limits::HTTP1_HEAD_BYTES);
    // As Go writes them: scripts look for a header by its name as it stands there.
    settings.title_case_headers(true);
    let front = Front { endpoints, surface, connection: of.clone() };
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
struct Front {
    endpoints: Endpoints,
    surface: Option<Surface>,
    connection: Rc<Connection>,
}

impl Service<Request<Incoming>> for Front {
    type Response = Response<Outgoing>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (endpoints, surface) = (self.endpoints.clone(), self.surface);
        let connection = self.connection.clone();
        Box::pin(async move {
            let (head, mut body) = request.into_parts();
            if let Some(refusal) = host::refusal(&head) {
                return Ok(refusal.map(|text| Outgoing(Content::Whole(text))));
            }
            let posted = match http::body_max(&endpoints, surface, &head) {
                Some(bytes_max) => {
                    http::gather(&endpoints, &connection.client, bytes_max, async || next(&mut body).await)
                        .await
                }
                None => Ok(Bytes::new()),
            };
            let answer = http::answer(&endpoints, surface, &connection, &head, posted).await;
            Ok(answer.map(Outgoing))
        })
    }
}

/// The next piece of a request's body; trailers are nobody's business.
async fn next(body: &mut Incoming) -> Option<Result<Bytes, ()>> {
    loop {
        match body.frame().await?.map(hyper::body::Frame::into_data) {
            Ok(Ok(piece)) => return Some(Ok(piece)),
            Ok(Err(_)) => {}
            Err(_) => return Some(Err(())),
        }
    }
}

/// The body of an answer, as hyper takes it.
struct Outgoing(Content);

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Following(pieces) => {
                pieces.as_mut().poll_next(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Content::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Following(_) => SizeHint::default(),
        }
    }
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
