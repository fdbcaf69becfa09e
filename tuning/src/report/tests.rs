use super::*;
use crate::advice;
use crate::{figures::Beside, latency::Percentiles};

/// A disk of 100 us a write; `factor` of that for sizes under 4 KiB.
pub fn report(factor: f64, beside: Vec<Beside>) -> Report {
    let writes = |bytes: u32, in_flight: u32| {
        let p50_us = if bytes < 4096 { 100.0 * factor } else { 100.0 };
        let latency = Percentiles { count: 1000, p50_us, p99_us: 200.0, p999_us: 300.0, max_us: 400.0 };
        let per_second = 1e6 / p50_us * f64::from(in_flight);
        Writes { bytes, in_flight, per_second, latency, cpu_us_per_write: 10.0 }
    };
    let sizes = [512, 4096, 16_384, 65_536];
    let device = Device {
        dir: "/srv/log".into(),
        kernel: "6.1".into(),
        file_system: "ext4".into(),
        mount_options: "rw".into(),
        source: "/dev/x".into(),
        logical_bytes: Some(512),
        physical_bytes: Some(512),
        write_cache: Some("write back".into()),
        direct_align_bytes: Some(512),
        smallest_write_bytes: 512,
    };
    let load = Load { writes_per_second: 10_000, write_bytes: 512, unit_bytes: 4096, beside };
    let writes_of_all: Vec<Writes> =
        sizes.iter().flat_map(|&bytes| [1, 4, 16].map(|depth| writes(bytes, depth))).collect();
    let advice = advice::advise(&device, &writes_of_all, &load);
    Report {
        device,
        seconds_per_point: 1.0,
        rounds: 3,
        file_bytes: 1 << 26,
        fill_mib_per_s: 500.0,
        processors_busy_elsewhere: 0.1,
        writes: writes_of_all,
        ways: vec![
            Way { way: "O_DSYNC", writes: writes(4096, 1) },
            Way { way: "write + fdatasync", writes: writes(4096, 1) },
        ],
        states: ["recycled", "zero-filled", "reserved", "extending"]
            .map(|state| State { state, writes: writes(4096, 1) })
            .to_vec(),
        load,
        advice,
    }
}

pub fn beside(mbps: u32, log_p99_us: f64, step_p99_us: f64) -> Beside {
    let latency = |p99_us: f64| Percentiles {
        count: 1000,
        p50_us: p99_us / 2.0,
        p99_us,
        p999_us: p99_us * 2.0,
        max_us: p99_us * 3.0,
    };
    Beside {
        mbps,
        mbps_reached: f64::from(mbps),
        log: latency(log_p99_us),
        step: latency(step_p99_us),
        wait: latency(log_p99_us * 2.0),
        writes_per_second_reached: 10_000.0,
        writes_per_batch: 2.5,
        log_bytes_per_second: 10e6,
        behind: 3,
    }
}

#[test]
fn the_page_says_what_was_measured() {
    let text = report(1.0, vec![beside(0, 200.0, 0.0), beside(8, 220.0, 900.0)]).text();
    for words in [
        "/srv/log: ext4 on /dev/x (rw), kernel 6.1",
        "smallest write taken 512 B",
        "wal_fsync p99 < 10 ms",
        "--wal-sector-size=4096",
        "--wal-segment-bytes=67108864",
        "--snapshot-write-mbps=8",
        "write + fdatasync",
        "extending",
        "  65536         1     10000       100       200       300       400       10.0",
        "   4096        16    160000       100       200       300       400       10.0",
        "   none        -       100       200       400         -         -      10000       2.5",
        "      8      8.0       110       220       440       450       900      10000       2.5",
    ] {
        assert!(text.contains(words), "lacks {words:?}:\n{text}");
    }
}

#[test]
fn a_busy_machine_is_named() {
    let mut report = report(1.0, vec![]);
    assert!(!report.text().contains("WARNING"));
    report.processors_busy_elsewhere = 1.26;
    assert!(report.text().contains("kept 1.3 processors busy"), "{}", report.text());
}

#[test]
fn it_is_one_page() {
    let text = report(1.0, (0..8).map(|rate| beside(rate * 8, 200.0, 900.0)).collect()).text();
    let widest = text.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(130), "{widest:?} columns:\n{text}");
    assert!(text.lines().count() <= 66, "{} lines", text.lines().count());
}

#[test]
fn json_has_every_figure() {
    let report = report(1.0, vec![beside(0, 200.0, 0.0)]);
    let json = serde_json::to_value(&report).expect("plain data");
    assert_eq!(json["writes"].as_array().map(Vec::len), Some(12));
    assert_eq!(json["writes"][0]["latency"]["p99_us"], 200.0);
    assert_eq!(json["load"]["beside"][0]["log"]["p999_us"], 400.0);
    assert_eq!(json["advice"]["settings"][0]["flag"], "--wal-sector-size");
}
