//! How a call ends: gRPC's code and text, in a head or in trailers.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Response, header::CONTENT_TYPE};

use crate::service::{Code, Error};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const OK: HeaderValue = HeaderValue::from_static("0");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// An end without success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) code: Code,
    pub(super) text: Cow<'static, str>,
}

impl Status {
    pub(super) fn new(code: Code, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, text: text.into() }
    }

    /// The whole answer, if nothing has been sent before.
    pub(super) fn head(&self) -> Response<()> {
        let mut head = head(false);
        self.write(head.headers_mut());
        head
    }

    pub(super) fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::with_capacity(2);
        self.write(&mut trailers);
        trailers
    }

    fn write(&self, headers: &mut HeaderMap) {
        headers.insert(STATUS, (self.code as u16).into());
        if !self.text.is_empty() {
            headers.insert(MESSAGE, escaped(&self.text));
        }
    }
}

impl From<&Error> for Status {
    fn from(error: &Error) -> Self {
        let (code, text) = error.grpc();
        Self::new(code, text)
    }
}

/// What a handler is told that reads requests itself.
impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Error::Malformed { code: status.code, text: status.text }
    }
}

/// The head of an answer with messages.
pub(super) fn head(gzip: bool) -> Response<()> {
    let mut headers = HeaderMap::with_capacity(1);
    headers.insert(CONTENT_TYPE, GRPC);
    if gzip {
        headers.insert(ENCODING, GZIP);
    }
    let mut head = Response::new(());
    *head.headers_mut() = headers;
    head
}

/// The end of an answer that went well.
pub(super) fn success() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(STATUS, OK);
    trailers
}

/// Percent-encoded as gRPC has it: everything but printable ASCII, and the percent sign itself.
fn escaped(text: &str) -> HeaderValue {
    let mut value = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' => value.push_str("%25"),
            b' '..=b'~' => value.push(char::from(byte)),
            _ => value.push_str(&format!("%{byte:02X}")),
        }
    }
    HeaderValue::try_from(value).expect("printable ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_survive_a_header() {
        for (text, value) in
            [("key is not provided", "key is not provided"), ("100%\n\u{e9}", "100%25%0A%C3%A9")]
        {
            let head = Status::new(Code::Internal, text).head();
            assert_eq!(head.headers()["grpc-message"], value);
            assert_eq!(head.headers()["grpc-status"], "13");
        }
        assert!(!Status::new(Code::Aborted, "").trailers().contains_key("grpc-message"));
    }
}
