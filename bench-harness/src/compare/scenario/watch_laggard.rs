//! `watch-laggard`: the latency of puts at a fixed rate while nothing else happens, and while a watch that begins far in the
//! past catches up, over and over.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::job::{Job, Progress, step};
use crate::compare::Error;
use crate::compare::probe::{Probe, ProbeOptions, with_latencies};
use crate::compare::report::{Column, Layout, Panel, Sample};
use crate::compare::testbed::{Fill, Running, Testbed, mib};
use crate::watchers::{self, Plan, Watchers};

static LAYOUT: Layout = Layout {
    name: "watch-laggard",
    columns: &[
        Column::lower("p50 ms", 2),
        Column::lower("p99 ms", 2),
        Column::lower("p99.9 ms", 2),
        Column::lower("max ms", 1),
        Column::plain("p99 / idle", 2),
        Column::lower("catches up in s", 2),
        Column::higher("events/s", 0),
        Column::plain("server CPU %", 0),
        Column::lower("peak MiB", 0),
    ],
    panels: &[Panel::Bars {
        caption: "A watch far behind: latency of puts in ms (log scale): p50, p99, p99.9 from left to right in each group",
        columns: &["p50 ms", "p99 ms", "p99.9 ms"],
        logarithmic: true,
    }],
};

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
#[command(next_help_heading = "Of watch-laggard")]
#[group(skip)]
pub struct LaggardOptions {
    /// Revisions that are missed.
    #[arg(long, default_value_t = 500_000)]
    pub laggard_revisions: u64,
}

#[derive(Debug)]
pub struct Laggard {
    fill: Fill,
    probe: Probe,
}

/// What came of catching up.
struct CaughtUp {
    times: u32,
    events: u64,
    took: Duration,
}

impl Laggard {
    pub fn new(fill: Fill, probe: &ProbeOptions) -> Self {
        Self { fill, probe: Probe::new(probe, &fill) }
    }

    /// Again and again, for the time of the probe.
    fn catch_up(&self, addr: SocketAddr) -> Result<CaughtUp, watchers::Error> {
        let began = Instant::now();
        let mut all = CaughtUp { times: 0, events: 0, took: Duration::ZERO };
        while began.elapsed() < self.probe.duration {
            let since = Instant::now();
            let ranges = vec![("\0".to_owned(), "\0".to_owned())];
            let mut watchers =
                Watchers::start(addr, Plan { connections: 1, streams: 1, ranges, start_revision: 2 })?;
            watchers.wait_for_events(self.fill.count, self.probe.duration * 20)?;
            all.events += watchers.take().events;
            all.times += 1;
            all.took += since.elapsed();
            watchers.stop()?;
        }
        Ok(all)
    }

    fn phase(&self, lags: bool, running: &Running, progress: &mut dyn FnMut(f64)) -> Result<Sample, Error> {
        let addr = running.server.addr();
        let probed = self.probe.run(running, || lags.then(|| self.catch_up(addr)), progress)?;
        let latencies = if lags { probed.during() } else { probed.all() };
        let cpu = probed.after.usage.cpu.saturating_sub(probed.before.usage.cpu);
        let mut sample = with_latencies(Sample::default(), &latencies)
            .with("server CPU %", cpu.as_secs_f64() / probed.seconds * 100.0)
            .with("peak MiB", mib(probed.after.usage.rss_peak_bytes));
        sample.errors = probed.summary.errors;
        if let Some(caught_up) = probed.beside.outcome {
            let CaughtUp { times, events, took } = caught_up?;
            sample = sample
                .with("catches up in s", took.as_secs_f64() / f64::from(times))
                .with("events/s", events as f64 / took.as_secs_f64());
        }
        Ok(sample)
    }
}

impl Job for Laggard {
    fn title(&self) -> &str {
        "watch-laggard"
    }

    fn layout(&self) -> &'static Layout {
        &LAYOUT
    }

    fn expected(&self) -> Duration {
        self.fill.expected() + self.probe.expected() * 2
    }

    fn run(
        &self,
        testbed: &Testbed<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<(String, Sample)>, Error> {
        let mut running = testbed.start_large()?;
        running.fill(self.fill, &mut step(progress, (0.0, 0.4), "fill"))?;
        running.settle()?;
        let mut samples: Vec<(String, Sample)> = Vec::new();
        for (lags, group, from) in [
            (false, "watch-laggard: idle".to_owned(), 0.4),
            (true, format!("watch-laggard: {} revisions behind", self.fill.count), 0.7),
        ] {
            let mut sample = self.phase(lags, &running, &mut step(progress, (from, from + 0.3), &group))?;
            let idle = samples.first().and_then(|(_, idle)| idle.value("p99 ms"));
            if let (Some(idle), Some(p99)) = (idle, sample.value("p99 ms")) {
                sample = sample.with("p99 / idle", p99 / idle);
            }
            samples.push((group, sample));
        }
        running.stop()?;
        Ok(samples)
    }
}
