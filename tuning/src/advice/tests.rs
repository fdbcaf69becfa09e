use super::*;
use crate::report::tests::{beside, report};

fn sector_of(change: impl FnOnce(&mut Device), factor: f64) -> Setting {
    let report = report(factor, vec![]);
    let mut device = report.device.clone();
    change(&mut device);
    sector(&device, &report.writes)
}

#[test]
fn a_smaller_sector_must_be_faster() {
    let same = sector_of(|_| {}, 0.95);
    assert_eq!(same.value, 4096);
    assert!(same.because.contains("95 us with 512 B, 100 us with 4096 B"), "{}", same.because);
    let faster = sector_of(|_| {}, 0.8);
    assert_eq!(faster.value, 512);
    assert!(faster.because.contains("80 us with 512 B"), "{}", faster.because);
}

#[test]
fn never_below_what_the_disk_writes_at_once() {
    assert_eq!(sector_of(|device| device.physical_bytes = Some(4096), 0.5).value, 4096);
    assert_eq!(sector_of(|device| device.direct_align_bytes = Some(4096), 0.5).value, 4096);
    assert_eq!(sector_of(|device| device.smallest_write_bytes = 4096, 0.5).value, 4096);
    assert_eq!(sector_of(|device| device.physical_bytes = Some(16_384), 0.5).value, 16_384);
    let silent = |device: &mut Device| {
        (device.logical_bytes, device.physical_bytes, device.direct_align_bytes) = (None, None, None);
    };
    assert_eq!(sector_of(silent, 0.5).value, 512, "what was measured is enough");
}

#[test]
fn without_the_usual_size_the_default_stays() {
    let mut report = report(0.5, vec![]);
    report.writes.retain(|w| w.bytes != 4096);
    let setting = sector(&report.device, &report.writes);
    assert_eq!(setting.value, 4096);
    assert!(setting.because.contains("not measured"), "{}", setting.because);
}

#[test]
fn segments_last_five_seconds() {
    let at = |bytes_per_second: f64| {
        let alone = Beside { log_bytes_per_second: bytes_per_second, ..beside(0, 100.0, 0.0) };
        segment(10_000, &alone)
    };
    assert_eq!(at(0.0).value, SEGMENT_BYTES);
    assert_eq!(at(5e6).value, SEGMENT_BYTES);
    assert!(at(5e6).because.contains("lasts 7 s"), "{}", at(5e6).because);
    assert_eq!(at(7e6).value, 2 * SEGMENT_BYTES);
    assert_eq!(at(2e9).value, SEGMENT_BYTES_MAX);
}

fn rate(beside: &[Beside]) -> (u64, String) {
    let setting = snapshot_rate(beside).0.expect("there are rates");
    (setting.value, setting.because)
}

#[test]
fn the_highest_harmless_rate() {
    let alone = beside(0, 1000.0, 0.0);
    let ok = |mbps| beside(mbps, 1400.0, 5000.0);
    let felt = |mbps| beside(mbps, 1600.0, 5000.0);
    let (value, because) = rate(&[alone.clone(), ok(8), ok(32), felt(64), ok(128)]);
    assert_eq!(value, 32, "what is above a rate that is felt does not count");
    assert!(because.contains("log p99 1.40 ms, 1.00 ms without (up to 1.50 allowed)"), "{because}");
    let (value, because) = rate(&[alone.clone(), ok(32), ok(8)]);
    assert_eq!(value, 32);
    assert!(because.contains("highest rate measured"), "{because}");
    let (value, because) = rate(&[alone.clone(), felt(8), ok(32)]);
    assert_eq!(value, 8);
    assert!(because.contains("it is felt"), "{because}");
}

#[test]
fn a_rate_must_be_reached_and_its_steps_short() {
    let alone = beside(0, 1000.0, 0.0);
    let missed = Beside { mbps_reached: 50.0, ..beside(64, 1000.0, 5000.0) };
    assert_eq!(rate(&[alone.clone(), beside(8, 1000.0, 5000.0), missed]).0, 8);
    assert_eq!(rate(&[alone.clone(), beside(8, 1000.0, 5000.0), beside(32, 1000.0, 25_000.0)]).0, 8);
    let slow = beside(0, 9900.0, 0.0);
    assert_eq!(rate(&[slow, beside(8, 9950.0, 5000.0), beside(32, 10_100.0, 5000.0)]).0, 8);
    assert!(snapshot_rate(&[alone]).0.is_none());
    assert!(snapshot_rate(&[]).0.is_none());
}

fn verdicts(beside: Vec<Beside>) -> Vec<Verdict> {
    report(1.0, beside).advice.verdicts
}

#[test]
fn verdicts_rest_on_the_recommended_rate() {
    let found = verdicts(vec![beside(0, 300.0, 0.0), beside(8, 700.0, 3000.0), beside(32, 9000.0, 30_000.0)]);
    assert_eq!(found.iter().map(|v| v.holds).collect::<Vec<_>>(), [Holds::Yes; 3]);
    assert_eq!(found[0].because, "0.70 ms beside a checkpoint of 8 MB/s, 0.30 ms without");
    assert_eq!(found[1].because, "3.00 ms for a step of 64 to 256 KiB at 8 MB/s (1000 steps)");
    assert!(found[2].because.starts_with("10000 writes/s durable"), "{}", found[2].because);
}

#[test]
fn a_slow_disk_is_called_slow() {
    let found = verdicts(vec![beside(0, 12_000.0, 0.0), beside(8, 9000.0, 20_000.0)]);
    assert_eq!(found[0].holds, Holds::No, "the log alone counts too");
    assert_eq!(found[1].holds, Holds::Barely);
    let found = verdicts(vec![beside(0, 5000.0, 0.0), beside(8, 7100.0, 26_000.0)]);
    assert_eq!((found[0].holds, found[1].holds), (Holds::Barely, Holds::No));
}

#[test]
fn no_steps_and_a_queue_are_no() {
    let none = Beside { step: Percentiles::default(), mbps_reached: 0.0, ..beside(8, 300.0, 0.0) };
    let queue = Beside { behind: 1001, ..none };
    let found = verdicts(vec![beside(0, 300.0, 0.0), queue]);
    assert_eq!((found[1].holds, found[2].holds), (Holds::No, Holds::No));
}

#[test]
fn without_a_checkpoint_nothing_is_said_of_steps() {
    let found = verdicts(vec![beside(0, 300.0, 0.0)]);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].because, "0.30 ms, without a checkpoint");
}
