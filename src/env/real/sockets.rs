//! TCP through the executor's ring.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    os::fd::{FromRawFd, IntoRawFd},
    pin::Pin,
    task::{Context, Poll},
};

use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, Type};

use super::disk::os_error;
use crate::{
    env::{Listener, Socket},
    limits,
};

/// `--socket-reuse-port` and `--socket-reuse-address`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reuse {
    pub port: bool,
    pub address: bool,
}

/// A bound socket. It may be made on any thread, before the executor runs.
#[derive(Debug)]
pub struct Bound(StdListener);

impl Bound {
    /// Port 0 takes any free one.
    pub fn bind(address: SocketAddr, reuse: Reuse) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // As Go's listeners do: a restart need not wait for old connections to time out.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(reuse.port)?;
        socket.bind(&address.into())?;
        socket.listen(limits::LISTEN_BACKLOG)?;
        Ok(Self(StdListener::from(socket)))
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Takes connections in, on the executor that calls it.
    pub fn listen(self) -> RealListener {
        // SAFETY: the descriptor is a listening TCP socket and has no other owner from here on.
        RealListener(unsafe { TcpListener::from_raw_fd(self.0.into_raw_fd()) })
    }
}

/// A listening socket of an executor.
#[derive(Debug)]
pub struct RealListener(TcpListener);

impl Listener for RealListener {
    type Socket = RealSocket;

    async fn accept(&self) -> io::Result<RealSocket> {
        loop {
            let stream = self.0.accept().await.map_err(os_error)?;
            match stream.set_nodelay(true).and_then(|()| stream.peer_addr()) {
                Ok(peer) => return Ok(RealSocket { stream, peer }),
                // The peer is gone already.
                Err(error) => tracing::debug!(%error, "dropping a new connection"),
            }
        }
    }
}

/// A TCP connection.
#[derive(Debug)]
pub struct RealSocket {
    stream: TcpStream,
    peer: SocketAddr,
}

impl Socket for RealSocket {
    fn peer(&self) -> Option<SocketAddr> {
        Some(self.peer)
    }

    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}
