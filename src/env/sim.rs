//! The simulated machine: one deterministic world holding several members, driven from one seed.
//!
//! Time stands still while anything can run and then jumps to the next timer. Which of the runnable
//! tasks goes first, how long a write or a message takes and what is lost are all drawn from the
//! seed, so a run replays exactly. A member crashes by [`Sim::crash`]: its tasks are dropped where
//! they stand and its disk forgets what was not durable.

pub mod disk;
mod executor;
mod network;
mod rng;

pub use executor::Sim;
pub use network::{Faults, SimNetwork};
pub use rng::Rng;

use std::{future::Future, time::Duration};

use super::{Env, Instant};
use crate::types::MemberId;
use disk::SimDisk;

/// One member's machine in a simulated world.
#[derive(Clone)]
pub struct SimEnv {
    sim: Sim,
    member: MemberId,
    disk: SimDisk,
    network: SimNetwork,
}

impl SimEnv {
    /// The machine of `member`; its disk outlives crashes.
    pub fn new(sim: &Sim, member: MemberId, disk: SimDisk) -> Self {
        SimEnv { sim: sim.clone(), member, disk, network: SimNetwork::new(sim.clone(), member) }
    }
}

impl Env for SimEnv {
    type Disk = SimDisk;
    type Network = SimNetwork;

    fn disk(&self) -> &SimDisk {
        &self.disk
    }

    fn network(&self) -> &SimNetwork {
        &self.network
    }

    fn now(&self) -> Instant {
        self.sim.now()
    }

    fn random_u64(&self) -> u64 {
        self.sim.random_u64()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        self.sim.sleep(duration)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.sim.spawn(self.member, task);
    }
}
