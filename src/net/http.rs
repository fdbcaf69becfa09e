//! Plain HTTP requests on their way to [`Api::http`] and back, whichever HTTP version carries them.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, request::Parts};

use crate::api::{
    Api, Keyspace,
    http::{self as plain, Surface},
};

/// Answers from the plain endpoints; a listener without them knows no path.
pub(super) async fn serve<K: Keyspace>(
    api: &Api<K>,
    surface: Option<Surface>,
    head: &Parts,
) -> Response<Bytes> {
    let Some(surface) = surface else {
        return respond(plain::Response::not_found());
    };
    let request =
        plain::Request { method: head.method.as_str(), path: head.uri.path(), query: head.uri.query() };
    respond(api.http(surface, request).await)
}

fn respond(plain: plain::Response) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(plain.body));
    *response.status_mut() = StatusCode::from_u16(plain.status).expect("handlers answer with known codes");
    for (name, value) in plain.headers {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}
