//! `overwrite`: few keys overwritten very often, and compacted as kube-apiserver does it: at each interval to the
//! revision that was the newest at the one before. What the data directory takes must stay bounded.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::job::{Job, Progress, step};
use super::load::LoadOptions;
use crate::admin::{self, Admin};
use crate::compare::report::{Column, Layout, Panel, Sample};
use crate::compare::testbed::{Fill, Running, Testbed, mib};
use crate::compare::{Error, io};
use crate::load::{self, Operation, Phase, options_seconds as seconds};
use crate::process::{allocated_bytes, usage_of};
use crate::prom;

const LOOK: Duration = Duration::from_secs(1);
/// A server slower than this is given up.
const PER_SECOND_MIN: u64 = 500;
const TIME_MIN: Duration = Duration::from_secs(60);
/// For the plan of time.
const PER_SECOND: f64 = 30_000.0;

static LAYOUT: Layout = Layout {
    name: "overwrite",
    columns: &[
        Column::lower("disk max MiB", 0),
        Column::lower("disk end MiB", 0),
        Column::lower("db max MiB", 0),
        Column::lower("db end MiB", 0),
        Column::lower("in use end MiB", 0),
        Column::lower("RSS max MiB", 0),
        Column::lower("RSS end MiB", 0),
        Column::higher("op/s", 0),
        Column::lower("p99 ms", 2),
        Column::plain("took s", 0),
        Column::plain("compactions", 0),
    ],
    panels: &[
        Panel::Lines { caption: "Overwrite: data directory in MiB over seconds", series: "disk MiB" },
        Panel::Lines { caption: "Overwrite: resident memory in MiB over seconds", series: "RSS MiB" },
        Panel::Lines { caption: "Overwrite: size the server reports in MiB over seconds", series: "db MiB" },
    ],
};

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
#[command(next_help_heading = "Of overwrite")]
#[group(skip)]
pub struct OverwriteOptions {
    #[arg(long, default_value_t = 10_000)]
    pub overwritten_keys: u64,
    #[arg(long, default_value_t = 5_000_000)]
    pub overwrites: u64,
    /// Between two compactions.
    #[arg(long, value_parser = seconds, default_value = "5")]
    pub compact_every: Duration,
}

#[derive(Debug)]
pub struct Overwrite {
    fill: Fill,
    overwrites: u64,
    every: Duration,
    load: load::Options,
}

impl Overwrite {
    /// Like other loads, over the keys of the fill.
    pub fn new(options: &OverwriteOptions, fill: Fill, like: &LoadOptions) -> Self {
        let OverwriteOptions { overwrites, compact_every: every, .. } = *options;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let load = load::Options {
            connections: like.connections,
            clients: like.clients,
            threads: like.threads,
            duration: TIME_MIN.max(Duration::from_secs(overwrites / PER_SECOND_MIN)),
            total: Some(overwrites),
            key_size: fill.key_size,
            value_size: fill.value_size,
            key_space: fill.keys,
            ..load::Options::new(Operation::Put, nowhere)
        };
        Self { fill, overwrites, every, load }
    }
}

impl Job for Overwrite {
    fn title(&self) -> &str {
        "overwrite"
    }

    fn layout(&self) -> &'static Layout {
        &LAYOUT
    }

    fn expected(&self) -> Duration {
        self.fill.expected() + Duration::from_secs_f64(self.overwrites as f64 / PER_SECOND) + self.every * 2
    }

    fn run(
        &self,
        testbed: &Testbed<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<(String, Sample)>, Error> {
        let mut running = testbed.start()?;
        running.fill(self.fill, &mut step(progress, (0.0, 0.01), "fill"))?;
        let watch = Watch::new(&running, self.every)?;
        let (summary, seen) = std::thread::scope(|scope| {
            let (stop, stopped) = channel::<()>();
            let watching = scope.spawn(move || watch.run(&stopped));
            let load = load::Options { endpoints: vec![running.server.addr()], ..self.load.clone() };
            let mut overwriting = step(progress, (0.01, 0.95), "overwrite");
            let summary = load::run(&load, &mut |phase| {
                if let Phase::Progress { part, .. } = phase {
                    overwriting(part);
                }
            });
            if summary.is_ok() {
                // Two more compactions: then nothing but the newest versions is left.
                overwriting(1.0);
                std::thread::sleep(self.every * 2 + LOOK);
            }
            drop(stop);
            (summary, watching.join().expect("watching does not panic"))
        });
        let summary = summary?;
        let mut sample = seen?
            .sample()
            .with("op/s", summary.per_second)
            .with("p99 ms", summary.latency.p99_us / 1e3)
            .with("took s", summary.measured_seconds);
        sample.errors = summary.errors;
        running.stop()?;
        Ok(vec![(format!("overwrite {} keys {} times", self.fill.keys, self.overwrites), sample)])
    }
}

/// Looks at a server every second and compacts it at every interval, on a thread of its own.
#[derive(Debug)]
struct Watch {
    admin: Admin,
    addr: SocketAddr,
    pid: u32,
    data_dir: PathBuf,
    every: Duration,
}

/// What it saw, a point per second.
#[derive(Debug, Default)]
struct Seen {
    disk: Vec<(f64, f64)>,
    rss: Vec<(f64, f64)>,
    db: Vec<(f64, f64)>,
    in_use: Vec<(f64, f64)>,
    compactions: u32,
    refused: Option<String>,
}

impl Watch {
    fn new(running: &Running, every: Duration) -> Result<Self, Error> {
        let server = &running.server;
        let (addr, pid, data_dir) = (server.addr(), server.pid(), server.data_dir().to_owned());
        Ok(Self { admin: Admin::connect(addr)?, addr, pid, data_dir, every })
    }

    /// Until the other end of the channel goes.
    fn run(self, stopped: &Receiver<()>) -> Result<Seen, Error> {
        let since = Instant::now();
        let mut seen = Seen::default();
        let mut newest = self.admin.revision()?;
        let mut compact_at = self.every;
        loop {
            self.look(&mut seen, since.elapsed().as_secs_f64())?;
            if since.elapsed() >= compact_at {
                compact_at += self.every;
                let revision = self.admin.revision()?;
                if revision > newest || seen.compactions == 0 {
                    self.compact(&mut seen, newest)?;
                    newest = revision;
                }
            }
            match stopped.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.look(&mut seen, since.elapsed().as_secs_f64())?;
        Ok(seen)
    }

    fn compact(&self, seen: &mut Seen, revision: i64) -> Result<(), Error> {
        match self.admin.compact(revision) {
            Ok(()) => seen.compactions += 1,
            Err(refused @ admin::Error::Refused(_)) => seen.refused = Some(refused.to_string()),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn look(&self, seen: &mut Seen, second: f64) -> Result<(), Error> {
        let disk = allocated_bytes(&self.data_dir).map_err(io("measure the data directory"))?;
        let usage = usage_of(self.pid).map_err(io("read the server's usage"))?;
        let metrics = prom::scrape(self.addr)?;
        seen.disk.push((second, mib(disk)));
        seen.rss.push((second, mib(usage.rss_bytes)));
        for (points, name) in [
            (&mut seen.db, "etcd_mvcc_db_total_size_in_bytes"),
            (&mut seen.in_use, "etcd_mvcc_db_total_size_in_use_in_bytes"),
        ] {
            points.extend(metrics.value(name, &[]).map(|bytes| (second, bytes / f64::from(1 << 20))));
        }
        Ok(())
    }
}

impl Seen {
    fn sample(self) -> Sample {
        let max = |points: &[(f64, f64)]| points.iter().map(|(_, value)| *value).reduce(f64::max);
        let end = |points: &[(f64, f64)]| points.last().map(|(_, value)| *value);
        let mut sample = Sample::default()
            .with("disk max MiB", max(&self.disk))
            .with("disk end MiB", end(&self.disk))
            .with("db max MiB", max(&self.db))
            .with("db end MiB", end(&self.db))
            .with("in use end MiB", end(&self.in_use))
            .with("RSS max MiB", max(&self.rss))
            .with("RSS end MiB", end(&self.rss))
            .with("compactions", f64::from(self.compactions));
        sample.note = self.refused.map(|refused| format!("a compaction was refused: {refused}"));
        sample.series.extend([("disk MiB", self.disk), ("RSS MiB", self.rss), ("db MiB", self.db)]);
        sample
    }
}
