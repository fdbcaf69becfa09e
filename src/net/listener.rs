//! Listening sockets and the loops that accept from them.

use std::{rc::Rc, time::Duration};

use futures_lite::future::or;

use super::{connection::Server, connections::Connections};
use crate::{
    env::{Env, Listener},
    protocol::Offer,
};

/// Pause after a failed accept: out of descriptors or memory, most likely.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// A listening socket, and what is served there.
pub struct Listening<L> {
    pub listener: L,
    pub offer: Offer,
}

impl<L: Listener> Listening<L> {
    /// Accepts until the member stops.
    pub(super) async fn accept<E>(self, server: &Rc<Server<E>>, connections: &Rc<Connections>)
    where
        E: Env<Listener = L>,
    {
        while connections.vacant().await {
            let stopping = async {
                connections.stopping().await;
                None
            };
            match or(stopping, async { Some(self.listener.accept().await) }).await {
                None => return,
                Some(Ok(socket)) => {
                    let permit = connections.enter();
                    server.env().spawn(server.clone().serve(socket, self.offer, permit));
                }
                Some(Err(error)) => {
                    tracing::warn!(error = %error, "failed to accept a connection");
                    server.env().sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }
}
