//! What a call's metadata asks for.

use std::{rc::Rc, time::Duration};

use http::{HeaderValue, Method, StatusCode, request::Parts};

use super::{deadline, status::Status};
use crate::{
    env::Env,
    limits,
    service::{Caller, Code, Connection},
};

/// One pass over the few headers of a call: looking each up by name costs more.
#[derive(Debug, Default)]
pub(super) struct Asked {
    client_version: Option<HeaderValue>,
    leader: bool,
    /// What proves who calls.
    token: Option<HeaderValue>,
    pub(super) timeout: Option<Duration>,
    /// Messages may come compressed.
    pub(super) gzip: bool,
    /// Answers are to be compressed: if the request was and the client can read it.
    pub(super) gzip_answers: bool,
}

/// Why a call is not begun.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is none, whatever method it is for.
    Malformed(StatusCode, Status),
    /// Its messages cannot be read.
    Unreadable(Status),
}

impl Asked {
    /// Refuses what grpc-go refuses, in its order, codes and words. The first of each name counts, and the last timeout.
    pub(super) fn of(head: &Parts) -> Result<Self, Refusal> {
        let mut asked = Self::default();
        let (mut hosts, mut malformed) = (0, None);
        let (mut leader, mut version, mut encoding, mut accepted) = (None, None, None, None);
        let (mut token, mut authorization) = (None, None);
        for (name, value) in &head.headers {
            let slot = match name.as_str() {
                "client-api-version" => &mut version,
                "hasleader" => &mut leader,
                "token" => &mut token,
                "authorization" => &mut authorization,
                "grpc-encoding" => &mut encoding,
                "grpc-accept-encoding" => &mut accepted,
                "grpc-timeout" => {
                    match deadline::parse(value.as_bytes()) {
                        Ok(timeout) => asked.timeout = Some(timeout),
                        Err(text) => malformed = Some(format!("malformed grpc-timeout: {text}")),
                    }
                    continue;
                }
                "host" => {
                    hosts += 1;
                    continue;
                }
                _ => continue,
            };
            slot.get_or_insert(value);
        }
        if hosts > 1 {
            let authorities = usize::from(head.uri.authority().is_some());
            malformed = Some(format!(
                "num values of :authority: {authorities}, num values of host: {hosts}, both must only have 1 value \
                 as per HTTP/2 spec"
            ));
        }
        let internal = |http, text| Err(Refusal::Malformed(http, Status::new(Code::Internal, text)));
        if let Some(text) = malformed {
            return internal(StatusCode::BAD_REQUEST, text);
        }
        if head.method != Method::POST {
            let method = head.method.as_str();
            let text = format!("Received a HEADERS frame with :method {method:?} which should be POST");
            return internal(StatusCode::METHOD_NOT_ALLOWED, text);
        }
        if asked.timeout.is_some_and(|timeout| timeout.is_zero()) {
            let late = Status::new(Code::DeadlineExceeded, "context deadline exceeded");
            return Err(Refusal::Malformed(StatusCode::OK, late));
        }
        asked.gzip = match encoding.map(HeaderValue::as_bytes) {
            None | Some(b"" | b"identity") => false,
            Some(b"gzip") => true,
            Some(other) => {
                let other = String::from_utf8_lossy(other);
                let text = format!("grpc: Decompressor is not installed for grpc-encoding {other:?}");
                return Err(Refusal::Unreadable(Status::new(Code::Unimplemented, text)));
            }
        };
        asked.gzip_answers = asked.gzip && accepted.is_some_and(accepts_gzip);
        asked.client_version = version.map(begun);
        asked.token = token.or(authorization).cloned();
        // Nothing shows it that shows the others.
        asked.token.iter_mut().for_each(|token| token.set_sensitive(true));
        asked.leader = leader.is_some_and(|leader| leader == "true");
        Ok(asked)
    }

    /// As it came.
    pub(super) fn client_version(&self) -> Option<&[u8]> {
        self.client_version.as_ref().map(HeaderValue::as_bytes)
    }

    pub(super) fn caller<E: Env>(&self, env: &E, connection: Rc<Connection>) -> Caller {
        let deadline = self.timeout.map(|timeout| env.now().after(timeout));
        let token = self.token.as_ref().map(|token| String::from_utf8_lossy(token.as_bytes()).into());
        Caller { connection, token, deadline, needs_leader: self.leader }
    }
}

/// A version's first bytes: whatever is longer is none, and would be held for as long as the call.
fn begun(version: &HeaderValue) -> HeaderValue {
    match version.as_bytes().split_at_checked(limits::CLIENT_VERSION_BYTES) {
        Some((first, [_, ..])) => HeaderValue::from_bytes(first).expect("part of a value is one"),
        Some((_, [])) | None => version.clone(),
    }
}

fn accepts_gzip(accepted: &HeaderValue) -> bool {
    accepted.as_bytes().split(|byte| *byte == b',').any(|encoding| encoding.trim_ascii() == b"gzip")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(headers: &[(&'static str, &'static str)]) -> Result<Asked, Refusal> {
        asked_by(Method::POST, "http://x/a.B/C", headers)
    }

    fn asked_by(
        method: Method,
        uri: &'static str,
        headers: &[(&'static str, &'static str)],
    ) -> Result<Asked, Refusal> {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Asked::of(&request.body(()).expect("a request").into_parts().0)
    }

    #[test]
    fn answers_are_compressed_where_both_sides_do() {
        for (headers, gzip, answers) in [
            (&[][..], false, false),
            (&[("grpc-encoding", "identity"), ("grpc-accept-encoding", "gzip")], false, false),
            (&[("grpc-encoding", "gzip")], true, false),
            (&[("grpc-encoding", "gzip"), ("grpc-accept-encoding", "identity, gzip")], true, true),
        ] {
            let asked = asked(headers).expect("known encodings");
            assert_eq!((asked.gzip, asked.gzip_answers), (gzip, answers), "{headers:?}");
        }
        let unknown = asked(&[("grpc-encoding", "nope")]).expect_err("unknown");
        assert!(matches!(unknown, Refusal::Unreadable(status) if status.code == Code::Unimplemented));
    }

    #[test]
    fn of_a_version_no_more_is_kept_than_one_has() {
        const LONG: &str = "3.5.0-and-whatever-else-somebody-may-think-of-to-fill-a-members-memory";
        for (version, kept) in [("3.7.1", "3.7.1"), (LONG, &LONG[..limits::CLIENT_VERSION_BYTES])] {
            let asked = asked(&[("client-api-version", version)]).expect("a call");
            assert_eq!(asked.client_version(), Some(kept.as_bytes()));
        }
    }

    /// Answers of upstream 3.7.1 to the same requests.
    #[test]
    fn what_is_no_call_is_refused_as_in_grpc_go() {
        let late = ("grpc-timeout", "0n");
        for (method, uri, headers, http, code, text) in [
            (
                Method::GET,
                "http://x/a.B/C",
                &[late][..],
                405,
                Code::Internal,
                "Received a HEADERS frame with :method \"GET\" which should be POST",
            ),
            (
                Method::GET,
                "http://x/a.B/C",
                &[("grpc-timeout", "1s"), ("grpc-timeout", "1S")],
                400,
                Code::Internal,
                "malformed grpc-timeout: transport: timeout unit is not recognized: \"1s\"",
            ),
            (
                Method::POST,
                "http://x/a.B/C",
                &[("host", "x"), ("host", "x"), ("grpc-timeout", "1s")],
                400,
                Code::Internal,
                "num values of :authority: 1, num values of host: 2, both must only have 1 value as per HTTP/2 spec",
            ),
            (
                Method::POST,
                "http://x/a.B/C",
                &[late],
                200,
                Code::DeadlineExceeded,
                "context deadline exceeded",
            ),
        ] {
            let refusal = asked_by(method, uri, headers).expect_err("refused");
            let Refusal::Malformed(status, told) = refusal else { panic!("{refusal:?}") };
            assert_eq!((status.as_u16(), told), (http, Status::new(code, text)));
        }
        let asked = asked_by(Method::POST, "/a.B/C", &[("grpc-timeout", "1S")]).expect("a call");
        assert_eq!(asked.timeout, Some(Duration::from_secs(1)));
    }
}
