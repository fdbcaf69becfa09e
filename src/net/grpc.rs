//! gRPC: which service and method a call is for, and the way between messages and plain handlers.
//!
//! A file per service joins its methods to the handlers of [`Api`].

mod asked;
mod cluster;
mod deadline;
mod kv;
mod maintenance;
mod message;
mod method;
mod status;

use http::{HeaderMap, header::CONTENT_TYPE, request::Parts};
use prometheus::IntCounter;

use super::http2::{Body, Call, Reply};
use crate::{
    api::{Api, Code, Keyspace},
    env::Env,
    limits,
};
use asked::Asked;
use message::Framing;
use method::{Incoming, Requests, refuse};
use status::Status;

/// All gRPC services of a core.
pub(super) struct Grpc<E, K> {
    kv: kv::Service<E, K>,
    cluster: cluster::Service<E, K>,
    maintenance: maintenance::Service<E, K>,
    received_bytes: IntCounter,
    message_max: usize,
}

impl<E: Env, K: Keyspace> Grpc<E, K> {
    pub(super) fn new(env: &E, api: &Api<K>) -> Self {
        Self {
            kv: kv::Service::new(env, api),
            cluster: cluster::Service::new(env, api),
            maintenance: maintenance::Service::new(env, api),
            received_bytes: api.metrics().grpc_received_bytes.clone(),
            message_max: api.options().max_request_bytes + limits::GRPC_OVERHEAD_BYTES,
        }
    }

    /// The call that a request begins.
    pub(super) fn call(&self, head: Parts, body: Body, reply: Reply) -> Call {
        let path = head.uri.path();
        let Some((service, method)) = path.strip_prefix('/').unwrap_or(path).rsplit_once('/') else {
            return unimplemented(reply, format!("malformed method name: {path:?}"));
        };
        // Taken by the one method that is meant.
        let mut reply = Some(reply);
        let incoming = || {
            let asked = Asked::of(head.headers);
            let gzip = asked.as_ref().is_ok_and(|asked| asked.gzip);
            let framing = Framing::new(self.message_max, gzip, self.received_bytes.clone());
            let reply = reply.take().expect("asked for once");
            Incoming { asked, requests: Requests::new(body, framing), reply }
        };
        let call = match service {
            kv::NAME => self.kv.call(method, incoming),
            cluster::NAME => self.cluster.call(method, incoming),
            maintenance::NAME => self.maintenance.call(method, incoming),
            _ => {
                let reply = reply.expect("not taken");
                return unimplemented(reply, format!("unknown service {service}"));
            }
        };
        call.unwrap_or_else(|| {
            let reply = reply.expect("not taken");
            unimplemented(reply, format!("unknown method {method} for service {service}"))
        })
    }
}

/// `application/grpc`, alone or with a subtype or parameters after it.
pub(super) fn asked_for(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE);
    let rest =
        content_type.and_then(|content_type| content_type.as_bytes().strip_prefix(b"application/grpc"));
    matches!(rest, Some([] | [b'+' | b';', ..]))
}

/// What grpc-go answers when nobody has registered for a path.
fn unimplemented(reply: Reply, text: String) -> Call {
    Box::pin(async move { refuse(reply, &Status::new(Code::Unimplemented, text)) })
}
