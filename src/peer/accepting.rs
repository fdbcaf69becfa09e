//! Connections that other members make to this one.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use prost::Message as _;
use tracing::{debug, warn};

use super::{
    Peers,
    channel::{Channel, LinkError},
    hex, receiving,
    remote::Remote,
    wire::{Kind, Record},
};
use crate::{
    env::{Env, Instant, Lane, Socket},
    limits,
    pb::link as pb,
    types::{LogId, MemberId, ShardId},
};

/// Serves one to its end.
pub async fn serve<E: Env>(peers: &Peers<E>, socket: impl Socket) {
    let address = socket.peer().map(|address| address.to_string()).unwrap_or_default();
    let mut channel = Channel::new(socket);
    let greeted = peers.within(limits::PEER_CONNECT_WAIT, greet(peers, &mut channel)).await;
    let wait = limits::PEER_CONNECT_WAIT;
    let (hello, remote) = match greeted.unwrap_or(Err(LinkError::Unanswered(wait))) {
        Ok(greeted) => greeted,
        Err(error) => {
            debug!("local-member-id" = peers.own_id(), address, %error, "a connection of a peer came to nothing");
            peers.0.metrics.receive_failed(None);
            return;
        }
    };
    let _present = remote.present();
    // Whoever calls can be called.
    if !remote.is_active() {
        remote.hurry();
    }
    channel.count(peers.0.metrics.bytes(remote.id));
    let ended = match hello.purpose() {
        pb::Purpose::Frames => {
            let mut link = Link::new(peers, (remote.clone(), LogId(hello.log)), channel);
            poll_fn(|context| link.poll(context)).await
        }
        pb::Purpose::Checkpoint => receiving::serve(peers, &remote, channel).await,
        pb::Purpose::Unknown => Err(LinkError::OutOfTurn(Kind::Hello)),
    };
    if let Err(error) = ended {
        if !matches!(error, LinkError::Closed | LinkError::Io(_) | LinkError::Replaced) {
            peers.0.metrics.receive_failed(Some(remote.id));
        }
        debug!(
            "local-member-id" = peers.own_id(),
            "remote-peer-id" = hex(remote.id),
            address,
            %error,
            "a connection of a peer ended"
        );
    }
}

/// Hears who calls, and says whether that is welcome.
async fn greet<E: Env, S: Socket>(
    peers: &Peers<E>,
    channel: &mut Channel<S>,
) -> Result<(pb::Hello, Rc<Remote>), LinkError> {
    channel.expect_preface().await?;
    let record = channel.next().await?;
    if record.kind != Kind::Hello {
        return Err(LinkError::OutOfTurn(record.kind));
    }
    let hello = pb::Hello::decode(record.payload)?;
    let from = MemberId(hello.from);
    let considered = peers.0.own.consider(&hello, &peers.known_of(from)).and_then(|version| {
        peers.caller(from, &hello.urls).map(|remote| (version, remote)).ok_or(pb::Reason::Busy)
    });
    let version = considered.as_ref().map(|(version, _)| *version).map_err(|reason| *reason);
    channel.push(&peers.0.own.answer(version, peers.standing().used));
    channel.flush().await?;
    match considered {
        Ok((_, remote)) => Ok((hello, remote)),
        Err(reason) => {
            say_refused(peers, &hello, reason);
            channel.close().await?;
            Err(LinkError::Closed)
        }
    }
}

fn say_refused<E: Env>(peers: &Peers<E>, hello: &pb::Hello, reason: pb::Reason) {
    if !peers.0.refusals.is_due(peers.0.env.now()) {
        return;
    }
    let (own, from) = (peers.own_id(), hex(MemberId(hello.from)));
    match reason {
        pb::Reason::Cluster => warn!(
            "local-member-id" = own,
            "local-member-cluster-id" = format!("{:x}", peers.0.own.cluster.0),
            "remote-peer-id" = from,
            "remote-peer-server-version" = hello.server_version,
            "remote-peer-cluster-id" = format!("{:x}", hello.cluster),
            "request cluster ID mismatch"
        ),
        pb::Reason::Removed => warn!(
            "local-member-id" = own,
            "remote-peer-id-stream-handler" = own,
            "remote-peer-id-from" = from,
            "rejected stream from remote peer because it was removed"
        ),
        pb::Reason::Member => warn!(
            "local-member-id" = own,
            "remote-peer-id-from" = from,
            "asked-for" = hex(MemberId(hello.to)),
            "ignored streaming request; ID mismatch"
        ),
        pb::Reason::Version => warn!(
            "local-member-id" = own,
            "remote-peer-id" = from,
            "remote-peer-server-version" = hello.server_version,
            "remote-peer-protocol" = format!("{}-{}", hello.oldest, hello.newest),
            "failed version compatibility check"
        ),
        pb::Reason::Level => warn!(
            "local-member-id" = own,
            "local-member-command-level" = peers.0.own.level.0,
            "local-member-used-level" = peers.standing().used.0,
            "remote-peer-id" = from,
            "remote-peer-server-version" = hello.server_version,
            "remote-peer-command-level" = hello.level,
            "remote-peer-used-level" = hello.used,
            "failed command level check: the cluster uses commands that one of the two members does not know"
        ),
        pb::Reason::Log => warn!(
            "local-member-id" = own,
            "remote-peer-id" = from,
            "remote-peer-log" = format!("{:016x}", hello.log),
            "rejected a member that has lost its data: remove it from the cluster and add it again"
        ),
        pb::Reason::Busy | pb::Reason::Other => {
            warn!("local-member-id" = own, "remote-peer-id" = from, "failed to find remote peer in cluster")
        }
    }
}

/// The other member's link.
struct Link<'a, E: Env, S> {
    peers: &'a Peers<E>,
    remote: Rc<Remote>,
    /// The one it says it has.
    log: LogId,
    call: u64,
    channel: Channel<S>,
    tick: E::Sleep,
    signals: Frame,
    entries: Frame,
    /// Of what came, and when that was seen to have changed.
    received: u64,
    heard_at: Instant,
}

/// What has come of a frame.
#[derive(Default)]
struct Frame(Vec<u8>);

impl Frame {
    /// The frame, if this is its last part.
    fn add(&mut self, part: Record) -> Result<Option<Bytes>, LinkError> {
        let Self(parts) = self;
        if parts.is_empty() && part.ends {
            return Ok(Some(part.payload));
        }
        if parts.len() + part.payload.len() > limits::PEER_FRAME_BYTES_MAX {
            return Err(LinkError::TooLong);
        }
        parts.extend_from_slice(&part.payload);
        if !part.ends {
            return Ok(None);
        }
        let mut frame = std::mem::take(parts);
        frame.shrink_to_fit();
        Ok(Some(frame.into()))
    }
}

impl<'a, E: Env, S: Socket> Link<'a, E, S> {
    fn new(peers: &'a Peers<E>, (remote, log): (Rc<Remote>, LogId), channel: Channel<S>) -> Self {
        let tick = peers.0.env.sleep(peers.interval());
        Link {
            peers,
            call: remote.call(),
            remote,
            log,
            channel,
            tick,
            signals: Frame::default(),
            entries: Frame::default(),
            received: 0,
            heard_at: peers.0.env.now(),
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        if !self.remote.is_newest(self.call, context.waker()) {
            return Poll::Ready(Err(LinkError::Replaced));
        }
        let until = self.channel.received() + limits::PEER_TURN_BYTES as u64;
        while let Poll::Ready(record) = self.channel.poll_next(context) {
            self.take(record?)?;
            if self.channel.received() >= until {
                context.waker().wake_by_ref();
                break;
            }
        }
        while Pin::new(&mut self.tick).poll(context).is_ready() {
            self.tick = self.peers.0.env.sleep(self.peers.interval());
            self.check()?;
        }
        while !self.channel.is_flushed() && self.channel.poll_flush(context)?.is_ready() {}
        Poll::Pending
    }

    fn take(&mut self, record: Record) -> Result<(), LinkError> {
        match record.kind {
            Kind::Frame => {
                let shard: ShardId = record.shard;
                let frame = match record.lane {
                    Lane::Signals => self.signals.add(record)?,
                    Lane::Entries => self.entries.add(record)?,
                };
                if let Some(frame) = frame {
                    // Known by now, maybe, if it was not yet when the member greeted: this one had just started.
                    if self.peers.known_of(self.remote.id).log.is_some_and(|log| log != self.log) {
                        return Err(LinkError::OtherLog);
                    }
                    self.peers.deliver(&self.remote, shard, frame);
                }
                Ok(())
            }
            // Whoever asks all the time and takes no answer gets none.
            Kind::Probe if self.channel.has_room() => {
                self.channel.push(&Record::new(Kind::Echo, record.payload));
                Ok(())
            }
            Kind::Probe => Ok(()),
            kind => Err(LinkError::OutOfTurn(kind)),
        }
    }

    /// Whoever keeps a link sends a probe now and then.
    fn check(&mut self) -> Result<(), LinkError> {
        let now = self.peers.0.env.now();
        if self.received != self.channel.received() {
            self.received = self.channel.received();
            self.heard_at = now;
        }
        let patience = self.peers.0.options.read_timeout + self.peers.interval();
        match now.since(self.heard_at) > patience {
            true => Err(LinkError::Silent(patience)),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(bytes: usize, ends: bool) -> Record {
        Record { ends, ..Record::new(Kind::Frame, vec![7; bytes]) }
    }

    #[test]
    fn a_frame_is_put_together_from_its_parts() {
        let mut frame = Frame::default();
        assert_eq!(frame.add(part(3, true)).expect("short").expect("whole").len(), 3);
        assert!(frame.add(part(5, false)).expect("short").is_none());
        assert!(frame.add(part(6, false)).expect("short").is_none());
        assert_eq!(frame.add(part(1, true)).expect("short").expect("whole").len(), 12);
        assert_eq!(frame.add(part(0, true)).expect("short").expect("whole").len(), 0, "and begins anew");
    }

    #[test]
    fn a_frame_longer_than_any_is_refused() {
        let mut frame = Frame::default();
        let parts = limits::PEER_FRAME_BYTES_MAX / limits::PEER_PART_BYTES;
        for _ in 0..parts {
            assert!(frame.add(part(limits::PEER_PART_BYTES, false)).expect("short enough").is_none());
        }
        assert!(matches!(frame.add(part(1, true)), Err(LinkError::TooLong)));
    }
}
