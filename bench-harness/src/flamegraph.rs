//! Where a server spends its CPU: started here, loaded by the load generator, recorded with `perf`, drawn by inferno.
//!
//! `perf` samples the CPU clock of the server alone (works in virtual machines without hardware counters) and
//! walks frame pointers, so the binary should be built with them: `flamegraphs/record` does.

use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use inferno::collapse::Collapse;
use inferno::collapse::perf::Folder;

use crate::load::{self, Operation, Phase};
use crate::process::{self, Kind, Launch};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot run perf: {0}; install it (Debian: apt-get install linux-perf)")]
    NoPerf(std::io::Error),
    #[error("perf {what} failed: {output}")]
    Perf { what: &'static str, output: String },
    #[error("perf recorded no samples of the server")]
    NoSamples,
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error(transparent)]
    Server(#[from] process::Error),
    #[error(transparent)]
    Load(#[from] load::Error),
    #[error("{0} operations failed while recording")]
    Failed(u64),
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.into();
    move |source| Error::Io { what, source }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Under {
    /// Puts from many clients.
    Put,
    /// Linearizable gets of one key each from many clients.
    Range,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The load.
    #[arg(value_enum)]
    pub under: Under,
    /// The server's binary.
    #[arg(long)]
    pub program: PathBuf,
    /// The binary is upstream etcd.
    #[arg(long)]
    pub etcd: bool,
    /// The SVG to write.
    #[arg(long)]
    pub out: PathBuf,
    /// How long to record.
    #[arg(long, value_parser = load::options_seconds, default_value = "15")]
    pub duration: Duration,
    /// Samples per second of CPU time.
    #[arg(long, default_value_t = 997)]
    pub frequency: u32,
    #[arg(long, default_value_t = 100)]
    pub connections: u32,
    #[arg(long, default_value_t = 1000)]
    pub clients: u32,
    /// Where the data directory and the recording are made.
    #[arg(long, default_value = "target/flamegraph")]
    pub work_dir: PathBuf,
}

const KEYS: u64 = 10_000;
const WARM_UP: Duration = Duration::from_secs(2);
/// The load goes on a little longer than the recording.
const MARGIN: Duration = Duration::from_secs(2);
const GRACE: Duration = Duration::from_secs(60);

/// Records and draws; returns the load's summary. Recording costs the server a few percent.
pub fn run(options: &Options) -> Result<load::Summary, Error> {
    let scratch = process::scratch(&options.work_dir).map_err(io(options.work_dir.display().to_string()))?;
    let kind = if options.etcd { Kind::Etcd } else { Kind::Pinion };
    let mut server = Launch::new(kind, options.program.clone(), scratch.path().join("data")).start()?;
    let base = load::Options {
        connections: options.connections,
        clients: options.clients,
        key_space: KEYS,
        ..load::Options::new(Operation::Put, server.addr())
    };
    let fill = load::Options { total: Some(KEYS), sequential: true, ..base.clone() };
    let operation = match options.under {
        Under::Put => Operation::Put,
        Under::Range => Operation::Get,
    };
    let measured = load::Options { operation, duration: options.duration + MARGIN, warm_up: WARM_UP, ..base };

    fail_on_errors(load::run(&fill, &mut |_| {})?)?;
    let recording = scratch.path().join("perf.data");
    let mut perf = None;
    let summary = load::run(&measured, &mut |phase| {
        if matches!(phase, Phase::Started(_)) {
            perf = Some(record(options, server.pid(), &recording));
        }
    })?;
    finish(perf.expect("every run starts")?)?;
    server.terminate(GRACE)?;

    let svg = draw(script(&recording)?, options)?;
    std::fs::write(&options.out, svg).map_err(io(format!("write {}", options.out.display())))?;
    fail_on_errors(summary)
}

fn fail_on_errors(summary: load::Summary) -> Result<load::Summary, Error> {
    if summary.errors > 0 { Err(Error::Failed(summary.errors)) } else { Ok(summary) }
}

fn record(options: &Options, pid: u32, recording: &Path) -> Result<Child, Error> {
    let mut perf = Command::new("perf");
    perf.args(["record", "-e", "cpu-clock", "--call-graph", "fp"]);
    perf.arg(format!("--freq={}", options.frequency))
        .arg(format!("--pid={pid}"))
        .arg("--output")
        .arg(recording);
    perf.args(["--", "sleep"]).arg(options.duration.as_secs_f64().to_string());
    perf.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    process::spawn(perf).map_err(Error::NoPerf)
}

fn finish(perf: Child) -> Result<(), Error> {
    let output = perf.wait_with_output().map_err(io("wait for perf"))?;
    if !output.status.success() {
        let output = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Error::Perf { what: "record", output });
    }
    Ok(())
}

/// The samples as text.
fn script(recording: &Path) -> Result<Vec<u8>, Error> {
    let mut perf = Command::new("perf");
    // Without the period, so that samples are counted. Resolving inlined frames takes minutes and adds little.
    perf.args(["script", "--no-inline", "--fields", "comm,pid,tid,time,event,ip,sym,symoff,dso", "--input"]);
    perf.arg(recording);
    let output = perf.output().map_err(Error::NoPerf)?;
    if !output.status.success() {
        let output = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Error::Perf { what: "script", output });
    }
    Ok(output.stdout)
}

fn draw(script: Vec<u8>, options: &Options) -> Result<Vec<u8>, Error> {
    let mut folded = Vec::new();
    Folder::default().collapse(BufReader::new(&script[..]), &mut folded).map_err(io("fold the stacks"))?;
    if folded.is_empty() {
        return Err(Error::NoSamples);
    }
    let folded = demangled(&String::from_utf8_lossy(&folded));
    let name = options.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut style = inferno::flamegraph::Options::default();
    style.title = format!("{name} under {:?} load", options.under).to_lowercase();
    style.subtitle = Some(format!(
        "{} clients on {} connections, {:.0} s of cpu-clock at {} Hz",
        options.clients,
        options.connections,
        options.duration.as_secs_f64(),
        options.frequency
    ));
    style.count_name = "samples".to_owned();
    style.deterministic = true;
    let mut svg = Vec::new();
    inferno::flamegraph::from_lines(&mut style, folded.lines(), &mut svg).map_err(io("draw the stacks"))?;
    svg.flush().map_err(io("draw the stacks"))?;
    Ok(svg)
}

/// Without the hash at the end of Rust's names: the same function from two crates is one frame.
fn demangled(folded: &str) -> String {
    let mut out = String::with_capacity(folded.len());
    for line in folded.lines() {
        let (stack, count) = line.rsplit_once(' ').unwrap_or((line, ""));
        for (place, frame) in stack.split(';').enumerate() {
            if place > 0 {
                out.push(';');
            }
            out.push_str(without_hash(frame));
        }
        out.push(' ');
        out.push_str(count);
        out.push('\n');
    }
    out
}

fn without_hash(frame: &str) -> &str {
    match frame.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => name,
        _ => frame,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "pinion  4242 100.000001: cpu-clock: \n\
        \t    55d0c0 pinion::storage::wal::append::h0123456789abcdef+0x10 (/bin/pinion)\n\
        \t    55d0d0 pinion::shard::turn::hfedcba9876543210+0x20 (/bin/pinion)\n\n\
        pinion  4242 100.001001: cpu-clock: \n\
        \tffffffff81 io_submit_sqes+0x1 ([kernel.kallsyms])\n\
        \t    55d0d0 pinion::shard::turn::hfedcba9876543210+0x20 (/bin/pinion)\n\n";

    fn options() -> Options {
        Options {
            under: Under::Put,
            program: "dir/pinion".into(),
            etcd: false,
            out: "out.svg".into(),
            duration: Duration::from_secs(15),
            frequency: 997,
            connections: 100,
            clients: 1000,
            work_dir: "work".into(),
        }
    }

    #[test]
    fn draws_the_stacks_of_a_recording_without_hashes() {
        let svg = String::from_utf8(draw(SCRIPT.into(), &options()).unwrap()).unwrap();
        assert!(
            svg.contains("pinion::storage::wal::append (1 samples") && svg.contains("io_submit_sqes"),
            "{svg}"
        );
        assert!(svg.contains("pinion::shard::turn (2 samples") && !svg.contains("::hfedcba"), "{svg}");
        assert!(svg.contains("pinion under put load"));
    }

    #[test]
    fn a_recording_without_samples_is_an_error() {
        assert!(matches!(draw(Vec::new(), &options()), Err(Error::NoSamples)));
    }
}
