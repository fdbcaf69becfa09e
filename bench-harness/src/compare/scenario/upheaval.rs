//! Puts at a fixed rate, by clients of all members, while members come and go: how long nobody got an answer.

use std::time::{Duration, Instant};

use crate::compare::Error;
use crate::compare::probe::{ProbeOptions, quantile_ms};
use crate::compare::report::{Column, Sample};
use crate::compare::testbed::{Running, millis};
use crate::load::{self, Operation, Phase, Traced};

pub const COLUMNS: [Column; 6] = [
    Column::lower("no write ms", 0),
    Column::lower("p50 ms", 2),
    Column::lower("p99 ms", 2),
    Column::lower("max ms", 0),
    Column::lower("failed", 0),
    Column::plain("took s", 1),
];

/// What happens beside is given up as endless.
const TIME_MAX: Duration = Duration::from_secs(300);
const CONNECTIONS: u32 = 30;
/// Puts in flight at most; more than that wait in the client, which counts as latency too.
const CLIENTS: u32 = 3000;
const KEYS: u64 = 10_000;
/// Upstream's clients wait so long and longer for an answer.
const DRAIN: Duration = Duration::from_secs(15);

/// The puts.
#[derive(Clone, Copy, Debug)]
pub struct Upheaval {
    rate: f64,
    lead: Duration,
    /// After what happened.
    tail: Duration,
    value_size: usize,
}

impl Upheaval {
    pub fn new(options: &ProbeOptions, value_size: usize) -> Self {
        let ProbeOptions { probe_rate: rate, probe_lead: lead, .. } = *options;
        Self { rate, lead, tail: Duration::from_secs(5), value_size }
    }

    /// Beside what happens.
    pub fn expected(&self) -> Duration {
        self.lead * 2 + self.tail
    }

    pub fn run(
        &self,
        running: &mut Running,
        happens: impl FnOnce(&mut Running) -> Result<(), Error> + Send,
        progress: &mut dyn FnMut(f64),
    ) -> Result<Sample, Error> {
        let options = load::Options {
            endpoints: running.endpoints(),
            connections: CONNECTIONS,
            clients: CLIENTS,
            warm_up: self.lead,
            duration: TIME_MAX,
            rate: Some(self.rate),
            value_size: self.value_size,
            key_space: KEYS,
            drain: DRAIN,
            trace: true,
            reconnect: true,
            ..load::Options::new(Operation::Put, running.server.addr())
        };
        let (lead, tail) = (self.lead, self.tail);
        std::thread::scope(|scope| {
            let (start, started) = std::sync::mpsc::channel::<()>();
            let thread = scope.spawn(move || {
                // When the load does not come up, `start` goes and nothing happens.
                started.recv().ok()?;
                std::thread::sleep(lead);
                let from = Instant::now();
                let outcome = happens(running);
                let took = from.elapsed();
                std::thread::sleep(tail);
                Some(outcome.map(|()| (from, took)))
            });
            let since = Instant::now();
            let summary = load::run(&options, &mut |phase| match phase {
                Phase::Started(_) => start.send(()).expect("the thread waits for this"),
                Phase::Progress { live, .. } => {
                    progress(since.elapsed().div_duration_f64(self.expected()));
                    if thread.is_finished() {
                        live.stop();
                    }
                }
                Phase::Ended(_) => {}
            });
            drop(start);
            let happened = thread.join().expect("what happens does not panic");
            let summary = summary?;
            let (from, took) = happened.expect("it was started")?;
            Ok(sample(&summary, from, took))
        })
    }
}

fn sample(summary: &load::Summary, from: Instant, took: Duration) -> Sample {
    let good = || summary.trace.iter().filter(|traced| traced.good);
    let mut latencies: Vec<Duration> = good()
        .filter(|traced| traced.intended + traced.latency >= from)
        .map(|traced| traced.latency)
        .collect();
    latencies.sort();
    Sample::default()
        .with("no write ms", without_answer(&summary.trace, from).map(millis))
        .with("p50 ms", quantile_ms(&latencies, 0.5))
        .with("p99 ms", quantile_ms(&latencies, 0.99))
        .with("max ms", quantile_ms(&latencies, 1.0))
        .with("failed", summary.errors as f64)
        .with("took s", took.as_secs_f64())
}

/// The longest time without a good answer that ended after `from`.
fn without_answer(trace: &[Traced], from: Instant) -> Option<Duration> {
    let mut answers: Vec<Instant> =
        trace.iter().filter(|traced| traced.good).map(|traced| traced.intended + traced.latency).collect();
    answers.sort();
    answers.windows(2).filter(|pair| pair[1] >= from).map(|pair| pair[1] - pair[0]).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_time_without_an_answer_is_between_good_ones() {
        let since = Instant::now();
        let at = |intended, latency, good| Traced {
            intended: since + Duration::from_millis(intended),
            latency: Duration::from_millis(latency),
            good,
        };
        // Answered at 500, 502, 803, 804; before what happened there was a longer wait.
        let trace = [
            at(0, 1, true),
            at(1, 499, true),
            at(501, 1, true),
            at(503, 50, false),
            at(504, 299, true),
            at(800, 4, true),
        ];
        let from = since + Duration::from_millis(501);
        assert_eq!(without_answer(&trace, from), Some(Duration::from_millis(301)));
        assert_eq!(without_answer(&trace[..1], from), None);
    }
}
