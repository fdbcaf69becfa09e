//! The rules that turn measurements into settings and verdicts. Pure; every sentence carries the number
//! it rests on.

use serde::Serialize;

use crate::{
    disk::device::Device,
    figures::{Beside, Load, USUAL_BYTES, Writes},
    latency::Percentiles,
};

/// A unit below the usual one is worth its name only if it is faster by this much.
const WORTH_IT: f64 = 0.9;
/// The server's default and the largest sensible segment.
const SEGMENT_BYTES: u64 = 32 * 1024 * 1024;
const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// A segment shall last this long, so that the next one is ready in time without haste.
const SEGMENT_SECONDS: f64 = 5.0;
/// etcd's documentation asks for less than these of a healthy member.
const LOG_P99_MS: f64 = 10.0;
const STEP_P99_MS: f64 = 25.0;
/// Above this share of a limit it holds only barely.
const BARELY: f64 = 0.7;
/// A checkpoint may make the log's p99 this much longer, or by this much, whichever is more.
const LOG_FACTOR: f64 = 1.2;
const LOG_SLACK_US: f64 = 500.0;
/// A rate counts as reached from here on.
const REACHED: f64 = 0.9;
/// More than this share of a second's writes waiting is falling behind.
const BEHIND: f64 = 0.1;

#[derive(Clone, Debug, Serialize)]
pub struct Advice {
    pub verdicts: Vec<Verdict>,
    pub settings: Vec<Setting>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    pub flag: &'static str,
    pub value: u64,
    pub because: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    pub what: &'static str,
    pub holds: Holds,
    pub because: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Holds {
    Yes,
    Barely,
    No,
}

impl Holds {
    fn below(value: f64, limit: f64) -> Self {
        match value {
            value if value >= limit => Self::No,
            value if value >= limit * BARELY => Self::Barely,
            _ => Self::Yes,
        }
    }
}

/// `writes` are those into a recycled file; the first of `load` is the log alone.
pub fn advise(device: &Device, writes: &[Writes], load: &Load) -> Advice {
    let (rate, chosen) = snapshot_rate(&load.beside);
    let alone = load.beside.iter().find(|beside| beside.mbps == 0);
    let mut verdicts = Vec::new();
    if let (Some(alone), Some(chosen)) = (alone, chosen.or(alone)) {
        verdicts.push(log_verdict(alone, chosen));
        if chosen.mbps > 0 {
            verdicts.push(step_verdict(chosen));
        }
        verdicts.push(keeps_up(load.writes_per_second, chosen));
    }
    let mut settings = vec![sector(device, writes)];
    settings.extend(alone.map(|alone| segment(load.writes_per_second, alone)));
    settings.extend(rate);
    Advice { verdicts, settings }
}

pub fn sector(device: &Device, writes: &[Writes]) -> Setting {
    let flag = "--wal-sector-size";
    let said = [device.logical_bytes, device.physical_bytes, device.direct_align_bytes];
    let own = said.into_iter().flatten().chain([device.smallest_write_bytes]).max().unwrap_or(0);
    let own = own.next_power_of_two();
    if own > USUAL_BYTES {
        let because = format!("the disk's own unit; less would be read, changed and written back ({own} B)");
        return Setting { flag, value: own.into(), because };
    }
    let alone = |bytes: u32| writes.iter().find(|w| w.bytes == bytes && w.in_flight == 1);
    let usual = Setting { flag, value: USUAL_BYTES.into(), because: String::new() };
    let Some(at_usual) = alone(USUAL_BYTES) else {
        return Setting { because: "the default; 4096 B was not measured".into(), ..usual };
    };
    let smaller = writes.iter().filter(|w| w.in_flight == 1 && w.bytes < USUAL_BYTES && w.bytes >= own);
    let smaller = smaller.filter(|w| w.bytes.is_power_of_two());
    let Some(best) = smaller.min_by(|a, b| a.latency.p50_us.total_cmp(&b.latency.p50_us)) else {
        let because = if own == USUAL_BYTES {
            "the disk's own unit".into()
        } else {
            "the default; nothing smaller was measured".into()
        };
        return Setting { because, ..usual };
    };
    let (small, large) = (best.latency.p50_us, at_usual.latency.p50_us);
    let against = format!("p50 {small:.0} us with {} B, {large:.0} us with {USUAL_BYTES} B", best.bytes);
    if small < WORTH_IT * large {
        return Setting { value: best.bytes.into(), because: format!("faster: {against}"), ..usual };
    }
    Setting { because: format!("the default; less is not 10% faster: {against}"), ..usual }
}

pub fn segment(writes_per_second: u32, alone: &Beside) -> Setting {
    let per_second = alone.log_bytes_per_second;
    let wanted = (per_second * SEGMENT_SECONDS).ceil() as u64;
    let value = wanted.next_power_of_two().clamp(SEGMENT_BYTES, SEGMENT_BYTES_MAX);
    let lasts = value as f64 / per_second.max(1.0);
    let lasts = if lasts >= 100.0 { "more than 100 s".into() } else { format!("{lasts:.0} s") };
    let because = format!(
        "{}lasts {lasts} at {writes_per_second} writes/s ({:.1} MB/s of log, padding included)",
        if value == SEGMENT_BYTES { "the default; " } else { "" },
        per_second / 1e6
    );
    Setting { flag: "--wal-segment-bytes", value, because }
}

/// What the log's p99 may be beside a checkpoint.
fn log_limit_us(alone: &Percentiles) -> f64 {
    (alone.p99_us * LOG_FACTOR).max(alone.p99_us + LOG_SLACK_US).min(LOG_P99_MS * 1e3)
}

/// The highest rate up to which every rate leaves the log alone; without one, the lowest.
pub fn snapshot_rate(beside: &[Beside]) -> (Option<Setting>, Option<&Beside>) {
    let Some(alone) = beside.iter().find(|beside| beside.mbps == 0) else { return (None, None) };
    let mut rates: Vec<&Beside> = beside.iter().filter(|beside| beside.mbps > 0).collect();
    rates.sort_by_key(|beside| beside.mbps);
    let limit_us = log_limit_us(&alone.log);
    let harmless = |b: &&&Beside| {
        b.log.p99_us <= limit_us
            && b.step.p99_us < STEP_P99_MS * 1e3
            && b.mbps_reached >= REACHED * f64::from(b.mbps)
    };
    let Some(lowest) = rates.first() else { return (None, None) };
    let best = rates.iter().take_while(harmless).last();
    let chosen = best.unwrap_or(lowest);
    let figures = format!(
        "log p99 {:.2} ms, {:.2} ms without (up to {:.2} allowed)",
        chosen.log.p99_us / 1e3,
        alone.log.p99_us / 1e3,
        limit_us / 1e3
    );
    let because = match best {
        Some(best) if best.mbps == rates[rates.len() - 1].mbps => {
            format!("the highest rate measured is harmless: {figures}")
        }
        Some(_) => format!("the highest harmless rate: {figures}"),
        None => format!("the lowest rate measured, and it is felt: {figures}"),
    };
    let setting = Setting { flag: "--snapshot-write-mbps", value: chosen.mbps.into(), because };
    (Some(setting), Some(chosen))
}

fn log_verdict(alone: &Beside, chosen: &Beside) -> Verdict {
    let worse = alone.log.p99_us.max(chosen.log.p99_us) / 1e3;
    let because = if chosen.mbps == 0 {
        format!("{:.2} ms, without a checkpoint", worse)
    } else {
        format!(
            "{:.2} ms beside a checkpoint of {} MB/s, {:.2} ms without",
            chosen.log.p99_us / 1e3,
            chosen.mbps,
            alone.log.p99_us / 1e3
        )
    };
    Verdict { what: "wal_fsync p99 < 10 ms", holds: Holds::below(worse, LOG_P99_MS), because }
}

fn step_verdict(chosen: &Beside) -> Verdict {
    let p99 = chosen.step.p99_us / 1e3;
    let count = chosen.step.count;
    let mut because =
        format!("{p99:.2} ms for a step of 64 to 256 KiB at {} MB/s ({count} steps)", chosen.mbps);
    let mut holds = Holds::below(p99, STEP_P99_MS);
    if count == 0 {
        (holds, because) = (Holds::No, format!("no step was finished at {} MB/s", chosen.mbps));
    }
    Verdict { what: "backend_commit p99 < 25 ms", holds, because }
}

fn keeps_up(writes_per_second: u32, chosen: &Beside) -> Verdict {
    let behind = chosen.behind as f64 > f64::from(writes_per_second) * BEHIND;
    let because = format!(
        "{:.0} writes/s durable, {:.1} to a batch; a write waits {:.2} ms, p99 {:.2} ms",
        chosen.writes_per_second_reached,
        chosen.writes_per_batch,
        chosen.wait.p50_us / 1e3,
        chosen.wait.p99_us / 1e3
    );
    let holds = if behind { Holds::No } else { Holds::Yes };
    Verdict { what: "keeps up with the writes", holds, because }
}

#[cfg(test)]
mod tests;
