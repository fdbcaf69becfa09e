//! gRPC: which method a call is for, and the way between its messages and a plain handler.
//!
//! The methods are those of the one table in `service`; [`Codec`] makes of each a [`Row`] that begins calls.

mod answers;
mod asked;
mod call;
mod codec;
mod deadline;
mod framing;
mod requests;
mod status;

use std::rc::Rc;

use http::{HeaderMap, header::CONTENT_TYPE, request::Parts};
use prometheus::IntCounter;

use super::{
    exchange::{Body, Call, Reply},
    timers::Timers,
};
use crate::{
    limits,
    service::{Api, Code, Connection, Error},
};
use answers::{refuse, refuse_as};
use asked::{Asked, Refusal};
use framing::Framing;
use requests::Messages;
use status::Status;

pub use codec::{Codec, Row};

/// All methods of a keyspace.
pub(super) struct Grpc {
    /// By their paths, shorter ones first: most comparisons are of lengths alone.
    rows: Vec<Row>,
    received_bytes: IntCounter,
    message_max: usize,
    timers: Timers,
}

/// A call that has come in for a method.
struct Incoming {
    connection: Rc<Connection>,
    /// Or why it cannot be served.
    asked: Result<Asked, Status>,
    /// None once the one message of a call has been read that has one.
    messages: Option<Messages>,
    reply: Reply,
}

impl Grpc {
    pub(super) fn new(api: &Api, timers: Timers, mut rows: Vec<Row>) -> Self {
        rows.sort_by(|one, other| order(&one.path, &other.path));
        assert!(
            rows.is_sorted_by(|one, other| order(&one.path, &other.path).is_lt()),
            "a method has two rows"
        );
        Self {
            rows,
            received_bytes: api.metrics().grpc_received_bytes.clone(),
            message_max: api.options().max_request_bytes + limits::GRPC_OVERHEAD_BYTES,
            timers,
        }
    }

    /// The call that a request begins.
    pub(super) fn call(&self, connection: &Rc<Connection>, head: Parts, body: Body, reply: Reply) -> Call {
        let asked = match Asked::of(&head) {
            Ok(asked) => Ok(asked),
            Err(Refusal::Unreadable(status)) => Err(status),
            Err(Refusal::Malformed(http, status)) => {
                return Box::pin(async move { refuse_as(reply, http, &status) });
            }
        };
        let path = head.uri.path();
        let Ok(at) = self.rows.binary_search_by(|row| order(&row.path, path)) else {
            return self.unimplemented(path, reply);
        };
        let gzip = asked.as_ref().is_ok_and(|asked| asked.gzip);
        let framing = Framing::new(self.message_max, gzip, self.received_bytes.clone());
        let messages = Some(Messages::new(body, framing, self.timers.clone(), reply.client()));
        self.rows[at].begin(Incoming { connection: connection.clone(), asked, messages, reply })
    }

    /// Ends a call of which there is no method.
    fn unimplemented(&self, path: &str, reply: Reply) -> Call {
        let text = no_method(path, |name| self.rows.iter().any(|row| row.service == name));
        Box::pin(async move { refuse(reply, &Status::new(Code::Unimplemented, text)) })
    }
}

/// What grpc-go answers when nobody has registered for a path. One without a slash at its beginning is none: what looks at
/// paths on the way here must not take it for another one than the server does.
fn no_method(path: &str, is_service: impl Fn(&str) -> bool) -> String {
    match path.strip_prefix('/').and_then(|name| name.rsplit_once('/')) {
        None => format!("malformed method name: {path:?}"),
        Some((service, method)) if is_service(service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
    }
}

fn order(one: &str, other: &str) -> std::cmp::Ordering {
    one.len().cmp(&other.len()).then_with(|| one.cmp(other))
}

/// Ends a call that the member never got to.
pub(super) fn stopped(reply: Reply) {
    refuse(reply, &Status::from(&Error::Stopped));
}

/// `application/grpc`, alone or with a subtype or parameters after it.
pub(super) fn asked_for(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE);
    let rest =
        content_type.and_then(|content_type| content_type.as_bytes().strip_prefix(b"application/grpc"));
    matches!(rest, Some([] | [b'+' | b';', ..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Among them CVE-2026-33186: a path without a slash at its beginning.
    #[test]
    fn a_path_that_is_no_method_is_named() {
        for (path, text) in [
            ("a.B/C", "malformed method name: \"a.B/C\""),
            ("/C", "malformed method name: \"/C\""),
            ("/a.B/D", "unknown method D for service a.B"),
            ("/a.B/", "unknown method  for service a.B"),
            ("/a.X/C", "unknown service a.X"),
            ("//C", "unknown service "),
        ] {
            assert_eq!(no_method(path, |service| service == "a.B"), text, "{path}");
        }
    }
}
