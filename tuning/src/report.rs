//! What was measured, as a table, as JSON, and as advice.

use std::fmt::Write;

use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Report {
    pub dir: String,
    pub kernel: String,
    /// What the kernel says direct writes must be multiples of; absent if it does not say.
    pub direct_unit_bytes: Option<u32>,
    /// Filling the scratch file with zeros in 256 KiB writes.
    pub fill_mib_per_s: f64,
    pub writes: Vec<Writes>,
}

#[derive(Debug, Serialize)]
pub struct Writes {
    pub bytes: u32,
    pub in_flight: u32,
    pub count: u64,
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
    pub cpu_us_per_write: f64,
}

/// A smaller unit is worth its name only if it is faster by this much.
const WORTH_IT: f64 = 0.9;
/// etcd's documentation asks for a p99 below this for the log of a busy cluster.
const P99_GOOD_US: f64 = 10_000.0;

impl Report {
    pub fn text(&self) -> String {
        let unit = self.direct_unit_bytes.map_or("unknown".into(), |bytes| format!("{bytes} B"));
        let mut text = format!(
            "{}\nkernel {}, direct writes in multiples of {unit}, zero-filled at {:.0} MiB/s\n\n",
            self.dir, self.kernel, self.fill_mib_per_s
        );
        text += "O_DIRECT and O_DSYNC into a zero-filled file:\n";
        text += "   bytes  in flight    writes/s   p50 us   p99 us p99.9 us   max us  CPU us/write\n";
        for w in &self.writes {
            writeln!(
                text,
                "{:>8} {:>10} {:>11.0} {:>8.0} {:>8.0} {:>8.0} {:>8.0} {:>13.1}",
                w.bytes,
                w.in_flight,
                w.per_second,
                w.p50_us,
                w.p99_us,
                w.p999_us,
                w.max_us,
                w.cpu_us_per_write
            )
            .expect("a string takes everything");
        }
        text.push('\n');
        for line in self.advice() {
            writeln!(text, "{line}").expect("a string takes everything");
        }
        text
    }

    fn advice(&self) -> Vec<String> {
        let alone = |bytes: u32| self.writes.iter().find(|w| w.bytes == bytes && w.in_flight == 1);
        let mut lines = Vec::new();
        match (alone(512), alone(4096)) {
            (Some(small), Some(usual)) if small.p50_us < WORTH_IT * usual.p50_us => lines.push(format!(
                "512-byte writes are faster ({:.0} against {:.0} us): --wal-sector-size=512",
                small.p50_us, usual.p50_us
            )),
            (_, Some(_)) => lines.push("The default --wal-sector-size is right.".into()),
            _ => {}
        }
        match alone(4096) {
            Some(usual) if usual.p99_us > P99_GOOD_US => lines.push(format!(
                "A p99 of {:.1} ms is too slow for a busy cluster: use a disk with its own power-loss \
                 protection, or --wal-dir on one.",
                usual.p99_us / 1000.0
            )),
            Some(usual) => lines.push(format!(
                "One client alone can expect about {:.0} durable writes per second.",
                usual.per_second
            )),
            None => {}
        }
        lines
    }
}
