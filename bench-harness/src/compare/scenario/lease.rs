//! `lease`: what granting and renewing costs, how much memory a lease takes, and how late leases end that end together, and
//! what that does to puts beside.

use std::time::{Duration, Instant};

use super::job::{Job, Progress, step};
use crate::compare::Error;
use crate::compare::probe::{Probe, ProbeOptions, Probed, quantile_ms};
use crate::compare::report::{Column, Layout, Panel, Sample};
use crate::compare::testbed::{Fill, Running, Testbed, mib};
use crate::leases::{Ended, Leases};
use crate::load::options_seconds as seconds;

static LAYOUT: Layout = Layout {
    name: "lease",
    columns: &[
        Column::higher("grants/s", 0),
        Column::lower("grant p99 ms", 2),
        Column::lower("CPU us/grant", 1),
        Column::lower("RSS B/lease", 0),
        Column::higher("renewals/s", 0),
        Column::lower("CPU us/renewal", 2),
        Column::lower("lag p50 s", 2),
        Column::lower("lag p99 s", 2),
        Column::lower("lag max s", 2),
        Column::plain("early", 0),
        Column::plain("left", 0),
        Column::lower("idle put p99 ms", 2),
        Column::lower("put p99 ms", 2),
        Column::lower("put p99 / idle", 2),
        Column::lower("RSS MiB", 0),
    ],
    panels: &[
        Panel::Bars {
            caption: "Leases that end together: how late, in s (log scale): p50, p99",
            columns: &["lag p50 s", "lag p99 s"],
            logarithmic: true,
        },
        Panel::Bars {
            caption: "Resident memory in bytes per lease",
            columns: &["RSS B/lease"],
            logarithmic: false,
        },
    ],
};

/// Leases that stay: the rate of granting and renewing is measured with them.
const LASTING_TTL: i64 = 36_000;
/// For the plan of time only.
const GRANTS_PER_SECOND: f64 = 12_000.0;

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
#[command(next_help_heading = "Of lease")]
#[group(skip)]
pub struct LeaseOptions {
    /// Leases that end together, one run each.
    #[arg(long, value_delimiter = ',', default_values_t = [100_000, 1_000_000])]
    pub leases: Vec<u64>,
    /// Who grant them.
    #[arg(long, default_value_t = 500)]
    pub lease_clients: usize,
    #[arg(long, value_parser = seconds, default_value = "5")]
    pub lease_keepalive: Duration,
    /// From their granting to their end, beside what granting takes.
    #[arg(long, value_parser = seconds, default_value = "10")]
    pub lease_margin: Duration,
    /// From their end to when nobody waits any longer for those that are left.
    #[arg(long, value_parser = seconds, default_value = "60")]
    pub lease_patience: Duration,
}

#[derive(Debug)]
pub struct Lease {
    count: u64,
    options: LeaseOptions,
    probe: Probe,
    title: String,
}

pub fn jobs(options: &LeaseOptions, probe: &ProbeOptions, value_size: usize) -> Vec<Box<dyn Job>> {
    let probe = Probe::new(probe, &Fill::once(10_000, 24, value_size));
    let job = |count: &u64| {
        let title = format!("lease: {count} end together");
        Box::new(Lease { count: *count, options: options.clone(), probe, title }) as Box<dyn Job>
    };
    options.leases.iter().map(job).collect()
}

impl Lease {
    fn puts<T: Send>(
        &self,
        running: &Running,
        beside: impl FnOnce() -> T + Send,
        progress: &mut dyn FnMut(f64),
    ) -> Result<(Probed<T>, Option<f64>), Error> {
        let probed = self.probe.run(running, beside, progress)?;
        let p99 = quantile_ms(&probed.during(), 0.99);
        Ok((probed, p99))
    }
}

fn with_end(sample: Sample, ended: &Ended) -> Sample {
    let lag = |quantile| quantile_ms(&ended.lags, quantile).map(|ms| ms / 1e3);
    sample
        .with("lag p50 s", lag(0.5))
        .with("lag p99 s", lag(0.99))
        .with("lag max s", lag(1.0))
        .with("early", ended.early as f64)
        .with("left", ended.left as f64)
}

impl Job for Lease {
    fn title(&self) -> &str {
        &self.title
    }

    fn layout(&self) -> &'static Layout {
        &LAYOUT
    }

    fn expected(&self) -> Duration {
        Duration::from_secs_f64(self.count as f64 / GRANTS_PER_SECOND)
            + self.probe.expected() * 2
            + self.options.lease_keepalive
            + self.options.lease_margin * 2
    }

    fn run(
        &self,
        testbed: &Testbed<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<(String, Sample)>, Error> {
        let LeaseOptions { lease_clients: clients, lease_margin: margin, lease_patience: patience, .. } =
            self.options;
        let mut running = testbed.start_large()?;
        let leases = Leases::connect(running.server.addr())?;
        let lasting = leases.grant(self.count / 50 + 50, clients, || LASTING_TTL)?;
        let pause = self.probe.duration;
        let idle =
            self.puts(&running, || std::thread::sleep(pause), &mut step(progress, (0.0, 0.2), "idle"))?.1;

        progress(0.2, "keep alive");
        let before = running.server.usage()?;
        let renewed = leases.keep_alive(&lasting.ids, self.options.lease_keepalive)?;
        let after = running.server.usage()?;
        let cpu_us = |cpu: Duration, count: u64| cpu.as_secs_f64() * 1e6 / count.max(1) as f64;
        let mut sample = Sample::default()
            .with("renewals/s", renewed.renewals as f64 / renewed.seconds)
            .with("CPU us/renewal", cpu_us(after.cpu.saturating_sub(before.cpu), renewed.renewals))
            .with("idle put p99 ms", idle);

        progress(0.3, "grant");
        let rate = lasting.ids.len() as f64 / lasting.seconds;
        let end = Instant::now() + Duration::from_secs_f64(self.count as f64 / rate * 1.5) + margin;
        let before = running.server.usage()?;
        let until =
            move || end.saturating_duration_since(Instant::now()).as_secs_f64().ceil().max(2.0) as i64;
        let granted = leases.grant(self.count, clients, until)?;
        let after = running.server.usage()?;
        sample = sample
            .with("grants/s", self.count as f64 / granted.seconds)
            .with("grant p99 ms", quantile_ms(&granted.latencies, 0.99))
            .with("CPU us/grant", cpu_us(after.cpu.saturating_sub(before.cpu), self.count))
            .with("RSS B/lease", after.rss_bytes.saturating_sub(before.rss_bytes) as f64 / self.count as f64)
            .with("RSS MiB", mib(after.rss_bytes));

        progress(0.7, "wait for the end");
        let first = *granted.ends.first().expect("at least one");
        let lead = self.probe.lead * 2 + Duration::from_millis(500);
        std::thread::sleep(first.saturating_duration_since(Instant::now()).saturating_sub(lead));
        let gone = leases.revoked()?;
        let watch = || leases.watch(&granted.ends, gone, patience);
        let (probed, p99) = self.puts(&running, watch, &mut step(progress, (0.8, 1.0), "end"))?;
        sample = with_end(sample, &probed.beside.outcome?).with("put p99 ms", p99);
        if let (Some(idle), Some(p99)) = (idle, p99) {
            sample = sample.with("put p99 / idle", p99 / idle);
        }
        sample.errors = probed.summary.errors;
        running.stop()?;
        Ok(vec![(self.title.clone(), sample)])
    }
}
