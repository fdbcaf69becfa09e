//! Listening sockets and the loops that accept from them.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    os::fd::{FromRawFd, IntoRawFd},
    rc::Rc,
    time::Duration,
};

use futures_lite::future::or;
use glommio::{net::TcpListener, spawn_local_into, timer::sleep};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Error, Offer, connection::Server, connections::Connections};
use crate::{api::Keyspace, limits};

/// Pause after a failed accept: out of descriptors or memory, most likely.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// `--socket-reuse-port` and `--socket-reuse-address`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reuse {
    pub port: bool,
    pub address: bool,
}

/// A bound socket. It may be made on any thread, before the executor runs.
#[derive(Debug)]
pub struct Listener {
    socket: StdListener,
    offer: Offer,
}

impl Listener {
    /// Port 0 takes any free one.
    pub fn bind(address: SocketAddr, offer: Offer, reuse: Reuse) -> Result<Self, Error> {
        let bind = || {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
            // As Go's listeners do: a restart need not wait for old connections to time out.
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(reuse.port)?;
            socket.bind(&address.into())?;
            socket.listen(limits::LISTEN_BACKLOG)?;
            Ok(StdListener::from(socket))
        };
        match bind() {
            Ok(socket) => Ok(Self { socket, offer }),
            Err(source) => Err(Error::Bind { address, source }),
        }
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub fn offer(&self) -> Offer {
        self.offer
    }

    /// Accepts until the member stops.
    pub(super) async fn accept<K: Keyspace>(self, server: Rc<Server<K>>, connections: Rc<Connections>) {
        // SAFETY: the descriptor is a listening TCP socket and has no other owner from here on.
        let listener = unsafe { TcpListener::from_raw_fd(self.socket.into_raw_fd()) };
        while connections.vacant().await {
            let stopping = async {
                connections.stopping().await;
                None
            };
            let stream = match or(stopping, async { Some(listener.accept().await) }).await {
                None => return,
                Some(Ok(stream)) => stream,
                Some(Err(error)) => {
                    tracing::warn!(error = %error, "failed to accept a connection");
                    sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            if let Err(error) = stream.set_nodelay(true) {
                // The peer is gone already.
                tracing::debug!(error = %error, "dropping a new connection");
                continue;
            }
            let place = connections.enter();
            let task = server.clone().serve(stream, self.offer, place);
            spawn_local_into(task, server.queue()).expect("the server's queue exists").detach();
        }
    }
}
