//! `list-storm`: the latency of puts at a fixed rate while nothing else happens, and while clients list all keys over
//! and over: everything in one reply, and in pages as kube-apiserver does it.

use std::net::SocketAddr;
use std::time::Duration;

use super::job::{Job, Progress, step};
use crate::compare::Error;
use crate::compare::probe::{Probe, ProbeOptions, with_latencies};
use crate::compare::report::{Column, Layout, Panel, Sample};
use crate::compare::testbed::{Fill, Running, Testbed, mib};
use crate::load::{self, Operation};

static LAYOUT: Layout = Layout {
    name: "list-storm",
    columns: &[
        Column::lower("p50 ms", 2),
        Column::lower("p99 ms", 2),
        Column::lower("p99.9 ms", 2),
        Column::lower("max ms", 1),
        Column::plain("p99 / idle", 2),
        Column::higher("lists/s", 2),
        Column::higher("listed keys/s", 0),
        Column::higher("listed MiB/s", 0),
        Column::lower("reply p99 ms", 1),
        Column::plain("server CPU %", 0),
        Column::plain("client CPU %", 0),
        Column::lower("RSS MiB", 0),
    ],
    panels: &[
        Panel::Bars {
            caption: "List storm: latency of puts in ms (log scale): p50, p99, p99.9 from left to right in each group",
            columns: &["p50 ms", "p99 ms", "p99.9 ms"],
            logarithmic: true,
        },
        Panel::Bars {
            caption: "List storm: listed keys per second",
            columns: &["listed keys/s"],
            logarithmic: false,
        },
    ],
};

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
#[command(next_help_heading = "Of list-storm")]
#[group(skip)]
pub struct ListStormOptions {
    #[arg(long, default_value_t = 100_000)]
    pub listed_keys: u64,
    /// Clients that list, each on a connection of its own.
    #[arg(long, default_value_t = 10)]
    pub listers: u32,
    /// Keys in a page; 500 is kube-apiserver's.
    #[arg(long, default_value_t = 500)]
    pub list_page: u64,
}

#[derive(Debug)]
pub struct ListStorm {
    fill: Fill,
    probe: Probe,
    listers: u32,
    page: u64,
}

impl ListStorm {
    pub fn new(options: &ListStormOptions, fill: Fill, probe: &ProbeOptions) -> Self {
        let ListStormOptions { listers, list_page: page, .. } = *options;
        Self { fill, probe: Probe::new(probe, &fill), listers, page }
    }

    fn list(&self, endpoint: SocketAddr, page: u64) -> Result<load::Summary, load::Error> {
        let options = load::Options {
            connections: self.listers,
            clients: self.listers,
            duration: self.probe.duration,
            page,
            // Whole lists of a busy server.
            drain: Duration::from_secs(120),
            ..load::Options::new(Operation::List, endpoint)
        };
        load::run(&options, &mut |_| {})
    }

    /// `page` is none for no storm, 0 for whole lists.
    fn phase(
        &self,
        page: Option<u64>,
        running: &Running,
        progress: &mut dyn FnMut(f64),
    ) -> Result<Sample, Error> {
        let endpoint = running.server.addr();
        let probed = self.probe.run(running, || page.map(|page| self.list(endpoint, page)), progress)?;
        let latencies = if page.is_some() { probed.during() } else { probed.all() };
        let (before, after) = (&probed.before, &probed.after);
        let percent =
            |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64() / probed.seconds * 100.0;
        let mut sample = with_latencies(Sample::default(), &latencies)
            .with("server CPU %", percent(before.usage.cpu, after.usage.cpu))
            .with("client CPU %", percent(before.own_cpu, after.own_cpu))
            .with("RSS MiB", mib(after.usage.rss_bytes));
        sample.errors = probed.summary.errors;
        if let Some(listing) = probed.beside.outcome {
            let listing = listing?;
            let rate = |count: u64| count as f64 / listing.measured_seconds;
            sample = sample
                .with("lists/s", rate(listing.listed.lists))
                .with("listed keys/s", rate(listing.listed.keys))
                .with("listed MiB/s", rate(listing.listed.bytes) / f64::from(1 << 20))
                .with("reply p99 ms", listing.latency.p99_us / 1e3);
            sample.errors += listing.errors;
            if let Some((kind, _)) = listing.error_kinds.first_key_value() {
                sample.note = Some(format!("a list failed: {kind}"));
            }
        }
        Ok(sample)
    }
}

impl Job for ListStorm {
    fn title(&self) -> &str {
        "list-storm"
    }

    fn layout(&self) -> &'static Layout {
        &LAYOUT
    }

    fn expected(&self) -> Duration {
        self.fill.expected() + self.probe.expected() * 3
    }

    fn run(
        &self,
        testbed: &Testbed<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<(String, Sample)>, Error> {
        let mut running = testbed.start()?;
        running.fill(self.fill, &mut step(progress, (0.0, 0.1), "fill"))?;
        running.settle()?;
        let phases = [
            (None, "list-storm: idle".to_owned()),
            (Some(0), format!("list-storm: {} clients, whole lists", self.listers)),
            (Some(self.page), format!("list-storm: {} clients, pages of {}", self.listers, self.page)),
        ];
        let mut samples: Vec<(String, Sample)> = Vec::new();
        for (index, (page, group)) in phases.into_iter().enumerate() {
            let from = 0.1 + 0.3 * index as f64;
            let mut sample = self.phase(page, &running, &mut step(progress, (from, from + 0.3), &group))?;
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
