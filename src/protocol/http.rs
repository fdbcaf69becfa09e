//! The plain endpoints beside gRPC: health, version, metrics, and what other members ask. Only those read bodies, over
//! HTTP/1.1, which is what they speak.

mod gzip;
mod health;
mod peer;
mod query;
mod scrapes;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    request::Parts,
};

use super::{
    Surface,
    exchange::{Gone, Reply},
    timers::Timers,
};
use crate::service::{Api, metrics, version};
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
}

impl Endpoints {
    pub(super) fn new(api: Api, timers: Timers) -> Self {
        Self { api, scrapes: Scrapes::new(timers) }
    }

    pub(crate) fn api(&self) -> &Api {
        &self.api
    }
}

/// Whether the answer needs the request's body, which is short then.
pub(crate) fn reads_body(surface: Option<Surface>, head: &Parts) -> bool {
    surface == Some(Surface::Peer) && peer::reads_body(head)
}

/// The answer to a request; a listener without plain endpoints knows no path.
pub(crate) async fn answer(
    endpoints: &Endpoints,
    surface: Option<Surface>,
    head: &Parts,
    body: Bytes,
) -> Response<Bytes> {
    let Some(surface) = surface else { return not_found() };
    let method = &head.method;
    let mut response = match surface {
        Surface::Client if method == Method::OPTIONS => Response::new(Bytes::new()),
        Surface::Peer => peer::endpoint(&endpoints.api, head, body).await,
        _ => endpoint(endpoints, surface, head).await,
    };
    if surface == Surface::Client {
        response.headers_mut().extend(CORS);
    }
    response
}

/// The same over HTTP/2.
pub(super) async fn answer_call(endpoints: Endpoints, surface: Option<Surface>, head: Parts, reply: Reply) {
    let (mut answer, body) = answer(&endpoints, surface, &head, Bytes::new()).await.into_parts();
    answer.headers.entry(CONTENT_LENGTH).or_insert_with(|| body.len().into());
    let answer = Response::from_parts(answer, ());
    let sent = if head.method == Method::HEAD || body.is_empty() {
        reply.finish(answer)
    } else {
        reply.begin(answer).and_then(|mut sending| sending.queue(body, true))
    };
    if let Err(Gone) = sent {
        tracing::debug!("the client did not wait for an answer");
    }
}

async fn endpoint(endpoints: &Endpoints, surface: Surface, head: &Parts) -> Response<Bytes> {
    let Endpoints { api, scrapes } = endpoints;
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
