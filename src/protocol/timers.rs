//! The environment's clock and timers, for what is not generic over the environment.

use std::{future::Future, pin::Pin, rc::Rc, time::Duration};

use crate::env::{Env, Instant};

/// Over after a time.
pub(super) type Timer = Pin<Box<dyn Future<Output = ()>>>;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Timers(Rc<dyn Source>);

trait Source {
    fn now(&self) -> Instant;
    fn sleep(&self, time: Duration) -> Timer;
}

impl<E: Env> Source for E {
    fn now(&self) -> Instant {
        Env::now(self)
    }

    fn sleep(&self, time: Duration) -> Timer {
        Box::pin(Env::sleep(self, time))
    }
}

impl Timers {
    pub(super) fn new<E: Env>(env: &E) -> Self {
        Self(Rc::new(env.clone()))
    }

    pub(super) fn now(&self) -> Instant {
        self.0.now()
    }

    pub(super) fn sleep(&self, time: Duration) -> Timer {
        self.0.sleep(time)
    }
}
