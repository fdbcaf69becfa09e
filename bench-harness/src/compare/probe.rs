//! The probe: puts at a fixed rate, beside which something else happens to the server. It shows what that does to
//! other clients.

use std::time::{Duration, Instant};

use super::Error;
use super::report::Sample;
use super::testbed::{Fill, Running, millis};
use crate::load::{self, Operation, Phase, Traced, cores, options_seconds as seconds};
use crate::process::Usage;
use crate::prom::{self, Scrape};

/// What happens beside is given up as endless.
const TIME_MAX: Duration = Duration::from_secs(1200);
const CONNECTIONS: u32 = 10;
/// Puts in flight at most; more than that wait in the client, which counts as latency too.
const CLIENTS: u32 = 2000;

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
#[command(
    next_help_heading = "Of maintenance, list-storm, watch-laggard, auth, lease, leader-loss, rolling-restart and join"
)]
#[group(skip)]
pub struct ProbeOptions {
    /// Puts per second whose latency is measured.
    #[arg(long, default_value_t = 1000.0)]
    pub probe_rate: f64,
    /// Measured at least this long.
    #[arg(long, value_parser = seconds, default_value = "15")]
    pub probe_duration: Duration,
    /// Of the warm-up, and from the start of the measured time to the start of what happens beside.
    #[arg(long, value_parser = seconds, default_value = "1")]
    pub probe_lead: Duration,
}

/// What is put.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    pub rate: f64,
    pub duration: Duration,
    pub lead: Duration,
    pub keys: u64,
    pub key_size: usize,
    pub value_size: usize,
}

/// What happened beside the probe: its outcome and when.
#[derive(Debug)]
pub struct Beside<T> {
    pub outcome: T,
    pub from: Instant,
    pub to: Instant,
}

#[derive(Debug)]
pub struct Probed<T> {
    pub summary: load::Summary,
    pub beside: Beside<T>,
    /// Of the measured time: metrics and usage of the server, CPU of this process.
    pub seconds: f64,
    pub before: Counters,
    pub after: Counters,
}

#[derive(Debug)]
pub struct Counters {
    pub metrics: Scrape,
    pub usage: Usage,
    pub own_cpu: Duration,
    at: Instant,
}

impl Counters {
    fn of(running: &Running) -> Result<Self, Error> {
        let metrics = prom::scrape(running.server.addr())?;
        let usage = running.server.usage()?;
        Ok(Self { metrics, usage, own_cpu: load::own_cpu(), at: Instant::now() })
    }
}

impl Probe {
    /// Puts over the keys of a fill.
    pub fn new(options: &ProbeOptions, fill: &Fill) -> Self {
        let ProbeOptions { probe_rate: rate, probe_duration: duration, probe_lead: lead } = *options;
        let Fill { keys, key_size, value_size, .. } = *fill;
        Self { rate, duration, lead, keys, key_size, value_size }
    }

    pub fn expected(&self) -> Duration {
        self.lead * 2 + self.duration
    }

    /// Puts; a moment later `beside` starts. Both go on until `beside` has ended and the measured time is long enough.
    pub fn run<T: Send>(
        &self,
        running: &Running,
        beside: impl FnOnce() -> T + Send,
        progress: &mut dyn FnMut(f64),
    ) -> Result<Probed<T>, Error> {
        self.run_as(None, running, beside, progress)
    }

    /// The same for whoever the token was given to.
    pub fn run_as<T: Send>(
        &self,
        token: Option<String>,
        running: &Running,
        beside: impl FnOnce() -> T + Send,
        progress: &mut dyn FnMut(f64),
    ) -> Result<Probed<T>, Error> {
        let options = load::Options {
            connections: CONNECTIONS,
            clients: CLIENTS,
            warm_up: self.lead,
            duration: TIME_MAX,
            rate: Some(self.rate),
            key_size: self.key_size,
            value_size: self.value_size,
            key_space: self.keys,
            drain: Duration::from_secs(60),
            trace: true,
            token,
            ..load::Options::new(Operation::Put, running.server.addr())
        };
        let (lead, whole) = (self.lead, self.lead + self.duration);
        std::thread::scope(|scope| {
            let (start, started) = std::sync::mpsc::channel::<()>();
            // When the load does not come up, `start` goes and nothing happens beside it.
            let thread = scope.spawn(move || {
                started.recv().ok()?;
                // Such as writing a snapshot to a file: the puts must not wait for the processor because of it.
                let stepped_back = cores::leave_the_last().and_then(|()| cores::step_back());
                stepped_back.expect("a thread may let others go first");
                std::thread::sleep(lead);
                let from = Instant::now();
                Some(Beside { outcome: beside(), from, to: Instant::now() })
            });
            let (mut before, mut after) = (None, None);
            let mut since = Instant::now();
            let outcome = load::run(&options, &mut |phase| match phase {
                Phase::Started(_) => {
                    before = Some(Counters::of(running));
                    since = Instant::now();
                    start.send(()).expect("the thread waits for this");
                }
                Phase::Progress { live, .. } if before.is_some() => {
                    progress(since.elapsed().div_duration_f64(whole));
                    if since.elapsed() >= whole && thread.is_finished() {
                        live.stop();
                    }
                }
                Phase::Progress { .. } => {}
                Phase::Ended(_) => after = Some(Counters::of(running)),
            });
            drop(start);
            let beside = thread.join().expect("what happens beside does not panic");
            let summary = outcome?;
            let (before, after) = (before.expect("every run starts")?, after.expect("every run ends")?);
            let seconds = (after.at - before.at).as_secs_f64();
            let beside = beside.expect("it was started");
            Ok(Probed { summary, beside, seconds, before, after })
        })
    }
}

impl<T> Probed<T> {
    /// The latencies of the puts that were waiting at some time while the other thing happened.
    pub fn during(&self) -> Vec<Duration> {
        let Beside { from, to, .. } = &self.beside;
        let overlaps = |traced: &&Traced| traced.intended <= *to && traced.intended + traced.latency >= *from;
        sorted_latencies(self.summary.trace.iter().filter(overlaps))
    }

    /// The latencies of all puts.
    pub fn all(&self) -> Vec<Duration> {
        sorted_latencies(&self.summary.trace)
    }
}

pub fn sorted_latencies<'a>(trace: impl IntoIterator<Item = &'a Traced>) -> Vec<Duration> {
    let mut latencies: Vec<_> = trace.into_iter().map(|traced| traced.latency).collect();
    latencies.sort();
    latencies
}

/// What a p99 over a short time is when nothing happens: the median of those over stretches of a trace, each of `length`.
pub fn typical_p99_ms(trace: &[Traced], length: Duration) -> Option<f64> {
    let since = trace.iter().map(|traced| traced.intended).min()?;
    let mut stretches = std::collections::BTreeMap::<u128, Vec<Duration>>::new();
    for traced in trace {
        let stretch = (traced.intended - since).as_nanos() / length.as_nanos().max(1);
        stretches.entry(stretch).or_default().push(traced.latency);
    }
    // The last one is cut off.
    if stretches.len() > 1 {
        stretches.pop_last();
    }
    let mut p99s = Vec::new();
    for mut latencies in stretches.into_values() {
        latencies.sort();
        p99s.extend(quantile_ms(&latencies, 0.99));
    }
    p99s.sort_by(f64::total_cmp);
    p99s.get(p99s.len() / 2).copied()
}

/// Of sorted latencies, in milliseconds: the smallest that so many of them do not exceed.
pub fn quantile_ms(sorted: &[Duration], quantile: f64) -> Option<f64> {
    let rank = (sorted.len() as f64 * quantile).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().map(millis)
}

/// The columns `p50 ms`, `p99 ms`, `p99.9 ms` and `max ms`.
pub fn with_latencies(sample: Sample, sorted: &[Duration]) -> Sample {
    sample
        .with("p50 ms", quantile_ms(sorted, 0.5))
        .with("p99 ms", quantile_ms(sorted, 0.99))
        .with("p99.9 ms", quantile_ms(sorted, 0.999))
        .with("max ms", quantile_ms(sorted, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_few_and_many() {
        let sorted = (1..=1000).map(Duration::from_millis).collect::<Vec<_>>();
        assert_eq!(quantile_ms(&sorted, 0.5), Some(500.0));
        assert_eq!(quantile_ms(&sorted, 0.999), Some(999.0));
        assert_eq!(quantile_ms(&sorted, 1.0), Some(1000.0));
        assert_eq!(quantile_ms(&sorted[..1], 0.5), Some(1.0));
        assert_eq!(quantile_ms(&[], 0.5), None);
    }

    #[test]
    fn one_slow_stretch_is_not_typical() {
        let since = Instant::now();
        let at = |ms: u64, latency| Traced {
            intended: since + Duration::from_millis(ms),
            latency: Duration::from_millis(latency),
            good: true,
        };
        let mut trace: Vec<_> = (0..1000).map(|ms| at(ms, 1 + ms / 100)).collect();
        trace[250].latency = Duration::from_secs(1);
        assert_eq!(
            typical_p99_ms(&trace, Duration::from_millis(100)),
            Some(5.0),
            "1 to 9; the end is cut off"
        );
        assert_eq!(typical_p99_ms(&trace, Duration::from_secs(10)), Some(10.0), "there is only one");
        assert_eq!(typical_p99_ms(&[], Duration::from_secs(1)), None);
    }
}
