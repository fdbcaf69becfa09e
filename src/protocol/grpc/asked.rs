//! What a call's metadata asks for.

use std::{rc::Rc, time::Duration};

use http::{HeaderMap, HeaderValue};

use super::{deadline, status::Status};
use crate::{
    env::Env,
    service::{Caller, Code, Connection},
    state::Principal,
};

/// One pass over the few headers of a call: looking each up by name costs more.
#[derive(Debug, Default)]
pub(super) struct Asked {
    client_version: Option<HeaderValue>,
    leader: bool,
    pub(super) timeout: Option<Duration>,
    /// Messages may come compressed.
    pub(super) gzip: bool,
    /// Answers are to be compressed: if the request was and the client can read it.
    pub(super) gzip_answers: bool,
}

impl Asked {
    /// The first of each name counts.
    pub(super) fn of(headers: HeaderMap) -> Result<Self, Status> {
        let (mut timeout, mut leader, mut version, mut encoding, mut accepted) =
            (None, None, None, None, None);
        for (name, value) in &headers {
            let slot = match name.as_str() {
                "client-api-version" => &mut version,
                "grpc-timeout" => &mut timeout,
                "hasleader" => &mut leader,
                "grpc-encoding" => &mut encoding,
                "grpc-accept-encoding" => &mut accepted,
                _ => continue,
            };
            slot.get_or_insert(value);
        }
        let gzip = match encoding.map(HeaderValue::as_bytes) {
            None | Some(b"" | b"identity") => false,
            Some(b"gzip") => true,
            Some(other) => {
                let other = String::from_utf8_lossy(other);
                let text = format!("grpc: Decompressor is not installed for grpc-encoding {other:?}");
                return Err(Status::new(Code::Unimplemented, text));
            }
        };
        Ok(Self {
            client_version: version.cloned(),
            leader: leader.is_some_and(|leader| leader == "true"),
            timeout: deadline::parse(timeout.map(HeaderValue::as_bytes)),
            gzip,
            gzip_answers: gzip && accepted.is_some_and(accepts_gzip),
        })
    }

    /// As it came.
    pub(super) fn client_version(&self) -> Option<&[u8]> {
        self.client_version.as_ref().map(HeaderValue::as_bytes)
    }

    pub(super) fn caller<E: Env>(&self, env: &E, connection: Rc<Connection>) -> Caller {
        let deadline = self.timeout.map(|timeout| env.now().after(timeout));
        let principal = Principal::default();
        Caller { connection, token: None, principal, deadline, needs_leader: self.leader }
    }
}

fn accepts_gzip(accepted: &HeaderValue) -> bool {
    accepted.as_bytes().split(|byte| *byte == b',').any(|encoding| encoding.trim_ascii() == b"gzip")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(headers: &[(&'static str, &'static str)]) -> Result<Asked, Status> {
        Asked::of(
            headers
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect(),
        )
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
        assert_eq!(asked(&[("grpc-encoding", "nope")]).expect_err("unknown").code, Code::Unimplemented);
    }
}
