//! The bytes of one HTTP/2 connection: what h2 writes is gathered and leaves in one send per turn.
//!
//! h2 flushes after every larger DATA frame and whenever it is polled. Here a flush does nothing; the
//! driver sends at the end of its turn, or a full buffer makes room for itself.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    env::{self, Env, Instant},
    limits,
    net::socket::Socket,
};

/// A larger buffer is given back once it is sent.
const BUFFER_BYTES_KEPT: usize = 8 * 1024;

/// Cheap to clone: h2 owns one, the driver another.
pub(super) struct Wire<E, S>(Rc<Inner<E, S>>);

impl<E, S> Clone for Wire<E, S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Inner<E, S> {
    env: E,
    socket: RefCell<Socket<S>>,
    outgoing: RefCell<Outgoing>,
    /// Bytes that may still be read in this turn, none once the socket had no more.
    readable: Cell<usize>,
    /// Whether the turn ended with bytes left to read.
    held_back: Cell<bool>,
    /// Whether h2 waits for room: it must be polled once there is some, even if nobody rings.
    full: Cell<bool>,
    heard: Cell<Instant>,
}

#[derive(Default)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
}

impl<E: Env, S: env::Socket> Wire<E, S> {
    pub(super) fn new(env: &E, socket: Socket<S>) -> Self {
        Self(Rc::new(Inner {
            env: env.clone(),
            socket: RefCell::new(socket),
            outgoing: RefCell::default(),
            readable: Cell::new(limits::TURN_READ_BYTES),
            held_back: Cell::new(false),
            full: Cell::new(false),
            heard: Cell::new(env.now()),
        }))
    }

    pub(super) fn env(&self) -> &E {
        &self.0.env
    }

    /// Allows for reading again.
    pub(super) fn begin_turn(&self) {
        self.0.readable.set(limits::TURN_READ_BYTES);
        self.0.held_back.set(false);
        self.0.full.set(false);
    }

    /// Whether the turn ended before everything was read: another must follow.
    pub(super) fn held_back(&self) -> bool {
        self.0.held_back.get()
    }

    /// Whether h2 was kept from writing in this turn: another must follow once everything is sent.
    pub(super) fn full(&self) -> bool {
        self.0.full.get()
    }

    /// Sends what is in h2's way.
    fn poll_room(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = self.poll_send(context);
        if sent.is_pending() {
            self.0.full.set(true);
        }
        sent
    }

    /// When the client was last heard of.
    pub(super) fn heard(&self) -> Instant {
        self.0.heard.get()
    }

    /// Sends what has been gathered. While pending, the task is woken when the socket takes more.
    pub(super) fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outgoing = self.0.outgoing.borrow_mut();
        if outgoing.bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut socket = self.0.socket.borrow_mut();
        while outgoing.sent < outgoing.bytes.len() {
            let sent = ready!(socket.poll_write(context, &outgoing.bytes[outgoing.sent..]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            outgoing.sent += sent;
        }
        outgoing.sent = 0;
        outgoing.bytes.clear();
        if outgoing.bytes.capacity() > BUFFER_BYTES_KEPT {
            outgoing.bytes = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<E: Env, S: env::Socket> AsyncRead for Wire<E, S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let inner = &self.0;
        if inner.readable.get() == 0 {
            return Poll::Pending;
        }
        // SAFETY: nothing is uninitialised by this, `Socket` only writes into the memory and nobody reads
        // what it has not written.
        let unfilled = unsafe {
            let unfilled = buffer.unfilled_mut();
            std::slice::from_raw_parts_mut(unfilled.as_mut_ptr().cast::<u8>(), unfilled.len())
        };
        let Poll::Ready(read) = inner.socket.borrow_mut().poll_read(context, unfilled) else {
            // h2 asks again for every request it hands out; the socket wakes the task by itself.
            inner.readable.set(0);
            return Poll::Pending;
        };
        let read = read?;
        // SAFETY: `Socket` has written this many bytes.
        unsafe { buffer.assume_init(read) };
        buffer.advance(read);
        let left = inner.readable.get().saturating_sub(read);
        inner.readable.set(left);
        inner.held_back.set(left == 0);
        inner.heard.set(inner.env.now());
        Poll::Ready(Ok(()))
    }
}

impl<E: Env, S: env::Socket> AsyncWrite for Wire<E, S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.0.outgoing.borrow().bytes.len() == limits::CONNECTION_SEND_BYTES {
            ready!(self.poll_room(context))?;
        }
        let mut outgoing = self.0.outgoing.borrow_mut();
        let taken = bytes.len().min(limits::CONNECTION_SEND_BYTES - outgoing.bytes.len());
        outgoing.bytes.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_room(context))?;
        self.0.socket.borrow_mut().poll_close(context)
    }
}
