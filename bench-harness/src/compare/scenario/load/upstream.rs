//! Upstream's own `benchmark` as the client: run it, bound it, read what it prints.
//!
//! Its open loop measures from the moment it sends, so a stalled server looks better in it than in ours.

use std::io::Read;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::compare::{Error, io};
use crate::{oracle, process};

/// It is given a number of operations, so it may take this many times the planned duration, or this long.
const SLOWER_MAX: u32 = 20;
const TIME_MIN: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub struct Outcome {
    pub summary: Summary,
    /// User and system time of the client.
    pub cpu: Duration,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    pub seconds: f64,
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// Not printed for short runs.
    pub p999_us: Option<f64>,
    pub max_us: f64,
    pub errors: u64,
}

impl Summary {
    pub fn completed(&self) -> f64 {
        self.seconds * self.per_second
    }
}

pub fn run(
    words: &[String],
    endpoints: &[SocketAddr],
    planned: Duration,
    progress: &mut dyn FnMut(f64),
) -> Result<Outcome, Error> {
    let mut command = Command::new(oracle::program("benchmark")?);
    let endpoints = endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    command.args(words).arg(format!("--endpoints={endpoints}")).arg("--precise");
    // Its progress and its log go to standard error; errors of operations are in the summary.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());

    let cpu_before = children_cpu();
    let mut child = process::spawn(command).map_err(io("start benchmark"))?;
    let mut stdout = child.stdout.take().expect("piped");
    let output = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    let since = Instant::now();
    let time_max = TIME_MIN.max(planned * SLOWER_MAX);
    let status = loop {
        if let Some(status) = child.try_wait().map_err(io("wait for benchmark"))? {
            break status;
        }
        if since.elapsed() > time_max {
            child.kill().map_err(io("kill benchmark"))?;
            child.wait().map_err(io("wait for benchmark"))?;
            return Err(Error::Benchmark(format!("did not end within {time_max:?}")));
        }
        progress((since.elapsed().as_secs_f64() / planned.as_secs_f64()).min(1.0));
        std::thread::sleep(PAUSE);
    };
    let text = output.join().expect("reading does not panic").map_err(io("read benchmark's output"))?;
    if !status.success() {
        return Err(Error::Benchmark(format!("{status}: {text}")));
    }
    let summary = parse(&text).ok_or_else(|| {
        Error::Benchmark(format!("its report is not whole (fewer than 100 operations?):\n{text}"))
    })?;
    Ok(Outcome { summary, cpu: children_cpu().saturating_sub(cpu_before) })
}

/// User and system time of all children that have been waited for.
fn children_cpu() -> Duration {
    // SAFETY: all-zero bytes are a valid rusage, a struct of integers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: getrusage writes one rusage to the place given, which is ours.
    let outcome = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    assert_eq!(outcome, 0, "getrusage fails for wrong arguments only");
    let duration = |time: libc::timeval| {
        let micros = time.tv_sec * 1_000_000 + time.tv_usec;
        Duration::from_micros(u64::try_from(micros).expect("times are not negative"))
    };
    duration(usage.ru_utime) + duration(usage.ru_stime)
}

/// Reads the report at the end of the output; `None` when it has no report.
fn parse(text: &str) -> Option<Summary> {
    let mut summary = Summary::default();
    let mut found = 0;
    let mut in_errors = false;
    for line in text.lines() {
        let words = line.split_ascii_whitespace().collect::<Vec<_>>();
        match words[..] {
            ["Total:", seconds, ..] => summary.seconds = counted(seconds, &mut found)?,
            ["Slowest:", seconds, ..] => summary.max_us = counted(seconds, &mut found)? * 1e6,
            ["Requests/sec:", rate] => summary.per_second = counted(rate, &mut found)?,
            ["50%", "in", seconds, ..] => summary.p50_us = counted(seconds, &mut found)? * 1e6,
            ["99%", "in", seconds, ..] => summary.p99_us = counted(seconds, &mut found)? * 1e6,
            ["99.9%", "in", seconds, ..] => summary.p999_us = Some(seconds.parse::<f64>().ok()? * 1e6),
            ["Error", "distribution:"] => in_errors = true,
            [count, ..] if in_errors => {
                let count = count.strip_prefix('[').and_then(|count| count.strip_suffix(']'));
                summary.errors += count.and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
            }
            _ => {}
        }
    }
    // A run in which everything failed has no latencies.
    let whole = found == 5 || (summary.errors > 0 && found == 0);
    whole.then_some(summary)
}

fn counted(text: &str, found: &mut u32) -> Option<f64> {
    *found += 1;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_report() {
        let text = "\nSummary:\n  Total:\t0.5646 secs.\n  Slowest:\t0.0712 secs.\n  Fastest:\t0.0021 secs.\n  \
            Average:\t0.0184 secs.\n  Stddev:\t0.0129 secs.\n  Requests/sec:\t5313.4540\n\n\
            Response time histogram:\n  0.0021 [1]\t|\n  0.0091 [679]\t|∎∎∎\n\n\
            Latency distribution:\n  10% in 0.0073 secs.\n  50% in 0.0151 secs.\n  95% in 0.0469 secs.\n  \
            99% in 6.98e-02 secs.\n  99.9% in 0.0710 secs.\n";
        let summary = parse(text).unwrap();
        assert_eq!((summary.seconds, summary.per_second, summary.errors), (0.5646, 5313.4540, 0));
        assert!((summary.p50_us - 15_100.0).abs() < 1e-6 && (summary.p99_us - 69_800.0).abs() < 1e-6);
        assert_eq!(summary.p999_us.map(f64::round), Some(71_000.0));
        assert_eq!(summary.max_us.round(), 71_200.0);
        assert!((summary.completed() - 3000.0).abs() < 1.0);
    }

    #[test]
    fn reads_errors_and_refuses_half_a_report() {
        let text =
            "\nError distribution:\n  [3]\trpc error: code = ResourceExhausted desc = too large (3 vs. 2)\n";
        assert_eq!(parse(text).unwrap().errors, 3);
        assert_eq!(parse("Summary:\n  Total:\t0.5646 secs.\n"), None);
        assert_eq!(parse(""), None);
    }
}
