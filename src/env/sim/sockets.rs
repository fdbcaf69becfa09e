//! Streams between simulated machines: late, in pieces, and never more under way than fits.
//!
//! How long bytes travel, and how many of them one read or write takes, is drawn from the seed; their order stays. A
//! crash drops a member's sockets with its tasks, and its peers hear of it as they would of a killed process. Between
//! members that are cut off from each other nothing arrives until they are not, not even word of an end; what is lost on
//! the way is sent again and late. Partitions are between members: clients' streams they leave alone.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf, Bytes};

use super::{LinkFault, Sim};
use crate::{
    env::{Listener, Socket},
    limits,
    types::MemberId,
};

/// Bytes under way or not read yet, in one direction; a sender with more waits.
const PIPE_BYTES: usize = 64 * 1024;
/// Until what was lost is sent again.
const RESEND: Duration = Duration::from_millis(20);
/// Reads and writes that take a part of what they could, in permille.
const PARTIAL_PERMILLE: u64 = 200;

/// Who listens where, in one world.
#[derive(Default)]
pub(super) struct Ports {
    listening: RefCell<BTreeMap<SocketAddr, Weak<Backlog>>>,
    names: RefCell<BTreeMap<String, IpAddr>>,
    connections: Cell<u16>,
    /// Of connections between members, each direction.
    pipes: RefCell<Vec<Weak<RefCell<Pipe>>>>,
}

struct Backlog {
    owner: MemberId,
    waiting: RefCell<VecDeque<SimSocket>>,
    waker: Cell<Option<Waker>>,
}

/// A listening socket on a simulated machine. Dropping it refuses whoever it has not accepted.
pub struct SimListener {
    sim: Sim,
    address: SocketAddr,
    backlog: Rc<Backlog>,
}

/// One end of a connection.
pub struct SimSocket {
    sim: Sim,
    peer: SocketAddr,
    incoming: Rc<RefCell<Pipe>>,
    outgoing: Rc<RefCell<Pipe>>,
    closed: bool,
}

/// One direction of a connection.
#[derive(Default)]
struct Pipe {
    /// From which member to which, unless a client has one of its ends.
    route: Option<(MemberId, MemberId)>,
    /// Somebody looks for the end of a partition.
    is_watched: bool,
    /// By time of arrival.
    pieces: VecDeque<(u64, Bytes)>,
    bytes: usize,
    /// How it ends, and when that arrives.
    end: Option<(u64, End)>,
    /// Nobody will read on.
    deaf: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    Reset,
}

/// The address of a member's machine.
pub(super) fn address(member: MemberId, port: u16) -> SocketAddr {
    let [.., a, b, c] = member.0.to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(10, a, b, c), port))
}

impl Sim {
    pub(super) fn listen_at(&self, owner: MemberId, port: u16) -> SimListener {
        let address = address(owner, port);
        let backlog = Rc::new(Backlog { owner, waiting: RefCell::default(), waker: Cell::default() });
        let before = self.ports().listening.borrow_mut().insert(address, Rc::downgrade(&backlog));
        assert!(before.is_none_or(|before| before.strong_count() == 0), "{address} is in use");
        SimListener { sim: self.clone(), address, backlog }
    }

    /// From now on the name is that of a machine with this address.
    pub fn set_name(&self, name: &str, address: IpAddr) {
        self.ports().names.borrow_mut().insert(name.to_owned(), address);
    }

    /// A client's connection to an address; refused where nobody listens.
    pub async fn connect(&self, from: MemberId, to: SocketAddr) -> io::Result<SimSocket> {
        self.sleep(self.travel()).await;
        self.connect_now(from, to, |_| None)
    }

    /// A member's, which partitions are for. It waits for the end of one.
    pub(super) async fn connect_as_member(
        self,
        from: MemberId,
        host: String,
        port: u16,
    ) -> io::Result<SimSocket> {
        self.sleep(self.travel()).await;
        let address = match host.parse() {
            Ok(address) => address,
            Err(_) => *self.ports().names.borrow().get(&host).ok_or(io::ErrorKind::NotFound)?,
        };
        let to = SocketAddr::new(address, port);
        let owner =
            || self.ports().listening.borrow().get(&to).and_then(Weak::upgrade).map(|there| there.owner);
        while let Some(owner) = owner()
            && self.are_cut(from, owner)
        {
            self.sleep(RESEND).await;
        }
        self.connect_now(from, to, |owner| Some((from, owner)))
    }

    fn connect_now(
        &self,
        from: MemberId,
        to: SocketAddr,
        route: impl FnOnce(MemberId) -> Option<(MemberId, MemberId)>,
    ) -> io::Result<SimSocket> {
        let backlog = self.ports().listening.borrow().get(&to).and_then(Weak::upgrade);
        let backlog = backlog.ok_or(io::ErrorKind::ConnectionRefused)?;
        if backlog.waiting.borrow().len() >= limits::LISTEN_BACKLOG as usize {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let connections = &self.ports().connections;
        connections.set(connections.get().wrapping_add(1));
        let route = route(backlog.owner);
        let pipe = |route| Rc::new(RefCell::new(Pipe { route, ..Pipe::default() }));
        let (there, here) = (pipe(route), pipe(route.map(|(here, there)| (there, here))));
        if route.is_some() {
            let pipes = &mut *self.ports().pipes.borrow_mut();
            pipes.retain(|pipe| pipe.strong_count() > 0);
            pipes.extend([&there, &here].map(Rc::downgrade));
        }
        let end = |peer, incoming: &Rc<_>, outgoing: &Rc<_>| SimSocket {
            sim: self.clone(),
            peer,
            incoming: Rc::clone(incoming),
            outgoing: Rc::clone(outgoing),
            closed: false,
        };
        let accepted = end(address(from, 0x8000 | connections.get()), &there, &here);
        backlog.waiting.borrow_mut().push_back(accepted);
        if let Some(waker) = backlog.waker.take() {
            waker.wake();
        }
        Ok(end(to, &here, &there))
    }

    /// All connections between the two members are reset, as by something on the way; what is under way is lost.
    pub fn reset_connections(&self, one: MemberId, other: MemberId) {
        let now = self.now().0;
        for pipe in self.ports().pipes.borrow().iter().filter_map(Weak::upgrade) {
            let pipe = &mut *pipe.borrow_mut();
            if [Some((one, other)), Some((other, one))].contains(&pipe.route) {
                pipe.end = Some((now, End::Reset));
                pipe.pieces.clear();
                pipe.bytes = 0;
                wake(&mut pipe.reader);
                wake(&mut pipe.writer);
            }
        }
    }

    /// Whether nothing gets there and back.
    fn are_cut(&self, here: MemberId, there: MemberId) -> bool {
        let faults = self.faults();
        faults.cuts(here, there) || faults.cuts(there, here)
    }

    fn travel(&self) -> Duration {
        let nanos = self.below(self.faults().delay_max.as_nanos() as u64 + 1);
        Duration::from_nanos(nanos)
    }

    /// A part of what could be done at once, sometimes.
    fn some_of(&self, most: usize) -> usize {
        if most > 1 && self.chance(PARTIAL_PERMILLE) { 1 + self.below(most as u64) as usize } else { most }
    }
}

impl Listener for SimListener {
    type Socket = SimSocket;

    async fn accept(&self) -> io::Result<SimSocket> {
        poll_fn(|context| {
            if let Some(socket) = self.backlog.waiting.borrow_mut().pop_front() {
                return Poll::Ready(Ok(socket));
            }
            self.backlog.waker.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.sim.ports().listening.borrow_mut().remove(&self.address);
    }
}

impl Socket for SimSocket {
    fn peer(&self) -> Option<SocketAddr> {
        Some(self.peer)
    }

    /// Machines that are gone for good are not simulated.
    fn give_up_after(&self, _: Duration) -> io::Result<()> {
        Ok(())
    }

    /// Few are under way in any case.
    fn keep_unsent_below(&self, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let now = self.sim.now().0;
        if self.incoming.borrow().is_cut(&self.sim) {
            self.incoming.borrow_mut().reader = Some(context.waker().clone());
            self.await_healing();
            return Poll::Pending;
        }
        let pipe = &mut *self.incoming.borrow_mut();
        if matches!(pipe.end, Some((at, End::Reset)) if at <= now) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if let Some((at, piece)) = pipe.pieces.front_mut()
            && *at <= now
        {
            let read = self.sim.some_of(piece.len().min(buffer.len()));
            piece.copy_to_slice(&mut buffer[..read]);
            if piece.is_empty() {
                pipe.pieces.pop_front();
            }
            pipe.bytes -= read;
            wake(&mut pipe.writer);
            return Poll::Ready(Ok(read));
        }
        if pipe.pieces.is_empty() && matches!(pipe.end, Some((at, End::Closed)) if at <= now) {
            return Poll::Ready(Ok(0));
        }
        pipe.reader = Some(context.waker().clone());
        Poll::Pending
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let reset = matches!(self.incoming.borrow().end, Some((at, End::Reset)) if at <= self.sim.now().0);
        let is_cut = self.outgoing.borrow().is_cut(&self.sim);
        let pipe = &mut *self.outgoing.borrow_mut();
        if ((reset || pipe.deaf) && !is_cut) || self.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = PIPE_BYTES - pipe.bytes;
        if room == 0 {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let taken = self.sim.some_of(room.min(bytes.len()));
        let at = arrival(&self.sim, pipe);
        pipe.pieces.push_back((at, Bytes::copy_from_slice(&bytes[..taken])));
        pipe.bytes += taken;
        self.tell_reader(at);
        Poll::Ready(Ok(taken))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish(End::Closed);
        Poll::Ready(Ok(()))
    }
}

/// When the next thing sent arrives: after everything before it.
fn arrival(sim: &Sim, pipe: &Pipe) -> u64 {
    let mut travels = sim.now().0 + sim.travel().as_nanos() as u64;
    if let Some((from, to)) = pipe.route {
        let faults = sim.faults();
        let (lost, by) = match faults.between(from, to) {
            Some(LinkFault::Lossy(permille)) => (permille.max(faults.drop_permille), Duration::ZERO),
            Some(LinkFault::Slow(by)) => (faults.drop_permille, by),
            Some(LinkFault::Cut | LinkFault::Clogged) | None => (faults.drop_permille, Duration::ZERO),
        };
        travels += sim.below(by.as_nanos() as u64 + 1);
        if sim.chance(lost) {
            travels += RESEND.as_nanos() as u64;
        }
    }
    pipe.pieces.back().map_or(travels, |(last, _)| travels.max(*last))
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl Pipe {
    /// A stream needs both ways.
    fn is_cut(&self, sim: &Sim) -> bool {
        self.route.is_some_and(|(from, to)| sim.are_cut(from, to))
    }
}

impl SimSocket {
    /// Whoever reads is woken at the end of a partition, if there is something to read then.
    fn await_healing(&self) {
        let pipe = &mut *self.incoming.borrow_mut();
        if std::mem::replace(&mut pipe.is_watched, true) {
            return;
        }
        let (sim, pipe) = (self.sim.clone(), Rc::downgrade(&self.incoming));
        self.sim.spawn(MemberId(0), async move {
            while let Some(pipe) = pipe.upgrade() {
                if !pipe.borrow().is_cut(&sim) {
                    let pipe = &mut *pipe.borrow_mut();
                    pipe.is_watched = false;
                    wake(&mut pipe.reader);
                    return;
                }
                drop(pipe);
                sim.sleep(RESEND).await;
            }
        });
    }

    fn finish(&mut self, how: End) {
        let already = self.closed && how == End::Closed;
        self.closed = true;
        if already {
            return;
        }
        let pipe = &mut *self.outgoing.borrow_mut();
        let at = arrival(&self.sim, pipe);
        pipe.end = Some((at, how));
        self.tell_reader(at);
    }

    /// What is under way belongs to no member: a crash does not recall it.
    fn tell_reader(&self, at: u64) {
        let (sim, pipe) = (self.sim.clone(), self.outgoing.clone());
        self.sim.spawn(MemberId(0), async move {
            let left = at.saturating_sub(sim.now().0);
            sim.sleep(Duration::from_nanos(left)).await;
            wake(&mut pipe.borrow_mut().reader);
        });
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        let unread = {
            let pipe = &mut *self.incoming.borrow_mut();
            pipe.deaf = true;
            let unread = !std::mem::take(&mut pipe.pieces).is_empty();
            wake(&mut pipe.writer);
            unread
        };
        self.finish(if unread { End::Reset } else { End::Closed });
    }
}

#[cfg(test)]
mod tests;
