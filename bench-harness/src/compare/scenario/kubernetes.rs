//! `kubernetes`: what kube-apiserver asks, at a rate that all servers keep up with, and then as fast as it goes: what a
//! transaction costs, and how long until a watch cache has it.

use std::time::Duration;

use super::job::{Job, Progress, step};
use crate::compare::Error;
use crate::compare::probe::quantile_ms;
use crate::compare::report::{Column, Layout, Panel, Sample};
use crate::compare::testbed::{Running, Testbed, mib};
use crate::kubernetes::{Apiserver, Pattern, Seen};
use crate::load::{options_seconds as seconds, own_cpu};

static LAYOUT: Layout = Layout {
    name: "kubernetes",
    columns: &[
        Column::higher("txn/s", 0),
        Column::higher("txn per server CPU s", 0),
        Column::lower("txn p50 ms", 2),
        Column::lower("txn p99 ms", 2),
        Column::lower("lag p50 ms", 2),
        Column::lower("lag p99 ms", 2),
        Column::lower("progress p99 ms", 2),
        Column::plain("events/s", 0),
        Column::plain("pages/s", 1),
        Column::plain("lists begun again", 0),
        Column::plain("leases", 0),
        Column::plain("compactions", 0),
        Column::plain("server CPU %", 0),
        Column::plain("client CPU %", 0),
        Column::lower("RSS MiB", 0),
    ],
    panels: &[
        Panel::Bars {
            caption: "Kubernetes: transactions per second of the server's CPU",
            columns: &["txn per server CPU s"],
            logarithmic: false,
        },
        Panel::Bars {
            caption: "Kubernetes: from a transaction sent to its event in the watch cache, in ms (log scale): p50, p99",
            columns: &["lag p50 ms", "lag p99 ms"],
            logarithmic: true,
        },
    ],
};

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
#[command(next_help_heading = "Of kubernetes")]
#[group(skip)]
pub struct KubernetesOptions {
    /// Objects of each kind: pods, leases of nodes, config maps.
    #[arg(long, default_value_t = 3_000)]
    pub kubernetes_objects: usize,
    /// Who change objects, each its own, one at a time.
    #[arg(long, default_value_t = 50)]
    pub kubernetes_writers: usize,
    #[arg(long, default_value_t = 1_000)]
    pub kubernetes_value_size: usize,
    /// Transactions a second where they are at a rate.
    #[arg(long, default_value_t = 1_000.0)]
    pub kubernetes_rate: f64,
    #[arg(long, value_parser = seconds, default_value = "15")]
    pub kubernetes_duration: Duration,
    /// How many list everything, in pages of 500.
    #[arg(long, default_value_t = 2)]
    pub kubernetes_listers: usize,
    /// Seconds that an event lives.
    #[arg(long, default_value_t = 5)]
    pub kubernetes_event_ttl: i64,
    /// Between two compactions.
    #[arg(long, value_parser = seconds, default_value = "5")]
    pub kubernetes_compact_every: Duration,
}

#[derive(Debug)]
pub struct Kubernetes {
    pattern: Pattern,
    rate: f64,
    duration: Duration,
}

impl Kubernetes {
    pub fn new(options: &KubernetesOptions) -> Self {
        let pattern = Pattern {
            writers: options.kubernetes_writers,
            objects: options.kubernetes_objects,
            value_size: options.kubernetes_value_size,
            listers: options.kubernetes_listers,
            page: 500,
            event_ttl: options.kubernetes_event_ttl,
            compact_every: options.kubernetes_compact_every,
            // As often as kube-apiserver asks at most.
            progress_every: Duration::from_millis(100),
        };
        Self { pattern, rate: options.kubernetes_rate, duration: options.kubernetes_duration }
    }

    fn phase(
        &self,
        rate: Option<f64>,
        running: &Running,
        apiserver: &mut Apiserver,
    ) -> Result<Sample, Error> {
        let (before, own_before) = (running.server.usage()?, own_cpu());
        let seen = apiserver.run(rate, self.duration);
        let (after, own_after) = (running.server.usage()?, own_cpu());
        let (cpu, own_cpu) = (after.cpu.saturating_sub(before.cpu), own_after.saturating_sub(own_before));
        let per_second = |count: u64| count as f64 / seen.seconds;
        let sample = Sample::default()
            .with("txn/s", per_second(seen.transactions))
            .with("txn per server CPU s", seen.transactions as f64 / cpu.as_secs_f64().max(0.01))
            .with("txn p50 ms", quantile_ms(&seen.latencies, 0.5))
            .with("txn p99 ms", quantile_ms(&seen.latencies, 0.99))
            .with("lag p50 ms", quantile_ms(&seen.lags, 0.5))
            .with("lag p99 ms", quantile_ms(&seen.lags, 0.99))
            .with("progress p99 ms", quantile_ms(&seen.progress, 0.99))
            .with("events/s", per_second(seen.events))
            .with("pages/s", per_second(seen.pages))
            .with("lists begun again", seen.relists as f64)
            .with("leases", seen.leases as f64)
            .with("compactions", seen.compactions as f64)
            .with("server CPU %", cpu.as_secs_f64() / seen.seconds * 100.0)
            .with("client CPU %", own_cpu.as_secs_f64() / seen.seconds * 100.0)
            .with("RSS MiB", mib(after.rss_bytes));
        Ok(with_errors(sample, &seen))
    }
}

fn with_errors(mut sample: Sample, seen: &Seen) -> Sample {
    sample.errors = seen.errors.values().sum::<u64>() + seen.faults.len() as u64;
    let first = seen.faults.first().cloned();
    sample.note = first.or_else(|| seen.errors.keys().next().cloned());
    sample
}

impl Job for Kubernetes {
    fn title(&self) -> &str {
        "kubernetes"
    }

    fn layout(&self) -> &'static Layout {
        &LAYOUT
    }

    fn expected(&self) -> Duration {
        self.duration * 2 + Duration::from_secs(10)
    }

    fn run(
        &self,
        testbed: &Testbed<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<(String, Sample)>, Error> {
        let mut running = testbed.start()?;
        let groups = [
            (Some(self.rate), format!("kubernetes: {} transactions a second", self.rate)),
            (None, "kubernetes: as fast as it goes".to_owned()),
        ];
        step(progress, (0.0, 0.1), "fill")(0.0);
        let mut apiserver = Apiserver::start(running.server.addr(), self.pattern)?;
        let mut samples = Vec::new();
        for (index, (rate, group)) in groups.into_iter().enumerate() {
            let from = 0.1 + 0.45 * index as f64;
            step(progress, (from, from + 0.45), &group)(0.0);
            samples.push((group, self.phase(rate, &running, &mut apiserver)?));
        }
        let faults = apiserver.finish();
        let (_, last) = samples.last_mut().expect("two groups");
        last.errors = last.errors.max(faults.len() as u64);
        last.note = last.note.take().or_else(|| faults.into_iter().next());
        running.stop()?;
        Ok(samples)
    }
}
