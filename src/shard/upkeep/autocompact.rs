//! Compaction by time or by number of revisions (`--auto-compaction-mode`; etcd v3.7 `api/v3compactor`).
//!
//! A task beside the loop, on the leader's turn only. It remembers nothing over a restart, as in etcd: a periodic
//! compaction comes one whole period after the start at the earliest.

use std::{collections::VecDeque, time::Duration};

use tracing::{info, warn};

use super::Duty;
use crate::{
    env::{Env, Instant},
    pb::etcdserverpb as pb,
    shard::{Error, Shard},
    state::{self, Principal},
};

/// Samples of a period, or of the hours of a longer one.
const SAMPLES: u32 = 10;
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);
const REVISION_INTERVAL: Duration = Duration::from_secs(300);

/// What automatic compaction keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// The revisions of the last so much time.
    Periodic(Duration),
    /// So many revisions.
    Revisions(i64),
}

impl AutoCompaction {
    /// Runs until the shard stops.
    pub async fn run<E: Env>(self, env: E, shard: Shard, duty: Duty) {
        match self {
            Self::Periodic(period) => periodic(env, shard, duty, period).await,
            Self::Revisions(retention) => revisions(env, shard, duty, retention).await,
        }
    }
}

/// The revisions sampled over one period, and when the next one is due.
struct Window {
    period: Duration,
    revisions: VecDeque<i64>,
    /// A whole period before the first compaction, an hour at most between two.
    wait: Duration,
    last: (Instant, i64),
}

impl Window {
    fn new(period: Duration, now: Instant) -> Self {
        Self { period, revisions: VecDeque::new(), wait: period, last: (now, 0) }
    }

    fn interval(&self) -> Duration {
        self.period.min(LONGEST_INTERVAL)
    }

    /// Between two samples, and before another try.
    fn pause(&self) -> Duration {
        self.interval() / SAMPLES
    }

    fn sample(&mut self, revision: i64) {
        let kept = (self.period.as_nanos() / self.pause().as_nanos().max(1)) as usize + 1;
        self.revisions.push_back(revision);
        if self.revisions.len() > kept {
            self.revisions.pop_front();
        }
    }

    /// What to compact now, if anything.
    fn due(&mut self, now: Instant) -> Option<i64> {
        let oldest = *self.revisions.front()?;
        if now.since(self.last.0) < self.wait || oldest == self.last.1 {
            return None;
        }
        self.wait = self.interval();
        Some(oldest)
    }

    fn done(&mut self, revision: i64, now: Instant) {
        self.last = (now, revision);
    }
}

async fn periodic<E: Env>(env: E, shard: Shard, duty: Duty, period: Duration) {
    let mut window = Window::new(period, env.now());
    loop {
        window.sample(shard.revision().0);
        env.sleep(window.pause()).await;
        if duty.term().is_none() {
            continue;
        }
        let began = env.now();
        let Some(revision) = window.due(began) else { continue };
        info!(revision, "compact-period" = ?period, "starting auto periodic compaction");
        match compact(&shard, revision).await {
            Ok(()) => {
                let now = env.now();
                let took = now.since(began);
                info!(revision, "compact-period" = ?period, ?took, "completed auto periodic compaction");
                window.done(revision, now);
            }
            Err(Error::Stopped) => return,
            Err(error) => {
                let again = window.pause();
                warn!(
                    revision,
                    "compact-period" = ?period,
                    "retry-interval" = ?again,
                    %error,
                    "failed auto periodic compaction"
                );
            }
        }
    }
}

async fn revisions<E: Env>(env: E, shard: Shard, duty: Duty, retention: i64) {
    let mut last = 0;
    loop {
        env.sleep(REVISION_INTERVAL).await;
        let revision = shard.revision().0 - retention;
        if duty.term().is_none() || revision <= 0 || revision == last {
            continue;
        }
        let began = env.now();
        info!(revision, "revision-compaction-retention" = retention, "starting auto revision compaction");
        match compact(&shard, revision).await {
            Ok(()) => {
                last = revision;
                let took = env.now().since(began);
                info!(
                    revision,
                    "revision-compaction-retention" = retention,
                    ?took,
                    "completed auto revision compaction"
                );
            }
            Err(Error::Stopped) => return,
            Err(error) => warn!(
                revision,
                "revision-compaction-retention" = retention,
                "retry-interval" = ?REVISION_INTERVAL,
                %error,
                "failed auto revision compaction"
            ),
        }
    }
}

/// Compacted already is as good.
async fn compact(shard: &Shard, revision: i64) -> Result<(), Error> {
    match shard.write(&Principal::default(), pb::CompactionRequest { revision, physical: false }).await {
        Ok(_) | Err(Error::Apply(state::Error::Compacted)) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000_000_000;

    /// Steps through `minutes` of a store that gains one revision per minute; `(minute, revision)` of each compaction.
    fn compactions(period: Duration, minutes: u64) -> Vec<(u64, i64)> {
        let mut window = Window::new(period, Instant(0));
        let mut now = 0;
        let mut seen = Vec::new();
        while now < minutes * MINUTE {
            window.sample(1 + (now / MINUTE) as i64);
            now += window.pause().as_nanos() as u64;
            if let Some(revision) = window.due(Instant(now)) {
                window.done(revision, Instant(now));
                seen.push((now / MINUTE, revision));
            }
        }
        seen
    }

    /// As etcd's own compactor does with the same clock.
    #[test]
    fn the_first_after_a_period_then_each_interval() {
        assert_eq!(compactions(Duration::from_secs(600), 32), [(10, 1), (20, 10), (30, 20)]);
        let two_hours = compactions(Duration::from_secs(7200), 310);
        assert_eq!(two_hours, [(120, 1), (180, 55), (240, 115), (300, 175)]);
    }

    #[test]
    fn a_quiet_store_is_compacted_once_and_a_failure_is_tried_again() {
        let mut window = Window::new(Duration::from_secs(600), Instant(0));
        window.sample(7);
        assert_eq!(window.due(Instant(10 * MINUTE)), Some(7));
        assert_eq!(window.due(Instant(11 * MINUTE)), Some(7), "the one before is not known to be done");
        window.done(7, Instant(11 * MINUTE));
        window.sample(7);
        assert_eq!(window.due(Instant(60 * MINUTE)), None);
    }
}
