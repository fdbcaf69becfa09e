//! The plain endpoints beside gRPC: health, version, metrics, what other members ask, and the v2 API. Only the last two
//! read bodies, and only the last answers piece by piece.

mod gzip;
mod health;
mod peer;
mod query;
mod scrapes;
#[cfg(test)]
mod tests;
mod v2;

use std::{pin::Pin, rc::Rc};

use bytes::{Bytes, BytesMut};
use futures_lite::future::or;
use futures_util::{Stream, StreamExt};
use http::{
    HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    request::Parts,
};

use super::{
    Surface,
    exchange::{Body, Gone, Reply, Sending},
    timers::Timers,
};
use crate::{
    client::Client,
    limits,
    service::{Api, Connection, metrics, version},
};
use query::Query;
use scrapes::Scrapes;

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROMETHEUS: HeaderValue = HeaderValue::from_static(metrics::TEXT_CONTENT_TYPE);

/// What browsers are told on a client listener.
const CORS: [(HeaderName, HeaderValue); 3] = [
    (http::header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE")),
    (http::header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
    (
        http::header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("accept, content-type, authorization"),
    ),
];

/// What the endpoints of a keyspace share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Endpoints {
    api: Api,
    scrapes: Scrapes,
    timers: Timers,
    told: v2::Told,
}

impl Endpoints {
    pub(super) fn new(api: Api, timers: Timers) -> Self {
        Self { api, scrapes: Scrapes::new(timers.clone()), timers, told: v2::Told::default() }
    }

    pub(crate) fn api(&self) -> &Api {
        &self.api
    }
}

/// The body of an answer.
pub(crate) enum Content {
    Whole(Bytes),
    /// Pieces as they come, with no length known before.
    Following(Pin<Box<dyn Stream<Item = Bytes>>>),
}

pub(crate) type Answer = Response<Content>;

fn answered(response: Response<Bytes>) -> Answer {
    response.map(Content::Whole)
}

/// Why there is not all of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    TooLong,
    /// It did not come to its end.
    Cut,
    /// Too much is held for clients.
    NoRoom,
}

/// What came with a request, empty where nobody asks for it.
pub(crate) type Posted = Result<Bytes, Unread>;

/// How long a body may be that the answer needs; none if it needs none.
pub(crate) fn body_max(endpoints: &Endpoints, surface: Option<Surface>, head: &Parts) -> Option<usize> {
    match surface? {
        Surface::Peer => peer::reads_body(head).then_some(limits::HTTP1_BODY_BYTES),
        Surface::Client if endpoints.api.options().enable_v2 => {
            v2::reads_body(head).then_some(limits::V2_FORM_BYTES)
        }
        Surface::Client | Surface::Metrics => None,
    }
}

/// Reads a body, piece by piece as `next` gives them. One that does not come to its end in time is cut.
pub(crate) async fn gather(
    endpoints: &Endpoints,
    client: &Client,
    bytes_max: usize,
    mut next: impl AsyncFnMut() -> Option<Result<Bytes, ()>>,
) -> Posted {
    let gathering = async {
        let (mut claim, mut body) = (client.claim(), BytesMut::new());
        while let Some(piece) = next().await {
            let piece = piece.map_err(|()| Unread::Cut)?;
            if body.len() + piece.len() > bytes_max {
                return Err(Unread::TooLong);
            }
            body.extend_from_slice(&piece);
            claim.set(body.len()).map_err(|_| Unread::NoRoom)?;
        }
        Ok(body.freeze())
    };
    let late = async {
        endpoints.timers.sleep(limits::MESSAGE_WAIT).await;
        Err(Unread::Cut)
    };
    or(gathering, late).await
}

/// The answer to a request; a listener without plain endpoints knows no path.
pub(crate) async fn answer(
    endpoints: &Endpoints,
    surface: Option<Surface>,
    connection: &Rc<Connection>,
    head: &Parts,
    posted: Posted,
) -> Answer {
    let Some(surface) = surface else { return answered(not_found()) };
    let method = &head.method;
    let is_v2 = || endpoints.api.options().enable_v2 && v2::is_of(head);
    let mut response = match surface {
        Surface::Client if method == Method::OPTIONS => answered(Response::new(Bytes::new())),
        Surface::Client if is_v2() => v2::endpoint(endpoints, connection, head, posted).await,
        // One that is too long or does not come to its end is none, and makes as little sense.
        Surface::Peer => answered(peer::endpoint(&endpoints.api, head, posted.unwrap_or_default()).await),
        _ => answered(endpoint(endpoints, surface, head).await),
    };
    if surface == Surface::Client {
        response.headers_mut().extend(CORS);
    }
    response
}

/// The same over HTTP/2.
pub(super) async fn answer_call(
    endpoints: Endpoints,
    surface: Option<Surface>,
    connection: Rc<Connection>,
    (head, mut body): (Parts, Body),
    reply: Reply,
) {
    let posted = match body_max(&endpoints, surface, &head) {
        Some(bytes_max) => {
            let next = async || {
                let piece = std::future::poll_fn(|context| body.poll_data(context)).await?;
                Some(piece.map_err(|Gone| ()))
            };
            gather(&endpoints, reply.client(), bytes_max, next).await
        }
        None => Ok(Bytes::new()),
    };
    let (mut answer, content) = answer(&endpoints, surface, &connection, &head, posted).await.into_parts();
    let sent = match content {
        Content::Whole(body) => {
            answer.headers.entry(CONTENT_LENGTH).or_insert_with(|| body.len().into());
            let answer = Response::from_parts(answer, ());
            if head.method == Method::HEAD || body.is_empty() {
                reply.finish(answer)
            } else {
                reply.begin(answer).and_then(|mut sending| sending.queue(body, true))
            }
        }
        Content::Following(pieces) => match reply.begin(Response::from_parts(answer, ())) {
            Ok(sending) => follow(sending, pieces).await,
            Err(Gone) => Err(Gone),
        },
    };
    if let Err(Gone) = sent {
        tracing::debug!("the client did not wait for an answer");
    }
}

/// Sends pieces as they come, to their end or the client's.
async fn follow(mut sending: Sending, mut pieces: Pin<Box<dyn Stream<Item = Bytes>>>) -> Result<(), Gone> {
    loop {
        let gone = std::future::poll_fn(|context| sending.poll_gone(context));
        let next = or(async { Ok(pieces.next().await) }, async { Err(gone.await) }).await?;
        match next {
            Some(piece) => sending.send(piece).await?,
            None => return sending.queue(Bytes::new(), true),
        }
    }
}

async fn endpoint(endpoints: &Endpoints, surface: Surface, head: &Parts) -> Response<Bytes> {
    let Endpoints { api, scrapes, .. } = endpoints;
    let (method, query) = (&head.method, Query::parse(head.uri.query().unwrap_or("")));
    match head.uri.path() {
        "/metrics" => {
            let render = || metrics::text(api.metrics(), std::slice::from_ref(api));
            match scrapes.text(render).await {
                Ok(text) if gzip::is_accepted(&head.headers) => {
                    let mut response = ok(PROMETHEUS, text.zipped());
                    response.headers_mut().insert(CONTENT_ENCODING, gzip::GZIP);
                    response
                }
                Ok(text) => ok(PROMETHEUS, text.plain()),
                Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, error),
            }
        }
        "/version" if surface == Surface::Client => version(api, method),
        "/health" => health::health(api, method, &query).await,
        path => match health::Checks::of_path(path) {
            Some(checks) => checks.run(api, method, &query).await,
            None => not_found(),
        },
    }
}

fn version(api: &Api, method: &Method) -> Response<Bytes> {
    match *method {
        Method::GET => ok(JSON, version::all(api)),
        _ => method_not_allowed(),
    }
}

fn ok(content_type: HeaderValue, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// Like Go's `http.Error`.
fn refusal(status: StatusCode, text: impl Into<String>) -> Response<Bytes> {
    let mut body: String = text.into();
    body.push('\n');
    let mut response = ok(PLAIN, body);
    *response.status_mut() = status;
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Like Go's `http.NotFound`.
fn not_found() -> Response<Bytes> {
    refusal(StatusCode::NOT_FOUND, "404 page not found")
}

fn method_not_allowed() -> Response<Bytes> {
    let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    response
}
