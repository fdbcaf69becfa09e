//! A checkpoint of a million keys: writing it, opening it, changing a little of it.
//!
//! One measurement each, on the disk that holds the build; wall time, and the CPU time of the whole process. Run it as
//! `cargo bench --bench checkpoint`; `PINION_BENCH_CHECKPOINT_MB` replaces the size.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use glommio::{LocalExecutorBuilder, Placement, PoolPlacement};
use pinion::{
    block::{Block, BlockChange, BlockId, SpaceId},
    env::real::RealEnv,
    storage::checkpoint::{Checkpoint, CheckpointOptions, CheckpointStore, Summary},
    types::ShardId,
};

const CHUNK_BYTES: usize = 64 * 1024;

/// User and system time of the process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux has /proc");
    let fields: Vec<&str> = stat[stat.rfind(')').expect("a name") + 2..].split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number of ticks");
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// Pages of files in the resident set.
fn mapped_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).expect("it says so");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1000
}

async fn measured<T>(what: &str, task: impl Future<Output = T>) -> T {
    let (started, before) = (Instant::now(), cpu());
    let value = task.await;
    println!(
        "{what}: {:?}, CPU {:?}, mapped and resident {} MB",
        started.elapsed(),
        cpu() - before,
        mapped_mb()
    );
    value
}

fn chunk(number: u64) -> BlockChange {
    let body = (number..).take(CHUNK_BYTES / 8).flat_map(|word| word.wrapping_mul(0x9e37_79b9).to_le_bytes());
    let id = BlockId { space: SpaceId(1), number };
    BlockChange::Write(Block { id, meta: vec![0; 8], body: Bytes::from_iter(body) })
}

async fn run(dir: PathBuf, chunks: u64) {
    let env = RealEnv::default();
    let options = CheckpointOptions::new(dir, ShardId(0));
    let (mut store, _) =
        CheckpointStore::open(env.clone(), options.clone(), &mut Vec::new()).await.expect("a new one opens");
    let summary = Summary::default();
    let all = Checkpoint { summary: summary.clone(), changes: (0..chunks).map(chunk).collect() };
    let saved = measured("write everything", store.write(all, false)).await.expect("the disk works");
    println!("  {} MB", saved.bytes_on_disk / 1_000_000);
    drop((saved, store));

    for _ in 0..5 {
        let mut blocks: Vec<Block> = Vec::new();
        let opened = measured("open", CheckpointStore::open(env.clone(), options.clone(), &mut blocks)).await;
        let (store, _) = opened.expect("it opens");
        let started = Instant::now();
        let sum: u64 = blocks.iter().map(|b| b.body.chunks(64).map(|c| u64::from(c[0])).sum::<u64>()).sum();
        let took = started.elapsed();
        println!("  one look at each line: {took:?} ({sum})");
        drop(store);
    }

    let (mut store, _) = CheckpointStore::open(env, options, &mut Vec::new()).await.expect("it opens");
    let few = Checkpoint { summary: summary.clone(), changes: (0..chunks).step_by(100).map(chunk).collect() };
    measured("write one chunk of a hundred", store.write(few, false)).await.expect("the disk works");
    let half = Checkpoint { summary: summary.clone(), changes: (0..chunks * 6 / 10).map(chunk).collect() };
    let saved = measured("write six of ten", store.write(half, false)).await.expect("the disk works");
    println!(
        "  {} MB on disk, {} MB carried",
        saved.bytes_on_disk / 1_000_000,
        saved.carried_bytes / 1_000_000
    );
    drop(saved);
    measured("sweep", store.sweep()).await.expect("the disk works");
    let none = Checkpoint { summary, changes: Vec::new() };
    let saved = measured("defragment", store.write(none, true)).await.expect("the disk works");
    println!(
        "  {} MB on disk, {} MB carried",
        saved.bytes_on_disk / 1_000_000,
        saved.carried_bytes / 1_000_000
    );
}

fn main() {
    let mb: u64 = match std::env::var("PINION_BENCH_CHECKPOINT_MB") {
        Ok(mb) => mb.parse().expect("a number of megabytes"),
        Err(_) => 280,
    };
    let base = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tmp");
    std::fs::create_dir_all(&base).expect("the build directory is writable");
    let dir = tempfile::tempdir_in(base).expect("the build directory is writable");
    let path = dir.path().join("snap");
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
        .spawn(move || run(path, mb * 1_000_000 / CHUNK_BYTES as u64));
    executor.expect("an executor starts").join().expect("the run ends");
}
