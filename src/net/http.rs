//! Plain HTTP requests on their way to [`Api::http`] and back.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    header::{HeaderName, HeaderValue},
};
use tonic::body::Body;

use crate::api::{
    Api, Keyspace,
    http::{self, Surface},
};

/// Answers from the plain endpoints; a listener without them knows no path.
pub(super) async fn serve<K: Keyspace, B>(
    api: Api<K>,
    surface: Option<Surface>,
    request: Request<B>,
) -> Response<Body> {
    let Some(surface) = surface else {
        return respond(http::Response::not_found());
    };
    let plain = http::Request {
        method: request.method().as_str(),
        path: request.uri().path(),
        query: request.uri().query(),
    };
    respond(api.http(surface, plain).await)
}

fn respond(plain: http::Response) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(Bytes::from(plain.body))));
    *response.status_mut() = StatusCode::from_u16(plain.status).expect("handlers answer with known codes");
    for (name, value) in plain.headers {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}
