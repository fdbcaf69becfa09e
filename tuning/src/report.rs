//! What was measured, and the page of text that says it.

use std::fmt::Write;

use serde::Serialize;

use crate::{
    advice::{Advice, Holds},
    disk::{device::Device, processors::BUSY},
    figures::{Load, State, USUAL_BYTES, Way, Writes},
};

#[derive(Debug, Serialize)]
pub struct Report {
    pub device: Device,
    pub seconds_per_point: f64,
    pub rounds: u32,
    pub file_bytes: u64,
    /// Filling a file with zeros as the server does.
    pub fill_mib_per_s: f64,
    /// By other programs during the measurement.
    pub processors_busy_elsewhere: f64,
    /// Every size and depth: O_DSYNC into a recycled file.
    pub writes: Vec<Writes>,
    pub ways: Vec<Way>,
    pub states: Vec<State>,
    pub load: Load,
    pub advice: Advice,
}

impl Report {
    pub fn text(&self) -> String {
        let mut page = Page(String::new());
        self.head(&mut page);
        self.advice_lines(&mut page);
        self.grid(&mut page);
        self.comparisons(&mut page);
        self.beside(&mut page);
        page.0
    }

    fn head(&self, page: &mut Page) {
        let device = &self.device;
        let bytes = |value: Option<u32>| value.map_or("?".into(), |bytes| bytes.to_string());
        page.line(format_args!(
            "{}: {} on {} ({}), kernel {}",
            device.dir.display(),
            device.file_system,
            device.source,
            device.mount_options,
            device.kernel
        ));
        page.line(format_args!(
            "sectors: logical {}, physical {}, direct I/O in multiples of {}, smallest write taken {} B; write cache: {}",
            bytes(device.logical_bytes),
            bytes(device.physical_bytes),
            bytes(device.direct_align_bytes),
            device.smallest_write_bytes,
            device.write_cache.as_deref().unwrap_or("?")
        ));
        page.line(format_args!(
            "{} s a point in {} rounds; p50 and p99 are medians of the rounds, p99.9 and max are of all; times in us",
            self.seconds_per_point, self.rounds
        ));
        if self.processors_busy_elsewhere >= BUSY {
            page.line(format_args!(
                "WARNING: other programs kept {:.1} processors busy: latencies include waiting for one, repeat it on an \
                 idle machine",
                self.processors_busy_elsewhere
            ));
        }
    }

    fn advice_lines(&self, page: &mut Page) {
        page.title(&format!(
            "For {} writes/s of {} B to the log",
            self.load.writes_per_second, self.load.write_bytes
        ));
        for verdict in &self.advice.verdicts {
            let holds = match verdict.holds {
                Holds::Yes => "yes",
                Holds::Barely => "barely",
                Holds::No => "NO",
            };
            page.line(format_args!("{:<28} {holds:<7} {}", verdict.what, verdict.because));
        }
        page.title("Settings");
        for setting in &self.advice.settings {
            let flag = format!("{}={}", setting.flag, setting.value);
            page.line(format_args!("{flag:<29} {}", setting.because));
        }
    }

    fn grid(&self, page: &mut Page) {
        page.title("Durable writes: O_DIRECT + O_DSYNC by io_uring into a recycled file");
        page.line(format_args!("{:>7} {:>9} {COLUMNS}", "bytes", "in flight"));
        let usual = self.usual_bytes();
        let shown = |w: &&Writes| w.in_flight == 1 || w.bytes == usual;
        let mut rows: Vec<&Writes> = self.writes.iter().filter(shown).collect();
        rows.sort_by_key(|w| (w.in_flight > 1, w.bytes, w.in_flight));
        for w in rows {
            page.line(format_args!("{:>7} {:>9} {}", w.bytes, w.in_flight, columns(w)));
        }
        let (sizes, depths) = (self.sizes(), self.depths());
        if sizes.len() > 1 && depths.len() > 1 {
            page.title("Writes per second by size and writes in flight");
            let head: String = depths.iter().map(|depth| format!("{depth:>9}")).collect();
            page.line(format_args!("{:>7}{head}", "bytes"));
            for bytes in sizes {
                let cell =
                    |depth| self.at(bytes, depth).map_or("-".into(), |w| format!("{:.0}", w.per_second));
                let cells: String = depths.iter().map(|&depth| format!("{:>9}", cell(depth))).collect();
                page.line(format_args!("{bytes:>7}{cells}"));
            }
        }
    }

    fn comparisons(&self, page: &mut Page) {
        page.title(&format!("O_DSYNC against write + fdatasync, {} B", self.usual_bytes()));
        page.line(format_args!("{:<17} {:>9} {COLUMNS}", "", "in flight"));
        for Way { way, writes } in &self.ways {
            page.line(format_args!("{way:<17} {:>9} {}", writes.in_flight, columns(writes)));
        }
        page.title(&format!("State of the file, {} B, one in flight, O_DSYNC", self.usual_bytes()));
        page.line(format_args!("{:<17} {COLUMNS}", ""));
        for State { state, writes } in &self.states {
            page.line(format_args!("{state:<17} {}", columns(writes)));
        }
    }

    fn beside(&self, page: &mut Page) {
        page.title(&format!(
            "A checkpoint beside the log (steps of 64 to 256 KiB; {} writes/s)",
            self.load.writes_per_second
        ));
        page.line(format_args!(
            "{:>7} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10} {:>9}",
            "MB/s",
            "reached",
            "log p50",
            "log p99",
            "p99.9",
            "step p50",
            "step p99",
            "durable/s",
            "per batch"
        ));
        for b in &self.load.beside {
            let of_step = |value: f64| if b.mbps == 0 { "-".into() } else { format!("{value:.0}") };
            let mbps = if b.mbps == 0 { "none".into() } else { b.mbps.to_string() };
            let reached = if b.mbps == 0 { "-".into() } else { format!("{:.1}", b.mbps_reached) };
            page.line(format_args!(
                "{mbps:>7} {reached:>8} {:>9.0} {:>9.0} {:>9.0} {:>9} {:>9} {:>10.0} {:>9.1}",
                b.log.p50_us,
                b.log.p99_us,
                b.log.p999_us,
                of_step(b.step.p50_us),
                of_step(b.step.p99_us),
                b.writes_per_second_reached,
                b.writes_per_batch
            ));
        }
    }

    /// 4 KiB, or the smallest measured if that is larger.
    pub fn usual_bytes(&self) -> u32 {
        let sizes = self.sizes();
        let usual = sizes.iter().find(|bytes| **bytes >= USUAL_BYTES).or(sizes.last());
        usual.copied().unwrap_or(USUAL_BYTES)
    }

    pub fn sizes(&self) -> Vec<u32> {
        let mut sizes: Vec<u32> = self.writes.iter().map(|w| w.bytes).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    pub fn depths(&self) -> Vec<u32> {
        let mut depths: Vec<u32> = self.writes.iter().map(|w| w.in_flight).collect();
        depths.sort_unstable();
        depths.dedup();
        depths
    }

    pub fn at(&self, bytes: u32, in_flight: u32) -> Option<&Writes> {
        self.writes.iter().find(|w| w.bytes == bytes && w.in_flight == in_flight)
    }
}

const COLUMNS: &str = " writes/s       p50       p99     p99.9       max  CPU/write";

fn columns(w: &Writes) -> String {
    let l = &w.latency;
    format!(
        "{:>9.0} {:>9.0} {:>9.0} {:>9.0} {:>9.0} {:>10.1}",
        w.per_second, l.p50_us, l.p99_us, l.p999_us, l.max_us, w.cpu_us_per_write
    )
}

struct Page(String);

impl Page {
    fn line(&mut self, text: std::fmt::Arguments) {
        writeln!(self.0, "{text}").expect("a string takes everything");
    }

    fn title(&mut self, text: &str) {
        self.line(format_args!("\n{text}"));
    }
}

#[cfg(test)]
pub mod tests;
