//! Frames between simulated members: delayed, reordered, dropped and duplicated by the seed.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;

use super::Sim;
use crate::{
    env::{Instant, Lane, Links, Peer},
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

impl Faults {
    /// Whether nothing comes from the one to the other.
    pub fn cuts(&self, from: MemberId, to: MemberId) -> bool {
        self.isolated.contains(&from.0) || self.isolated.contains(&to.0)
    }
}

/// One member's ends of its links.
#[derive(Clone)]
pub struct SimLinks {
    sim: Sim,
    from: MemberId,
}

impl SimLinks {
    pub fn new(sim: &Sim, from: MemberId) -> Self {
        SimLinks { sim: sim.clone(), from }
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
    fn send(&self, to: MemberId, shard: ShardId, _: Lane, frame: Bytes) {
        let faults = self.sim.faults();
        if faults.cuts(self.from, to) || self.sim.chance(faults.drop_permille) {
            return;
        }
        if self.sim.chance(faults.duplicate_permille) {
            self.schedule(to, shard, frame.clone(), &faults);
        }
        self.schedule(to, shard, frame, &faults);
    }

    /// From the beginning of time, unless it is cut off now.
    fn active_since(&self, member: MemberId) -> Option<Instant> {
        (!self.sim.faults().cuts(self.from, member)).then_some(Instant(0))
    }

    /// Everybody is reached without an address.
    fn set_members(&self, _: &[Peer], _: &[MemberId]) {}
}
