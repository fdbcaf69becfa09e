//! What was measured, as plain values: the report shows them, the advice rests on them.

use serde::Serialize;

use crate::latency::Percentiles;

#[derive(Clone, Debug, Default, Serialize)]
pub struct Writes {
    pub bytes: u32,
    pub in_flight: u32,
    pub per_second: f64,
    pub latency: Percentiles,
    pub cpu_us_per_write: f64,
}

/// O_DSYNC, or a write and an fdatasync.
#[derive(Clone, Debug, Serialize)]
pub struct Way {
    pub way: &'static str,
    pub writes: Writes,
}

/// How the file's blocks came to be.
#[derive(Clone, Debug, Serialize)]
pub struct State {
    pub state: &'static str,
    pub writes: Writes,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Load {
    pub writes_per_second: u32,
    pub write_bytes: u32,
    pub unit_bytes: u32,
    /// The first is the log alone, then by rate.
    pub beside: Vec<Beside>,
}

/// The log beside a checkpoint of `mbps`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Beside {
    pub mbps: u32,
    pub mbps_reached: f64,
    /// One durable write of the log.
    pub log: Percentiles,
    /// One durable step of the checkpoint.
    pub step: Percentiles,
    /// From the arrival of a write until it is durable.
    pub wait: Percentiles,
    pub writes_per_second_reached: f64,
    pub writes_per_batch: f64,
    pub log_bytes_per_second: f64,
    /// Still waiting when the time was over, at most of all rounds.
    pub behind: u64,
}

/// The size most of the page speaks of, unless the disk asks for more.
pub const USUAL_BYTES: u32 = 4096;
