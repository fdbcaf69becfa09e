//! `tuning disk`: which points are measured, and in which order.
//!
//! Points that are compared with each other are measured in turns, several rounds of each, so that a
//! disturbance hits all of them. The progress is drawn between points, never during one.

pub mod device;
pub mod load;
pub mod processors;
pub mod ring;
pub mod scratch;
pub mod target;

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    advice,
    disk::{
        device::Device,
        load::Pattern,
        processors::Watch,
        ring::{AtEnd, Durable, Job, Stop},
        scratch::{Blocks, Scratch},
        target::{Pool, Target},
    },
    error::Error,
    figures::{Beside, Load, State, USUAL_BYTES, Way, Writes},
    latency::{self, Latencies},
    report::Report,
};

pub struct Options {
    pub dir: PathBuf,
    pub sizes: Vec<u32>,
    pub depths: Vec<u32>,
    pub seconds: f64,
    pub file_bytes: u64,
    pub writes_per_second: u32,
    pub write_bytes: u32,
    /// MB per second; without the 0 that is always measured.
    pub snapshot_rates: Vec<u32>,
}

const ROUNDS_MIN: u32 = 3;
const ROUND_SECONDS_MAX: f64 = 1.0;
/// The pattern of log and checkpoint takes this many times the seconds of a point.
const LOAD_TIMES: f64 = 2.0;
const WAY_DEPTHS: [u32; 2] = [1, 4];
const CHECKPOINT_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// Beyond, a checkpoint starts over in its file.
const CHECKPOINT_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Files that are filled, reserved or extended: recycled, zero-filled, reserved, extending.
const FILES: u64 = 4;
const MIB: u64 = 1024 * 1024;
/// What filling is assumed to take, for the estimate at the beginning.
const FILL_MS_PER_MIB: u64 = 3;

/// A point of the grid, of the ways, or of the file states, with the rounds so far.
struct Point {
    name: String,
    job: Job,
    target: usize,
    rounds: Vec<Latencies>,
    per_second: Vec<f64>,
    cpu_us: f64,
}

impl Point {
    fn new(name: &str, job: Job, target: usize) -> Self {
        Self { name: name.into(), job, target, rounds: Vec::new(), per_second: Vec::new(), cpu_us: 0.0 }
    }

    fn writes(&self) -> Writes {
        let latency = latency::percentiles(&self.rounds);
        Writes {
            bytes: self.job.bytes,
            in_flight: self.job.depth,
            per_second: latency::median(self.per_second.clone()),
            latency,
            cpu_us_per_write: self.cpu_us / latency.count.max(1) as f64,
        }
    }
}

struct Bench<'a> {
    options: &'a Options,
    rounds: u32,
    pool: Pool,
    stop: &'a Stop,
    bar: ProgressBar,
}

pub fn measure(options: &Options, stop: &Stop) -> Result<Report, Error> {
    let mut device = device::look(&options.dir)?;
    let checkpoint_bytes = checkpoint_bytes(options);
    enough_space(&device, FILES * options.file_bytes + checkpoint_bytes)?;
    let rounds = ROUNDS_MIN.max((options.seconds / ROUND_SECONDS_MAX).ceil() as u32);
    let pool = Pool::leak();
    let bench = Bench { options, rounds, pool, stop, bar: bar(options)? };
    let scratch = Scratch::create(&device, pool, stop)?;
    // Before the files are filled, so that a machine without it is refused at once.
    drop(ring::open(2)?);

    bench.begin("filling the files");
    let (recycled, _) = scratch.file("recycled", Blocks::Recycled, options.file_bytes)?;
    bench.filled();
    let (zeroed, fill_mib_per_s) = scratch.file("zeroed", Blocks::Zeroed, options.file_bytes)?;
    bench.filled();
    (device.direct_align_bytes, device.smallest_write_bytes) = scratch.probe(&recycled)?;
    let (reserved, _) = scratch.file("reserved", Blocks::Reserved, options.file_bytes)?;
    let (mut checkpoint, _) = scratch.file("checkpoint", Blocks::Reserved, checkpoint_bytes)?;
    let (extending, _) = scratch.file("extending", Blocks::None, options.file_bytes)?;
    let without_dsync = scratch.without_dsync(&recycled)?;
    let mut targets = [recycled, without_dsync, zeroed, reserved, extending];

    let least = device.smallest_write_bytes;
    let sizes: Vec<u32> = options.sizes.iter().copied().filter(|bytes| bytes.is_multiple_of(least)).collect();
    let watch = Watch::start()?;
    let writes = bench.grid(&sizes, &mut targets)?;
    let usual = USUAL_BYTES.max(least);
    let ways = bench.ways(usual, &mut targets)?;
    let states = bench.states(usual, &mut targets)?;
    let load = bench.load(usual, &mut targets[0], &mut checkpoint)?;
    let processors_busy_elsewhere = watch.others()?;
    bench.bar.finish_and_clear();
    let advice = advice::advise(&device, &writes, &load);
    Ok(Report {
        device,
        seconds_per_point: options.seconds,
        rounds,
        file_bytes: options.file_bytes,
        fill_mib_per_s,
        processors_busy_elsewhere,
        writes,
        ways,
        states,
        load,
        advice,
    })
}

/// As much as all rates write in their time, so that every step of a checkpoint goes into new blocks.
fn checkpoint_bytes(options: &Options) -> u64 {
    let mbps: u32 = options.snapshot_rates.iter().sum();
    let bytes = f64::from(mbps) * 1e6 * options.seconds * LOAD_TIMES * 1.1;
    (bytes as u64).clamp(CHECKPOINT_BYTES_MIN, CHECKPOINT_BYTES_MAX).next_multiple_of(MIB)
}

fn enough_space(device: &Device, needed: u64) -> Result<(), Error> {
    let free = device::free_bytes(&device.dir)?;
    if free >= needed {
        return Ok(());
    }
    Err(Error::NoSpace { dir: device.dir.clone(), needed_mib: needed.div_ceil(MIB), free_mib: free / MIB })
}

fn estimate_ms(options: &Options) -> u64 {
    let points = options.sizes.len() * options.depths.len() + WAY_DEPTHS.len() * 2 + FILES as usize;
    let loads = (options.snapshot_rates.len() + 1) as f64 * LOAD_TIMES;
    let seconds = (points as f64 + loads) * options.seconds;
    (seconds * 1e3) as u64 + 2 * options.file_bytes / MIB * FILL_MS_PER_MIB
}

fn bar(options: &Options) -> Result<ProgressBar, Error> {
    let style = ProgressStyle::with_template("{msg:34} [{bar:40}] {percent:>3}%  {eta} left")
        .map_err(|error| Error::io("progress bar")(std::io::Error::other(error)))?;
    Ok(ProgressBar::new(estimate_ms(options)).with_style(style))
}

impl Bench<'_> {
    fn begin(&self, what: &str) {
        self.bar.set_message(what.to_string());
        self.bar.tick();
    }

    fn filled(&self) {
        self.bar.inc(self.options.file_bytes / MIB * FILL_MS_PER_MIB);
    }

    fn job(&self, bytes: u32, depth: u32) -> Job {
        Job {
            bytes,
            depth,
            durable: Durable::Dsync,
            at_end: AtEnd::StartOver,
            seconds: self.options.seconds / f64::from(self.rounds),
            zeros: false,
        }
    }

    fn in_turns(&self, points: &mut [Point], targets: &mut [Target]) -> Result<(), Error> {
        for _ in 0..self.rounds {
            for point in &mut *points {
                self.begin(&point.name);
                let sample = ring::run(&point.job, &mut targets[point.target], self.pool, self.stop)?;
                if sample.latencies.count() > 0 {
                    point.per_second.push(sample.latencies.count() as f64 / sample.seconds);
                }
                point.cpu_us += sample.cpu_us;
                point.rounds.push(sample.latencies);
                self.bar.inc((point.job.seconds * 1e3) as u64);
            }
        }
        Ok(())
    }

    fn grid(&self, sizes: &[u32], targets: &mut [Target]) -> Result<Vec<Writes>, Error> {
        let depths = &self.options.depths;
        let cells = sizes.iter().flat_map(|&bytes| depths.iter().map(move |&depth| (bytes, depth)));
        let point =
            |(bytes, depth)| Point::new(&format!("{bytes} B, {depth} in flight"), self.job(bytes, depth), 0);
        let mut points: Vec<Point> = cells.map(point).collect();
        self.in_turns(&mut points, targets)?;
        Ok(points.iter().map(Point::writes).collect())
    }

    fn ways(&self, bytes: u32, targets: &mut [Target]) -> Result<Vec<Way>, Error> {
        let names = ["O_DSYNC", "write + fdatasync"];
        let mut points = Vec::new();
        for depth in WAY_DEPTHS {
            let job = self.job(bytes, depth);
            points.push(Point::new(names[0], job, 0));
            points.push(Point::new(names[1], Job { durable: Durable::Fdatasync, ..job }, 1));
        }
        self.in_turns(&mut points, targets)?;
        let named = points.iter().zip(names.iter().cycle());
        Ok(named.map(|(point, way)| Way { way, writes: point.writes() }).collect())
    }

    fn states(&self, bytes: u32, targets: &mut [Target]) -> Result<Vec<State>, Error> {
        let names = ["recycled", "zero-filled", "reserved only", "extending"];
        // What is written once is not as it was: no second time round in the last three.
        let once = Job { at_end: AtEnd::Stop, ..self.job(bytes, 1) };
        let jobs = [(self.job(bytes, 1), 0), (once, 2), (once, 3), (once, 4)];
        let points = names.iter().zip(jobs).map(|(name, (job, target))| Point::new(name, job, target));
        let mut points: Vec<Point> = points.collect();
        self.in_turns(&mut points, targets)?;
        Ok(points.iter().zip(names).map(|(point, state)| State { state, writes: point.writes() }).collect())
    }

    fn load(&self, unit: u32, log: &mut Target, checkpoint: &mut Target) -> Result<Load, Error> {
        let options = self.options;
        let rates: Vec<u32> = [0].into_iter().chain(options.snapshot_rates.iter().copied()).collect();
        let mut rounds: Vec<Vec<load::Sample>> = rates.iter().map(|_| Vec::new()).collect();
        log.position = 0;
        for _ in 0..self.rounds {
            for (&rate, samples) in rates.iter().zip(&mut rounds) {
                self.begin(&format!("a checkpoint of {rate} MB/s"));
                let seconds = options.seconds * LOAD_TIMES / f64::from(self.rounds);
                let pattern = Pattern {
                    writes_per_second: options.writes_per_second,
                    write_bytes: options.write_bytes,
                    unit,
                    checkpoint_mbps: rate,
                    seconds,
                };
                samples.push(load::run(&pattern, log, checkpoint, self.pool, self.stop)?);
                self.bar.inc((seconds * 1e3) as u64);
            }
        }
        let beside = rates.iter().zip(rounds).map(|(&rate, samples)| beside(rate, samples)).collect();
        Ok(Load {
            writes_per_second: options.writes_per_second,
            write_bytes: options.write_bytes,
            unit_bytes: unit,
            beside,
        })
    }
}

fn beside(mbps: u32, samples: Vec<load::Sample>) -> Beside {
    let seconds: f64 = samples.iter().map(|s| s.seconds).sum();
    let sum = |of: fn(&load::Sample) -> u64| samples.iter().map(of).sum::<u64>() as f64;
    let batches = sum(|s| s.log.count());
    let percentiles = |of: fn(&load::Sample) -> &Latencies| {
        latency::percentiles(&samples.iter().map(|s| of(s).clone()).collect::<Vec<_>>())
    };
    Beside {
        mbps,
        mbps_reached: sum(|s| s.step_bytes) / seconds / 1e6,
        log: percentiles(|s| &s.log),
        step: percentiles(|s| &s.steps),
        wait: percentiles(|s| &s.waits),
        writes_per_second_reached: sum(|s| s.writes) / seconds,
        writes_per_batch: sum(|s| s.writes) / batches.max(1.0),
        log_bytes_per_second: sum(|s| s.log_bytes) / seconds,
        behind: samples.iter().map(|s| s.behind).max().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(snapshot_rates: Vec<u32>, seconds: f64) -> Options {
        Options {
            dir: PathBuf::new(),
            sizes: vec![512, 4096],
            depths: vec![1, 4, 16],
            seconds,
            file_bytes: 64 * MIB,
            writes_per_second: 10_000,
            write_bytes: 512,
            snapshot_rates,
        }
    }

    #[test]
    fn a_checkpoint_has_room_for_all_its_rates() {
        assert_eq!(checkpoint_bytes(&options(vec![], 1.0)), CHECKPOINT_BYTES_MIN);
        let bytes = checkpoint_bytes(&options(vec![10, 90], 1.0));
        assert!((220_000_000..222_000_000).contains(&bytes) && bytes.is_multiple_of(MIB), "{bytes}");
        assert_eq!(checkpoint_bytes(&options(vec![4096], 600.0)), CHECKPOINT_BYTES_MAX);
    }

    #[test]
    fn the_estimate_counts_every_point() {
        // 6 of the grid, 4 ways, 4 states, 3 loads of twice the time.
        let points = estimate_ms(&options(vec![8, 32], 1.0)) - estimate_ms(&options(vec![8, 32], 0.0));
        assert_eq!(points, 20_000);
    }

    #[test]
    fn too_little_space_is_refused_before_anything_is_written() {
        let device = Device { dir: env!("CARGO_MANIFEST_DIR").into(), ..Device::default() };
        assert!(enough_space(&device, 1).is_ok());
        let error = enough_space(&device, u64::MAX).expect_err("no disk is that large").to_string();
        assert!(error.contains("17592186044416 MiB") && error.contains("--file-mib"), "{error}");
    }
}
