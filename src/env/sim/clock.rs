//! What a member's clock shows: it may go too fast or too slow, and its time of day may be off. It never goes back.

use std::time::Duration;

use crate::env::Instant;

const RIGHT_PERMILLE: u64 = 1_000;

#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pace_permille: u64,
    /// When it was last set, and what it showed then.
    set: Instant,
    shown: Instant,
    ahead: Duration,
}

impl Default for Clock {
    fn default() -> Self {
        Clock {
            pace_permille: RIGHT_PERMILLE,
            set: Instant::default(),
            shown: Instant::default(),
            ahead: Duration::ZERO,
        }
    }
}

impl Clock {
    pub fn set(&mut self, now: Instant, pace_permille: u64, ahead: Duration) {
        assert!(pace_permille > 0, "a clock that stands still");
        *self = Clock { pace_permille, set: now, shown: self.shows(now), ahead };
    }

    /// What it shows at a moment.
    pub fn shows(&self, now: Instant) -> Instant {
        let passed = now.since(self.set).as_nanos() as u64;
        self.shown.after(Duration::from_nanos(scale(passed, self.pace_permille, RIGHT_PERMILLE)))
    }

    /// How long a time really takes that passes on it.
    pub fn takes(&self, duration: Duration) -> Duration {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(scale(nanos, RIGHT_PERMILLE, self.pace_permille))
    }

    /// The time of day.
    pub fn wall(&self, now: Instant) -> Duration {
        Duration::from_nanos(self.shows(now).0) + self.ahead
    }
}

/// Rounded up: a timer is not over before its clock says so.
fn scale(nanos: u64, by: u64, of: u64) -> u64 {
    if by == of { nanos } else { (u128::from(nanos) * u128::from(by)).div_ceil(u128::from(of)) as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_at_its_pace_and_never_back() {
        let mut clock = Clock::default();
        assert_eq!(clock.shows(Instant(77)), Instant(77));
        clock.set(Instant(1_000), 2_000, Duration::ZERO);
        assert_eq!(
            (clock.shows(Instant(1_000)), clock.shows(Instant(1_500))),
            (Instant(1_000), Instant(2_000))
        );
        clock.set(Instant(1_500), 500, Duration::from_secs(9));
        assert_eq!(
            (clock.shows(Instant(1_500)), clock.shows(Instant(1_700))),
            (Instant(2_000), Instant(2_100))
        );
        assert_eq!(clock.takes(Duration::from_nanos(100)), Duration::from_nanos(200));
        assert_eq!(clock.wall(Instant(1_500)), Duration::from_secs(9) + Duration::from_nanos(2_000));
    }
}
