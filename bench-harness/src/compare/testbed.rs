//! Where a job runs: one server with a fresh data directory on the disk that is measured, and what every job does to
//! it: fill it, let it come to rest, look at its memory and disk.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use super::report::Sample;
use super::subject::Subject;
use super::{Error, io};
use crate::load::{self, Operation, Phase, options_seconds as seconds};
use crate::process::{Launch, Server, Usage, cluster::Cluster, written_bytes};

/// A fill slower than this many keys per second is given up.
const FILL_PER_SECOND_MIN: u64 = 500;
const FILL_TIME_MIN: Duration = Duration::from_secs(60);
/// For the plan of time only.
const FILL_PER_SECOND: f64 = 25_000.0;
/// A server may take this long to end after SIGTERM, and to serve a large directory.
pub const GRACE: Duration = Duration::from_secs(120);
const READY_MAX: Duration = Duration::from_secs(600);
/// Once all are ready.
const LEADER_MAX: Duration = Duration::from_secs(10);

/// At rest: for `--rest` the resident memory stayed within a percent and almost nothing was written.
const REST_MAX: Duration = Duration::from_secs(60);
const REST_LOOK: Duration = Duration::from_millis(500);
const REST_WRITTEN_MAX: u64 = 64 << 10;

/// The default of 2 GiB would end some scenarios.
const NO_QUOTA: &str = "--quota-backend-bytes=-1";

/// Of the scenarios about stored state.
#[derive(Clone, Debug, clap::Args, serde::Serialize)]
#[command(next_help_heading = "Of restart, memory, maintenance, list-storm, overwrite and watch-laggard")]
#[group(skip)]
pub struct StoredOptions {
    /// Keys that restart and memory put.
    #[arg(long, default_value_t = 1_000_000)]
    pub stored_keys: u64,
    #[arg(long, default_value_t = 24)]
    pub stored_key_size: usize,
    /// A server is at rest when its memory and disk have not changed for this long.
    #[arg(long, value_parser = seconds, default_value = "4")]
    pub rest: Duration,
}

#[derive(Debug)]
pub struct Testbed<'a> {
    /// Of its cluster.
    pub members: usize,
    /// How long a server must be at rest.
    pub rest: Duration,
    pub subject: &'a Subject,
    pub scratch: &'a Path,
}

/// Keys that are put one after the other, starting over when `count` is more than `keys`.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    pub count: u64,
    pub keys: u64,
    pub key_size: usize,
    pub value_size: usize,
}

impl Fill {
    /// Each of the keys once.
    pub fn once(keys: u64, key_size: usize, value_size: usize) -> Self {
        Self { count: keys, keys, key_size, value_size }
    }

    pub fn expected(&self) -> Duration {
        Duration::from_secs_f64(self.count as f64 / FILL_PER_SECOND)
    }

    /// The key that is put last when each is put once.
    pub fn last_key(&self) -> String {
        load::key(self.key_size, self.keys, self.keys - 1)
    }
}

/// A server and its data directory.
#[derive(Debug)]
pub struct Running {
    rest: Duration,
    // Servers end before their directory goes.
    /// The one there is, or of a cluster the one that led when all were ready.
    pub server: Server,
    /// The other members of its cluster.
    pub others: Vec<Server>,
    directory: tempfile::TempDir,
}

impl Testbed<'_> {
    pub fn start(&self) -> Result<Running, Error> {
        self.start_with(|launch| launch)
    }

    /// With room for many keys.
    pub fn start_large(&self) -> Result<Running, Error> {
        self.start_with(|launch| launch.arg(NO_QUOTA))
    }

    pub fn start_with(&self, change: impl FnOnce(Launch) -> Launch) -> Result<Running, Error> {
        let directory = tempfile::tempdir_in(self.scratch).map_err(io("make a data directory"))?;
        let Subject { kind, program, args, .. } = self.subject;
        let launch = Launch::new(*kind, program.clone(), directory.path().join("data"));
        let launch = change(launch).ready_timeout(READY_MAX).args(args.clone());
        if self.members > 1 {
            return self.found(launch, directory);
        }
        Ok(Running { server: launch.start()?, others: Vec::new(), directory, rest: self.rest })
    }

    fn found(&self, launch: Launch, directory: tempfile::TempDir) -> Result<Running, Error> {
        let place = |n: usize| directory.path().join(format!("m{n}"));
        let cluster = Cluster::start(self.members, |n| launch.clone().at(place(n)))?;
        let leader = cluster.leader(LEADER_MAX)?;
        let mut others = cluster.members;
        let server = others.remove(leader);
        Ok(Running { server, others, directory, rest: self.rest })
    }
}

impl Running {
    /// All members, the leader of the start first.
    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        std::iter::once(&self.server).chain(&self.others)
    }

    pub fn endpoints(&self) -> Vec<SocketAddr> {
        self.servers().map(Server::addr).collect()
    }

    /// A place on the same disk for a file of the client.
    pub fn file(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    pub fn fill(&self, fill: Fill, progress: &mut dyn FnMut(f64)) -> Result<(), Error> {
        let options = load::Options {
            endpoints: self.endpoints(),
            connections: 10,
            clients: 500,
            total: Some(fill.count),
            duration: FILL_TIME_MIN.max(Duration::from_secs(fill.count / FILL_PER_SECOND_MIN)),
            sequential: true,
            key_size: fill.key_size,
            value_size: fill.value_size,
            key_space: fill.keys,
            ..load::Options::new(Operation::Put, self.server.addr())
        };
        let summary = load::run(&options, &mut |phase| {
            if let Phase::Progress { part, .. } = phase {
                progress(part);
            }
        })?;
        if summary.errors > 0 || summary.completed < fill.count {
            let (done, wanted, errors) = (summary.completed, fill.count, summary.errors);
            return Err(Error::Preload { done, wanted, errors });
        }
        Ok(())
    }

    /// Waits until the server is at rest, at most a minute; gives how long that took.
    pub fn settle(&self) -> Result<Duration, Error> {
        let since = Instant::now();
        let look = || -> Result<(u64, u64), Error> {
            let pid = self.server.pid();
            let written = written_bytes(pid).map_err(io(format!("read the I/O of pid {pid}")))?;
            Ok((self.server.usage()?.rss_bytes, written))
        };
        let mut base = (since, look()?);
        while since.elapsed() < REST_MAX {
            std::thread::sleep(REST_LOOK.min(self.rest));
            let (rss, written) = look()?;
            let (from, (base_rss, base_written)) = base;
            if rss.abs_diff(base_rss) > base_rss / 100 || written - base_written > REST_WRITTEN_MAX {
                base = (Instant::now(), (rss, written));
            } else if from.elapsed() >= self.rest {
                return Ok(from - since);
            }
        }
        Ok(REST_MAX)
    }

    pub fn disk_mib(&self) -> Result<f64, Error> {
        Ok(mib(self.server.disk_bytes()?))
    }

    /// Ends the server, or the whole cluster, by SIGTERM; gives how long that took.
    pub fn stop(&mut self) -> Result<Duration, Error> {
        let since = Instant::now();
        for server in std::iter::once(&mut self.server).chain(&mut self.others) {
            server.terminate(GRACE)?;
        }
        Ok(since.elapsed())
    }
}

pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The columns `RSS MiB`, `anon MiB` and `file MiB`.
pub fn with_memory(sample: Sample, usage: &Usage) -> Sample {
    sample
        .with("RSS MiB", mib(usage.rss_bytes))
        .with("anon MiB", mib(usage.rss_anon_bytes))
        .with("file MiB", mib(usage.rss_file_bytes))
}
