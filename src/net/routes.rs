//! Where a request goes: to a gRPC method, or to a plain endpoint.

use http::{Method, header::CONTENT_LENGTH, request::Parts};

use super::{
    grpc::{self, Grpc},
    http as plain,
    http2::{Body, Call, Gone, Reply},
    offer::Offer,
};
use crate::{
    api::{Api, Keyspace, http::Surface},
    env::Env,
};

/// Where requests of all connections of a core go.
pub(super) struct Routes<E, K> {
    pub(super) api: Api<K>,
    grpc: Grpc<E, K>,
}

impl<E: Env, K: Keyspace> Routes<E, K> {
    pub(super) fn new(env: &E, api: Api<K>) -> Self {
        Self { grpc: Grpc::new(env, &api), api }
    }

    /// The call that a request over HTTP/2 begins.
    pub(super) fn call(&self, offer: Offer, head: Parts, body: Body, reply: Reply) -> Call {
        if offer.grpc && grpc::asked_for(&head.headers) {
            self.grpc.call(head, body, reply)
        } else {
            Box::pin(answer_plainly(self.api.clone(), offer.http, head, reply))
        }
    }
}

/// A plain endpoint; none reads a body.
async fn answer_plainly<K: Keyspace>(api: Api<K>, surface: Option<Surface>, head: Parts, reply: Reply) {
    let (mut answer, body) = plain::serve(&api, surface, &head).await.into_parts();
    answer.headers.entry(CONTENT_LENGTH).or_insert_with(|| body.len().into());
    let answer = http::Response::from_parts(answer, ());
    let sent = if head.method == Method::HEAD || body.is_empty() {
        reply.finish(answer)
    } else {
        reply.begin(answer).and_then(|mut sending| sending.queue(body, true))
    };
    if let Err(Gone) = sent {
        tracing::debug!("the client did not wait for an answer");
    }
}
