//! What others meet meanwhile: puts and linearizable gets at a fixed low rate, each on a connection of its own that was
//! there before the attack, and `GET /livez` on new connections.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::compare::probe::sorted_latencies;
use crate::http;
use crate::load::{self, Operation, Phase, Traced, cores};

/// Nobody probes longer.
const TIME_MAX: Duration = Duration::from_secs(3_600);
/// In flight at most; more than that wait in the client, which counts as latency too.
const CLIENTS: u32 = 5_000;
/// What is unanswered so long after the end counts as failed.
const DRAIN: Duration = Duration::from_secs(10);
const LIVEZ_PER_SECOND: f64 = 20.0;
const LIVEZ_TIMEOUT: Duration = Duration::from_secs(5);
/// Of its own keys.
pub const KEYS: u64 = 1_000;
const KEY_BYTES: usize = 12;

#[derive(Clone, Copy, Debug)]
pub struct Prober {
    pub addr: SocketAddr,
    /// Puts per second, and as many gets.
    pub rate: f64,
    pub value_size: usize,
}

/// One kind of request: each with its time, and how many failed.
#[derive(Debug, Default)]
pub struct Seen {
    trace: Vec<Traced>,
    failed: u64,
    why: Option<String>,
}

#[derive(Debug)]
pub struct Probed {
    pub puts: Seen,
    pub gets: Seen,
    pub livez: Seen,
}

impl Prober {
    /// Its keys, put before so that gets find them.
    pub fn fill(&self) -> Result<(), load::Error> {
        let options = load::Options {
            total: Some(KEYS),
            sequential: true,
            clients: 50,
            ..self.options(Operation::Put)
        };
        load::run(&options, &mut |_| {})?;
        Ok(())
    }

    fn options(&self, operation: Operation) -> load::Options {
        load::Options {
            duration: TIME_MAX,
            drain: DRAIN,
            key_size: KEY_BYTES,
            key_space: KEYS,
            value_size: self.value_size,
            ..load::Options::new(operation, self.addr)
        }
    }

    /// Probes while `attacked` runs on this thread.
    pub fn beside<T>(&self, attacked: impl FnOnce() -> T) -> Result<(T, Probed), load::Error> {
        let over = AtomicBool::new(false);
        let over = &over;
        std::thread::scope(|scope| {
            let puts = scope.spawn(move || self.load(Operation::Put, over));
            let gets = scope.spawn(move || self.load(Operation::Get, over));
            let livez = scope.spawn(move || self.livez(over));
            let outcome = attacked();
            over.store(true, Ordering::Relaxed);
            let puts = puts.join().expect("probing does not panic");
            let gets = gets.join().expect("probing does not panic");
            let livez = livez.join().expect("probing does not panic");
            Ok((outcome, Probed { puts: puts?, gets: gets?, livez }))
        })
    }

    fn load(&self, operation: Operation, over: &AtomicBool) -> Result<Seen, load::Error> {
        let options =
            load::Options { clients: CLIENTS, rate: Some(self.rate), trace: true, ..self.options(operation) };
        let summary = load::run(&options, &mut |phase| {
            if let Phase::Progress { live, .. } = phase
                && over.load(Ordering::Relaxed)
            {
                live.stop();
            }
        })?;
        let why = summary.error_kinds.into_iter().max_by_key(|(_, count)| *count).map(|(kind, _)| kind);
        Ok(Seen { trace: summary.trace, failed: summary.errors, why })
    }

    /// One after the other, each charged from when it should have started.
    fn livez(&self, over: &AtomicBool) -> Seen {
        cores::leave_the_last().expect("a thread may choose its processor");
        let since = Instant::now();
        let mut seen = Seen::default();
        for number in 0_u32.. {
            let intended = since + Duration::from_secs_f64(f64::from(number) / LIVEZ_PER_SECOND);
            std::thread::sleep(intended.saturating_duration_since(Instant::now()));
            if over.load(Ordering::Relaxed) {
                break;
            }
            let why = match http::get(self.addr, "/livez", LIVEZ_TIMEOUT) {
                Ok(response) if response.status == 200 => None,
                Ok(response) => Some(format!("/livez {}", response.status)),
                Err(error) => Some(format!("/livez {error}")),
            };
            seen.trace.push(Traced { intended, latency: intended.elapsed(), good: true });
            seen.failed += u64::from(why.is_some());
            seen.why = seen.why.or(why);
        }
        seen
    }
}

impl Seen {
    /// Latencies of what was answered before a moment, sorted.
    pub fn before(&self, moment: Instant) -> Vec<Duration> {
        self.latencies(|traced| traced.intended + traced.latency < moment)
    }

    /// Latencies of what was waiting at it, or began after it.
    pub fn since(&self, moment: Instant) -> Vec<Duration> {
        self.latencies(|traced| traced.intended + traced.latency >= moment)
    }

    fn latencies(&self, wanted: impl Fn(&Traced) -> bool) -> Vec<Duration> {
        sorted_latencies(self.trace.iter().filter(|traced| wanted(traced)))
    }
}

impl Probed {
    pub fn failed(&self) -> u64 {
        self.puts.failed + self.gets.failed + self.livez.failed
    }

    pub fn why(&self) -> Option<&str> {
        [&self.puts, &self.gets, &self.livez].into_iter().find_map(|seen| seen.why.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_when_the_attack_begins_counts_to_it() {
        let since = Instant::now();
        let ms = Duration::from_millis;
        let traced = |at, latency| Traced { intended: since + ms(at), latency: ms(latency), good: true };
        let trace = vec![traced(0, 3), traced(8, 5), traced(20, 1)];
        let seen = Seen { trace, ..Seen::default() };
        assert_eq!(seen.before(since + ms(10)), [ms(3)]);
        assert_eq!(seen.since(since + ms(10)), [ms(1), ms(5)]);
    }
}
