//! Between HTTP and plain handlers: which method or endpoint a request is for, what its bytes mean, and how the answer
//! goes out.
//!
//! Codecs over the one table of methods in `service`; `http` has the plain endpoints. HTTP's types end here, and what
//! carries them (sockets, HTTP/1 and HTTP/2) is `net`'s. Single-core, as everything on the way of a request.

pub(crate) mod exchange;
pub mod grpc;
pub(crate) mod http;
mod offer;
mod timers;

use std::rc::Rc;

use ::http::request::Parts;
use futures_lite::future::or;

pub use offer::{Offer, Surface};

use crate::{
    env::Env,
    service::{Api, Connection, Word, methods},
};
use exchange::{Body, Call, Reply};
use grpc::Grpc;
use http::Endpoints;
use timers::Timers;

/// Where requests of all connections of a keyspace go.
pub struct Routes {
    grpc: Rc<Grpc>,
    endpoints: Endpoints,
}

impl Routes {
    /// To all methods there are.
    pub fn new<E: Env>(env: &E, api: Api) -> Self {
        Self::to(env, api, methods)
    }

    /// To these methods.
    pub fn to<E: Env>(env: &E, api: Api, rows: impl FnOnce(&grpc::Codec<E>) -> Vec<grpc::Row>) -> Self {
        let codec = grpc::Codec::new(env, &api);
        let timers = Timers::new(env);
        let grpc = Rc::new(Grpc::new(&api, timers.clone(), rows(&codec)));
        Self { grpc, endpoints: Endpoints::new(api, timers) }
    }

    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// The call that a request over HTTP/2 begins.
    pub(crate) fn call(
        &self,
        offer: Offer,
        connection: &Rc<Connection>,
        head: Parts,
        body: Body,
        reply: Reply,
    ) -> Call {
        if offer.grpc && grpc::asked_for(&head.headers) {
            let ready = &self.endpoints.api().options().ready;
            if ready.is_given() {
                self.grpc.call(connection, head, body, reply)
            } else {
                Box::pin(early(self.grpc.clone(), ready.clone(), connection.clone(), (head, body), reply))
            }
        } else {
            Box::pin(http::answer_call(
                self.endpoints.clone(),
                offer.http,
                connection.clone(),
                (head, body),
                reply,
            ))
        }
    }
}

/// A call that comes before the member is ready waits for it.
async fn early(
    grpc: Rc<Grpc>,
    ready: Word,
    connection: Rc<Connection>,
    (head, body): (Parts, Body),
    reply: Reply,
) {
    let goes_on = async {
        ready.given().await;
        true
    };
    let ends = async {
        connection.stopping.given().await;
        false
    };
    if or(goes_on, ends).await {
        grpc.call(&connection, head, body, reply).await;
    } else {
        grpc::stopped(reply);
    }
}
