//! The simulated machine: one deterministic world holding several members, driven from one seed.
//!
//! Time stands still while anything can run and then jumps to the next timer. Which of the runnable
//! tasks goes first, how long a write or a message takes and what is lost are all drawn from the
//! seed, so a run replays exactly. A member crashes by [`Sim::crash`]: its tasks are dropped where
//! they stand and its disk forgets what was not durable.

mod clock;
pub mod disk;
mod executor;
mod links;
mod rng;
mod sockets;
mod stream;

pub use executor::{Sim, Sleep};
pub use links::{Faults, LinkFault, SimLinks};
pub use rng::Rng;
pub use sockets::{SimListener, SimSocket};
pub use stream::SimStream;

use std::{future::Future, io, net::SocketAddr, time::Duration};

use super::{Env, Instant, Law};
use crate::types::MemberId;
use disk::SimDisk;

/// What is done beside a core takes up to this long.
const OFFLOAD_MAX: Duration = Duration::from_millis(20);

/// One member's machine in a simulated world.
#[derive(Clone)]
pub struct SimEnv {
    sim: Sim,
    member: MemberId,
    disk: SimDisk,
}

impl SimEnv {
    /// The machine of `member`; its disk outlives crashes.
    pub fn new(sim: &Sim, member: MemberId, disk: SimDisk) -> Self {
        SimEnv { sim: sim.clone(), member, disk }
    }

    /// Whose machine it is.
    pub fn member(&self) -> MemberId {
        self.member
    }

    /// Where a port of this machine is.
    pub fn address(&self, port: u16) -> SocketAddr {
        sockets::address(self.member, port)
    }

    pub fn listen(&self, port: u16) -> SimListener {
        self.sim.listen_at(self.member, port)
    }
}

impl Env for SimEnv {
    type Disk = SimDisk;
    type Listener = SimListener;
    type Socket = SimSocket;
    type Sleep = Sleep;

    fn disk(&self) -> &SimDisk {
        &self.disk
    }

    fn now(&self) -> Instant {
        self.sim.clock(self.member).shows(self.sim.now())
    }

    fn roughly(&self) -> Instant {
        self.now()
    }

    fn wall(&self) -> Duration {
        self.sim.clock(self.member).wall(self.sim.now())
    }

    fn breaks(&self, law: Law) -> bool {
        self.sim.breaks(law)
    }

    fn random_u64(&self) -> u64 {
        self.sim.random_u64()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        self.sim.sleep(self.sim.clock(self.member).takes(duration))
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.sim.spawn(self.member, task);
    }

    fn connect(
        &self,
        host: &str,
        port: u16,
    ) -> impl Future<Output = io::Result<SimSocket>> + use<> + 'static {
        self.sim.clone().connect_as_member(self.member, host.to_owned(), port)
    }

    fn offload<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + 'static {
        let nanos = 1 + self.sim.below(OFFLOAD_MAX.as_nanos() as u64);
        let takes = self.sim.sleep(Duration::from_nanos(nanos));
        async move {
            takes.await;
            work()
        }
    }

    fn set_aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + 'static {
        self.offload(work)
    }
}
