//! The environment's clock for libraries that reckon with the standard library's instants.

pub use std::time::Instant as StdInstant;

use super::Env;

/// Such instants, at the pace of an environment's clock: in a simulated world they stand still with it.
pub struct StdClock<E> {
    env: E,
    /// The same moment on both.
    began: (super::Instant, StdInstant),
}

impl<E: Env> StdClock<E> {
    pub fn new(env: E) -> Self {
        let began = (env.now(), StdInstant::now());
        Self { env, began }
    }

    pub fn now(&self) -> StdInstant {
        self.began.1 + self.env.now().since(self.began.0)
    }

    pub fn sleep_until(&self, deadline: StdInstant) -> E::Sleep {
        self.env.sleep(deadline.saturating_duration_since(self.now()))
    }

    pub fn env(&self) -> &E {
        &self.env
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc, time::Duration};

    use super::*;
    use crate::{
        env::sim::{Sim, SimEnv, disk::SimDisk},
        types::MemberId,
    };

    #[test]
    fn it_goes_as_the_simulated_clock_goes() {
        let sim = Sim::new(1);
        let env = SimEnv::new(&sim, MemberId(1), SimDisk::new(&sim));
        let clock = StdClock::new(env.clone());
        let (began, passed) = (clock.now(), Rc::new(Cell::new(Duration::ZERO)));
        assert_eq!(clock.now(), began, "nothing has happened");
        let seen = passed.clone();
        env.spawn(async move {
            clock.sleep_until(began + Duration::from_secs(30)).await;
            seen.set(clock.now() - began);
        });
        assert!(sim.run_until(1_000, || passed.get() == Duration::from_secs(30)));
    }
}
