//! The real environment: one glommio executor, its ring, its timers.
//!
//! Owned by the core that created it. A value is only usable inside its executor: every call that
//! reaches the kernel goes through that executor's reactor.

mod aside;
pub mod disk;
mod done;
mod executor;
mod fault;
mod names;
mod placement;
mod rings;
mod sockets;

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::Either;
use rustix::{
    rand::{GetRandomFlags, getrandom},
    time::{ClockId, clock_gettime},
};

pub use executor::{ExecutorError, run_anywhere, run_on};
pub use fault::explain_faults;
pub use placement::Core;
pub use sockets::{Bound, RealListener, RealSocket, Reuse};

use self::{aside::Aside, disk::RealDisk, names::Names};
use crate::env::{Env, Instant};

/// The environment of a member that runs on this machine.
#[derive(Clone, Debug, Default)]
pub struct RealEnv {
    disk: RealDisk,
    names: Names,
    /// None with tools, which take the executor's own thread.
    aside: Option<Aside>,
}

impl Env for RealEnv {
    type Disk = RealDisk;
    type Listener = RealListener;
    type Socket = RealSocket;
    type Sleep = RealSleep;

    fn disk(&self) -> &RealDisk {
        &self.disk
    }

    fn now(&self) -> Instant {
        monotonic(ClockId::Monotonic)
    }

    fn roughly(&self) -> Instant {
        monotonic(ClockId::MonotonicCoarse)
    }

    fn wall(&self) -> Duration {
        let time = clock_gettime(ClockId::RealtimeCoarse);
        // Before 1970 there is no time to tell.
        let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
        Duration::new(seconds.unwrap_or(0), nanos.expect("nanoseconds are not negative"))
    }

    fn random_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        let filled = getrandom(&mut bytes, GetRandomFlags::empty()).expect("the kernel gives random bytes");
        assert_eq!(filled, bytes.len(), "getrandom never gives a part of so few bytes");
        u64::from_ne_bytes(bytes)
    }

    fn sleep(&self, duration: Duration) -> RealSleep {
        RealSleep(glommio::timer::Timer::new(duration))
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        // `spawn_local` would run the task at once inside the caller.
        glommio::spawn_local_into(task, glommio::executor().current_task_queue())
            .expect("the caller's own task queue exists")
            .detach();
    }

    fn connect(
        &self,
        host: &str,
        port: u16,
    ) -> impl Future<Output = io::Result<RealSocket>> + use<> + 'static {
        sockets::connect(self.names.addresses(host, port))
    }

    fn offload<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + 'static {
        glommio::executor().spawn_blocking(work)
    }

    fn set_aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + 'static {
        match &self.aside {
            Some(aside) => Either::Left(aside.run(work)),
            None => Either::Right(self.offload(work)),
        }
    }
}

fn monotonic(clock: ClockId) -> Instant {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).expect("the monotonic clock is not negative");
    let nanos = u64::try_from(time.tv_nsec).expect("nanoseconds are not negative");
    Instant(seconds * 1_000_000_000 + nanos)
}

/// A timer of the executor.
#[derive(Debug)]
pub struct RealSleep(glommio::timer::Timer);

impl Future for RealSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(context).map(drop)
    }
}
