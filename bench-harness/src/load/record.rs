//! What was measured: latencies, errors, and the summary of a run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::message::Told;
use super::options::Options;
use super::workload::Kind;

/// Longer latencies count as this one.
const LATENCY_NS_MAX: u64 = 600_000_000_000;
/// More kinds of errors than this are counted together.
const ERROR_KINDS_MAX: usize = 50;

/// Latencies by kind of operation, counters and errors of one worker.
#[derive(Debug)]
pub struct Recorder {
    reads: Histogram<u64>,
    writes: Histogram<u64>,
    pub completed: u64,
    pub not_found: u64,
    pub conflicts: u64,
    pub connections_lost: u64,
    pub last_completion_ns: u64,
    pub listed: Listed,
    /// Operations of an open loop one by one, when asked for.
    trace: Option<Vec<Traced>>,
    errors: BTreeMap<String, u64>,
}

impl Recorder {
    pub fn new() -> Self {
        let histogram =
            || Histogram::new_with_bounds(1_000, LATENCY_NS_MAX, 3).expect("fixed bounds are valid");
        Self {
            reads: histogram(),
            writes: histogram(),
            completed: 0,
            not_found: 0,
            conflicts: 0,
            connections_lost: 0,
            last_completion_ns: 0,
            listed: Listed::default(),
            trace: None,
            errors: BTreeMap::new(),
        }
    }

    pub fn traced(mut self, wanted: bool) -> Self {
        self.trace = wanted.then(Vec::new);
        self
    }

    pub fn trace(&mut self, intended: Instant, ns: u64, good: bool) {
        if let Some(trace) = &mut self.trace {
            trace.push(Traced { intended, latency: Duration::from_nanos(ns), good });
        }
    }

    pub fn latency(&mut self, kind: Kind, ns: u64) {
        let histogram =
            if matches!(kind, Kind::Get | Kind::List) { &mut self.reads } else { &mut self.writes };
        histogram.saturating_record(ns);
    }

    pub fn told(&mut self, told: Told) {
        match told {
            Told::Done => {}
            Told::NotFound => self.not_found += 1,
            Told::Conflict => self.conflicts += 1,
            Told::Page { .. } => {}
        }
    }

    /// Of a reply within the measured time.
    pub fn measured(&mut self, told: Told, now_ns: u64) {
        self.completed += 1;
        self.last_completion_ns = now_ns;
        if let Told::Page { keys, bytes, last } = told {
            self.listed.keys += keys;
            self.listed.bytes += bytes;
            self.listed.lists += u64::from(last);
        }
    }

    pub fn error(&mut self, what: String, count: u64) {
        let known = self.errors.contains_key(&what) || self.errors.len() < ERROR_KINDS_MAX;
        *self.errors.entry(if known { what } else { "other errors".to_owned() }).or_default() += count;
    }

    pub fn merge(&mut self, other: &Self) {
        self.reads.add(&other.reads).expect("same bounds");
        self.writes.add(&other.writes).expect("same bounds");
        self.completed += other.completed;
        self.not_found += other.not_found;
        self.conflicts += other.conflicts;
        self.connections_lost += other.connections_lost;
        self.last_completion_ns = self.last_completion_ns.max(other.last_completion_ns);
        self.listed.lists += other.listed.lists;
        self.listed.keys += other.listed.keys;
        self.listed.bytes += other.listed.bytes;
        if let Some(trace) = &other.trace {
            self.trace.get_or_insert_default().extend(trace);
        }
        for (what, count) in &other.errors {
            self.error(what.clone(), *count);
        }
    }

    pub fn summary(&self, options: &Options, measured: Duration, client_cpu_us: f64) -> Summary {
        let mut all = self.reads.clone();
        all.add(&self.writes).expect("same bounds");
        let seconds = measured.as_secs_f64();
        let errors = self.errors.values().sum::<u64>();
        Summary {
            operation: format!("{:?}", options.operation).to_lowercase(),
            connections: options.connections,
            clients: options.clients,
            threads: options.threads,
            rate: options.rate,
            measured_seconds: seconds,
            completed: self.completed,
            per_second: if seconds > 0.0 { self.completed as f64 / seconds } else { 0.0 },
            errors,
            error_kinds: self.errors.clone(),
            not_found: self.not_found,
            conflicts: self.conflicts,
            connections_lost: self.connections_lost,
            listed: self.listed,
            client_cpu_us,
            latency: Latency::of(&all),
            read_latency: (!self.reads.is_empty() && !self.writes.is_empty())
                .then(|| Latency::of(&self.reads)),
            write_latency: (!self.reads.is_empty() && !self.writes.is_empty())
                .then(|| Latency::of(&self.writes)),
            trace: self.trace.clone().unwrap_or_default(),
        }
    }
}

/// What the replies to lists held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Lists that reached their end; with pages, one takes several operations.
    pub lists: u64,
    pub keys: u64,
    pub bytes: u64,
}

/// One operation of an open loop.
#[derive(Clone, Copy, Debug)]
pub struct Traced {
    pub intended: Instant,
    pub latency: Duration,
    /// It was answered, and well.
    pub good: bool,
}

/// Microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub count: u64,
    pub mean_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            count: histogram.len(),
            mean_us: histogram.mean() / 1e3,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: histogram.max() as f64 / 1e3,
        }
    }
}

impl std::fmt::Display for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { mean_us, p50_us, p90_us, p99_us, p999_us, max_us, .. } = self;
        write!(
            f,
            "p50 {p50_us:.0}  p90 {p90_us:.0}  p99 {p99_us:.0}  p99.9 {p999_us:.0}  max {max_us:.0}  mean {mean_us:.0} us"
        )
    }
}

/// The result of a run. Throughput, CPU and latencies are of the measured time, the warm-up left out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    pub operation: String,
    pub connections: u32,
    pub clients: u32,
    pub threads: u32,
    pub rate: Option<f64>,
    pub measured_seconds: f64,
    /// Good replies within the measured time.
    pub completed: u64,
    pub per_second: f64,
    /// Everything that did not get a good reply, warm-up included.
    pub errors: u64,
    pub error_kinds: BTreeMap<String, u64>,
    pub not_found: u64,
    pub conflicts: u64,
    pub connections_lost: u64,
    pub listed: Listed,
    /// User and system time of the load generator per completed operation.
    pub client_cpu_us: f64,
    pub latency: Latency,
    pub read_latency: Option<Latency>,
    pub write_latency: Option<Latency>,
    /// With `Options::trace`, in no order.
    #[serde(skip)]
    pub trace: Vec<Traced>,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let loop_kind = match self.rate {
            Some(rate) => format!("open loop at {rate:.0}/s"),
            None => "closed loop".to_owned(),
        };
        writeln!(
            f,
            "{}: {} clients on {} connections, {} thread(s), {loop_kind}",
            self.operation, self.clients, self.connections, self.threads
        )?;
        writeln!(
            f,
            "  {:.0}/s ({} in {:.2} s), client CPU {:.1} us per operation",
            self.per_second, self.completed, self.measured_seconds, self.client_cpu_us
        )?;
        writeln!(f, "  latency {}", self.latency)?;
        if let (Some(read), Some(write)) = (&self.read_latency, &self.write_latency) {
            writeln!(f, "  gets    {read}")?;
            writeln!(f, "  puts    {write}")?;
        }
        if self.not_found > 0 {
            writeln!(f, "  keys not found: {}", self.not_found)?;
        }
        if self.conflicts > 0 {
            writeln!(f, "  txn conflicts: {}", self.conflicts)?;
        }
        if self.listed.lists > 0 {
            let Listed { lists, keys, bytes } = self.listed;
            writeln!(f, "  listed {lists} times, {keys} keys, {} MiB", bytes >> 20)?;
        }
        write!(f, "  errors: {}", self.errors)?;
        for (what, count) in &self.error_kinds {
            write!(f, "\n    {count} x {what}")?;
        }
        if self.connections_lost > 0 {
            write!(f, "\n  connections lost: {}", self.connections_lost)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Operation;

    fn options() -> Options {
        Options::new(Operation::Mixed, "127.0.0.1:1".parse().unwrap())
    }

    #[test]
    fn percentiles_are_within_the_histograms_precision() {
        let mut recorder = Recorder::new();
        for us in 1..=10_000_u64 {
            recorder.latency(Kind::Put, us * 1000);
        }
        let latency = recorder.summary(&options(), Duration::from_secs(1), 0.0).latency;
        for (got, wanted) in [
            (latency.p50_us, 5000.0),
            (latency.p90_us, 9000.0),
            (latency.p99_us, 9900.0),
            (latency.p999_us, 9990.0),
            (latency.max_us, 10_000.0),
        ] {
            assert!((got - wanted).abs() / wanted < 0.002, "{got} {wanted}");
        }
        assert_eq!(latency.count, 10_000);
    }

    #[test]
    fn workers_add_up_and_errors_are_kept_by_kind() {
        let mut one = Recorder::new();
        one.latency(Kind::Get, 1_000_000);
        one.completed = 1;
        one.error("reset".into(), 2);
        let mut two = Recorder::new();
        two.latency(Kind::Put, 3_000_000);
        two.completed = 3;
        two.told(Told::Conflict);
        two.error("reset".into(), 1);
        two.error("refused".into(), 1);
        one.merge(&two);
        let summary = one.summary(&options(), Duration::from_secs(2), 2.0);
        assert_eq!((summary.completed, summary.errors, summary.conflicts), (4, 4, 1));
        assert_eq!((summary.per_second, summary.client_cpu_us), (2.0, 2.0));
        assert_eq!(summary.error_kinds["reset"], 3);
        assert_eq!(summary.read_latency.unwrap().count, 1);
        assert_eq!(summary.write_latency.unwrap().count, 1);
        let text = summary.to_string();
        assert!(text.contains("3 x reset") && text.contains("txn conflicts: 1"), "{text}");
    }

    #[test]
    fn endless_kinds_of_errors_do_not_fill_memory() {
        let mut recorder = Recorder::new();
        for n in 0..1000 {
            recorder.error(format!("error {n}"), 1);
        }
        let summary = recorder.summary(&options(), Duration::from_secs(1), 0.0);
        assert_eq!(summary.errors, 1000);
        assert!(summary.error_kinds.len() <= ERROR_KINDS_MAX + 1);
    }
}
