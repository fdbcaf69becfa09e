//! Checkpoints from the bytes up: formats, a model, crashes, faults, a real disk.

mod crash;
mod faults;
mod format;
mod model;
mod real;

use std::{cell::RefCell, collections::BTreeMap, future::Future, path::PathBuf, rc::Rc};

use super::*;
use crate::{
    block::{Block, SpaceId},
    env::sim::{Rng, Sim, SimEnv, disk::SimDisk},
    types::{LogIndex, MemberId, Term},
};

/// The state of the last checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Loaded {
    summary: Summary,
    /// Ascending.
    blocks: Vec<Block>,
}

async fn open<E: Env>(
    env: E,
    options: CheckpointOptions,
) -> Result<(CheckpointStore<E>, Option<Loaded>), CheckpointError> {
    let mut blocks: Vec<Block> = Vec::new();
    let (store, summary) = CheckpointStore::open(env, options, &mut blocks).await?;
    blocks.sort_by_key(|block| block.id);
    Ok((store, summary.map(|summary| Loaded { summary, blocks })))
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
    summary: Summary,
    /// Body and meta.
    blocks: BTreeMap<BlockId, (Bytes, Vec<u8>)>,
}

/// Blocks of a few spaces.
fn id(number: u64) -> BlockId {
    BlockId { space: SpaceId([1, 1, 1, 7][number as usize % 4]), number }
}

impl State {
    fn of(loaded: Option<Loaded>) -> Option<Self> {
        loaded.map(|loaded| {
            assert!(loaded.blocks.is_sorted_by(|a, b| a.id < b.id), "a block comes once");
            let blocks = loaded.blocks.into_iter().map(|block| (block.id, (block.body, block.meta)));
            State { summary: loaded.summary, blocks: blocks.collect() }
        })
    }

    fn body_bytes(&self) -> u64 {
        self.blocks.values().map(|(body, _)| body.len() as u64).sum()
    }

    /// Everything in one checkpoint, with nothing known of what is stored but the ids.
    fn whole(&self, stored: &State) -> Checkpoint {
        let mut changes: Vec<BlockChange> =
            stored.blocks.keys().map(|id| BlockChange::Drop { id: *id }).collect();
        changes.extend(self.blocks.iter().map(|(id, (body, meta))| {
            BlockChange::Write(Block { id: *id, meta: meta.clone(), body: body.clone() })
        }));
        Checkpoint { summary: self.summary.clone(), changes }
    }

    fn write(&mut self, rng: &mut Rng, id: BlockId, bytes_max: u64) -> BlockChange {
        let bytes = rng.below(bytes_max) as usize;
        let body: Vec<u8> = (0..bytes.div_ceil(8)).flat_map(|_| rng.next_u64().to_le_bytes()).collect();
        let body = Bytes::from(body).slice(..bytes);
        let meta = random_meta(rng);
        self.blocks.insert(id, (body.clone(), meta.clone()));
        BlockChange::Write(Block { id, meta, body })
    }

    /// Some steps of a state: new blocks, replaced ones, other meta, dropped blocks.
    fn step(&mut self, rng: &mut Rng, bytes_max: u64) -> Checkpoint {
        let mut changes = Vec::new();
        for _ in 0..rng.below(8) {
            let known: Vec<BlockId> = self.blocks.keys().copied().collect();
            let pick = |rng: &mut Rng| known[rng.below(known.len() as u64) as usize];
            match rng.below(10) {
                0..4 => {
                    // Numbers are not used again.
                    let next = self.summary.facts.len() as u64;
                    self.summary.facts.push(7);
                    changes.push(self.write(rng, id(next), bytes_max));
                }
                _ if known.is_empty() => {}
                4..6 => {
                    let id = pick(rng);
                    changes.push(self.write(rng, id, bytes_max / 2 + 1));
                }
                6..8 => {
                    let id = pick(rng);
                    let stored = self.blocks.get_mut(&id).expect("it is known");
                    stored.1 = random_meta(rng);
                    changes.push(BlockChange::Meta { id, meta: stored.1.clone() });
                }
                _ => {
                    let id = pick(rng);
                    self.blocks.remove(&id);
                    changes.push(BlockChange::Drop { id });
                }
            }
        }
        self.summary.applied.0 += 1 + rng.below(1000);
        Checkpoint { summary: self.summary.clone(), changes }
    }
}

fn random_meta(rng: &mut Rng) -> Vec<u8> {
    (0..rng.below(48)).map(|_| rng.next_u64() as u8).collect()
}

fn summary() -> Summary {
    Summary { applied: LogIndex(1234), term: Term(5), facts: b"revision 99".to_vec(), received: false }
}
