//! HTTP/2 with prior knowledge: our driver on h2's server side.
//!
//! A connection is one task, and a turn of it is:
//! 1. poll the calls that have become due, which queue their answers,
//! 2. let h2 write these into the buffer and read what has arrived, and start a call for each new
//!    request,
//! 3. again as long as there is something to do, then one send.
//!
//! Calls are polled right here, not by tasks of their own. h2 sees none of it; what it holds of a
//! connection is bounded by its windows, the number of streams and resets it allows, and by what this
//! driver hands to it: while too much is held for its client, new requests are held back, then refused. What a client
//! may have it do beside requests is metered before h2 sees it.

mod bell;
mod calls;
mod frames;
mod keepalive;
mod meter;
mod patience;
mod wire;

use std::{
    cell::Cell,
    collections::VecDeque,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_lite::future::or;
use h2::{Reason, RecvStream, server};
use http::{Request, request::Parts};

use super::{
    NetConfig,
    connections::{Permit, Phase},
    socket::Socket,
};
use crate::{
    client::{Charge, Client},
    env::{self, Env},
    limits,
    protocol::exchange::{Body, Call, Payload, Reply},
};
use bell::Bell;
use calls::Calls;
use keepalive::Keepalive;
use patience::Patience;
use wire::Wire;

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Protocol(#[from] h2::Error),
    #[error("no sign of life from the client")]
    Silence,
    #[error("the client has not finished what it had begun")]
    Unfinished,
    #[error("the client asks for too much: {0}")]
    Excess(&'static str),
}

/// What all connections have in common.
pub(super) struct Settings {
    protocol: server::Builder,
    keepalive: Option<Keepalive>,
    ping_pause: Duration,
    /// For the kernel: data that is not acknowledged for so long ends the connection.
    unacknowledged: Option<Duration>,
}

impl Settings {
    pub(super) fn new(config: &NetConfig) -> Self {
        let mut protocol = server::Builder::new();
        protocol
            .max_concurrent_streams(config.max_concurrent_streams.min(limits::CONNECTION_STREAMS_MAX))
            .initial_window_size(limits::STREAM_WINDOW_BYTES)
            .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
            .max_send_buffer_size(limits::STREAM_SEND_BYTES)
            .max_header_list_size(limits::HEADER_LIST_BYTES)
            // Clients cancel in bursts, for instance when many deadlines pass at once.
            .max_pending_accept_reset_streams(limits::RESET_STREAMS_MAX)
            .max_local_error_reset_streams(Some(limits::RESET_STREAMS_MAX));
        let (interval, timeout) = (config.keepalive_interval, config.keepalive_timeout);
        let wanted = !interval.is_zero() && !timeout.is_zero();
        Self {
            protocol,
            keepalive: wanted.then_some(Keepalive { interval, timeout }),
            ping_pause: config.keepalive_min_time,
            unacknowledged: wanted.then_some(timeout),
        }
    }
}

/// Serves one connection to its end. `route` gives the call that a request begins.
pub(super) async fn serve<E: Env, S: env::Socket>(
    env: &E,
    settings: &Settings,
    socket: Socket<S>,
    permit: &Permit,
    client: &Client,
    route: impl Fn(Parts, Body, Reply) -> Call,
) -> Result<(), Error> {
    if let Some(timeout) = settings.unacknowledged {
        socket.give_up_after(timeout)?;
    }
    let wire = Wire::new(env, socket, settings.ping_pause);
    let mut handshake = pin!(settings.protocol.handshake(wire.clone()));
    let connection = poll_fn(|context| {
        if permit.poll_phase(context) != Phase::Serving {
            return Poll::Ready(Ok(None));
        }
        wire.begin_turn(0);
        let connection = handshake.as_mut().poll(context)?;
        // Our settings, which a client may wait for.
        if let Poll::Ready(Err(error)) = wire.poll_send(context) {
            return Poll::Ready(Err(Error::Socket(error)));
        }
        connection.map(|connection| Ok(Some(connection)))
    });
    let Some(connection) = connection.await? else { return Ok(()) };
    let mut driver = None;
    let mut start = Some((connection, route));
    let ended = poll_fn(|context| {
        let phase = permit.poll_phase(context);
        let driver = driver.get_or_insert_with(|| {
            let (connection, route) = start.take().expect("made once");
            Driver::new(connection, settings, client, route, wire.clone(), context.waker())
        });
        driver.poll(phase, context)
    })
    .await;
    if let Some(driver) = driver {
        driver.dissolve().await;
    }
    if let Err(Error::Excess(_)) = ended {
        or(wire.forget_the_rest(), env.sleep(limits::PARTING)).await;
    }
    ended
}

/// A request that waits to be started.
struct Held {
    request: Request<RecvStream>,
    reply: server::SendResponse<Payload>,
    _charge: Charge,
}

struct Driver<E, S, R>
where
    E: Env,
    S: env::Socket,
{
    connection: server::Connection<Wire<E, S>, Payload>,
    route: R,
    wire: Wire<E, S>,
    calls: Calls,
    bell: Arc<Bell>,
    /// For whatever is not a single call's: h2 and the socket.
    waker: Waker,
    client: Client,
    held: VecDeque<Held>,
    /// Calls that are no requests.
    own_calls: usize,
    patience: Patience<E>,
    /// The client has not answered in time.
    lost: Rc<Cell<bool>>,
    /// Ends when it is this connection's turn again, after everybody else had theirs.
    pause: Option<E::Sleep>,
    draining: bool,
}

impl<E: Env, S: env::Socket, R: Fn(Parts, Body, Reply) -> Call> Driver<E, S, R> {
    fn new(
        mut connection: server::Connection<Wire<E, S>, Payload>,
        settings: &Settings,
        client: &Client,
        route: R,
        wire: Wire<E, S>,
        task: &Waker,
    ) -> Self {
        let bell = Bell::new(task.clone());
        let mut calls = Calls::new(bell.clone());
        let lost = Rc::new(Cell::new(false));
        if let Some(keepalive) = settings.keepalive {
            let pings = connection.ping_pong().expect("asked for once");
            calls.add(Box::pin(keepalive.watch(wire.clone(), pings, lost.clone())));
        }
        let patience = Patience::new(wire.env(), limits::FRAME_WAIT);
        Self {
            own_calls: calls.open(),
            patience,
            connection,
            route,
            wire,
            calls,
            waker: bell.clone().into(),
            bell,
            client: client.clone(),
            held: VecDeque::new(),
            lost,
            pause: None,
            draining: false,
        }
    }

    /// One turn. `task` is the connection's own context.
    fn poll(&mut self, phase: Phase, task: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match phase {
            Phase::Serving => {}
            Phase::Draining | Phase::Parting if self.draining => {}
            Phase::Draining | Phase::Parting => {
                self.draining = true;
                self.connection.graceful_shutdown();
            }
            Phase::Closing => return Poll::Ready(Ok(())),
        }
        self.pause = None;
        let waker = self.waker.clone();
        let mut context = Context::from_waker(&waker);
        self.wire.begin_turn((self.calls.open() + self.held.len()).saturating_sub(self.own_calls));
        let mut quiet = false;
        for _ in 0..limits::TURN_ROUNDS_MAX {
            self.calls.poll_due();
            if self.lost.get() {
                return Poll::Ready(Err(Error::Silence));
            }
            // What h2 was told so far is seen to now.
            self.bell.attend();
            match self.poll_requests(&mut context) {
                Poll::Pending => {}
                Poll::Ready(ended) => return Poll::Ready(self.end(&mut context, ended)),
            }
            quiet = !self.calls.due() && self.bell.leave();
            if quiet {
                break;
            }
        }
        let sent = self.wire.poll_send(&mut context)?;
        // If h2 had to wait for room that this send has made, nobody else wakes it. While the send
        // itself waits, the socket does.
        let goes_on = sent.is_ready() && self.wire.full();
        if !quiet || self.wire.held_back() || goes_on {
            // A timer, not a yield: the core looks for finished I/O before it comes back here.
            let mut pause = self.wire.env().sleep(limits::TURN_PAUSE);
            if Pin::new(&mut pause).poll(task).is_ready() {
                task.waker().wake_by_ref();
            }
            self.bell.pause();
            self.pause = Some(pause);
        }
        if phase == Phase::Parting && sent.is_ready() && self.is_at_rest() {
            return Poll::Ready(Ok(()));
        }
        if self.patience.poll(&mut context, self.wire.unfinished()).is_ready() {
            return Poll::Ready(Err(Error::Unfinished));
        }
        Poll::Pending
    }

    /// Whether nothing of the client's is under way, in either direction.
    fn is_at_rest(&self) -> bool {
        self.calls.open() == self.own_calls && self.held.is_empty() && self.client.unsent() == 0
    }

    /// Gives up what is left of an ended connection. Calls are many and go some at a time.
    async fn dissolve(self) {
        let Self { connection, mut calls, wire, .. } = self;
        // Without it, nothing is said to the client about each of them.
        drop(connection);
        while calls.give_up(limits::GIVEN_UP_CALLS) {
            wire.env().sleep(limits::TURN_PAUSE).await;
        }
    }

    /// What the connection ends with.
    fn end(&self, context: &mut Context<'_>, ended: Result<(), Error>) -> Result<(), Error> {
        let Some(word) = self.wire.excess() else { return ended };
        self.wire.part(context, word)?;
        Err(Error::Excess(word))
    }

    /// Lets h2 write and read, and starts what has arrived. Ready at the connection's end.
    fn poll_requests(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut started = 0;
        loop {
            while self.client.has_room()
                && started < limits::ROUND_CALLS_MAX
                && let Some(Held { request, reply, .. }) = self.held.pop_front()
            {
                self.start(request, reply);
                started += 1;
            }
            if started == limits::ROUND_CALLS_MAX {
                // Their answers may take the room of others. The rest is for the next round, which is due
                // anyway.
                return Poll::Pending;
            }
            match self.connection.poll_accept(context)? {
                // What was written may have made room for them.
                Poll::Pending if !self.held.is_empty() && self.client.has_room() => {}
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some((request, mut reply))) => {
                    if self.client.has_room() && self.held.is_empty() {
                        self.start(request, reply);
                        started += 1;
                        continue;
                    }
                    let bytes = head_bytes(&request);
                    if self.held.len() < limits::CONNECTION_HELD_MAX && self.client.may_keep(bytes) {
                        let charge = self.client.charge(bytes);
                        self.held.push_back(Held { request, reply, _charge: charge });
                    } else {
                        // Clients may send it again, as nothing was done about it.
                        reply.send_reset(Reason::REFUSED_STREAM);
                    }
                }
            }
        }
    }

    fn start(&mut self, request: Request<RecvStream>, reply: server::SendResponse<Payload>) {
        let (head, body) = request.into_parts();
        let (body, reply) = (Body::from(body), Reply::new(reply, &self.client));
        self.calls.add((self.route)(head, body, reply));
    }
}

/// About what a request takes before it is started. Its fields are at most as long as [`limits::HEADER_LIST_BYTES`] says.
fn head_bytes(request: &Request<RecvStream>) -> usize {
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    limits::CALL_BYTES + request.uri().path().len() + fields.sum::<usize>()
}
