//! How long to wait before the next attempt: twice as long each time, up to a bound, and never quite the same.

use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub fn new(least: Duration, most: Duration) -> Self {
        Backoff { least, most, next: least }
    }

    /// Something worked: the next failure counts as the first.
    pub fn reset(&mut self) {
        self.next = self.least;
    }

    /// From half of what is due to all of it: those who lost the same member do not come back at the same moment.
    pub fn pause(&mut self, random: u64) -> Duration {
        let due = self.next;
        self.next = self.most.min(2 * due);
        let half = due / 2;
        half + Duration::from_nanos(random % (half.as_nanos() as u64 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_begin_anew() {
        let (least, most) = (Duration::from_millis(10), Duration::from_millis(100));
        for random in [0, 1, 7_777_777_777, u64::MAX] {
            let mut backoff = Backoff::new(least, most);
            for due in [10, 20, 40, 80, 100, 100].map(Duration::from_millis) {
                let pause = backoff.pause(random);
                assert!(pause >= due / 2 && pause <= due, "{pause:?} of {due:?}");
            }
            backoff.reset();
            assert!(backoff.pause(random) <= least);
        }
    }
}
