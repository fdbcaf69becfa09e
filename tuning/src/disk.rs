//! Durable writes as the log makes them: io_uring, O_DIRECT and O_DSYNC, into a file full of zeros.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    fs::{self, File, OpenOptions},
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::PathBuf,
    ptr::NonNull,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use io_uring::{IoUring, opcode, types::Fd};

use crate::report::{Report, Writes};

/// What the server zero-fills with.
const FILL_CHUNK_BYTES: usize = 256 * 1024;
const ALIGN_BYTES: usize = 4096;
const LATENCY_MAX_NS: u64 = 60_000_000_000;

pub struct Options {
    pub dir: PathBuf,
    pub sizes: Vec<u32>,
    pub depths: Vec<u32>,
    pub seconds: f64,
    pub file_bytes: u64,
}

pub fn measure(options: &Options) -> anyhow::Result<Report> {
    let scratch = Scratch::create(options)?;
    let unit = direct_unit(&scratch.file)?;
    let refused = |bytes: &u32| unit.is_some_and(|unit| !bytes.is_multiple_of(unit));
    let sizes: Vec<u32> = options.sizes.iter().copied().filter(|bytes| !refused(bytes)).collect();

    let cases = sizes.len() * options.depths.len();
    let total = (cases as f64 * options.seconds * 1000.0) as u64;
    let bar = ProgressBar::new(total).with_style(
        ProgressStyle::with_template("{msg:30} [{bar:40}] {percent}% {eta}").context("progress bar")?,
    );
    bar.set_message("filling the file with zeros");
    let fill_mib_per_s = scratch.fill(options.file_bytes)?;
    let mut writes = Vec::with_capacity(cases);
    for &bytes in &sizes {
        for &depth in &options.depths {
            bar.set_message(format!("{bytes} B, {depth} in flight"));
            writes.push(scratch.run(bytes, depth, options, &bar)?);
        }
    }
    bar.finish_and_clear();
    Ok(Report {
        dir: fs::canonicalize(&options.dir)?.display().to_string(),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().into(),
        direct_unit_bytes: unit,
        fill_mib_per_s,
        writes,
    })
}

/// A file that is removed when the measurement ends, however it ends.
struct Scratch {
    file: File,
    path: PathBuf,
}

impl Scratch {
    fn create(options: &Options) -> anyhow::Result<Self> {
        let path = options.dir.join(format!("pinion-tuning-{}.tmp", std::process::id()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_DIRECT | libc::O_DSYNC)
            .open(&path)
            .with_context(|| format!("{}: no direct I/O here, or not writable", path.display()))?;
        Ok(Self { file, path })
    }

    /// Writes the zeros; MiB per second.
    fn fill(&self, file_bytes: u64) -> anyhow::Result<f64> {
        // SAFETY: the descriptor is open; the call takes no pointers.
        let reserved = unsafe { libc::fallocate(self.file.as_raw_fd(), 0, 0, file_bytes as i64) };
        if reserved != 0 {
            let error = std::io::Error::last_os_error();
            ensure!(error.raw_os_error() == Some(libc::EOPNOTSUPP), "reserve space: {error}");
        }
        let zeros = Memory::zeroed(FILL_CHUNK_BYTES);
        let started = Instant::now();
        for offset in (0..file_bytes).step_by(FILL_CHUNK_BYTES) {
            self.file.write_all_at(zeros.bytes(), offset).context("fill the file with zeros")?;
        }
        Ok(file_bytes as f64 / (1024.0 * 1024.0) / started.elapsed().as_secs_f64())
    }

    /// Writes one after another through the file, `depth` at a time, and starts over at its end.
    fn run(&self, bytes: u32, depth: u32, options: &Options, bar: &ProgressBar) -> anyhow::Result<Writes> {
        let mut ring = IoUring::new(depth.next_power_of_two()).context("io_uring")?;
        // Leaked: a run that ends with an error may leave the kernel reading them.
        let buffers: &'static [Memory] =
            Vec::leak((0..depth).map(|_| Memory::zeroed(bytes as usize)).collect());
        let mut started = vec![Instant::now(); depth as usize];
        let mut latencies = Histogram::<u64>::new_with_max(LATENCY_MAX_NS, 3)?;
        let mut offset = 0;
        let mut in_flight = 0;
        let mut free: Vec<usize> = (0..depth as usize).collect();
        let length = Duration::from_secs_f64(options.seconds);
        let cpu = cpu_us()?;
        let begin = Instant::now();
        let base = bar.position();
        loop {
            let over = begin.elapsed() >= length;
            while !over && let Some(slot) = free.pop() {
                let buffer = &buffers[slot];
                let write = opcode::Write::new(Fd(self.file.as_raw_fd()), buffer.start.as_ptr(), bytes)
                    .offset(offset)
                    .build()
                    .user_data(slot as u64);
                offset = (offset + u64::from(bytes)) % (options.file_bytes - u64::from(bytes) + 1);
                offset -= offset % u64::from(bytes);
                started[slot] = Instant::now();
                // SAFETY: the buffer lives as long as the process, and nothing ever writes to it.
                unsafe { ring.submission().push(&write) }.context("the ring has a place per slot")?;
                in_flight += 1;
            }
            if in_flight == 0 {
                break;
            }
            ring.submit_and_wait(1).context("wait for a write")?;
            let now = Instant::now();
            for completion in ring.completion() {
                let slot = completion.user_data() as usize;
                in_flight -= 1;
                free.push(slot);
                let result = completion.result();
                ensure!(result == bytes as i32, "a write of {bytes} bytes returned {result}");
                latencies.record((now - started[slot]).as_nanos() as u64)?;
            }
            bar.set_position(base + begin.elapsed().min(length).as_millis() as u64);
        }
        let count = latencies.len();
        let us = |nanos: u64| nanos as f64 / 1000.0;
        Ok(Writes {
            bytes,
            in_flight: depth,
            count,
            per_second: count as f64 / begin.elapsed().as_secs_f64(),
            p50_us: us(latencies.value_at_quantile(0.5)),
            p99_us: us(latencies.value_at_quantile(0.99)),
            p999_us: us(latencies.value_at_quantile(0.999)),
            max_us: us(latencies.max()),
            cpu_us_per_write: (cpu_us()? - cpu) as f64 / count as f64,
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            eprintln!("{} is left behind: {error}", self.path.display());
        }
    }
}

/// What statx says direct offsets and lengths must be multiples of.
fn direct_unit(file: &File) -> anyhow::Result<Option<u32>> {
    // SAFETY: an all-zero statx is a valid value of that plain struct.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, the path is an empty C string, and `stat` lives through the call.
    let result = unsafe {
        libc::statx(file.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, libc::STATX_DIOALIGN, &mut stat)
    };
    ensure!(result == 0, "statx: {}", std::io::Error::last_os_error());
    let said = stat.stx_mask & libc::STATX_DIOALIGN != 0 && stat.stx_dio_offset_align > 0;
    Ok(said.then_some(stat.stx_dio_offset_align))
}

/// User and system time of this process so far.
fn cpu_us() -> anyhow::Result<i64> {
    // SAFETY: an all-zero rusage is a valid value of that plain struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` lives through the call.
    let result = unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    ensure!(result == 0, "getrusage: {}", std::io::Error::last_os_error());
    let micros = |time: libc::timeval| time.tv_sec * 1_000_000 + time.tv_usec;
    Ok(micros(usage.ru_utime) + micros(usage.ru_stime))
}

/// Aligned zeros.
struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

impl Memory {
    fn zeroed(bytes: usize) -> Self {
        assert!(bytes > 0);
        let layout = Layout::from_size_align(bytes, ALIGN_BYTES).expect("sizes are bounded");
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start, layout }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: `start` is this many initialised bytes, owned by self and never written.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout and not freed before.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}
