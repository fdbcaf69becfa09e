//! The same writes by fio's io_uring engine, so that a person can see that the figures agree.
//!
//! Same file, same size and number of writes in flight, O_DIRECT and O_DSYNC, in turns. Both latencies
//! are fio's `lat`: submission and completion (`slat` + `clat`).

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::Command,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::Value;

use crate::{
    disk::{
        device,
        processors::{BUSY, Watch},
        ring::{self, AtEnd, Durable, Job, Stop},
        scratch::{Blocks, Scratch},
        target::{Pool, Target},
    },
    error::Error,
    latency,
};

pub struct Options {
    pub dir: PathBuf,
    pub fio: PathBuf,
    /// Bytes and writes in flight.
    pub cases: Vec<(u32, u32)>,
    pub rounds: u32,
    pub seconds: f64,
    pub file_bytes: u64,
    pub tolerance: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

impl Figures {
    fn median(of: &[Self]) -> Self {
        let median = |pick: fn(&Self) -> f64| latency::median(of.iter().map(pick).collect());
        Self {
            per_second: median(|f| f.per_second),
            p50_us: median(|f| f.p50_us),
            p99_us: median(|f| f.p99_us),
        }
    }
}

/// Medians of all rounds.
#[derive(Debug, Serialize)]
pub struct Row {
    pub bytes: u32,
    pub in_flight: u32,
    pub ours: Figures,
    pub fio: Figures,
    pub per_second_ratio: f64,
    pub p50_ratio: f64,
}

#[derive(Debug, Serialize)]
pub struct Comparison {
    pub fio_version: String,
    pub rounds: u32,
    pub seconds: f64,
    pub tolerance: f64,
    pub agrees: bool,
    /// By programs that are neither we nor fio.
    pub processors_busy_elsewhere: f64,
    pub rows: Vec<Row>,
}

pub fn compare(options: &Options, stop: &Stop) -> Result<Comparison, Error> {
    let fio_version = version(&options.fio)?;
    let device = device::look(&options.dir)?;
    let pool = Pool::leak();
    let scratch = Scratch::create(&device, pool, stop)?;
    let (mut target, _) = scratch.file("compared", Blocks::Recycled, options.file_bytes)?;
    let mut figures = vec![(Vec::new(), Vec::new()); options.cases.len()];
    let style = ProgressStyle::with_template("{msg:34} [{bar:40}] {percent:>3}%  {eta} left")
        .map_err(|error| Error::io("progress bar")(std::io::Error::other(error)))?;
    let watch = Watch::start()?;
    let turns = u64::from(options.rounds) * options.cases.len() as u64 * 2;
    let bar = ProgressBar::new(turns).with_style(style);
    for round in 0..options.rounds {
        for (&(bytes, depth), (ours, fio)) in options.cases.iter().zip(&mut figures) {
            bar.set_message(format!("{bytes} B, {depth} in flight"));
            // Who is second in one round is first in the next.
            for turn in [round % 2, (round + 1) % 2] {
                stop.check()?;
                if turn == 0 {
                    ours.push(by_ring(options, &mut target, bytes, depth, pool, stop)?);
                } else {
                    fio.push(by_fio(options, &target.path, bytes, depth)?);
                }
                bar.inc(1);
            }
        }
    }
    stop.check()?;
    bar.finish_and_clear();
    let processors_busy_elsewhere = watch.others()?;
    let rows = options.cases.iter().zip(&figures);
    let rows: Vec<Row> = rows.map(|(&case, (ours, fio))| row(case, ours, fio)).collect();
    let agrees = rows.iter().all(|row| within(row, options.tolerance));
    let Options { rounds, seconds, tolerance, .. } = *options;
    Ok(Comparison { fio_version, rounds, seconds, tolerance, agrees, processors_busy_elsewhere, rows })
}

fn row((bytes, in_flight): (u32, u32), ours: &[Figures], fio: &[Figures]) -> Row {
    let (ours, fio) = (Figures::median(ours), Figures::median(fio));
    Row {
        bytes,
        in_flight,
        ours,
        fio,
        per_second_ratio: ours.per_second / fio.per_second,
        p50_ratio: ours.p50_us / fio.p50_us,
    }
}

fn within(row: &Row, tolerance: f64) -> bool {
    [row.per_second_ratio, row.p50_ratio].iter().all(|ratio| (ratio - 1.0).abs() <= tolerance)
}

fn by_ring(
    options: &Options,
    target: &mut Target,
    bytes: u32,
    depth: u32,
    pool: Pool,
    stop: &Stop,
) -> Result<Figures, Error> {
    let job = Job {
        bytes,
        depth,
        durable: Durable::Dsync,
        at_end: AtEnd::StartOver,
        seconds: options.seconds,
        zeros: false,
    };
    // As fio does.
    target.position = 0;
    let sample = ring::run(&job, target, pool, stop)?;
    let per_second = sample.latencies.count() as f64 / sample.seconds;
    let found = latency::percentiles(&[sample.latencies]);
    Ok(Figures { per_second, p50_us: found.p50_us, p99_us: found.p99_us })
}

fn version(fio: &Path) -> Result<String, Error> {
    let output = Command::new(fio).arg("--version").output();
    let output = output.map_err(|error| {
        Error::Fio(format!("{}: {error}; install Debian's package fio, or name it with --fio", fio.display()))
    })?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

fn by_fio(options: &Options, file: &Path, bytes: u32, depth: u32) -> Result<Figures, Error> {
    let output = Command::new(&options.fio)
        .args(arguments(file, options.file_bytes, bytes, depth, options.seconds))
        .output()
        .map_err(|error| Error::Fio(error.to_string()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Fio(format!("{}: {}", output.status, text.trim())));
    }
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn arguments(file: &Path, file_bytes: u64, bytes: u32, depth: u32, seconds: f64) -> Vec<String> {
    // fio takes a colon for the end of a file name.
    let file = file.display().to_string().replace(':', "\\:");
    let mut arguments: Vec<String> = [
        "--name=tuning",
        "--ioengine=io_uring",
        "--rw=write",
        "--direct=1",
        "--sync=dsync",
        "--time_based",
        "--fallocate=none",
        "--overwrite=1",
        "--allow_file_create=0",
        "--lat_percentiles=1",
        "--clat_percentiles=0",
        "--percentile_list=50:99:99.9",
        "--output-format=json",
    ]
    .map(String::from)
    .to_vec();
    arguments.push(format!("--filename={file}"));
    arguments.push(format!("--size={file_bytes}"));
    arguments.push(format!("--bs={bytes}"));
    arguments.push(format!("--iodepth={depth}"));
    arguments.push(format!("--runtime={}ms", (seconds * 1e3).round()));
    arguments
}

fn parse(output: &str) -> Result<Figures, Error> {
    // Notes of fio come before the JSON.
    let json = output.find('{').map_or("", |start| &output[start..]);
    let json: Value = serde_json::from_str(json).map_err(|error| Error::Fio(format!("its JSON: {error}")))?;
    let job = &json["jobs"][0];
    if job["error"].as_i64() != Some(0) {
        return Err(Error::Fio(format!("the job failed: {}", job["error"])));
    }
    let writes = &job["write"];
    let percentile = |name: &str| writes["lat_ns"]["percentile"][name].as_f64();
    let figures = (writes["iops"].as_f64(), percentile("50.000000"), percentile("99.000000"));
    let (Some(per_second), Some(p50_ns), Some(p99_ns)) = figures else {
        return Err(Error::Fio("its JSON lacks iops or the percentiles of lat_ns".into()));
    };
    Ok(Figures { per_second, p50_us: p50_ns / 1e3, p99_us: p99_ns / 1e3 })
}

impl Comparison {
    pub fn text(&self) -> String {
        let mut text = format!(
            "{} rounds of {} s of each in turns, medians; {}, ioengine=io_uring, direct=1, sync=dsync\n\n",
            self.rounds, self.seconds, self.fio_version
        );
        text += "  bytes in flight |  writes/s       fio  ratio |  p50 us    fio  ratio |  p99 us    fio\n";
        for row in &self.rows {
            let (o, f) = (row.ours, row.fio);
            let mark = if within(row, self.tolerance) { "" } else { "  <- outside" };
            writeln!(
                text,
                "{:>7} {:>9} | {:>9.0} {:>9.0} {:>6.2} | {:>7.0} {:>6.0} {:>6.2} | {:>7.0} {:>6.0}{mark}",
                row.bytes,
                row.in_flight,
                o.per_second,
                f.per_second,
                row.per_second_ratio,
                o.p50_us,
                f.p50_us,
                row.p50_ratio,
                o.p99_us,
                f.p99_us
            )
            .expect("a string takes everything");
        }
        let verdict = if self.agrees { "agree" } else { "DO NOT agree" };
        if self.processors_busy_elsewhere >= BUSY {
            writeln!(
                text,
                "\nWARNING: other programs kept {:.1} processors busy, which decides more than the disk: repeat it on \
                 an idle machine.",
                self.processors_busy_elsewhere
            )
            .expect("a string takes everything");
        }
        writeln!(text, "\nThe figures {verdict} within {:.0}%.", self.tolerance * 100.0)
            .expect("a string takes everything");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "note: both iodepth >= 1\n{\"jobs\": [{\"error\": 0, \"write\": {\"iops\": 7000.5, \
        \"lat_ns\": {\"percentile\": {\"50.000000\": 136192, \"99.000000\": 268288}}}}]}";

    #[test]
    fn fio_is_understood() {
        let found = parse(OUTPUT).expect("is complete");
        assert_eq!(found, Figures { per_second: 7000.5, p50_us: 136.192, p99_us: 268.288 });
        for broken in ["", "{}", "{\"jobs\": []}", "fio: failed"] {
            assert!(parse(broken).is_err(), "{broken}");
        }
        assert!(parse(&OUTPUT.replace("\"error\": 0", "\"error\": 22")).is_err());
        assert!(parse(&OUTPUT.replace("99.000000", "98.000000")).is_err());
    }

    #[test]
    fn a_colon_in_a_name_is_escaped() {
        let arguments = arguments(Path::new("/a:b/c"), 1 << 20, 4096, 4, 0.25);
        assert!(arguments.contains(&"--filename=/a\\:b/c".to_string()));
        assert!(arguments.contains(&"--runtime=250ms".to_string()));
    }

    #[test]
    fn ratios_are_of_medians() {
        let figures = |per_second, p50_us| Figures { per_second, p50_us, p99_us: 1.0 };
        let ours = [figures(100.0, 10.0), figures(114.0, 11.0), figures(900.0, 90.0)];
        let fio = [figures(100.0, 10.0), figures(10.0, 1.0), figures(101.0, 11.0)];
        let row = row((4096, 1), &ours, &fio);
        assert_eq!((row.per_second_ratio, row.p50_ratio), (1.14, 1.1));
        assert!(within(&row, 0.15) && !within(&row, 0.12));
    }
}
