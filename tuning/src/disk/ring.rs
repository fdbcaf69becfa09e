//! A closed loop of durable writes on a raw ring: `depth` writes in flight, each replaced when it
//! completes.

use std::{
    io,
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use io_uring::{
    IoUring, opcode, squeue,
    types::{Fd, FsyncFlags},
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::{
    disk::target::{Pool, Target},
    error::Error,
    latency::Latencies,
};

/// Raised by the signals that end a program, so that files are removed before it ends.
#[derive(Default)]
pub struct Stop(Arc<AtomicUsize>);

impl Stop {
    pub fn on_signals() -> Result<Self, Error> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register_usize(signal, Arc::clone(&stop.0), signal as usize)
                .map_err(Error::io("handle signals"))?;
        }
        Ok(stop)
    }

    pub fn raised(&self) -> bool {
        self.0.load(Relaxed) != 0
    }

    pub fn check(&self) -> Result<(), Error> {
        match self.0.load(Relaxed) {
            0 => Ok(()),
            signal => Err(Error::Interrupted(signal as i32)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Durable {
    /// The file was opened with O_DSYNC.
    Dsync,
    /// The file was not; each write has an fdatasync linked to it, and is done when that is.
    Fdatasync,
    /// Not durable when it completes.
    Left,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AtEnd {
    StartOver,
    Stop,
}

#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub bytes: u32,
    pub depth: u32,
    pub durable: Durable,
    pub at_end: AtEnd,
    pub seconds: f64,
    pub zeros: bool,
}

pub struct Sample {
    pub latencies: Latencies,
    pub seconds: f64,
    pub cpu_us: f64,
}

/// A ring set up as fio's: completions are worked off when they are waited for, where the kernel can
/// (6.1, and in part 5.19).
pub fn open(entries: u32) -> Result<IoUring, Error> {
    let mut deferred = IoUring::builder();
    deferred.setup_single_issuer().setup_coop_taskrun().setup_defer_taskrun();
    let mut cooperative = IoUring::builder();
    cooperative.setup_coop_taskrun();
    for builder in [deferred, cooperative] {
        match builder.build(entries) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            result => return result.map_err(Error::ring),
        }
    }
    IoUring::new(entries).map_err(Error::ring)
}

/// Writes from `target.position` on. After an error or a signal, what is in flight is awaited.
pub fn run(job: &Job, target: &mut Target, pool: Pool, stop: &Stop) -> Result<Sample, Error> {
    stop.check()?;
    let entries_each = if job.durable == Durable::Fdatasync { 2 } else { 1 };
    let mut ring = open((job.depth * entries_each).next_power_of_two())?;
    let mut latencies = Latencies::default();
    let mut failed = None;
    let mut free: Vec<u32> = (0..job.depth).rev().collect();
    let mut awaited = vec![0_u32; job.depth as usize];
    let cpu = cpu_us()?;
    let begin = Instant::now();
    let mut started = vec![begin; job.depth as usize];
    loop {
        let over = failed.is_some() || stop.raised() || begin.elapsed().as_secs_f64() >= job.seconds;
        while !over
            && let Some(&slot) = free.last()
            && let Some(offset) = next_offset(job, target)
        {
            free.pop();
            started[slot as usize] = Instant::now();
            awaited[slot as usize] = entries_each;
            push(&mut ring, job, target, slot, offset, pool);
            // Each by itself, as fio does: a disk is not made to wait for the rest of a batch.
            wait(ring.submit())?;
        }
        if free.len() == job.depth as usize {
            break;
        }
        wait(ring.submit_and_wait(1))?;
        for completion in ring.completion() {
            let now = Instant::now();
            let slot = (completion.user_data() / 2) as usize;
            let is_write = completion.user_data().is_multiple_of(2);
            let expected = if is_write { job.bytes as i32 } else { 0 };
            if completion.result() != expected && failed.is_none() {
                failed = Some(wrong(completion.result(), job.bytes));
            }
            awaited[slot] -= 1;
            if awaited[slot] == 0 {
                latencies.record_ns((now - started[slot]).as_nanos() as u64);
                free.push(slot as u32);
            }
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    stop.check()?;
    match failed {
        Some(error) => Err(error),
        None => Ok(Sample { latencies, seconds, cpu_us: cpu_us()? - cpu }),
    }
}

fn next_offset(job: &Job, target: &mut Target) -> Option<u64> {
    let bytes = u64::from(job.bytes);
    // Where the point before used other sizes.
    let mut offset = target.position.next_multiple_of(bytes);
    if offset + bytes > target.bytes {
        if job.at_end == AtEnd::Stop {
            return None;
        }
        offset = 0;
    }
    target.position = offset + bytes;
    Some(offset)
}

fn push(ring: &mut IoUring, job: &Job, target: &Target, slot: u32, offset: u64, pool: Pool) {
    let fd = Fd(target.file.as_raw_fd());
    let data = if job.zeros { pool.zeros(job.bytes) } else { pool.noise(slot, job.bytes) };
    let id = u64::from(slot) * 2;
    let write = opcode::Write::new(fd, data.as_ptr(), job.bytes).offset(offset).build().user_data(id);
    let mut queue = ring.submission();
    let pushed = if job.durable == Durable::Fdatasync {
        let write = write.flags(squeue::Flags::IO_LINK);
        let sync = opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build().user_data(id + 1);
        // SAFETY: the pool's memory lives as long as the process, and nothing ever writes to it.
        unsafe { queue.push_multiple(&[write, sync]) }
    } else {
        // SAFETY: as above.
        unsafe { queue.push(&write) }
    };
    pushed.expect("the ring has the places of every slot");
}

/// A signal ends a wait early, which is no failure.
pub fn wait(result: io::Result<usize>) -> Result<(), Error> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ETIME)) => Ok(()),
        Err(error) => Err(Error::io("wait for a write")(error)),
    }
}

pub fn wrong(result: i32, asked: u32) -> Error {
    if result >= 0 {
        return Error::ShortWrite { asked, written: result };
    }
    Error::io(format!("a write of {asked} bytes"))(io::Error::from_raw_os_error(-result))
}

/// User and system time of this process so far.
pub fn cpu_us() -> Result<f64, Error> {
    usage_us(libc::RUSAGE_SELF)
}

/// Of the programs it ran, as far as they have ended.
pub fn children_cpu_us() -> Result<f64, Error> {
    usage_us(libc::RUSAGE_CHILDREN)
}

fn usage_us(whose: i32) -> Result<f64, Error> {
    // SAFETY: an all-zero rusage is a valid value of that plain struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` lives through the call.
    if unsafe { libc::getrusage(whose, &mut usage) } != 0 {
        return Err(Error::io("getrusage")(io::Error::last_os_error()));
    }
    let micros = |time: libc::timeval| time.tv_sec as f64 * 1e6 + time.tv_usec as f64;
    Ok(micros(usage.ru_utime) + micros(usage.ru_stime))
}
