//! The intended start times of an open loop: a fixed rate, whatever the server does.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Shorter waits are rounded up to this: what becomes due in between starts together.
const WAIT_MIN: Duration = Duration::from_micros(50);

/// Start number `n` of a worker is intended at `first + n * interval`.
#[derive(Debug)]
pub struct Schedule {
    first_ns: f64,
    interval_ns: f64,
    given: u64,
}

impl Schedule {
    /// `worker` of `workers` that make `rate` per second together, evenly interleaved.
    pub fn new(rate: f64, worker: u32, workers: u32) -> Self {
        let interval_ns = 1e9 / rate;
        Self {
            first_ns: interval_ns * f64::from(worker),
            interval_ns: interval_ns * f64::from(workers),
            given: 0,
        }
    }

    /// Nanoseconds since the start of the run.
    pub fn peek(&self) -> u64 {
        // From the index each time: adding up intervals would add up their rounding.
        (self.first_ns + self.given as f64 * self.interval_ns) as u64
    }

    /// The next intended start, if it is due by `now`.
    pub fn due(&mut self, now_ns: u64) -> Option<u64> {
        let next = self.peek();
        (next <= now_ns).then(|| {
            self.given += 1;
            next
        })
    }
}

/// A timer with the kernel's precision; tokio's own rounds to a millisecond.
#[derive(Debug)]
pub struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    pub fn new() -> std::io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // SAFETY: the descriptor is open and owned by the AsyncFd, which hands out shared references only, so it
        // stays open and the same for as long as it is registered.
        let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(Self(registered.map_err(std::io::Error::from)?))
    }

    pub async fn sleep(&self, wait: Duration) -> std::io::Result<()> {
        let wait = wait.max(WAIT_MIN);
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Timespec { tv_sec: wait.as_secs().cast_signed(), tv_nsec: wait.subsec_nanos().into() };
        let once = Itimerspec { it_interval: zero, it_value: value };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.0.readable().await?;
            let mut count = [0; 8];
            match rustix::io::read(self.0.get_ref(), &mut count) {
                Ok(_) => {
                    ready.clear_ready();
                    return Ok(());
                }
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_come_at_the_rate_and_are_never_skipped() {
        let mut schedule = Schedule::new(10_000.0, 0, 1);
        let due = std::iter::from_fn(|| schedule.due(1_000_000)).collect::<Vec<_>>();
        assert_eq!(due, (0..=10).map(|n| n * 100_000).collect::<Vec<_>>());
        assert_eq!(schedule.due(1_000_000), None);
        // After a stall everything that was missed is due at its own time.
        assert_eq!(std::iter::from_fn(|| schedule.due(100_000_000)).count(), 990);
    }

    #[test]
    fn workers_interleave() {
        let mut all = Vec::new();
        for worker in 0..3 {
            let mut schedule = Schedule::new(3000.0, worker, 3);
            all.extend(std::iter::from_fn(|| schedule.due(1_000_000_000)));
        }
        all.sort_unstable();
        assert!((3000..=3001).contains(&all.len()), "{}", all.len());
        assert!(all.windows(2).all(|pair| (333_333..=333_334).contains(&(pair[1] - pair[0]))));
    }
}
