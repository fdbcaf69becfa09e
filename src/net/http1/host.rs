//! The Host header, which HTTP/1.1 demands (RFC 9112, 3.2): requests without one, or with more, are refused as by Go's
//! server, in its words.

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_TYPE, HOST},
    request::Parts,
};
use hyper::ext::ReasonPhrase;

/// The answer to a request whose Host is not as it should be; the connection ends with it.
pub(super) fn refusal(head: &Parts) -> Option<Response<Bytes>> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let text = match (hosts.next(), hosts.next()) {
        (None, _) if head.version == Version::HTTP_11 && head.method != Method::CONNECT => {
            "Bad Request: missing required Host header"
        }
        (Some(_), Some(_)) => "Bad Request",
        (Some(host), None) if !host.as_bytes().iter().all(|byte| may_be_in_host(*byte)) => {
            "Bad Request: malformed Host header"
        }
        _ => return None,
    };
    let mut response = Response::new(Bytes::from(format!("400 {text}")));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response.extensions_mut().insert(ReasonPhrase::from_static(text.as_bytes()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Some(response)
}

/// Of a name, an address or a port (RFC 3986, 3.2.2), wherever it stands.
fn may_be_in_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!$%&()*+,-.:;=[']_~".contains(&byte)
}
