//! Frames between simulated members: delayed, reordered, dropped and duplicated by the seed.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;

use super::Sim;
use crate::{
    env::Links,
    types::{MemberId, ShardId},
};

/// What goes wrong between members, in permille of the frames.
#[derive(Clone, Debug)]
pub struct Faults {
    pub drop_permille: u64,
    pub duplicate_permille: u64,
    /// Each delivery takes up to this long; later frames may overtake.
    pub delay_max: Duration,
    /// Members cut off from all others.
    pub isolated: BTreeSet<u64>,
}

impl Default for Faults {
    fn default() -> Self {
        let delay_max = Duration::from_micros(300);
        Faults { drop_permille: 0, duplicate_permille: 0, delay_max, isolated: BTreeSet::new() }
    }
}

/// One member's ends of its links.
#[derive(Clone)]
pub struct SimLinks {
    sim: Sim,
    from: MemberId,
}

impl SimLinks {
    pub(super) fn new(sim: Sim, from: MemberId) -> Self {
        SimLinks { sim, from }
    }

    fn schedule(&self, to: MemberId, shard: ShardId, frame: Bytes, faults: &Faults) {
        let nanos = self.sim.below(faults.delay_max.as_nanos() as u64 + 1);
        let sim = self.sim.clone();
        // The wire belongs to no member: a sender's crash does not recall what it sent.
        self.sim.spawn(MemberId(0), async move {
            sim.sleep(Duration::from_nanos(nanos)).await;
            sim.deliver(to, shard, frame);
        });
    }
}

impl Links for SimLinks {
    fn send(&self, to: MemberId, shard: ShardId, frame: Bytes) {
        let faults = self.sim.faults();
        let cut = faults.isolated.contains(&to.0) || faults.isolated.contains(&self.from.0);
        if cut || self.sim.chance(faults.drop_permille) {
            return;
        }
        if self.sim.chance(faults.duplicate_permille) {
            self.schedule(to, shard, frame.clone(), &faults);
        }
        self.schedule(to, shard, frame, &faults);
    }
}
