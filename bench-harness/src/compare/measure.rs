//! One run: a fresh server, its preload and warm-up, the load, and what it cost.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::options::{Client, Options, Subject};
use super::scenario::{Load, Scenario};
use super::{Error, io, upstream};
use crate::load::{self, Operation, Phase};
use crate::process::{Kind, Launch, Server, Usage};
use crate::prom::{self, Scrape};

/// A preload slower than this many keys per second is given up.
const PRELOAD_PER_SECOND_MIN: u64 = 500;
const PRELOAD_TIME_MIN: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(60);

/// What one run showed; the median of several has the same shape. Values a server or client does not give are
/// absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: Option<f64>,
    pub max_us: f64,
    /// User and system time of the server per operation.
    pub server_cpu_us: f64,
    pub client_cpu_us: f64,
    /// At the end of the load.
    pub rss_mib: f64,
    /// From `/metrics`, of the load alone, interpolated within the buckets.
    pub fsync_p99_ms: Option<f64>,
    pub commit_p99_ms: Option<f64>,
    pub errors: f64,
}

/// The counters of a server at one moment.
struct Counters {
    /// Operations completed by then, as far as the client counts along.
    completed: u64,
    usage: Usage,
    metrics: Scrape,
}

pub fn run(
    options: &Options,
    scenario: Scenario,
    client: Client,
    load: &Load,
    subject: &Subject,
    scratch: &Path,
    progress: &mut dyn FnMut(f64),
) -> Result<Sample, Error> {
    let data_dir = tempfile::tempdir_in(scratch).map_err(io("make a data directory"))?;
    let mut launch = Launch::new(subject.kind, subject.program.clone(), data_dir.path().join("data"));
    launch = launch.args(subject.args.clone());
    if scenario == Scenario::Keys && subject.kind == Kind::Etcd {
        launch = launch.arg("--quota-backend-bytes=68719476736");
    }
    let mut server = launch.start()?;
    if load.preload > 0 {
        preload(options, load, &server)?;
    }
    let sample = match client {
        Client::Harness => by_harness(load, &server, progress)?,
        Client::Upstream => by_upstream(load, &server, progress)?,
        Client::Both => unreachable!("a scenario names its clients one by one"),
    };
    server.terminate(GRACE)?;
    Ok(sample)
}

fn preload(options: &Options, load: &Load, server: &Server) -> Result<(), Error> {
    let fill = load::Options {
        endpoint: server.addr(),
        connections: 10,
        clients: 500,
        threads: 1,
        total: Some(load.preload),
        duration: PRELOAD_TIME_MIN.max(Duration::from_secs(load.preload / PRELOAD_PER_SECOND_MIN)),
        sequential: true,
        key_size: options.key_size,
        value_size: options.value_size,
        key_space: load.preload,
        ..load::Options::new(Operation::Put, server.addr())
    };
    let summary = load::run(&fill, &mut |_| {})?;
    if summary.errors > 0 || summary.completed < load.preload {
        return Err(Error::Preload { done: summary.completed, wanted: load.preload, errors: summary.errors });
    }
    Ok(())
}

/// The CPU last, as reading the metrics costs the server some.
fn counters_at_start(server: &Server, completed: impl Fn() -> u64) -> Result<Counters, Error> {
    let metrics = prom::scrape(server.addr())?;
    Ok(Counters { completed: completed(), usage: server.usage()?, metrics })
}

/// The CPU first.
fn counters_at_end(server: &Server, completed: impl Fn() -> u64) -> Result<Counters, Error> {
    let (completed, usage) = (completed(), server.usage()?);
    Ok(Counters { completed, usage, metrics: prom::scrape(server.addr())? })
}

fn by_harness(load: &Load, server: &Server, progress: &mut dyn FnMut(f64)) -> Result<Sample, Error> {
    let options = load::Options { endpoint: server.addr(), ..load.harness.clone() };
    let (mut before, mut after) = (None, None);
    let summary = load::run(&options, &mut |phase| match phase {
        Phase::Started(live) => before = Some(counters_at_start(server, || live.completed())),
        Phase::Ended(live) => after = Some(counters_at_end(server, || live.completed())),
        Phase::Progress { part, .. } => progress(part),
    })?;
    let (before, after) = (before.expect("every run starts")?, after.expect("every run ends")?);
    let operations = (after.completed - before.completed) as f64;
    Ok(Sample {
        per_second: summary.per_second,
        p50_us: summary.latency.p50_us,
        p99_us: summary.latency.p99_us,
        p999_us: Some(summary.latency.p999_us),
        max_us: summary.latency.max_us,
        client_cpu_us: summary.client_cpu_us,
        errors: summary.errors as f64,
        ..of_server(&before, &after, operations)
    })
}

fn by_upstream(load: &Load, server: &Server, progress: &mut dyn FnMut(f64)) -> Result<Sample, Error> {
    if !load.harness.warm_up.is_zero() {
        let (duration, warm_up) = (load.harness.warm_up, Duration::ZERO);
        let warm = load::Options { endpoint: server.addr(), duration, warm_up, ..load.harness.clone() };
        load::run(&warm, &mut |_| {})?;
    }
    let before = counters_at_start(server, || 0)?;
    let outcome = upstream::run(&load.upstream, server.addr(), load.harness.duration, progress)?;
    let after = counters_at_end(server, || 0)?;
    let operations = outcome.summary.completed();
    Ok(Sample {
        per_second: outcome.summary.per_second,
        p50_us: outcome.summary.p50_us,
        p99_us: outcome.summary.p99_us,
        p999_us: outcome.summary.p999_us,
        max_us: outcome.summary.max_us,
        client_cpu_us: outcome.cpu.as_secs_f64() * 1e6 / operations.max(1.0),
        errors: outcome.summary.errors as f64,
        ..of_server(&before, &after, operations)
    })
}

/// The part of a sample that is the server's.
fn of_server(before: &Counters, after: &Counters, operations: f64) -> Sample {
    let p99_ms = |name| {
        let (before, after) = (before.metrics.histogram(name, &[])?, after.metrics.histogram(name, &[])?);
        Some(after.since(&before).quantile(0.99)? * 1e3)
    };
    let cpu = after.usage.cpu.saturating_sub(before.usage.cpu);
    Sample {
        server_cpu_us: cpu.as_secs_f64() * 1e6 / operations.max(1.0),
        rss_mib: after.usage.rss_bytes as f64 / f64::from(1 << 20),
        fsync_p99_ms: p99_ms("etcd_disk_wal_fsync_duration_seconds"),
        commit_p99_ms: p99_ms("etcd_disk_backend_commit_duration_seconds"),
        ..Sample::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_charged_for_the_load_alone() {
        let counters = |cpu_ms, page: &str| Counters {
            completed: 0,
            usage: Usage { cpu: Duration::from_millis(cpu_ms), rss_bytes: 5 << 20, rss_peak_bytes: 9 << 20 },
            metrics: Scrape::parse(page).unwrap(),
        };
        let page = |fast, all| {
            let name = "etcd_disk_wal_fsync_duration_seconds";
            format!(
                "{name}_bucket{{le=\"0.001\"}} {fast}\n{name}_bucket{{le=\"0.002\"}} {all}\n\
                 {name}_bucket{{le=\"+Inf\"}} {all}\n{name}_sum 1\n{name}_count {all}\n"
            )
        };
        // Before: 1000 slow ones. During: 100 fast ones.
        let sample = of_server(&counters(700, &page(0, 1000)), &counters(1700, &page(100, 1100)), 50_000.0);
        assert_eq!((sample.server_cpu_us, sample.rss_mib), (20.0, 5.0));
        assert!((sample.fsync_p99_ms.unwrap() - 0.99).abs() < 1e-9);
        assert_eq!(sample.commit_p99_ms, None);
    }
}
