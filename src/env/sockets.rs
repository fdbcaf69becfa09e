//! Streams of bytes to and from clients.
//!
//! Whoever reads and writes is generic over [`Socket`], so that what wraps one (TLS) or is of another kind (a unix
//! socket) is one, too.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    task::{Context, Poll},
    time::Duration,
};

/// A socket that takes connections in. Dropping it closes it.
pub trait Listener: 'static {
    type Socket: Socket;

    /// The next connection. Dropping the future loses none.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Socket>>;
}

/// One connection, not delayed by Nagle's algorithm. If the other end's machine is gone, that is noticed within minutes.
/// Dropping it closes it.
pub trait Socket: Unpin + 'static {
    /// Who is at the other end, where that has an address.
    fn peer(&self) -> Option<SocketAddr>;
    /// From now on the connection is lost once what was sent is not acknowledged for so long, or cannot be sent because
    /// the other end reads nothing.
    fn give_up_after(&self, timeout: Duration) -> io::Result<()>;
    /// From now on a write is taken only while fewer bytes wait to be sent: what is written later does not wait behind many.
    fn keep_unsent_below(&self, bytes: u32) -> io::Result<()>;
    /// Bytes read, zero at the end. `buffer` may be uninitialised memory: it is written to and not read.
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;
    /// How many of `bytes` were taken. While pending, the task is woken when there is room again.
    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
    /// Nothing more will be written; reading goes on.
    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
}
