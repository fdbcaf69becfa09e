//! One connection: what it speaks, and who serves it.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::Poll,
};

use super::{
    NetConfig,
    connections::{Permit, Phase},
    http1, http2,
    socket::{Socket, Version},
};
use crate::{
    env::{self, Env},
    limits,
    peer::Peers,
    protocol::{Offer, Routes},
    service::{Connection, Word},
};

/// Why a connection ended early. Clients come and go as they like.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the client has not said what it speaks")]
    Silent,
    #[error("a member called where only clients do")]
    Member,
    #[error(transparent)]
    Socket(#[from] std::io::Error),
    #[error(transparent)]
    Http1(#[from] hyper::Error),
    #[error(transparent)]
    Http2(#[from] http2::Error),
}

/// Serves connections with one set of protocol settings.
pub(super) struct Server<E: Env> {
    env: E,
    settings: http2::Settings,
    routes: Rc<Routes>,
    stopping: Word,
    /// Where other members call.
    peers: Option<Peers<E>>,
}

impl<E: Env> Server<E> {
    pub(super) fn new(
        env: &E,
        config: &NetConfig,
        routes: Routes,
        stopping: Word,
        peers: Option<Peers<E>>,
    ) -> Self {
        let (settings, routes) = (http2::Settings::new(config), Rc::new(routes));
        Self { env: env.clone(), settings, routes, stopping, peers }
    }

    pub(super) fn env(&self) -> &E {
        &self.env
    }

    pub(super) fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Serves one connection to its end.
    pub(super) async fn serve(self: Rc<Self>, stream: impl env::Socket, offer: Offer, permit: Permit) {
        let (peer, stopping) = (stream.peer(), self.stopping.clone());
        let client = self.routes.endpoints().api().clients().client();
        let connection = Rc::new(Connection { peer, certificate: None, stopping, client });
        if let Err(error) = self.converse(Socket::new(stream), offer, connection, &permit).await {
            tracing::debug!(error = %error, "connection ended");
        }
    }

    async fn converse(
        &self,
        mut socket: Socket<impl env::Socket>,
        offer: Offer,
        connection: Rc<Connection>,
        permit: &Permit,
    ) -> Result<(), Error> {
        let mut late = self.env.sleep(limits::CONNECTION_BEGIN);
        let version = poll_fn(|context| {
            if permit.poll_phase(context) != Phase::Serving {
                return Poll::Ready(Ok(None));
            }
            let version = socket.poll_version(context).map_err(Error::from);
            if version.is_pending() && Pin::new(&mut late).poll(context).is_ready() {
                return Poll::Ready(Err(Error::Silent));
            }
            version
        });
        match version.await? {
            None => {}
            Some(Version::Peer) => {
                let peers = self.peers.as_ref().ok_or(Error::Member)?;
                Box::pin(peers.serve(socket)).await;
            }
            Some(Version::Http1) => {
                // Boxed, as the other: most of a connection's life is one of the two.
                let endpoints = self.routes.endpoints().clone();
                Box::pin(http1::serve(&self.env, endpoints, offer.http, (socket, &connection), permit))
                    .await?;
            }
            Some(Version::Http2) => {
                let client = &connection.client;
                let route = |head, body, reply| self.routes.call(offer, &connection, head, body, reply);
                Box::pin(http2::serve(&self.env, &self.settings, socket, permit, client, route)).await?;
            }
        }
        Ok(())
    }
}
