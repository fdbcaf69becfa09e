//! Carries checkpoints between members: slowly, piece by piece, and not always to the end.

use std::{cell::Cell, cell::RefCell, rc::Rc, time::Duration};

use bytes::Bytes;
use pinion::{
    env::sim::Sim,
    shard::Shard,
    storage::checkpoint::{Export, HeldCheckpoint, Piece, format::SegmentRef},
    types::MemberId,
};

/// Where a member's shard is found while it serves.
pub type Serving = (MemberId, Rc<RefCell<Option<Shard>>>);

struct Slow {
    held: HeldCheckpoint,
    sim: Sim,
    /// Pieces until the connection breaks.
    left: u64,
}

impl Export for Slow {
    fn manifest(&self) -> Bytes {
        self.held.manifest()
    }

    fn read<'a>(&'a mut self, segment: &'a SegmentRef, offset: u64) -> Piece<'a> {
        Box::pin(async move {
            self.sim.sleep(Duration::from_micros(self.sim.below(3_000))).await;
            self.left = self.left.checked_sub(1)?;
            // Cut anywhere, as a connection would.
            let piece = self.held.read(segment, offset).await?;
            let bytes = 1 + self.sim.below(piece.len() as u64) as usize;
            Some(piece.slice(..bytes))
        })
    }
}

/// Carries what a member has for others, until it stops. `carried`: checkpoints that came.
pub async fn carry(sim: Sim, from: Shard, others: Vec<Serving>, carried: Rc<Cell<u64>>) {
    let own = from.member_id();
    while let Some(transfer) = from.next_transfer().await {
        let other =
            others.iter().find(|(id, _)| *id == transfer.to).and_then(|(_, shard)| shard.borrow().clone());
        let Some(other) = other else { continue };
        let (sim, carried) = (sim.clone(), carried.clone());
        let left = if sim.chance(300) { sim.below(100) } else { u64::MAX };
        let export = Slow { held: transfer.checkpoint.clone(), sim: sim.clone(), left };
        sim.clone().spawn(own, async move {
            sim.sleep(Duration::from_micros(sim.below(2_000))).await;
            if other.receive(own, transfer.frame.clone(), Box::new(export)).await {
                carried.set(carried.get() + 1);
                transfer.came();
            }
        });
    }
}
