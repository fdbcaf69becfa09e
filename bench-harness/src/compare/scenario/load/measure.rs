//! One load on a server that is filled: warm-up, load, and what it cost.

use std::time::Duration;

use super::{Load, upstream};
use crate::compare::Error;
use crate::compare::report::Sample;
use crate::compare::testbed::{Running, mib};
use crate::load::{self, Phase};
use crate::process::Usage;
use crate::prom::{self, Scrape};

/// The counters of a server, or of the members of a cluster, at one moment.
struct Counters {
    /// Operations completed by then, as far as the client counts along.
    completed: u64,
    usage: Usage,
    /// Of the leader.
    metrics: Scrape,
}

/// The CPU last, as reading the metrics costs the server some.
fn counters_at_start(running: &Running, completed: impl Fn() -> u64) -> Result<Counters, Error> {
    let metrics = prom::scrape(running.server.addr())?;
    Ok(Counters { completed: completed(), usage: usage(running)?, metrics })
}

/// The CPU first.
fn counters_at_end(running: &Running, completed: impl Fn() -> u64) -> Result<Counters, Error> {
    let (completed, usage) = (completed(), usage(running)?);
    Ok(Counters { completed, usage, metrics: prom::scrape(running.server.addr())? })
}

/// Of all members together.
fn usage(running: &Running) -> Result<Usage, Error> {
    let mut all = Usage::default();
    for server in running.servers() {
        let Usage { cpu, rss_bytes, .. } = server.usage()?;
        all.cpu += cpu;
        all.rss_bytes += rss_bytes;
    }
    Ok(all)
}

pub fn by_harness(load: &Load, running: &Running, progress: &mut dyn FnMut(f64)) -> Result<Sample, Error> {
    let options = load::Options { endpoints: running.endpoints(), ..load.harness.clone() };
    let (mut before, mut after) = (None, None);
    let summary = load::run(&options, &mut |phase| match phase {
        Phase::Started(live) => before = Some(counters_at_start(running, || live.completed())),
        Phase::Ended(live) => after = Some(counters_at_end(running, || live.completed())),
        Phase::Progress { part, .. } => progress(part),
    })?;
    let (before, after) = (before.expect("every run starts")?, after.expect("every run ends")?);
    let operations = (after.completed - before.completed) as f64;
    let latency = &summary.latency;
    let sample = of_server(&before, &after, operations)
        .with("op/s", summary.per_second)
        .with("p50 ms", latency.p50_us / 1e3)
        .with("p99 ms", latency.p99_us / 1e3)
        .with("p99.9 ms", latency.p999_us / 1e3)
        .with("max ms", latency.max_us / 1e3)
        .with("client CPU us/op", summary.client_cpu_us);
    Ok(Sample { errors: summary.errors, ..sample })
}

pub fn by_upstream(load: &Load, running: &Running, progress: &mut dyn FnMut(f64)) -> Result<Sample, Error> {
    if !load.harness.warm_up.is_zero() {
        let (duration, warm_up) = (load.harness.warm_up, Duration::ZERO);
        let warm =
            load::Options { endpoints: running.endpoints(), duration, warm_up, ..load.harness.clone() };
        load::run(&warm, &mut |_| {})?;
    }
    let before = counters_at_start(running, || 0)?;
    let outcome = upstream::run(&load.upstream, &running.endpoints(), load.harness.duration, progress)?;
    let after = counters_at_end(running, || 0)?;
    let operations = outcome.summary.completed();
    let upstream::Outcome { summary, cpu } = outcome;
    let sample = of_server(&before, &after, operations)
        .with("op/s", summary.per_second)
        .with("p50 ms", summary.p50_us / 1e3)
        .with("p99 ms", summary.p99_us / 1e3)
        .with("p99.9 ms", summary.p999_us.map(|us| us / 1e3))
        .with("max ms", summary.max_us / 1e3)
        .with("client CPU us/op", cpu.as_secs_f64() * 1e6 / operations.max(1.0));
    Ok(Sample { errors: summary.errors, ..sample })
}

/// The part of a sample that is the server's.
fn of_server(before: &Counters, after: &Counters, operations: f64) -> Sample {
    let p99_ms = |name| {
        let (before, after) = (before.metrics.histogram(name, &[])?, after.metrics.histogram(name, &[])?);
        Some(after.since(&before).quantile(0.99)? * 1e3)
    };
    let cpu = after.usage.cpu.saturating_sub(before.usage.cpu);
    Sample::default()
        .with("CPU us/op", cpu.as_secs_f64() * 1e6 / operations.max(1.0))
        .with("RSS MiB", mib(after.usage.rss_bytes))
        .with("fsync p99 ms", p99_ms("etcd_disk_wal_fsync_duration_seconds"))
        .with("commit p99 ms", p99_ms("etcd_disk_backend_commit_duration_seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_charged_for_the_load_alone() {
        let counters = |cpu_ms, page: &str| Counters {
            completed: 0,
            usage: Usage { cpu: Duration::from_millis(cpu_ms), rss_bytes: 5 << 20, ..Usage::default() },
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
        assert_eq!((sample.value("CPU us/op"), sample.value("RSS MiB")), (Some(20.0), Some(5.0)));
        assert!((sample.value("fsync p99 ms").unwrap() - 0.99).abs() < 1e-9);
        assert_eq!(sample.value("commit p99 ms"), None);
    }
}
