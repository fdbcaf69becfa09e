//! Messages between simulated members: delayed, reordered, dropped and duplicated by the seed.

use std::{collections::BTreeSet, time::Duration};

use super::Sim;
use crate::{env::Network, types::MemberId};

/// What goes wrong between members, in permille of the messages.
#[derive(Clone, Debug)]
pub struct Faults {
    pub drop_permille: u64,
    pub duplicate_permille: u64,
    /// Each delivery takes up to this long; later messages may overtake.
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

/// One member's end of the network.
#[derive(Clone)]
pub struct SimNetwork {
    sim: Sim,
    from: MemberId,
}

impl SimNetwork {
    pub(super) fn new(sim: Sim, from: MemberId) -> Self {
        SimNetwork { sim, from }
    }

    fn schedule(&self, to: MemberId, message: raft::eraftpb::Message, faults: &Faults) {
        let nanos = self.sim.below(faults.delay_max.as_nanos() as u64 + 1);
        let sim = self.sim.clone();
        // The wire belongs to no member: a sender's crash does not recall what it sent.
        self.sim.spawn(MemberId(0), async move {
            sim.sleep(Duration::from_nanos(nanos)).await;
            sim.deliver(to, message);
        });
    }
}

impl Network for SimNetwork {
    fn send(&self, to: MemberId, message: raft::eraftpb::Message) {
        let faults = self.sim.faults();
        let cut = faults.isolated.contains(&to.0) || faults.isolated.contains(&self.from.0);
        if cut || self.sim.chance(faults.drop_permille) {
            return;
        }
        if self.sim.chance(faults.duplicate_permille) {
            self.schedule(to, message.clone(), &faults);
        }
        self.schedule(to, message, &faults);
    }
}
