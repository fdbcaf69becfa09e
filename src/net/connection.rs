//! One connection: hyper's state machine on our socket, and the way of a request to its handler.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use glommio::{TaskQueueHandle, net::TcpStream};
use hyper::{Request, Response, body::Incoming, header::CONTENT_TYPE};
use hyper_util::server::conn::auto;
use tonic::body::Body;

use super::{
    NetConfig,
    connections::{Phase, Place},
    grpc::Grpc,
    http,
    listener::Offer,
    runtime::{Tasks, Timers},
    socket::Socket,
};
use crate::{
    api::{Api, Keyspace},
    limits,
};

/// A client that has begun an HTTP/1 request must finish its head within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Where requests of all connections of a core go.
pub(super) struct Routes<K> {
    api: Api<K>,
    grpc: Grpc<K>,
}

impl<K: Keyspace> Routes<K> {
    pub(super) fn new(api: Api<K>) -> Self {
        Self { grpc: Grpc::new(&api), api }
    }
}

/// Serves connections with one set of protocol settings.
pub(super) struct Server<K> {
    settings: auto::Builder<Tasks>,
    routes: Rc<Routes<K>>,
    queue: TaskQueueHandle,
}

impl<K: Keyspace> Server<K> {
    pub(super) fn new(config: &NetConfig, routes: Rc<Routes<K>>, queue: TaskQueueHandle) -> Self {
        let mut settings = auto::Builder::new(Tasks(queue));
        settings.http1().timer(Timers).header_read_timeout(HEAD_TIMEOUT);
        settings
            .http2()
            .timer(Timers)
            .max_concurrent_streams(config.max_concurrent_streams)
            .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
            .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(limits::STREAM_SEND_BYTES)
            .max_header_list_size(limits::HEADER_LIST_BYTES)
            // Clients cancel in bursts, for instance when many deadlines pass at once.
            .max_pending_accept_reset_streams(limits::RESET_STREAMS_MAX)
            .max_local_error_reset_streams(limits::RESET_STREAMS_MAX)
            .auto_date_header(false);
        if !config.keepalive_interval.is_zero() && !config.keepalive_timeout.is_zero() {
            settings
                .http2()
                .keep_alive_interval(config.keepalive_interval)
                .keep_alive_timeout(config.keepalive_timeout);
        }
        Self { settings, routes, queue }
    }

    pub(super) fn queue(&self) -> TaskQueueHandle {
        self.queue
    }

    /// Serves one connection to its end.
    pub(super) async fn serve(self: Rc<Self>, stream: TcpStream, offer: Offer, place: Place) {
        let front = Front { routes: self.routes.clone(), offer };
        let mut connection = pin!(self.settings.serve_connection(Socket(stream), front));
        let mut draining = false;
        let result = poll_fn(|context| {
            match place.poll_phase(context) {
                Phase::Serving => {}
                Phase::Draining if draining => {}
                Phase::Draining => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
                Phase::Closing => return Poll::Ready(Ok(())),
            }
            connection.as_mut().poll(context)
        })
        .await;
        if let Err(error) = result {
            // Clients come and go as they like.
            tracing::debug!(error = %error, "connection ended");
        }
    }
}

/// What hyper calls for each request of a connection.
struct Front<K> {
    routes: Rc<Routes<K>>,
    offer: Offer,
}

impl<K: Keyspace> hyper::service::Service<Request<Incoming>> for Front<K> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if self.offer.grpc && is_grpc(&request) {
            return self.routes.grpc.call(request);
        }
        let api = self.routes.api.clone();
        let surface = self.offer.http;
        Box::pin(async move { Ok(http::serve(api, surface, request).await) })
    }
}

/// `application/grpc`, alone or with a subtype or parameters after it.
fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE);
    let rest =
        content_type.and_then(|content_type| content_type.as_bytes().strip_prefix(b"application/grpc"));
    matches!(rest, Some([] | [b'+' | b';', ..]))
}
