//! `maintenance`: the latency of puts at a fixed rate while nothing else happens, and while the server does each of
//! the things that tidy up or copy its whole state.
//!
//! One server goes through all phases in turn. It starts with a `--snapshot-count` so high that no checkpoint falls
//! into the others by count; the last phase starts it again with the usual one, over a long log.

use std::path::PathBuf;
use std::time::Duration;

use super::job::{Job, Progress, step};
use crate::admin::{self, Admin};
use crate::compare::Error;
use crate::compare::probe::{Probe, ProbeOptions, Probed, quantile_ms, typical_p99_ms, with_latencies};
use crate::compare::report::{Column, Layout, Panel, Sample};
use crate::compare::testbed::{Fill, Running, Testbed};
use crate::load::Traced;
use crate::process;

const COMMITS: &str = "etcd_disk_backend_commit_duration_seconds";
const NO_CHECKPOINT: &str = "--snapshot-count=100000000";
/// Etcd's default since 3.6, and Pinion's.
const CHECKPOINT_OFTEN: &str = "--snapshot-count=10000";

static LAYOUT: Layout = Layout {
    name: "maintenance",
    columns: &[
        Column::lower("p50 ms", 2),
        Column::lower("p99 ms", 2),
        Column::lower("p99.9 ms", 2),
        Column::lower("max ms", 1),
        Column::plain("p99 - idle ms", 2),
        Column::plain("p99 / idle", 2),
        Column::lower("p99 during ms", 2),
        Column::plain("idle as long ms", 2),
        Column::lower("took s", 3),
        Column::lower("CPU us/put", 1),
        Column::plain("commits", 0),
        Column::plain("disk MiB", 0),
    ],
    panels: &[
        Panel::Bars {
            caption: "Maintenance: latency of puts in ms (log scale): p50, p99, p99.9 from left to right in each group",
            columns: &["p50 ms", "p99 ms", "p99.9 ms"],
            logarithmic: true,
        },
        Panel::Bars {
            caption: "Maintenance: longest put in ms (log scale)",
            columns: &["max ms"],
            logarithmic: true,
        },
    ],
};

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
#[command(next_help_heading = "Of maintenance")]
#[group(skip)]
pub struct MaintenanceOptions {
    #[arg(long, default_value_t = 100_000)]
    pub maintenance_keys: u64,
    /// Put over these keys before the first phase; the compaction removes as many.
    #[arg(long, default_value_t = 300_000)]
    pub maintenance_revisions: u64,
    /// Where the client puts the snapshot it saves. Without it, that is the server's disk, and the client's writes compete
    /// with the log's, which those of a client on another machine do not.
    #[arg(long)]
    pub backup_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Idle,
    Snapshot,
    Compaction,
    Defragment,
    Checkpoint,
}

impl Phase {
    const ALL: [Self; 5] = [Self::Idle, Self::Snapshot, Self::Compaction, Self::Defragment, Self::Checkpoint];

    fn group(self) -> &'static str {
        match self {
            Self::Idle => "maintenance: idle",
            Self::Snapshot => "maintenance: snapshot save",
            Self::Compaction => "maintenance: compaction",
            Self::Defragment => "maintenance: defragment",
            Self::Checkpoint => "maintenance: checkpoint",
        }
    }

    /// Does it; what there is to say about it comes back.
    fn perform(self, admin: &Admin, snapshot: &std::path::Path) -> Result<Option<String>, admin::Error> {
        match self {
            Self::Idle | Self::Checkpoint => Ok(None),
            Self::Compaction => {
                admin.compact_on_disk(admin.revision()?)?;
                Ok(None)
            }
            Self::Defragment => {
                admin.defragment()?;
                Ok(None)
            }
            Self::Snapshot => Ok(Some(format!("{} MiB saved", admin.save_snapshot(snapshot)? >> 20))),
        }
    }

    /// Whether there is an operation that begins and ends.
    fn is_called(self) -> bool {
        !matches!(self, Self::Idle | Self::Checkpoint)
    }
}

#[derive(Debug)]
pub struct Maintenance {
    /// All keys once, then as often as there are revisions to compact.
    fill: Fill,
    probe: Probe,
    backup_dir: Option<PathBuf>,
}

/// What the other phases are compared with.
struct Idle {
    p99_ms: f64,
    trace: Vec<Traced>,
}

impl Maintenance {
    /// `once`: each of the keys once.
    pub fn new(options: &MaintenanceOptions, once: Fill, probe: &ProbeOptions) -> Self {
        let fill = Fill { count: once.count + options.maintenance_revisions, ..once };
        Self { fill, probe: Probe::new(probe, &fill), backup_dir: options.backup_dir.clone() }
    }

    /// `idle` is filled by the phase of that name and looked at by the others.
    fn phase(
        &self,
        phase: Phase,
        running: &Running,
        idle: &mut Option<Idle>,
        progress: &mut dyn FnMut(f64),
    ) -> Result<Sample, Error> {
        let admin = Admin::connect(running.server.addr())?;
        let snapshot = match &self.backup_dir {
            Some(dir) => dir.join(format!("snapshot-{}.db", std::process::id())),
            None => running.file("snapshot.db"),
        };
        let probed = self.probe.run(running, || phase.perform(&admin, &snapshot), progress)?;
        if snapshot.exists() {
            std::fs::remove_file(&snapshot).map_err(crate::compare::io("remove the snapshot"))?;
        }
        let mut sample = with_latencies(Sample::default(), &probed.all())
            .with("CPU us/put", cpu_us_per_put(&probed))
            .with("commits", commits(&probed))
            .with("disk MiB", running.disk_mib()?);
        sample.errors = probed.summary.errors;
        match &probed.beside.outcome {
            Ok(note) => {
                sample.note.clone_from(note);
                if phase.is_called() {
                    let took = probed.beside.to - probed.beside.from;
                    sample = sample
                        .with("took s", took.as_secs_f64())
                        .with("p99 during ms", quantile_ms(&probed.during(), 0.99))
                        .with(
                            "idle as long ms",
                            idle.as_ref().and_then(|idle| typical_p99_ms(&idle.trace, took)),
                        );
                }
            }
            // No phase to measure: what the puts took is idle time.
            Err(refused @ admin::Error::Refused(_)) => {
                let note = Some(format!("refused: {refused}"));
                return Ok(Sample { note, errors: sample.errors, ..Sample::default() });
            }
            Err(error) => {
                sample.note = Some(format!("failed: {error}"));
                sample.errors += 1;
            }
        }
        match (&idle, sample.value("p99 ms")) {
            (Some(idle), Some(p99)) => {
                sample =
                    sample.with("p99 - idle ms", p99 - idle.p99_ms).with("p99 / idle", p99 / idle.p99_ms);
            }
            (None, Some(p99_ms)) if matches!(phase, Phase::Idle) => {
                *idle = Some(Idle { p99_ms, trace: probed.summary.trace });
            }
            (_, _) => {}
        }
        Ok(sample)
    }
}

/// All the server took in the measured time, the operation included.
fn cpu_us_per_put<T>(probed: &Probed<T>) -> Option<f64> {
    let cpu = probed.after.usage.cpu.saturating_sub(probed.before.usage.cpu);
    let puts = probed.summary.trace.len();
    (puts > 0).then(|| cpu.as_secs_f64() * 1e6 / puts as f64)
}

/// In the measured time; absent when the server does not tell.
fn commits<T>(probed: &Probed<T>) -> Option<f64> {
    let after = probed.after.metrics.histogram(COMMITS, &[])?;
    Some(after.count - probed.before.metrics.histogram(COMMITS, &[]).map_or(0.0, |before| before.count))
}

impl Job for Maintenance {
    fn title(&self) -> &str {
        "maintenance"
    }

    fn layout(&self) -> &'static Layout {
        &LAYOUT
    }

    fn expected(&self) -> Duration {
        self.fill.expected() + self.probe.expected() * Phase::ALL.len() as u32
    }

    fn run(
        &self,
        testbed: &Testbed<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<(String, Sample)>, Error> {
        let (mut running, flag_taken) = match testbed.start_with(|launch| launch.arg(NO_CHECKPOINT)) {
            // It may be the flag; when it is not, the second start says what it is.
            Err(Error::Server(process::Error::Exited { .. })) => (testbed.start()?, false),
            outcome => (outcome?, true),
        };
        running.fill(self.fill, &mut step(progress, (0.0, 0.2), "fill"))?;
        let mut samples: Vec<(String, Sample)> = Vec::new();
        let mut idle = None;
        for (index, phase) in Phase::ALL.into_iter().enumerate() {
            let from = 0.2 + 0.8 * index as f64 / Phase::ALL.len() as f64;
            progress(from, "wait for rest");
            running.settle()?;
            if matches!(phase, Phase::Checkpoint) {
                if !flag_taken {
                    let note = Some("refused: the server does not take --snapshot-count".to_owned());
                    samples.push((phase.group().to_owned(), Sample { note, ..Sample::default() }));
                    continue;
                }
                // By SIGKILL: a graceful end may write a checkpoint of its own.
                running.server.kill()?;
                running.server.start_again_with(|launch| launch.arg(CHECKPOINT_OFTEN))?;
            }
            let to = from + 0.8 / Phase::ALL.len() as f64;
            let progress = &mut step(progress, (from, to), phase.group());
            let sample = self.phase(phase, &running, &mut idle, progress)?;
            samples.push((phase.group().to_owned(), sample));
        }
        running.stop()?;
        Ok(samples)
    }
}
