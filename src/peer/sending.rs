//! Checkpoints for other members: each on a connection of its own, which the other end asks for pieces.
//!
//! A lost connection is made again and goes on where it was: whoever asks knows what it has. What is sent in a second is
//! bounded, and shared by all transfers there are; a piece is brought from the disk beside the core.

use std::{rc::Rc, time::Duration};

use prost::Message as _;
use tracing::{info, warn};

use super::{
    Peers,
    backoff::Backoff,
    channel::{Channel, LinkError},
    dialing, hex,
    remote::Remote,
    wire::{Kind, Record},
};
use crate::{
    env::{Env, Instant, Socket},
    limits,
    pb::link as pb,
    shard::{Shard, Transfer},
    storage::checkpoint::{Export, HeldCheckpoint},
    types::ShardId,
};

/// Carries what a shard has for others, until it stops.
pub async fn carry<E: Env>(peers: Peers<E>, id: ShardId, shard: Shard) {
    while let Some(transfer) = shard.next_transfer().await {
        // Without, it counts as failed and is offered again.
        let Some(remote) = peers.remote(transfer.to) else { continue };
        peers.0.env.spawn(carry_one(peers.clone(), id, remote, transfer));
    }
}

async fn carry_one<E: Env>(peers: Peers<E>, shard: ShardId, remote: Rc<Remote>, transfer: Transfer) {
    let began = peers.0.env.now();
    let summary = transfer.checkpoint.summary();
    let (own, to, index) = (peers.own_id(), hex(remote.id), summary.applied.0);
    info!("from" = own, "to" = to, "snapshot-index" = index, "sending database snapshot");
    let _busy = Busy::new(&peers, &remote);
    let sent = Sending::new(&peers, shard, &remote, &transfer).run().await;
    let took = peers.0.env.now().since(began);
    match sent {
        Ok(bytes) => {
            peers.0.metrics.checkpoint_sent(remote.id, Some(took));
            info!("from" = own, "to" = to, "snapshot-index" = index, bytes, ?took, "sent database snapshot");
            transfer.came();
        }
        Err(error) => {
            peers.0.metrics.checkpoint_sent(remote.id, None);
            warn!("from" = own, "to" = to, "snapshot-index" = index, ?took, %error, "failed to send database snapshot");
        }
    }
}

/// A transfer that is under way, as it is counted.
struct Busy<E: Env> {
    peers: Peers<E>,
    remote: Rc<Remote>,
}

impl<E: Env> Busy<E> {
    fn new(peers: &Peers<E>, remote: &Rc<Remote>) -> Self {
        peers.0.sending.set(peers.0.sending.get() + 1);
        peers.0.metrics.checkpoint_sending(remote.id, 1);
        Busy { peers: peers.clone(), remote: remote.clone() }
    }
}

impl<E: Env> Drop for Busy<E> {
    fn drop(&mut self) {
        self.peers.0.sending.set(self.peers.0.sending.get() - 1);
        self.peers.0.metrics.checkpoint_sending(self.remote.id, -1);
    }
}

struct Sending<'a, E: Env> {
    peers: &'a Peers<E>,
    remote: &'a Remote,
    checkpoint: HeldCheckpoint,
    offer: pb::Offer,
    bytes: u64,
    /// When the other end last asked for something.
    asked_at: Instant,
}

impl<'a, E: Env> Sending<'a, E> {
    fn new(peers: &'a Peers<E>, shard: ShardId, remote: &'a Remote, transfer: &Transfer) -> Self {
        let checkpoint = transfer.checkpoint.clone();
        let offer = pb::Offer {
            shard: shard.0,
            transfer: peers.0.env.random_u64(),
            frame: transfer.frame.clone(),
            manifest: checkpoint.manifest(),
        };
        Sending { peers, remote, checkpoint, offer, bytes: 0, asked_at: peers.0.env.now() }
    }

    /// Over as many connections as it takes; how many bytes went.
    async fn run(mut self) -> Result<u64, LinkError> {
        let mut backoff = Backoff::new(limits::PEER_RETRY, limits::PEER_RETRY_MAX);
        loop {
            let before = self.asked_at;
            let error = match self.once().await {
                Ok(true) => return Ok(self.bytes),
                Ok(false) => return Err(LinkError::NotTaken),
                Err(error) => error,
            };
            let is_over = self.remote.has_left()
                || self.peers.0.env.now().since(self.asked_at) > limits::PEER_TRANSFER_PATIENCE;
            if is_over || matches!(error, LinkError::Refused(_)) {
                return Err(error);
            }
            if self.asked_at != before {
                backoff.reset();
            }
            self.peers.0.env.sleep(backoff.pause(self.peers.0.env.random_u64())).await;
        }
    }

    /// Over one connection; whether the other end has it in place.
    async fn once(&mut self) -> Result<bool, LinkError> {
        let mut channel = dialing::dial(self.peers, self.remote, pb::Purpose::Checkpoint).await?;
        channel.push(&Record::new(Kind::Offer, self.offer.encode_to_vec()));
        self.peers.flush(&mut channel).await?;
        let patience = self.peers.0.options.read_timeout + self.peers.interval();
        loop {
            let record = self.peers.within(patience, channel.next()).await;
            let record = record.unwrap_or(Err(LinkError::Silent(patience)))?;
            match record.kind {
                Kind::Want => self.give(&mut channel, pb::Want::decode(record.payload)?).await?,
                // It is busy with what it has.
                Kind::Probe => {
                    self.asked_at = self.peers.0.env.now();
                    channel.push(&Record::new(Kind::Echo, record.payload));
                    self.peers.flush(&mut channel).await?;
                }
                Kind::Done => return Ok(pb::Done::decode(record.payload)?.came),
                kind => return Err(LinkError::OutOfTurn(kind)),
            }
        }
    }

    async fn give<S: Socket>(&mut self, channel: &mut Channel<S>, want: pb::Want) -> Result<(), LinkError> {
        let env = &self.peers.0.env;
        self.asked_at = env.now();
        let piece = self.checkpoint.piece(want.sequence, want.offset).ok_or(LinkError::NoSuchPiece)?;
        // Whatever of the file is not in memory is waited for elsewhere.
        let piece = env.offload(move || piece.to_vec()).await;
        let length = piece.len() as u64;
        channel.push(&Record::new(Kind::Piece, piece));
        self.peers.flush(channel).await?;
        self.bytes += length;
        let rate = self.peers.0.options.checkpoint_bytes_per_second / self.peers.0.sending.get().max(1);
        if rate > 0 {
            let due = Duration::from_secs_f64(length as f64 / rate as f64);
            let pause = due.saturating_sub(env.now().since(self.asked_at));
            env.sleep(pause).await;
        }
        Ok(())
    }
}
