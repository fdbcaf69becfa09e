//! Measures a machine and says how to set the server for it.

mod disk;
mod report;

use std::{fs::File, io::Write, path::PathBuf};

use anyhow::{Context, ensure};
use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(about, version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What a durable log write costs on the disk of a directory.
    Disk(DiskArgs),
}

#[derive(Args)]
struct DiskArgs {
    /// Where the log will be. A scratch file is made here and removed again.
    #[arg(long)]
    dir: PathBuf,
    /// Sizes of one write in bytes.
    #[arg(long, value_delimiter = ',', default_value = "512,4096,16384,65536")]
    sizes: Vec<u32>,
    /// Writes in flight.
    #[arg(long, value_delimiter = ',', default_value = "1,4")]
    depths: Vec<u32>,
    /// Seconds for each size and depth.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Size of the scratch file in MiB.
    #[arg(long, default_value_t = 256)]
    file_mib: u64,
    /// Also writes the result as JSON; `-` is the standard output, without the table.
    #[arg(long)]
    json: Option<PathBuf>,
}

const DEPTH_MAX: u32 = 256;
const SIZE_MAX: u32 = 4 * 1024 * 1024;

fn main() -> anyhow::Result<()> {
    let Command::Disk(args) = Cli::parse().command;
    let sound = |size: &u32| *size >= 512 && *size <= SIZE_MAX && size.is_multiple_of(512);
    ensure!(args.sizes.iter().all(sound), "--sizes: multiples of 512 up to {SIZE_MAX}");
    ensure!(args.depths.iter().all(|depth| (1..=DEPTH_MAX).contains(depth)), "--depths: 1 to {DEPTH_MAX}");
    ensure!(args.seconds > 0.0 && args.seconds <= 3600.0, "--seconds: more than 0, at most 3600");
    ensure!((16..=65_536).contains(&args.file_mib), "--file-mib: 16 to 65536");
    let report = disk::measure(&disk::Options {
        dir: args.dir,
        sizes: args.sizes,
        depths: args.depths,
        seconds: args.seconds,
        file_bytes: args.file_mib * 1024 * 1024,
    })?;
    let json = || serde_json::to_string_pretty(&report).context("the result as JSON");
    match args.json {
        Some(path) if path.as_os_str() == "-" => println!("{}", json()?),
        Some(path) => {
            let mut file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
            writeln!(file, "{}", json()?)?;
            print!("{}", report.text());
        }
        None => print!("{}", report.text()),
    }
    Ok(())
}
