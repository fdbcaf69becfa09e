//! `join`: a member joins a cluster that has much stored, while puts go on at a fixed rate: how long until it serves reads that
//! are linearizable, and what the puts feel of it.

use std::time::{Duration, Instant};

use super::job::{Job, Progress, filled_expected, start_filled, step};
use crate::admin::{self, Admin};
use crate::compare::Error;
use crate::compare::probe::{Probe, ProbeOptions, with_latencies};
use crate::compare::report::{Column, Layout, Panel, Sample};
use crate::compare::testbed::{Fill, Running, Testbed, mib};
use crate::process::{Server, cluster};

static LAYOUT: Layout = Layout {
    name: "join",
    columns: &[
        Column::lower("p50 ms", 2),
        Column::lower("p99 ms", 2),
        Column::lower("p99.9 ms", 2),
        Column::lower("max ms", 1),
        Column::plain("p99 / before", 2),
        Column::lower("votes after s", 2),
        Column::lower("reads after s", 2),
        Column::plain("its disk MiB", 0),
    ],
    panels: &[Panel::Bars {
        caption: "A member joins: seconds until it has a vote, and until it reads",
        columns: &["votes after s", "reads after s"],
        logarithmic: true,
    }],
};

/// How often it is tried whether a member may be added, and whether it has come far enough.
const PAUSE: Duration = Duration::from_millis(20);
/// Given up after that.
const JOIN_MAX: Duration = Duration::from_secs(600);
const NAME: &str = "joins";

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
#[command(next_help_heading = "Of join")]
#[group(skip)]
pub struct JoinOptions {
    /// Keys that are there before a member joins.
    #[arg(long, default_value_t = 1_000_000)]
    pub join_keys: u64,
    /// Of theirs and of what is put meanwhile.
    #[arg(long, default_value_t = 1024)]
    pub join_value_size: usize,
    /// Puts per second meanwhile.
    #[arg(long, default_value_t = 5000.0)]
    pub join_rate: f64,
}

#[derive(Debug)]
pub struct Join {
    fill: Fill,
    probe: Probe,
}

/// Since its process was started.
struct Joined {
    votes: Duration,
    reads: Duration,
    server: Server,
}

impl Join {
    pub fn new(options: &JoinOptions, key_size: usize, probe: &ProbeOptions) -> Self {
        let fill = Fill::once(options.join_keys, key_size, options.join_value_size);
        Self { fill, probe: Probe { rate: options.join_rate, ..Probe::new(probe, &fill) } }
    }

    /// Added as a learner, promoted once the leader lets it be.
    fn join(&self, running: &Running) -> Result<Joined, Error> {
        let members: Vec<&Server> = running.servers().collect();
        let mut server = cluster::joining(&members, NAME, running.file(NAME))?;
        let admin = Admin::connect(running.server.addr())?;
        // Members must have been connected for a while before another one may come.
        let id = until_done(|| admin.add_learner(&server.peer_url()))?;
        let since = server.begin()?;
        until_done(|| admin.promote(id))?;
        let votes = since.elapsed();
        server.wait_until_ready(since)?;
        Ok(Joined { votes, reads: since.elapsed(), server })
    }
}

fn until_done<T>(ask: impl Fn() -> Result<T, admin::Error>) -> Result<T, admin::Error> {
    let since = Instant::now();
    loop {
        match ask() {
            Err(_) if since.elapsed() < JOIN_MAX => std::thread::sleep(PAUSE),
            outcome => return outcome,
        }
    }
}

impl Job for Join {
    fn title(&self) -> &str {
        "join"
    }

    fn layout(&self) -> &'static Layout {
        &LAYOUT
    }

    fn expected(&self) -> Duration {
        filled_expected(&self.fill) + self.probe.expected() * 2
    }

    fn run(
        &self,
        testbed: &Testbed<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<(String, Sample)>, Error> {
        let mut running = start_filled(testbed, self.fill, progress)?;
        running.settle()?;
        let title = format!("join with {} keys, {} members", self.fill.keys, testbed.members);
        let alone = self.probe.run(&running, || (), &mut step(progress, (0.7, 0.8), "puts alone"))?;
        let mut before = with_latencies(Sample::default(), &alone.all());
        before.errors = alone.summary.errors;
        let probed =
            self.probe.run(&running, || self.join(&running), &mut step(progress, (0.8, 1.0), &title))?;
        let latencies = probed.during();
        let errors = probed.summary.errors;
        let Joined { votes, reads, mut server } = probed.beside.outcome?;
        let ratio = |now: &Sample| Some(now.value("p99 ms")? / before.value("p99 ms")?);
        let mut during = with_latencies(Sample::default(), &latencies);
        let ratio = ratio(&during);
        during = during
            .with("p99 / before", ratio)
            .with("votes after s", votes.as_secs_f64())
            .with("reads after s", reads.as_secs_f64())
            .with("its disk MiB", mib(server.disk_bytes()?));
        during.errors = errors;
        server.kill()?;
        running.stop()?;
        Ok(vec![(format!("{title}: puts before"), before), (title, during)])
    }
}
