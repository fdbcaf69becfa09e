//! A stream of a client or another member, and what was read of it to find out which protocol it speaks.

use std::{
    io,
    net::SocketAddr,
    task::{Context, Poll, ready},
    time::Duration,
};

use crate::{env, peer};

/// What a client that knows HTTP/2 begins with (RFC 9113, 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
    /// What members speak among themselves.
    Peer,
}

pub(super) struct Socket<S> {
    stream: S,
    /// Read ahead: at most a preface.
    ahead: [u8; PREFACE.len()],
    ahead_len: usize,
    /// How much of it was handed on.
    taken: usize,
}

impl<S: env::Socket> Socket<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, ahead: [0; PREFACE.len()], ahead_len: 0, taken: 0 }
    }

    /// Reads until it is clear what the client speaks, which may be after its first byte. `None` if it
    /// hung up without a word.
    pub(super) fn poll_version(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Version>>> {
        loop {
            let ahead = &self.ahead[..self.ahead_len];
            if ahead.starts_with(peer::PREFACE) {
                return Poll::Ready(Ok(Some(Version::Peer)));
            }
            if !PREFACE.starts_with(ahead) && !peer::PREFACE.starts_with(ahead) {
                return Poll::Ready(Ok(Some(Version::Http1)));
            }
            if ahead.len() == PREFACE.len() {
                return Poll::Ready(Ok(Some(Version::Http2)));
            }
            let rest = &mut self.ahead[self.ahead_len..];
            match ready!(self.stream.poll_read(context, rest))? {
                0 if self.ahead_len == 0 => return Poll::Ready(Ok(None)),
                // Whoever reads on sees the end, too.
                0 => return Poll::Ready(Ok(Some(Version::Http1))),
                read => self.ahead_len += read,
            }
        }
    }

    /// `buffer` may be uninitialised memory: it is written to and not read.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let ahead = &self.ahead[self.taken..self.ahead_len];
        if !ahead.is_empty() {
            let read = ahead.len().min(buffer.len());
            buffer[..read].copy_from_slice(&ahead[..read]);
            self.taken += read;
            return Poll::Ready(Ok(read));
        }
        let read = ready!(self.stream.poll_read(context, buffer))?;
        assert!(read <= buffer.len(), "received more than there was room for");
        Poll::Ready(Ok(read))
    }

    /// What is sent and not acknowledged for so long ends the connection.
    pub(super) fn give_up_after(&self, timeout: Duration) -> io::Result<()> {
        self.stream.give_up_after(timeout)
    }

    pub(super) fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.poll_write(context, bytes)
    }

    /// Nothing more will be written.
    pub(super) fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_close(context)
    }
}

/// For whoever goes on with it as with the stream itself.
impl<S: env::Socket> env::Socket for Socket<S> {
    fn peer(&self) -> Option<SocketAddr> {
        self.stream.peer()
    }

    fn give_up_after(&self, timeout: Duration) -> io::Result<()> {
        Socket::give_up_after(self, timeout)
    }

    fn keep_unsent_below(&self, bytes: u32) -> io::Result<()> {
        self.stream.keep_unsent_below(bytes)
    }

    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Socket::poll_read(self, context, buffer)
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Socket::poll_write(self, context, bytes)
    }

    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Socket::poll_close(self, context)
    }
}
