//! Measures a machine and says how to set the server for it.

mod advice;
mod disk;
mod error;
mod figures;
mod fio;
mod latency;
mod plot;
mod report;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, ensure};
use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use disk::{load::BATCH_BYTES_MAX, ring::Stop};
use error::Error;

#[derive(Parser)]
#[command(about, version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What durable writes cost on the disk of a directory, and how to set the server for it.
    Disk(DiskArgs),
    /// The same writes by fio's io_uring engine; fails if the figures differ by more than --tolerance.
    CompareFio(FioArgs),
}

#[derive(Args)]
struct DiskArgs {
    /// Where the log will be. Files are made here in a directory of their own and removed again.
    #[arg(long)]
    dir: PathBuf,
    /// About 15 seconds instead of three minutes, with fewer points and a wider spread.
    #[arg(long)]
    quick: bool,
    /// Seconds for each point [default: 1.5, quick: 0.3].
    #[arg(long)]
    seconds: Option<f64>,
    /// Sizes of one write in bytes [default: 512 to 65536, quick: 512,4096,16384,65536].
    #[arg(long, value_delimiter = ',')]
    sizes: Vec<u32>,
    /// Writes in flight [default: 1,2,4,8,16,32,64, quick: 1,4,16,64].
    #[arg(long, value_delimiter = ',')]
    depths: Vec<u32>,
    /// Size of each of four files in MiB [default: 256, quick: 64].
    #[arg(long)]
    file_mib: Option<u64>,
    /// Writes the log shall take, for the verdicts.
    #[arg(long, default_value_t = 10_000)]
    writes_per_second: u32,
    /// Bytes of one write in the log: key, value and about 100 more.
    #[arg(long, default_value_t = 512)]
    write_bytes: u32,
    /// Checkpoint rates to try beside the log in MB/s [default: 8,16,32,64,128,256, quick: 8,32,128].
    #[arg(long, value_delimiter = ',')]
    snapshot_rates: Vec<u32>,
    /// Also writes all figures as JSON; `-` is the standard output, without the page.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Also draws them, as SVG.
    #[arg(long)]
    plot: Option<PathBuf>,
}

#[derive(Args)]
struct FioArgs {
    /// As in `disk`.
    #[arg(long)]
    dir: PathBuf,
    /// The fio program.
    #[arg(long, default_value = "fio")]
    fio: PathBuf,
    /// Sizes and numbers of writes in flight.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "512x1,4096x1,4096x4,4096x16,16384x1,65536x1,65536x4"
    )]
    cases: Vec<String>,
    /// Runs of each, in turns; their medians are compared.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of one run.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Size of the file in MiB.
    #[arg(long, default_value_t = 256)]
    file_mib: u64,
    /// Largest difference of writes per second and of p50.
    #[arg(long, default_value_t = 0.15)]
    tolerance: f64,
    /// Also writes the figures as JSON; `-` is the standard output, without the table.
    #[arg(long)]
    json: Option<PathBuf>,
}

const DEPTH_MAX: u32 = 64;
const SIZE_MAX: u32 = 1024 * 1024;
const SECONDS_MAX: f64 = 600.0;
const FILE_MIB_MIN: u64 = 16;
const FILE_MIB_MAX: u64 = 65_536;
const RATE_MAX: u32 = 4096;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Disk(args) => disk_command(args),
        Command::CompareFio(args) => fio_command(args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            match error.downcast_ref() {
                // As a shell names a death by signal.
                Some(Error::Interrupted(signal)) => ExitCode::from(128 + *signal as u8),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn disk_command(args: DiskArgs) -> anyhow::Result<ExitCode> {
    let options = options(&args)?;
    let report = disk::measure(&options, &Stop::on_signals()?)?;
    if let Some(path) = &args.plot {
        write(path, &plot::svg(&report))?;
    }
    show(args.json.as_deref(), &report, || report.text())?;
    Ok(ExitCode::SUCCESS)
}

fn options(args: &DiskArgs) -> anyhow::Result<disk::Options> {
    let given = |list: &[u32], full: &[u32], quick: &[u32]| match (list, args.quick) {
        ([], false) => full.to_vec(),
        ([], true) => quick.to_vec(),
        _ => list.to_vec(),
    };
    let full_sizes = [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536];
    let mut rates = given(&args.snapshot_rates, &[8, 16, 32, 64, 128, 256], &[8, 32, 128]);
    rates.sort_unstable();
    rates.dedup();
    let options = disk::Options {
        dir: args.dir.clone(),
        sizes: given(&args.sizes, &full_sizes, &[512, 4096, 16_384, 65_536]),
        depths: given(&args.depths, &[1, 2, 4, 8, 16, 32, 64], &[1, 4, 16, 64]),
        seconds: args.seconds.unwrap_or(if args.quick { 0.3 } else { 1.5 }),
        file_bytes: mib(args.file_mib.unwrap_or(if args.quick { 64 } else { 256 }))?,
        writes_per_second: args.writes_per_second,
        write_bytes: args.write_bytes,
        snapshot_rates: rates,
    };
    ensure!(options.sizes.iter().all(|size| sound_size(*size)), "--sizes: multiples of 512 up to {SIZE_MAX}");
    ensure!(options.depths.iter().all(|depth| sound_depth(*depth)), "--depths: 1 to {DEPTH_MAX}");
    ensure!(sound_seconds(options.seconds), "--seconds: more than 0, at most {SECONDS_MAX}");
    let largest = options.sizes.iter().max().zip(options.depths.iter().max());
    let largest = largest.map_or(0, |(size, depth)| u64::from(*size) * u64::from(*depth));
    ensure!(largest <= options.file_bytes, "--file-mib: less than the largest size times depth");
    ensure!((1..=1_000_000).contains(&options.writes_per_second), "--writes-per-second: 1 to 1000000");
    ensure!(
        (1..=BATCH_BYTES_MAX).contains(&options.write_bytes),
        "--write-bytes: 1 to {BATCH_BYTES_MAX}, what the log writes at most at once"
    );
    let sound = |rate: &u32| (1..=RATE_MAX).contains(rate);
    ensure!(options.snapshot_rates.iter().all(sound), "--snapshot-rates: 1 to {RATE_MAX}");
    Ok(options)
}

fn fio_command(args: FioArgs) -> anyhow::Result<ExitCode> {
    ensure!(sound_seconds(args.seconds), "--seconds: more than 0, at most {SECONDS_MAX}");
    ensure!((1..=1000).contains(&args.rounds), "--rounds: 1 to 1000");
    ensure!(args.tolerance > 0.0 && args.tolerance.is_finite(), "--tolerance: more than 0");
    let options = fio::Options {
        cases: args.cases.iter().map(|text| case(text)).collect::<anyhow::Result<_>>()?,
        dir: args.dir,
        fio: args.fio,
        rounds: args.rounds,
        seconds: args.seconds,
        file_bytes: mib(args.file_mib)?,
        tolerance: args.tolerance,
    };
    let comparison = fio::compare(&options, &Stop::on_signals()?)?;
    show(args.json.as_deref(), &comparison, || comparison.text())?;
    Ok(if comparison.agrees { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `4096x1`: bytes and writes in flight.
fn case(text: &str) -> anyhow::Result<(u32, u32)> {
    let parsed = text.split_once('x').and_then(|(size, depth)| {
        let (size, depth) = (size.parse().ok()?, depth.parse().ok()?);
        (sound_size(size) && sound_depth(depth)).then_some((size, depth))
    });
    parsed.with_context(|| {
        format!("--cases: {text}: a multiple of 512 up to {SIZE_MAX}, x, 1 to {DEPTH_MAX}; such as 4096x1")
    })
}

fn sound_size(size: u32) -> bool {
    (512..=SIZE_MAX).contains(&size) && size.is_multiple_of(512)
}

fn sound_depth(depth: u32) -> bool {
    (1..=DEPTH_MAX).contains(&depth)
}

fn sound_seconds(seconds: f64) -> bool {
    seconds > 0.0 && seconds <= SECONDS_MAX
}

fn mib(mib: u64) -> anyhow::Result<u64> {
    ensure!((FILE_MIB_MIN..=FILE_MIB_MAX).contains(&mib), "--file-mib: {FILE_MIB_MIN} to {FILE_MIB_MAX}");
    Ok(mib * 1024 * 1024)
}

fn show(json: Option<&Path>, value: &impl Serialize, text: impl FnOnce() -> String) -> anyhow::Result<()> {
    let as_json = || serde_json::to_string_pretty(value).context("the result as JSON");
    match json {
        Some(path) if path.as_os_str() == "-" => println!("{}", as_json()?),
        Some(path) => {
            write(path, &(as_json()? + "\n"))?;
            print!("{}", text());
        }
        None => print!("{}", text()),
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
