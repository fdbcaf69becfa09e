//! Snapshots from the bytes up: formats, a model, crashes, faults, a real disk.

mod crash;
mod faults;
mod format;
mod model;
mod real;

use std::{cell::RefCell, collections::BTreeMap, future::Future, path::PathBuf, rc::Rc};

use super::*;
use crate::{
    env::sim::{Rng, Sim, SimEnv, disk::SimDisk},
    types::{LogIndex, MemberId, Term},
};

/// The state of the last checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Loaded {
    facts: Facts,
    /// Ascending by chunk.
    blocks: Vec<Block>,
}

async fn open<E: Env>(
    env: E,
    options: CheckpointOptions,
) -> Result<(CheckpointStore<E>, Option<Loaded>), CheckpointError> {
    let mut blocks: Vec<Block> = Vec::new();
    let (store, facts) = CheckpointStore::open(env, options, &mut blocks).await?;
    blocks.sort_by_key(|block| block.chunk);
    Ok((store, facts.map(|facts| Loaded { facts, blocks })))
}

const MEMBER: MemberId = MemberId(1);
const SHARD: ShardId = ShardId(3);
const DIR: &str = "/data/snap";

/// Everything small, so that few changes make segments close and merge.
fn small() -> CheckpointOptions {
    let shape = Shape {
        segment_bytes: 24 * 1024,
        slack_bytes: 24 * 1024,
        small_segments_max: 5,
        carry_bytes: 16_000,
    };
    CheckpointOptions { shape, ..CheckpointOptions::new(PathBuf::from(DIR), SHARD) }
}

/// Runs one task of the member to its end.
fn run<T: 'static>(sim: &Sim, task: impl Future<Output = T> + 'static) -> T {
    let result = Rc::new(RefCell::new(None));
    let slot = result.clone();
    sim.spawn(MEMBER, async move {
        let value = task.await;
        *slot.borrow_mut() = Some(value);
    });
    assert!(sim.run_until(10_000_000, || result.borrow().is_some()), "the task ends");
    let value = result.borrow_mut().take();
    value.expect("the task ended")
}

fn with_disk<T: 'static>(seed: u64, test: impl AsyncFnOnce(SimEnv, SimDisk) -> T + 'static) -> T {
    let sim = Sim::new(seed);
    let disk = SimDisk::new(&sim);
    let env = SimEnv::new(&sim, MEMBER, disk.clone());
    run(&sim, async move { test(env, disk).await })
}

/// What the store should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    facts: Facts,
    chunks: BTreeMap<u64, (i64, Bytes, Vec<u16>)>,
}

impl State {
    fn of(loaded: Option<Loaded>) -> Option<Self> {
        loaded.map(|loaded| {
            assert!(loaded.blocks.is_sorted_by(|a, b| a.chunk < b.chunk), "a chunk comes once");
            let chunks = loaded.blocks.into_iter();
            State {
                facts: loaded.facts,
                chunks: chunks.map(|block| (block.chunk, (block.base, block.body, block.dead))).collect(),
            }
        })
    }

    fn body_bytes(&self) -> u64 {
        self.chunks.values().map(|(_, body, _)| body.len() as u64).sum()
    }

    /// Everything in one checkpoint, with nothing known of what is stored but the ids.
    fn whole(&self, stored: &State) -> Checkpoint {
        let mut changes: Vec<Change> =
            stored.chunks.keys().map(|chunk| Change::Drop { chunk: *chunk }).collect();
        changes.extend(self.chunks.iter().map(|(chunk, (base, body, dead))| Change::Write {
            chunk: *chunk,
            base: *base,
            body: body.clone(),
            dead: dead.clone(),
        }));
        Checkpoint { facts: self.facts.clone(), changes }
    }

    fn write(&mut self, rng: &mut Rng, chunk: u64, bytes_max: u64) -> Change {
        let bytes = rng.below(bytes_max) as usize;
        let body: Vec<u8> = (0..bytes.div_ceil(8)).flat_map(|_| rng.next_u64().to_le_bytes()).collect();
        let body = Bytes::from(body).slice(..bytes);
        let (base, dead) = (rng.below(1 << 40) as i64, dead_list(rng, bytes));
        self.chunks.insert(chunk, (base, body.clone(), dead.clone()));
        Change::Write { chunk, base, body, dead }
    }

    /// Some steps of a keyspace: new chunks, replaced ones, dead records, dropped chunks.
    fn step(&mut self, rng: &mut Rng, bytes_max: u64) -> Checkpoint {
        let mut changes = Vec::new();
        for _ in 0..rng.below(8) {
            let known: Vec<u64> = self.chunks.keys().copied().collect();
            let pick = |rng: &mut Rng| known[rng.below(known.len() as u64) as usize];
            match rng.below(10) {
                0..4 => {
                    let chunk = self.facts.next_chunk;
                    self.facts.next_chunk += 1;
                    changes.push(self.write(rng, chunk, bytes_max));
                }
                _ if known.is_empty() => {}
                4..6 => {
                    let chunk = pick(rng);
                    changes.push(self.write(rng, chunk, bytes_max / 2 + 1));
                }
                6..8 => {
                    let chunk = pick(rng);
                    let stored = self.chunks.get_mut(&chunk).expect("it is known");
                    stored.2 = dead_list(rng, stored.1.len());
                    changes.push(Change::Dead { chunk, dead: stored.2.clone() });
                }
                _ => {
                    let chunk = pick(rng);
                    self.chunks.remove(&chunk);
                    changes.push(Change::Drop { chunk });
                }
            }
        }
        self.facts.applied.0 += 1 + rng.below(1000);
        self.facts.revision += 1;
        if rng.chance(100) {
            self.facts.alarms.push(AlarmFact { member: rng.next_u64(), alarm: 1 });
        }
        Checkpoint { facts: self.facts.clone(), changes }
    }
}

fn dead_list(rng: &mut Rng, bytes: usize) -> Vec<u16> {
    let bytes = bytes.min(1 << 16) as u64;
    let count = if bytes == 0 { 0 } else { rng.below(bytes.min(20)) };
    let mut dead: Vec<u16> = (0..count).map(|_| rng.below(bytes) as u16).collect();
    dead.sort_unstable();
    dead.dedup();
    dead
}

fn facts() -> Facts {
    Facts {
        applied: LogIndex(1234),
        term: Term(5),
        revision: 99,
        compacted: 40,
        freed: 39,
        next_chunk: 17,
        members: vec![MemberFact {
            id: 7,
            name: "default".into(),
            peer_urls: vec!["http://localhost:2380".into()],
            client_urls: vec!["http://localhost:2379".into(), "unix://socket".into()],
            is_learner: false,
        }],
        conf: Conf { voters: vec![7], learners: vec![8, 9], ..Conf::default() },
        alarms: vec![AlarmFact { member: 7, alarm: 1 }],
    }
}
