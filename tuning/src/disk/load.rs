//! The server's own pattern: a log that takes writes at a given rate and makes each batch durable with
//! one write at a time, and beside it the durable steps of a checkpoint at a given rate.
//!
//! The writes arrive by the clock, whether or not the disk keeps up: what arrives while a write is in
//! flight goes into the next one. One thread and one ring do both, as in the server.

use std::{
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use io_uring::{
    opcode,
    types::{Fd, SubmitArgs, Timespec},
};

use crate::{
    disk::{
        ring::{self, Stop},
        target::{Pool, Target},
    },
    error::Error,
    latency::Latencies,
};

/// Sizes of checkpoint steps, one after another.
pub const STEP_BYTES: [u32; 3] = [64 * 1024, 128 * 1024, 256 * 1024];
/// What the log writes at most at once.
pub const BATCH_BYTES_MAX: u32 = 1024 * 1024;
/// So that a signal is seen soon.
const WAIT_MAX: Duration = Duration::from_millis(100);
const LOG: u64 = 0;
const STEP: u64 = 1;

#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    pub writes_per_second: u32,
    pub write_bytes: u32,
    /// Batches are padded to it.
    pub unit: u32,
    /// MB per second of checkpoint; 0 is none.
    pub checkpoint_mbps: u32,
    pub seconds: f64,
}

#[derive(Default)]
pub struct Sample {
    /// Of each durable write of the log: wal_fsync.
    pub log: Latencies,
    /// Of each arrival until it was durable.
    pub waits: Latencies,
    /// Of each durable checkpoint step: backend_commit.
    pub steps: Latencies,
    pub writes: u64,
    pub log_bytes: u64,
    pub step_bytes: u64,
    /// Arrived and not yet on the way to the disk when the time was over.
    pub behind: u64,
    pub seconds: f64,
}

/// The batch in flight: its writes by number, its size, and when it was submitted.
struct Batch {
    first: u64,
    after: u64,
    bytes: u32,
    submitted: Duration,
}

/// How many have arrived at `now`.
fn arrived(now: Duration, per_second: u32) -> u64 {
    (now.as_secs_f64() * f64::from(per_second)) as u64
}

/// When write number `number` (from 0) arrives.
fn arrival(number: u64, per_second: u32) -> Duration {
    Duration::from_secs_f64((number + 1) as f64 / f64::from(per_second))
}

/// When the step after `bytes` bytes may start.
fn step_due(bytes: u64, mbps: u32) -> Duration {
    Duration::from_secs_f64(bytes as f64 / (f64::from(mbps) * 1e6))
}

/// Writes in the next batch and its padded size.
fn batch(waiting: u64, pattern: &Pattern) -> (u64, u32) {
    let most = u64::from(BATCH_BYTES_MAX / pattern.write_bytes).max(1);
    let taken = waiting.min(most);
    let bytes = taken as u32 * pattern.write_bytes;
    (taken, bytes.next_multiple_of(pattern.unit))
}

fn place(target: &mut Target, bytes: u32) -> u64 {
    let offset = if target.position + u64::from(bytes) > target.bytes { 0 } else { target.position };
    target.position = offset + u64::from(bytes);
    offset
}

pub fn run(
    pattern: &Pattern,
    log: &mut Target,
    checkpoint: &mut Target,
    pool: Pool,
    stop: &Stop,
) -> Result<Sample, Error> {
    stop.check()?;
    let mut ring = ring::open(4)?;
    let mut sample = Sample::default();
    let mut failed = None;
    let mut in_flight: Option<Batch> = None;
    let mut step: Option<(u32, Duration)> = None;
    let mut steps = 0;
    let mut submitted_step_bytes = 0;
    let mut taken = 0;
    let mut over_at = None;
    let begin = Instant::now();
    loop {
        let now = begin.elapsed();
        if over_at.is_none() && (failed.is_some() || stop.raised() || now.as_secs_f64() >= pattern.seconds) {
            over_at = Some(now);
            sample.behind = arrived(now, pattern.writes_per_second) - taken;
        }
        if over_at.is_some() && in_flight.is_none() && step.is_none() {
            break;
        }
        let mut wake = now + WAIT_MAX;
        if over_at.is_none() && in_flight.is_none() {
            let waiting = arrived(now, pattern.writes_per_second) - taken;
            if waiting > 0 {
                let (writes, bytes) = batch(waiting, pattern);
                let offset = place(log, bytes);
                push(&mut ring, log, LOG, offset, pool.noise(0, bytes));
                in_flight = Some(Batch { first: taken, after: taken + writes, bytes, submitted: now });
                taken += writes;
            } else {
                wake = wake.min(arrival(taken, pattern.writes_per_second));
            }
        }
        if over_at.is_none() && step.is_none() && pattern.checkpoint_mbps > 0 {
            let due = step_due(submitted_step_bytes, pattern.checkpoint_mbps);
            if due <= now {
                let bytes = STEP_BYTES[steps % STEP_BYTES.len()];
                let offset = place(checkpoint, bytes);
                push(&mut ring, checkpoint, STEP, offset, pool.noise(0, bytes));
                step = Some((bytes, now));
                steps += 1;
                submitted_step_bytes += u64::from(bytes);
            } else {
                wake = wake.min(due);
            }
        }
        let pause = wake.saturating_sub(begin.elapsed());
        let pause = Timespec::new().sec(pause.as_secs()).nsec(pause.subsec_nanos());
        ring::wait(ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&pause)))?;
        for completion in ring.completion() {
            let now = begin.elapsed();
            let asked = match completion.user_data() {
                LOG => {
                    let batch = in_flight.take().expect("a log write was in flight");
                    sample.log.record_ns((now - batch.submitted).as_nanos() as u64);
                    for number in batch.first..batch.after {
                        let wait = now.saturating_sub(arrival(number, pattern.writes_per_second));
                        sample.waits.record_ns(wait.as_nanos() as u64);
                    }
                    sample.writes += batch.after - batch.first;
                    sample.log_bytes += u64::from(batch.bytes);
                    batch.bytes
                }
                _ => {
                    let (bytes, submitted) = step.take().expect("a step was in flight");
                    sample.steps.record_ns((now - submitted).as_nanos() as u64);
                    sample.step_bytes += u64::from(bytes);
                    bytes
                }
            };
            if completion.result() != asked as i32 && failed.is_none() {
                failed = Some(ring::wrong(completion.result(), asked));
            }
        }
    }
    stop.check()?;
    sample.seconds = begin.elapsed().as_secs_f64();
    match failed {
        Some(error) => Err(error),
        None => Ok(sample),
    }
}

fn push(ring: &mut io_uring::IoUring, target: &Target, id: u64, offset: u64, data: &'static [u8]) {
    let fd = Fd(target.file.as_raw_fd());
    let write = opcode::Write::new(fd, data.as_ptr(), data.len() as u32).offset(offset).build().user_data(id);
    // SAFETY: the data lives as long as the process, and nothing ever writes to it.
    unsafe { ring.submission().push(&write) }.expect("the ring has a place for each of the two");
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATTERN: Pattern = Pattern {
        writes_per_second: 10_000,
        write_bytes: 512,
        unit: 4096,
        checkpoint_mbps: 16,
        seconds: 1.0,
    };

    #[test]
    fn batches_are_padded_and_bounded() {
        assert_eq!(batch(1, &PATTERN), (1, 4096));
        assert_eq!(batch(8, &PATTERN), (8, 4096));
        assert_eq!(batch(9, &PATTERN), (9, 8192));
        assert_eq!(batch(1_000_000, &PATTERN), (2048, BATCH_BYTES_MAX));
        let large = Pattern { write_bytes: BATCH_BYTES_MAX, ..PATTERN };
        assert_eq!(batch(5, &large), (1, BATCH_BYTES_MAX));
    }

    #[test]
    fn a_write_arrives_when_it_is_counted() {
        for number in [0, 1, 2, 9_999, 123_456] {
            let at = arrival(number, 10_000);
            assert!(arrived(at + Duration::from_nanos(10), 10_000) > number);
            assert!(arrived(at - Duration::from_micros(1), 10_000) <= number);
        }
    }

    #[test]
    fn steps_keep_to_their_rate() {
        assert_eq!(step_due(0, 16), Duration::ZERO);
        assert_eq!(step_due(16_000_000, 16), Duration::from_secs(1));
    }
}
