//! The store alone: puts, reads and loading by number and shape of keys, and what a key costs in memory.
//!
//! Times are the thread's CPU time. `PINION_BENCH_KEYS` (comma separated) replaces the sizes; 10 million keys of 256 bytes take about 3.5 GB.

#[path = "clock/cpu.rs"]
mod clock;

use std::{hint::black_box, time::Duration};

use clock::CpuTime;
use criterion::{Criterion, criterion_group, criterion_main};
use pinion::{
    block::{Block, BlockChange},
    state::{
        mvcc::{Freed, Loading, Mark, Span, Store},
        space::Space,
    },
};

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

/// What keys look like.
#[derive(Clone, Copy)]
enum Shape {
    /// 24 bytes, random after a short prefix.
    Random,
    /// 60 bytes, objects of 4096 namespaces.
    Registry,
}

impl Shape {
    const ALL: [Shape; 2] = [Shape::Random, Shape::Registry];

    fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Registry => "registry",
        }
    }

    /// Keys come in random order.
    fn key(self, number: u64, into: &mut Vec<u8>) {
        let mut digits = [0; 16];
        for (at, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(scatter(number) >> (60 - 4 * at)) as usize & 15];
        }
        into.clear();
        match self {
            Self::Random => {
                into.extend_from_slice(b"/bench/");
                into.extend_from_slice(&digits);
                into.push(0);
            }
            Self::Registry => {
                into.extend_from_slice(b"/registry/pods/namespace-");
                into.extend_from_slice(&digits[..3]);
                into.extend_from_slice(b"/deployment-of-web-");
                into.extend_from_slice(&digits[3..]);
            }
        }
    }
}

/// A store and the buffer its keys are made in.
struct Loaded {
    store: Store,
    shape: Shape,
    key: Vec<u8>,
}

impl Loaded {
    fn new(shape: Shape, keys: u64) -> Self {
        let mut loaded = Loaded { store: Store::default(), shape, key: Vec::new() };
        for number in 0..keys {
            loaded.put(number);
        }
        loaded
    }

    fn put(&mut self, number: u64) {
        self.shape.key(number, &mut self.key);
        let mut write = self.store.write();
        write.put(&self.key, &VALUE, 0);
        write.end();
    }

    fn compact(&mut self, budget: usize) {
        let revision = self.store.revision().0;
        self.store.compact(revision).expect("newer than the last");
        while self.store.compact_step(budget, true) != Freed::All {}
    }
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has /proc");
    let pages: u64 = statm.split(' ').nth(1).and_then(|field| field.parse().ok()).expect("statm has numbers");
    pages * 4096
}

fn by_size(criterion: &mut Criterion<CpuTime>) {
    for (shape, keys) in
        Shape::ALL.into_iter().flat_map(|shape| sizes().into_iter().map(move |keys| (shape, keys)))
    {
        let before = resident_bytes();
        let mut loaded = Loaded::new(shape, keys);
        let grown = resident_bytes().saturating_sub(before);
        println!(
            "{keys} {} keys of {} + {} bytes: {} bytes resident per key",
            shape.name(),
            loaded.key.len(),
            VALUE.len(),
            grown / keys
        );
        operations(criterion, &mut loaded, keys);
    }
}

fn operations(criterion: &mut Criterion<CpuTime>, loaded: &mut Loaded, keys: u64) {
    let mut next = 0u64;
    let mut pick = move || {
        next += 1;
        ((u128::from(scatter(next)) * u128::from(keys)) >> 64) as u64
    };
    let shape = loaded.shape;
    let mut key = Vec::new();
    let id = |what: &str| format!("{what}/{}/{keys}", shape.name());
    criterion.bench_function(&id("get"), |bencher| {
        bencher.iter(|| {
            shape.key(pick(), &mut key);
            black_box(loaded.store.now().get(&key).expect("every key exists").main)
        });
    });
    criterion.bench_function(&id("get_missing"), |bencher| {
        bencher.iter(|| {
            shape.key(keys + pick(), &mut key);
            assert!(black_box(loaded.store.now().find(&key)).is_none(), "never written");
        });
    });
    criterion.bench_function(&id("count_100k"), |bencher| {
        let span = Span::From(b"/");
        bencher
            .iter(|| black_box(loaded.store.now().scan(span).take(100_000).filter(|hit| hit.exists).count()));
    });
    criterion.bench_function(&id("range_1000"), |bencher| {
        bencher.iter(|| {
            let now = loaded.store.now();
            shape.key(pick(), &mut key);
            let hits = now.scan(Span::From(&key)).take(1000);
            hits.map(|hit| now.record(hit.pos).value.len()).sum::<usize>()
        });
    });
    criterion.bench_function(&id("overwrite"), |bencher| {
        bencher.iter(|| loaded.put(pick()));
    });
    loaded.compact(usize::MAX);
    // Every few puts the history is compacted away, as it is in service.
    let mut puts = 0u64;
    criterion.bench_function(&id("put_and_compact"), |bencher| {
        bencher.iter(|| {
            loaded.put(pick());
            puts += 1;
            if puts.is_multiple_of(1024) {
                loaded.compact(512);
            }
        });
    });
    let (mark, blocks) = saved(&mut loaded.store);
    criterion.bench_function(&id("build"), |bencher| {
        bencher.iter_with_large_drop(|| {
            let mut loading = Loading::default();
            loading.expect(blocks.iter().map(|block| block.body.len()).sum());
            blocks.iter().for_each(|block| loading.take(block).expect("a chunk"));
            loading.finish(mark)
        });
    });
    drop(blocks);
    let mut fresh = keys;
    criterion.bench_function(&id("put_new"), |bencher| {
        bencher.iter(|| {
            fresh += 1;
            loaded.put(fresh);
        });
    });
}

/// The store as the first checkpoint would have it.
fn saved(store: &mut Store) -> (Mark, Vec<Block>) {
    let block = |change| match change {
        BlockChange::Write(block) => block,
        _ => panic!("a first checkpoint only writes"),
    };
    let mut blocks: Vec<Block> = store.changes().into_iter().map(block).collect();
    store.saved();
    blocks.sort_unstable_by_key(|block| block.id);
    (store.mark(), blocks)
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime::new()).sample_size(10)
        .warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = by_size
}
criterion_main!(benches);
