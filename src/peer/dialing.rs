//! The link to another member, from this one's side: made, used until it breaks, and made again.
//!
//! What this member has to say goes over it; what comes back are only echoes of probes, which tell how long a round takes
//! and that the other one is alive.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use prost::Message as _;
use tracing::{debug, info, warn};

use super::{
    Peers,
    backoff::Backoff,
    channel::{Channel, LinkError},
    greeting::welcomed,
    hex,
    remote::{Complaint, Remote},
    wire::{Kind, Record},
};
use crate::{
    env::{Env, Instant, Socket},
    limits,
    pb::link as pb,
    types::url::{Scheme, Url},
};

/// Keeps the link until the member has left.
pub async fn keep<E: Env>(peers: Peers<E>, remote: Rc<Remote>) {
    let mut backoff = Backoff::new(limits::PEER_RETRY, limits::PEER_RETRY_MAX);
    let complaint = Complaint::default();
    while !remote.has_left() {
        let error = match dial(&peers, &remote, pb::Purpose::Frames).await {
            Ok(channel) => {
                complaint.reset();
                let began = peers.0.env.now();
                let error = converse(&peers, &remote, channel).await;
                if peers.0.env.now().since(began) >= limits::PEER_STABLE {
                    backoff.reset();
                }
                error
            }
            Err(error) => {
                say_unreachable(&peers, &remote, &complaint, &error);
                error
            }
        };
        if remote.queue.clear() {
            peers.unreachable(remote.id);
        }
        let pause = match error {
            LinkError::Refused(refusal) => {
                if refusal.reason == pb::Reason::Removed {
                    peers.expel();
                }
                limits::PEER_REFUSED_RETRY
            }
            _ => backoff.pause(peers.0.env.random_u64()),
        };
        if remote.is_forgotten(peers.0.env.now()) {
            peers.forget(&remote);
        }
        rest(&peers, &remote, pause).await;
    }
    info!("local-member-id" = peers.own_id(), "remote-peer-id" = hex(remote.id), "stopped remote peer");
}

/// A greeted connection to the member, by the next of its URLs.
pub async fn dial<E: Env>(
    peers: &Peers<E>,
    remote: &Remote,
    purpose: pb::Purpose,
) -> Result<Channel<E::Socket>, LinkError> {
    let url = remote.next_url().ok_or_else(|| LinkError::Address("the member has no peer URL".to_owned()))?;
    let url = Url::parse(&url).map_err(LinkError::Address)?;
    if url.scheme() != Scheme::Http {
        let words = format!("{url}: members are reached over plain TCP (http) only so far");
        return Err(LinkError::Address(words));
    }
    let (env, options) = (&peers.0.env, &peers.0.options);
    let connecting = async {
        let socket = env.connect(url.host(), url.port()).await?;
        socket.give_up_after(options.write_timeout)?;
        socket.keep_unsent_below(limits::PEER_UNSENT_BYTES)?;
        let mut channel = Channel::new(socket);
        channel.begin();
        let hello = peers.0.own.hello(remote.id, &options.urls, purpose, peers.standing());
        channel.push(&Record::new(Kind::Hello, hello.encode_to_vec()));
        channel.flush().await?;
        let answer = channel.next().await?;
        if answer.kind != Kind::Answer {
            return Err(LinkError::OutOfTurn(answer.kind));
        }
        welcomed(pb::Answer::decode(answer.payload)?).map_err(LinkError::Refused)?;
        channel.count(peers.0.metrics.bytes(remote.id));
        Ok(channel)
    };
    let wait = limits::PEER_CONNECT_WAIT;
    peers.within(wait, connecting).await.unwrap_or(Err(LinkError::Unanswered(wait)))
}

/// Uses the link until it ends; why it did.
async fn converse<E: Env>(peers: &Peers<E>, remote: &Remote, channel: Channel<E::Socket>) -> LinkError {
    let (own, id) = (peers.own_id(), hex(remote.id));
    let address = channel.socket().peer().map(|address| address.to_string()).unwrap_or_default();
    info!(
        "local-member-id" = own,
        "remote-peer-id" = id,
        address,
        "established TCP streaming connection with remote peer"
    );
    info!("peer-id" = id, "peer became active");
    remote.take_hurry();
    remote.set_active(Some(peers.0.env.now()));
    peers.0.metrics.activated(peers.0.own.member, remote.id);
    let mut link = Link::new(peers, remote, channel);
    let error = poll_fn(|context| link.poll(context)).await;
    remote.set_active(None);
    peers.0.metrics.deactivated(peers.0.own.member, remote.id);
    warn!(
        "local-member-id" = own,
        "remote-peer-id" = id,
        %error,
        "lost TCP streaming connection with remote peer"
    );
    warn!("peer-id" = id, %error, "peer became inactive (message send to peer failed)");
    error
}

struct Link<'a, E: Env> {
    peers: &'a Peers<E>,
    remote: &'a Remote,
    channel: Channel<E::Socket>,
    interval: Duration,
    tick: E::Sleep,
    probe: Probe,
    /// When the other end last took something, or there was nothing to take.
    took_at: Instant,
}

/// A question whether the other end is there.
#[derive(Clone, Copy, Debug)]
enum Probe {
    None,
    /// Gathered, and so many bytes go up to its end.
    Gathered {
        asked: Instant,
        left: usize,
    },
    /// It is on its way since.
    Gone {
        asked: Instant,
        since: Instant,
    },
}

impl<'a, E: Env> Link<'a, E> {
    fn new(peers: &'a Peers<E>, remote: &'a Remote, channel: Channel<E::Socket>) -> Self {
        let (interval, now) = (peers.interval(), peers.0.env.now());
        let tick = peers.0.env.sleep(interval);
        let mut link = Link { peers, remote, channel, interval, tick, probe: Probe::None, took_at: now };
        link.ask(now);
        link
    }

    /// Goes on with it; ready once it has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<LinkError> {
        self.poll_link(context).map(|ended| match ended {
            Ok(never) => match never {},
            Err(error) => error,
        })
    }

    fn poll_link(&mut self, context: &mut Context<'_>) -> Poll<Result<std::convert::Infallible, LinkError>> {
        let mut sent = 0;
        loop {
            while let Poll::Ready(record) = self.channel.poll_next(context) {
                self.take(record?)?;
            }
            while Pin::new(&mut self.tick).poll(context).is_ready() {
                self.tick = self.peers.0.env.sleep(self.interval);
                self.check()?;
            }
            while self.channel.has_room()
                && let Some(record) = self.remote.queue.pop()
            {
                self.channel.push(&record);
            }
            self.remote.wait(context.waker());
            if self.remote.take_hurry() {
                return Poll::Ready(Err(LinkError::Replaced));
            }
            if self.channel.is_flushed() {
                self.took_at = self.peers.0.env.roughly();
                if self.remote.should_part(self.took_at) {
                    return Poll::Ready(Err(LinkError::Left));
                }
                return Poll::Pending;
            }
            let Poll::Ready(went) = self.channel.poll_flush(context)? else { return Poll::Pending };
            sent += went;
            self.went(went);
            if sent >= limits::PEER_TURN_BYTES {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    fn take(&mut self, record: Record) -> Result<(), LinkError> {
        match (record.kind, self.probe) {
            (Kind::Echo, Probe::Gone { asked, .. }) => {
                self.probe = Probe::None;
                let round = self.peers.0.env.now().since(asked);
                self.peers.0.metrics.round_trip(self.remote.id, round);
                Ok(())
            }
            (kind, _) => Err(LinkError::OutOfTurn(kind)),
        }
    }

    fn ask(&mut self, now: Instant) {
        self.channel.push(&Record::new(Kind::Probe, now.0.to_le_bytes().to_vec()));
        self.probe = Probe::Gathered { asked: now, left: self.channel.gathered() };
    }

    fn went(&mut self, bytes: usize) {
        let now = self.peers.0.env.roughly();
        self.took_at = now;
        if let Probe::Gathered { asked, left } = self.probe {
            self.probe = match left.checked_sub(bytes) {
                None | Some(0) => Probe::Gone { asked, since: now },
                Some(left) => Probe::Gathered { asked, left },
            };
        }
    }

    /// Whether the other end is still there, as far as can be said.
    fn check(&mut self) -> Result<(), LinkError> {
        let now = self.peers.0.env.now();
        let options = &self.peers.0.options;
        match self.probe {
            Probe::None => self.ask(now),
            Probe::Gone { since, .. } if now.since(since) > options.read_timeout => {
                return Err(LinkError::Silent(options.read_timeout));
            }
            Probe::Gone { .. } | Probe::Gathered { .. } => {}
        }
        if !self.channel.is_flushed() && now.since(self.took_at) > options.write_timeout {
            return Err(LinkError::Stuck(options.write_timeout));
        }
        if self.remote.should_part(now) {
            return Err(LinkError::Left);
        }
        Ok(())
    }
}

/// Until it is time for the next attempt, or something has changed.
async fn rest<E: Env>(peers: &Peers<E>, remote: &Remote, pause: Duration) {
    let mut over = peers.0.env.sleep(pause);
    poll_fn(|context| {
        remote.wait_for_change(context.waker());
        if remote.take_hurry() || remote.has_left() {
            return Poll::Ready(());
        }
        Pin::new(&mut over).poll(context)
    })
    .await;
}

fn say_unreachable<E: Env>(peers: &Peers<E>, remote: &Remote, complaint: &Complaint, error: &LinkError) {
    let (own, id) = (peers.own_id(), hex(remote.id));
    if !complaint.is_due(peers.0.env.now()) {
        debug!("local-member-id" = own, "remote-peer-id" = id, %error, "failed to connect to a peer");
        return;
    }
    match error {
        LinkError::Refused(refusal) => match refusal.reason {
            pb::Reason::Cluster => warn!(
                "remote-peer-id" = id,
                "remote-peer-cluster-id" = format!("{:x}", refusal.cluster.0),
                "local-member-id" = own,
                "local-member-cluster-id" = format!("{:x}", peers.0.own.cluster.0),
                %error,
                "request sent was ignored by remote peer due to cluster ID mismatch"
            ),
            pb::Reason::Version | pb::Reason::Level => warn!(
                "remote-peer-id" = id,
                "local-member-id" = own,
                %error,
                "request sent was ignored by remote peer due to server version incompatibility"
            ),
            _ => warn!(
                "remote-peer-id" = id,
                "local-member-id" = own,
                %error,
                "request sent was ignored by peer"
            ),
        },
        _ => warn!(
            "round-tripper-name" = "ROUND_TRIPPER_RAFT_MESSAGE",
            "remote-peer-id" = id,
            rtt = "0s",
            %error,
            "prober detected unhealthy status"
        ),
    }
}
