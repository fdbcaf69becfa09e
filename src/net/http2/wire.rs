//! The bytes of one HTTP/2 connection: what h2 writes is gathered and leaves in one send per turn.
//!
//! h2 flushes after every larger DATA frame and whenever it is polled. Here a flush does nothing; the
//! driver sends at the end of its turn, or a full buffer makes room for itself.
//!
//! What comes in passes a [`Meter`] before h2 sees it: some of it may have to wait for the next turn.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{frames::GOAWAY, meter::Meter};
use crate::{
    env::{self, Env, Instant},
    limits,
    net::socket::{PREFACE, Socket},
};

/// Of what comes after the end, read at a time.
const PARTING_BYTES: usize = 64 * 1024;
/// RFC 9113, 7.
const ENHANCE_YOUR_CALM: u32 = 0xb;
/// Any request may have been served.
const LAST_STREAM: u32 = u32::MAX >> 1;

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
    /// Bytes that h2 may still write in this turn.
    writable: Cell<usize>,
    /// Whether the turn ended with bytes left to read.
    held_back: Cell<bool>,
    /// Whether h2 waits for room: it must be polled once there is some, even if nobody rings.
    full: Cell<bool>,
    heard: Cell<Instant>,
    begun: Instant,
    meter: RefCell<Meter>,
    /// What was read and waits for the next turn.
    put_off: RefCell<Bytes>,
    /// What the client has too much of.
    excess: Cell<Option<&'static str>>,
}

#[derive(Default)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
}

impl<E: Env, S: env::Socket> Wire<E, S> {
    /// With the shortest time allowed between a client's PING frames.
    pub(super) fn new(env: &E, socket: Socket<S>, ping_pause: Duration) -> Self {
        let now = env.now();
        Self(Rc::new(Inner {
            env: env.clone(),
            socket: RefCell::new(socket),
            outgoing: RefCell::default(),
            readable: Cell::new(limits::TURN_READ_BYTES),
            writable: Cell::new(limits::TURN_WRITE_BYTES),
            held_back: Cell::new(false),
            full: Cell::new(false),
            heard: Cell::new(now),
            begun: now,
            meter: RefCell::new(Meter::new(ping_pause, PREFACE.len(), now)),
            put_off: RefCell::default(),
            excess: Cell::new(None),
        }))
    }

    pub(super) fn env(&self) -> &E {
        &self.0.env
    }

    /// Allows for reading again. So many requests are under way.
    pub(super) fn begin_turn(&self, streams: usize) {
        self.0.meter.borrow_mut().begin_turn(streams);
        self.0.readable.set(limits::TURN_READ_BYTES);
        self.0.writable.set(limits::TURN_WRITE_BYTES);
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

    /// Since when something that the client has begun is not over.
    pub(super) fn unfinished(&self) -> Option<Instant> {
        let waits_for_us = !self.0.put_off.borrow().is_empty();
        let unfinished = self.0.meter.borrow().unfinished(self.0.begun, self.0.heard.get());
        unfinished.filter(|_| !waits_for_us)
    }

    /// What the client has too much of: the connection is to end.
    pub(super) fn excess(&self) -> Option<&'static str> {
        self.0.excess.get()
    }

    /// Tells the client why the connection ends, if it can be told at once.
    pub(super) fn part(&self, context: &mut Context<'_>, word: &'static str) -> io::Result<()> {
        if !self.0.meter.borrow().may_add_a_frame() {
            return Ok(());
        }
        let len = u32::try_from(8 + word.len()).expect("a short word");
        let mut frame = len.to_be_bytes()[1..].to_vec();
        frame.extend([GOAWAY, 0, 0, 0, 0, 0]);
        frame.extend(LAST_STREAM.to_be_bytes());
        frame.extend(ENHANCE_YOUR_CALM.to_be_bytes());
        frame.extend(word.as_bytes());
        self.0.outgoing.borrow_mut().bytes.extend(frame);
        // A client that has no room for it does not read.
        if self.poll_send(context)?.is_ready()
            && let Poll::Ready(closed) = self.0.socket.borrow_mut().poll_close(context)
        {
            closed?;
        }
        Ok(())
    }

    /// Reads to the end and forgets it. Others have their turn after each piece.
    pub(super) async fn forget_the_rest(&self) {
        let mut scratch = vec![0; PARTING_BYTES];
        while poll_fn(|context| self.0.socket.borrow_mut().poll_read(context, &mut scratch))
            .await
            .is_ok_and(|read| read > 0)
        {
            self.0.env.sleep(limits::TURN_PAUSE).await;
        }
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

impl<E: Env, S: env::Socket> Inner<E, S> {
    /// Bytes read; what the meter puts off is kept for later.
    fn poll_read(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut put_off = self.put_off.borrow_mut();
        if put_off.is_empty() {
            let read = ready!(self.socket.borrow_mut().poll_read(context, buffer))?;
            let now = self.env.now();
            self.heard.set(now);
            let taken = self.weigh(&buffer[..read], now)?;
            if taken < read {
                *put_off = Bytes::copy_from_slice(&buffer[taken..read]);
            }
            return Poll::Ready(Ok(taken));
        }
        let piece = put_off.len().min(buffer.len());
        let taken = self.weigh(&put_off[..piece], self.env.now())?;
        put_off.copy_to_slice(&mut buffer[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn weigh(&self, bytes: &[u8], now: Instant) -> io::Result<usize> {
        self.meter.borrow_mut().received(bytes, now).map_err(|word| {
            self.excess.set(Some(word));
            io::Error::other(word)
        })
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
        // SAFETY: nothing is uninitialised by this, `Inner` only writes into the memory and nobody reads
        // what it has not written.
        let unfilled = unsafe {
            let unfilled = buffer.unfilled_mut();
            std::slice::from_raw_parts_mut(unfilled.as_mut_ptr().cast::<u8>(), unfilled.len())
        };
        let Poll::Ready(read) = inner.poll_read(context, unfilled) else {
            // h2 asks again for every request it hands out; the socket wakes the task by itself.
            inner.readable.set(0);
            return Poll::Pending;
        };
        let read = read?;
        // SAFETY: `Inner` has written this many bytes.
        unsafe { buffer.assume_init(read) };
        buffer.advance(read);
        let waits = !inner.put_off.borrow().is_empty();
        let left = if waits { 0 } else { inner.readable.get().saturating_sub(read) };
        inner.readable.set(left);
        inner.held_back.set(left == 0);
        Poll::Ready(Ok(()))
    }
}

impl<E: Env, S: env::Socket> AsyncWrite for Wire<E, S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.0.writable.get() == 0 {
            // A client that takes all there is has it turn by turn.
            self.0.full.set(true);
            return Poll::Pending;
        }
        if self.0.outgoing.borrow().bytes.len() == limits::CONNECTION_SEND_BYTES {
            ready!(self.poll_room(context))?;
        }
        let mut outgoing = self.0.outgoing.borrow_mut();
        let taken = bytes.len().min(limits::CONNECTION_SEND_BYTES - outgoing.bytes.len());
        outgoing.bytes.extend_from_slice(&bytes[..taken]);
        self.0.writable.set(self.0.writable.get().saturating_sub(taken));
        self.0.meter.borrow_mut().sent(&bytes[..taken]);
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

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, task::Waker};

    use super::*;
    use crate::{
        env::sim::{Sim, SimEnv, disk::SimDisk},
        types::MemberId,
    };

    /// Takes whatever comes, as a client does that reads faster than it can be written to.
    struct Sink(Rc<Cell<usize>>);

    impl env::Socket for Sink {
        fn peer(&self) -> Option<SocketAddr> {
            None
        }

        fn give_up_after(&self, _: Duration) -> io::Result<()> {
            Ok(())
        }

        fn keep_unsent_below(&self, _: u32) -> io::Result<()> {
            Ok(())
        }

        fn poll_read(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.0.set(self.0.get() + bytes.len());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_turn_writes_so_much_however_fast_the_client_reads() {
        let sim = Sim::new(1);
        let env = SimEnv::new(&sim, MemberId(1), SimDisk::new(&sim));
        let sent = Rc::new(Cell::new(0));
        let mut wire = Wire::new(&env, Socket::new(Sink(sent.clone())), Duration::from_secs(5));
        let mut context = Context::from_waker(Waker::noop());
        let piece = vec![0; 10_000];
        for turn in 1..=3 {
            wire.begin_turn(0);
            assert!(!wire.full());
            while let Poll::Ready(taken) = Pin::new(&mut wire).poll_write(&mut context, &piece) {
                assert!(taken.expect("a sink takes all") > 0);
            }
            assert!(wire.full(), "another turn must follow");
            assert!(wire.poll_send(&mut context).is_ready());
            let most = turn * (limits::TURN_WRITE_BYTES + piece.len());
            assert!((turn * limits::TURN_WRITE_BYTES..=most).contains(&sent.get()), "{} bytes", sent.get());
        }
    }
}
