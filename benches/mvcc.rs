//! The store alone: puts and reads by number of keys, and what a key costs in memory.
//!
//! Times are the thread's CPU time. `PINION_BENCH_KEYS` (comma separated) replaces the sizes; 10 million keys of 256 bytes take about 3.5 GB.

#[path = "clock/cpu.rs"]
mod clock;

use std::{hint::black_box, time::Duration};

use clock::CpuTime;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use pinion::mvcc::{Span, Store};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VALUE: [u8; 256] = [b'v'; 256];

fn sizes() -> Vec<u64> {
    match std::env::var("PINION_BENCH_KEYS") {
        Ok(sizes) => sizes.split(',').map(|size| size.parse().expect("a number of keys")).collect(),
        Err(_) => vec![10_000, 1_000_000],
    }
}

/// A permutation of the numbers below 2^64, so that keys come in random order.
fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^= mixed >> 32;
    mixed.wrapping_mul(0xd6e8_feb8_6659_fd93)
}

fn key(number: u64) -> [u8; 24] {
    let mut key = *b"/bench/0000000000000000\0";
    for (at, digit) in key[7..23].iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(scatter(number) >> (60 - 4 * at)) as usize & 15];
    }
    key
}

fn put(store: &mut Store, number: u64) {
    let mut write = store.write();
    write.put(&key(number), &VALUE, 0);
    write.end();
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has /proc");
    let pages: u64 = statm.split(' ').nth(1).and_then(|field| field.parse().ok()).expect("statm has numbers");
    pages * 4096
}

fn by_size(criterion: &mut Criterion<CpuTime>) {
    for keys in sizes() {
        let before = resident_bytes();
        let mut store = Store::default();
        for number in 0..keys {
            put(&mut store, number);
        }
        let grown = resident_bytes().saturating_sub(before);
        println!(
            "{keys} keys of {} + {} bytes: {} bytes resident per key",
            key(0).len(),
            VALUE.len(),
            grown / keys
        );
        let mut next = 0u64;
        let mut pick = move || {
            next += 1;
            ((u128::from(scatter(next)) * u128::from(keys)) >> 64) as u64
        };
        criterion.bench_with_input(BenchmarkId::new("get", keys), &keys, |bencher, _| {
            bencher.iter(|| black_box(store.now().get(&key(pick())).expect("every key exists").main));
        });
        criterion.bench_with_input(BenchmarkId::new("count_100k", keys), &keys, |bencher, _| {
            bencher.iter(|| {
                black_box(store.now().scan(Span::From(b"/")).take(100_000).filter(|hit| hit.exists).count())
            });
        });
        criterion.bench_with_input(BenchmarkId::new("range_1000", keys), &keys, |bencher, _| {
            bencher.iter(|| {
                let now = store.now();
                let start = key(pick());
                now.scan(Span::From(&start))
                    .take(1000)
                    .map(|hit| now.record(hit.pos).value.len())
                    .sum::<usize>()
            });
        });
        let loaded = store.revision().0;
        store.compact(loaded).expect("the first compaction");
        while !store.compact_step(usize::MAX) {}
        // Every few puts the history is compacted away, as it is in service.
        let mut puts = 0u64;
        criterion.bench_with_input(BenchmarkId::new("put_and_compact", keys), &keys, |bencher, _| {
            bencher.iter(|| {
                put(&mut store, pick());
                puts += 1;
                if puts.is_multiple_of(1024) {
                    let revision = store.revision().0;
                    store.compact(revision).expect("newer than the last");
                    while !store.compact_step(512) {}
                }
            });
        });
        let mut fresh = keys;
        criterion.bench_with_input(BenchmarkId::new("put_new", keys), &keys, |bencher, _| {
            bencher.iter(|| {
                fresh += 1;
                put(&mut store, fresh);
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime::new()).sample_size(10)
        .warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = by_size
}
criterion_main!(benches);
