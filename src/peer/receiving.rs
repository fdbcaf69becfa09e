//! Checkpoints of other members: pieces are asked for as the store takes them, a few ahead.
//!
//! A transfer outlives its connections: what came is kept, and the next connection of the same transfer goes on from there.
//! One transfer of a shard goes on at a time; a newer one takes its place, since only a leader has one to offer.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use prost::Message as _;
use tracing::{info, warn};

use super::{
    Peers,
    channel::{Channel, LinkError},
    hex,
    remote::Remote,
    wire::{Kind, Record},
};
use crate::{
    env::{Env, Instant, Socket},
    limits,
    pb::link as pb,
    storage::checkpoint::{Export, Piece, format::SegmentRef},
    types::{MemberId, ShardId},
};

/// The transfers that go on.
#[derive(Default)]
pub struct Arrivals(RefCell<BTreeMap<ShardId, Rc<Arrival>>>);

/// One transfer, whichever connection it is on.
struct Arrival {
    from: MemberId,
    transfer: u64,
    /// The segment that is being read.
    pieces: RefCell<Pieces>,
    /// Whether it is in place, once it has ended.
    ended: Cell<Option<bool>>,
    is_cancelled: Cell<bool>,
    /// Numbers its connections; the newest counts.
    connections: Cell<u64>,
    connection: Cell<Option<Waker>>,
    /// The store that waits for a piece.
    reader: Cell<Option<Waker>>,
}

/// What came of a segment and was not taken yet.
#[derive(Default)]
struct Pieces {
    segment: Option<(u64, u64)>,
    came: VecDeque<Bytes>,
    /// Where in the segment the first of them begins, where the last ends, and up to where pieces were asked for.
    start: u64,
    end: u64,
    asked: u64,
}

impl Pieces {
    /// Another segment, or another place in it, is read from now on.
    fn seek(&mut self, (sequence, bytes): (u64, u64), offset: u64) {
        if self.segment != Some((sequence, bytes)) || self.start != offset {
            let segment = Some((sequence, bytes));
            *self = Pieces { segment, start: offset, end: offset, asked: offset, came: VecDeque::new() };
        }
    }

    /// The next piece to be asked for.
    fn next(&self) -> Option<pb::Want> {
        let (sequence, bytes) = self.segment?;
        let ahead = (limits::PEER_PIECES_AHEAD * limits::CHECKPOINT_PIECE_BYTES) as u64;
        let is_due = self.asked < bytes && self.asked < self.start + ahead;
        is_due.then_some(pb::Want { sequence, offset: self.asked })
    }

    /// How long the piece at a place is.
    fn length(&self, offset: u64) -> u64 {
        let (_, bytes) = self.segment.unwrap_or_default();
        (bytes - offset).min(limits::CHECKPOINT_PIECE_BYTES as u64)
    }

    fn asked(&mut self) {
        self.asked += self.length(self.asked);
    }

    /// Nothing is on its way any more.
    fn forget_asked(&mut self) {
        self.asked = self.end;
    }

    fn add(&mut self, piece: Bytes) -> Result<(), LinkError> {
        if self.end >= self.asked || piece.len() as u64 != self.length(self.end) {
            return Err(LinkError::OtherPiece);
        }
        self.end += piece.len() as u64;
        self.came.push_back(piece);
        Ok(())
    }

    fn take(&mut self) -> Option<Bytes> {
        let piece = self.came.pop_front()?;
        self.start += piece.len() as u64;
        Some(piece)
    }
}

impl Arrival {
    fn new(from: MemberId, transfer: u64) -> Self {
        Arrival {
            from,
            transfer,
            pieces: RefCell::default(),
            ended: Cell::default(),
            is_cancelled: Cell::default(),
            connections: Cell::default(),
            connection: Cell::default(),
            reader: Cell::default(),
        }
    }

    fn wake(waker: &Cell<Option<Waker>>) {
        waker.take().into_iter().for_each(Waker::wake);
    }

    fn end(&self, came: bool) {
        self.ended.set(Some(came));
        self.pieces.take();
        Self::wake(&self.connection);
    }

    fn cancel(&self) {
        self.is_cancelled.set(true);
        Self::wake(&self.reader);
        Self::wake(&self.connection);
    }

    /// A further connection takes over from the one before.
    fn connect(&self) -> u64 {
        self.connections.set(self.connections.get() + 1);
        self.pieces.borrow_mut().forget_asked();
        Self::wake(&self.connection);
        self.connections.get()
    }
}

/// What the store reads from.
struct Incoming<E: Env> {
    env: E,
    manifest: Bytes,
    arrival: Rc<Arrival>,
}

impl<E: Env> Export for Incoming<E> {
    fn manifest(&self) -> Bytes {
        self.manifest.clone()
    }

    fn read<'a>(&'a mut self, segment: &'a SegmentRef, offset: u64) -> Piece<'a> {
        let arrival = &self.arrival;
        arrival.pieces.borrow_mut().seek((segment.sequence, segment.bytes), offset);
        Arrival::wake(&arrival.connection);
        let mut late = self.env.sleep(limits::PEER_TRANSFER_PATIENCE);
        Box::pin(poll_fn(move |context| {
            if arrival.is_cancelled.get() {
                return Poll::Ready(None);
            }
            if let Some(piece) = arrival.pieces.borrow_mut().take() {
                Arrival::wake(&arrival.connection);
                return Poll::Ready(Some(piece));
            }
            arrival.reader.set(Some(context.waker().clone()));
            Pin::new(&mut late).poll(context).map(|()| None)
        }))
    }
}

/// Serves a connection that brings a checkpoint.
pub async fn serve<E: Env, S: Socket>(
    peers: &Peers<E>,
    remote: &Remote,
    mut channel: Channel<S>,
) -> Result<(), LinkError> {
    let patience = peers.0.options.read_timeout;
    let record = peers.within(patience, channel.next()).await.unwrap_or(Err(LinkError::Silent(patience)))?;
    if record.kind != Kind::Offer {
        return Err(LinkError::OutOfTurn(record.kind));
    }
    let offer = pb::Offer::decode(record.payload)?;
    // One that goes on and cannot be ended may take longer: the offer is made again.
    let arrival = peers.within(patience, arrival(peers, remote.id, offer)).await;
    let arrival = arrival.unwrap_or(Err(LinkError::Unanswered(patience)))?;
    let mut connection = Connection {
        peers,
        number: arrival.connect(),
        arrival,
        channel,
        tick: peers.0.env.sleep(peers.interval()),
        received: 0,
        heard_at: peers.0.env.now(),
        told: false,
    };
    poll_fn(|context| connection.poll(context)).await
}

/// The transfer that an offer is for: one that goes on, or a new one.
async fn arrival<E: Env>(
    peers: &Peers<E>,
    from: MemberId,
    offer: pb::Offer,
) -> Result<Rc<Arrival>, LinkError> {
    let shard = ShardId(offer.shard);
    let arrivals = &peers.0.arrivals.0;
    loop {
        let known = arrivals.borrow().get(&shard).cloned();
        match known {
            Some(known) if known.from == from && known.transfer == offer.transfer => return Ok(known),
            Some(known) if known.ended.get().is_none() => known.cancel(),
            Some(_) | None => break,
        }
        peers.0.env.sleep(limits::PEER_RETRY).await;
    }
    let target = peers.0.shards.borrow().get(&shard).cloned().ok_or(LinkError::Closed)?;
    let arrival = Rc::new(Arrival::new(from, offer.transfer));
    arrivals.borrow_mut().insert(shard, arrival.clone());
    let (peers, told) = (peers.clone(), arrival.clone());
    let export = Incoming { env: peers.0.env.clone(), manifest: offer.manifest, arrival: arrival.clone() };
    peers.0.env.clone().spawn(async move {
        let began = peers.0.env.now();
        let (own, from) = (peers.own_id(), hex(told.from));
        info!("local-member-id" = own, "remote-snapshot-sender-id" = from, "receiving database snapshot");
        peers.0.metrics.checkpoint_receiving(told.from, 1);
        let came = target.receive(told.from, offer.frame, Box::new(export)).await;
        let took = peers.0.env.now().since(began);
        peers.0.metrics.checkpoint_receiving(told.from, -1);
        peers.0.metrics.checkpoint_received(told.from, came.then_some(took));
        if came {
            info!(
                "local-member-id" = own,
                "remote-snapshot-sender-id" = from,
                ?took,
                "received and saved database snapshot"
            );
        } else {
            warn!(
                "local-member-id" = own,
                "remote-snapshot-sender-id" = from,
                ?took,
                "failed to save incoming database snapshot"
            );
        }
        told.end(came);
    });
    Ok(arrival)
}

struct Connection<'a, E: Env, S> {
    peers: &'a Peers<E>,
    number: u64,
    arrival: Rc<Arrival>,
    channel: Channel<S>,
    tick: E::Sleep,
    received: u64,
    heard_at: Instant,
    /// The other end was told how it ended.
    told: bool,
}

impl<E: Env, S: Socket> Connection<'_, E, S> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        let arrival = self.arrival.clone();
        if arrival.connections.get() != self.number {
            return Poll::Ready(Err(LinkError::Replaced));
        }
        arrival.connection.set(Some(context.waker().clone()));
        let ended = arrival.ended.get();
        while let Poll::Ready(record) = self.channel.poll_next(context) {
            match record {
                Ok(Record { kind: Kind::Piece, payload, .. }) if ended.is_none() => {
                    arrival.pieces.borrow_mut().add(payload)?;
                    Arrival::wake(&arrival.reader);
                }
                Ok(Record { kind: Kind::Piece | Kind::Echo, .. }) => {}
                Ok(Record { kind, .. }) => return Poll::Ready(Err(LinkError::OutOfTurn(kind))),
                // The other end has heard how it ended.
                Err(LinkError::Closed) if ended.is_some() => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        while Pin::new(&mut self.tick).poll(context).is_ready() {
            self.tick = self.peers.0.env.sleep(self.peers.interval());
            self.check()?;
        }
        match ended {
            None => self.ask(),
            Some(came) if !std::mem::replace(&mut self.told, true) => {
                self.channel.push(&Record::new(Kind::Done, pb::Done { came }.encode_to_vec()));
            }
            Some(_) => {}
        }
        while !self.channel.is_flushed() && self.channel.poll_flush(context)?.is_ready() {}
        Poll::Pending
    }

    fn ask(&mut self) {
        let mut pieces = self.arrival.pieces.borrow_mut();
        while let Some(want) = pieces.next() {
            self.channel.push(&Record::new(Kind::Want, want.encode_to_vec()));
            pieces.asked();
        }
    }

    /// Tells that it goes on; and whether the other end is still there.
    fn check(&mut self) -> Result<(), LinkError> {
        let now = self.peers.0.env.now();
        if self.received != self.channel.received() {
            self.received = self.channel.received();
            self.heard_at = now;
        }
        let patience = self.peers.0.options.read_timeout + self.peers.interval();
        if now.since(self.heard_at) > patience {
            return Err(LinkError::Silent(patience));
        }
        if self.channel.has_room() && !self.told {
            self.channel.push(&Record::new(Kind::Probe, now.0.to_le_bytes().to_vec()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: u64 = limits::CHECKPOINT_PIECE_BYTES as u64;

    fn piece(bytes: u64) -> Bytes {
        vec![1; bytes as usize].into()
    }

    fn ask(pieces: &mut Pieces) -> Vec<u64> {
        std::iter::from_fn(|| {
            let want = pieces.next()?;
            pieces.asked();
            Some(want.offset)
        })
        .collect()
    }

    #[test]
    fn a_few_pieces_are_asked_for_ahead_and_no_more() {
        let mut pieces = Pieces::default();
        assert!(pieces.next().is_none(), "nothing is read yet");
        pieces.seek((7, 6 * PIECE + 5), 0);
        assert_eq!(ask(&mut pieces), [0, PIECE, 2 * PIECE, 3 * PIECE]);
        pieces.add(piece(PIECE)).expect("it was asked for");
        assert!(ask(&mut pieces).is_empty(), "nobody took it");
        assert_eq!(pieces.take().map(|piece| piece.len() as u64), Some(PIECE));
        assert_eq!(ask(&mut pieces), [4 * PIECE]);
        pieces.seek((7, 6 * PIECE + 5), PIECE);
        assert!(pieces.add(piece(5)).is_err(), "too short");
        (0..4).for_each(|_| pieces.add(piece(PIECE)).expect("it was asked for"));
        assert!(pieces.add(piece(PIECE)).is_err(), "nobody asked for it");
        (0..4).for_each(|_| assert!(pieces.take().is_some()));
        assert_eq!(ask(&mut pieces), [5 * PIECE, 6 * PIECE]);
        pieces.add(piece(PIECE)).expect("it was asked for");
        pieces.add(piece(5)).expect("the end");
        assert!(ask(&mut pieces).is_empty());
    }

    #[test]
    fn a_new_connection_asks_again_for_what_has_not_come() {
        let mut pieces = Pieces::default();
        pieces.seek((7, 3 * PIECE), 0);
        assert_eq!(ask(&mut pieces).len(), 3);
        pieces.add(piece(PIECE)).expect("it was asked for");
        pieces.forget_asked();
        assert_eq!(ask(&mut pieces), [PIECE, 2 * PIECE]);
        pieces.seek((8, PIECE), 0);
        assert!(pieces.take().is_none(), "another segment");
        assert_eq!(ask(&mut pieces), [0]);
    }
}
