//! What the checks need of the machine: two clocks, randomness, and a place beside the core.

use std::{future::Future, pin::Pin, time::Duration};

use crate::env::{Beside, Env, Instant};

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// An [`Env`] of whichever kind.
pub(super) struct Machine {
    now: Box<dyn Fn() -> Instant>,
    unix_time: Box<dyn Fn() -> Duration>,
    random: Box<dyn Fn() -> u64>,
    spawn: Box<dyn Fn(Task)>,
    beside: Beside,
}

impl Machine {
    pub(super) fn new<E: Env>(env: &E) -> Self {
        let [clock, calendar, dice, executor] = std::array::from_fn(|_| env.clone());
        Self {
            now: Box::new(move || clock.roughly()),
            unix_time: Box::new(move || calendar.wall()),
            random: Box::new(move || dice.random_u64()),
            spawn: Box::new(move |task| executor.spawn(task)),
            beside: Beside::setting_aside(env),
        }
    }

    /// Up to a few milliseconds ago.
    pub(super) fn now(&self) -> Instant {
        (self.now)()
    }

    /// Since 1970, for what others date as well.
    pub(super) fn unix_time(&self) -> Duration {
        (self.unix_time)()
    }

    pub(super) fn random(&self) -> u64 {
        (self.random)()
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        (self.spawn)(Box::pin(task));
    }

    /// Beside the core, and behind everybody else.
    pub(super) fn set_aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + 'static {
        self.beside.run(work)
    }
}
