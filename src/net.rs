//! Listeners, connections and the HTTP versions they speak: bytes on one side, requests and answers on the other.
//!
//! [`serve`] runs on the core that owns the keyspace and serves HTTP/1.1 and HTTP/2 with prior
//! knowledge on each listener. Where a request goes is `protocol`'s business. Everything here is single-core; no request changes core and no lock is taken.
//!
//! What makes it fast, and must survive changes:
//! - A connection is one task, its calls are futures within it. All requests that one read brought are
//!   handed to the shard before any is answered, and all answers of one turn of the loop leave in one
//!   send per connection.
//! - A call costs one allocation for its future; its message is decoded from the bytes that were read,
//!   its answer encoded once.
//! - Nagle's algorithm is off.
//!
//! `http2` drives h2's server side, `http1` hyper's. Another HTTP/2 engine replaces `http2`; the handlers stay.

mod connection;
mod connections;
mod http1;
mod http2;
mod listener;
mod socket;
#[cfg(test)]
mod tests;

use std::{future::Future, rc::Rc, time::Duration};

use futures_lite::future::or;
use futures_util::future::{join, join_all};

pub use listener::Listening;

use crate::{env::Env, limits, peer::Peers, protocol::Routes, service::Word};
use connections::Connections;

/// What is chosen by flags. The defaults are etcd's.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// `--max-concurrent-streams`, per connection.
    pub max_concurrent_streams: u32,
    /// `--grpc-keepalive-min-time`: a client that asks for signs of life more often is given up.
    pub keepalive_min_time: Duration,
    /// `--grpc-keepalive-interval`: an idle client is asked for a sign of life, zero for never.
    pub keepalive_interval: Duration,
    /// `--grpc-keepalive-timeout`: it is given up after this long without one.
    pub keepalive_timeout: Duration,
    /// How long requests in flight may take once the member is stopping.
    pub drain_timeout: Duration,
    pub connections_max: usize,
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            max_concurrent_streams: u32::MAX,
            keepalive_min_time: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(2 * 60 * 60),
            keepalive_timeout: Duration::from_secs(20),
            drain_timeout: Duration::from_secs(7),
            connections_max: limits::CONNECTIONS_MAX,
        }
    }
}

/// Serves until `stop` completes, then lets the requests in flight finish, for a bounded time.
///
/// Connections and listeners are closed when it returns.
pub async fn serve<E: Env>(
    env: &E,
    listeners: Vec<Listening<E::Listener>>,
    routes: Routes,
    config: NetConfig,
    stop: impl Future<Output = ()>,
) {
    run(env, listeners, (routes, None), config, stop).await;
}

/// Serves other members until it is dropped: what they have to say, and what they ask over HTTP. They have connections of
/// their own, which neither clients take away nor the end of serving clients ends.
pub async fn serve_peers<E: Env>(
    env: &E,
    listeners: Vec<Listening<E::Listener>>,
    routes: Routes,
    peers: Peers<E>,
) {
    let config = NetConfig { connections_max: limits::PEER_CONNECTIONS, ..NetConfig::default() };
    run(env, listeners, (routes, Some(peers)), config, std::future::pending()).await;
}

async fn run<E: Env>(
    env: &E,
    listeners: Vec<Listening<E::Listener>>,
    (routes, peers): (Routes, Option<Peers<E>>),
    config: NetConfig,
    stop: impl Future<Output = ()>,
) {
    let connections = Rc::new(Connections::new(config.connections_max));
    let stopping = Word::default();
    let server = Rc::new(connection::Server::new(env, &config, routes, stopping.clone(), peers));
    let accepting = listeners.into_iter().map(|listening| listening.accept(&server, &connections));
    let draining = async {
        stop.await;
        connections.drain();
        stopping.give();
        let drained = async {
            let goodbye = async {
                env.sleep(limits::GOODBYE).await;
                connections.part();
            };
            or(connections.closed(), goodbye).await;
            connections.closed().await;
            true
        };
        let timeout = async {
            env.sleep(config.drain_timeout).await;
            false
        };
        if !or(drained, timeout).await {
            let keyspace = &server.routes().endpoints().api().keyspace().name;
            tracing::warn!(
                keyspace,
                open = connections.open(),
                "closing connections with requests in flight"
            );
            connections.close();
            connections.closed().await;
        }
    };
    join(draining, join_all(accepting)).await;
}
