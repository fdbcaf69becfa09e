//! Checkpoints that are held, sent and installed, through crashes and cut-off transfers.

use std::{cell::RefCell, path::PathBuf, rc::Rc};

use super::*;
use crate::{
    block::{Block, BlockChange, BlockId, SpaceId},
    env::sim::{Sim, SimEnv, disk::SimDisk},
    storage::checkpoint::{Checkpoint, CheckpointOptions, Shape},
    types::{ClusterId, LogId, LogIndex, MemberId, Owner, Term},
};

const SENDER: MemberId = MemberId(1);
const RECEIVER: MemberId = MemberId(2);

fn options(member: MemberId) -> CheckpointOptions {
    let shape =
        Shape { segment_bytes: 24 * 1024, slack_bytes: 8 * 1024, small_segments_max: 4, carry_bytes: 16_000 };
    let owner = Owner { cluster: ClusterId(5), member, log: LogId(100 + member.0) };
    CheckpointOptions { owner, shape, ..CheckpointOptions::new(PathBuf::from("/data/snap"), ShardId(3)) }
}

fn block(number: u64, fill: u8) -> Block {
    let body = vec![fill; 3_000 + number as usize].into();
    Block { id: BlockId { space: SpaceId(1), number }, meta: vec![fill, 1], body }
}

fn checkpoint(applied: u64, blocks: impl IntoIterator<Item = Block>) -> Checkpoint {
    let summary =
        Summary { applied: LogIndex(applied), term: Term(2), facts: vec![applied as u8], received: false };
    Checkpoint { summary, changes: blocks.into_iter().map(BlockChange::Write).collect() }
}

type Store = CheckpointStore<SimEnv>;

/// Opens the receiver's store; with what it holds.
async fn open(env: &SimEnv) -> (Store, Option<Summary>, Vec<Block>) {
    open_as(RECEIVER, env).await
}

async fn open_as(member: MemberId, env: &SimEnv) -> (Store, Option<Summary>, Vec<Block>) {
    let mut blocks = Vec::new();
    let (store, summary) = Store::open(env.clone(), options(member), &mut blocks).await.expect("it opens");
    blocks.sort_by_key(|block| block.id);
    (store, summary, blocks)
}

/// A sender's checkpoint of twelve blocks in a few segments, and what it is.
async fn sender(env: &SimEnv) -> (Store, HeldCheckpoint, Vec<Block>) {
    let (mut store, ..) = open_as(SENDER, env).await;
    store.write(checkpoint(50, (0..12).map(|number| block(number, 1))), false).await.expect("written");
    store.write(checkpoint(60, (3..6).map(|number| block(number, 2))), false).await.expect("written");
    let fill = |number| if (3..6).contains(&number) { 2 } else { 1 };
    let held = store.hold().expect("there is one");
    (store, held, (0..12).map(|number| block(number, fill(number))).collect())
}

/// Ends after so many pieces.
struct CutOff(HeldCheckpoint, usize);

impl Export for CutOff {
    fn manifest(&self) -> Bytes {
        self.0.manifest()
    }

    fn read<'a>(&'a mut self, segment: &'a SegmentRef, offset: u64) -> Piece<'a> {
        match self.1.checked_sub(1) {
            Some(left) => {
                self.1 = left;
                self.0.read(segment, offset)
            }
            None => Box::pin(async { None }),
        }
    }
}

struct World {
    sim: Sim,
    disks: [SimDisk; 2],
}

impl World {
    fn new(seed: u64) -> Self {
        let sim = Sim::new(seed);
        Self { disks: [SimDisk::new(&sim), SimDisk::new(&sim)], sim }
    }

    fn env(&self, member: MemberId) -> SimEnv {
        SimEnv::new(&self.sim, member, self.disks[member.0 as usize - 1].clone())
    }

    fn run<T: 'static>(&self, member: MemberId, task: impl Future<Output = T> + 'static) -> T {
        let result = Rc::new(RefCell::new(None));
        let slot = result.clone();
        self.sim.spawn(member, async move {
            let value = task.await;
            *slot.borrow_mut() = Some(value);
        });
        assert!(self.sim.run_until(10_000_000, || result.borrow().is_some()), "the task ends");
        result.take().expect("the task ended")
    }
}

#[test]
fn a_held_checkpoint_stays_while_newer_ones_are_made_and_swept() {
    let world = World::new(1);
    let (sending, receiving) = (world.env(SENDER), world.env(RECEIVER));
    world.run(SENDER, async move {
        let (mut store, held, expected) = sender(&sending).await;
        for applied in 70..80 {
            let all = (0..12).map(|number| block(number, applied as u8));
            store.write(checkpoint(applied, all), true).await.expect("written");
            store.sweep().await.expect("swept");
        }
        assert!(store.bytes_on_disk() > 2 * 12 * 3_000, "the held files are there");

        let (mut store_2, ..) = open(&receiving).await;
        let received = store_2.receive(&mut held.clone()).await.expect("received");
        assert_eq!(received.summary().applied, LogIndex(60));
        let mut blocks = Vec::new();
        received.read(&mut blocks).await.expect("verified before");
        blocks.sort_by_key(|block: &Block| block.id);
        assert_eq!(blocks, expected);

        drop(held);
        store.sweep().await.expect("swept");
        assert!(store.bytes_on_disk() < 2 * 12 * 3_000, "and go with the last who holds them");
    });
}

#[test]
fn an_installed_checkpoint_is_what_counts_and_life_goes_on() {
    let world = World::new(2);
    let (sending, receiving) = (world.env(SENDER), world.env(RECEIVER));
    world.disks[1].set_unit(4096);
    world.run(RECEIVER, async move {
        let (_sender, mut held, expected) = sender(&sending).await;
        let (mut store, ..) = open(&receiving).await;
        store.write(checkpoint(7, (0..40).map(|number| block(number, 9))), false).await.expect("written");
        let received = store.receive(&mut held).await.expect("received");
        let summary = store.install(received).await.expect("installed");
        assert_eq!((summary.applied, summary.received), (LogIndex(60), true));
        store.sweep().await.expect("swept");
        drop(store);

        let (mut store, found, blocks) = open(&receiving).await;
        assert_eq!(found.as_ref(), Some(&summary));
        assert_eq!(blocks, expected, "nothing is left of what was there before");
        drop(blocks);
        store.write(checkpoint(61, [block(99, 4)]), true).await.expect("written");
        drop(store);
        let (_, found, blocks) = open(&receiving).await;
        assert!(!found.expect("a checkpoint").received, "it has one of its own");
        assert_eq!(blocks.len(), 13);
    });
}

#[test]
fn a_checkpoint_of_another_cluster_is_not_taken() {
    let world = World::new(5);
    let (sending, receiving) = (world.env(SENDER), world.env(RECEIVER));
    world.run(RECEIVER, async move {
        let (_sender, mut held, _) = sender(&sending).await;
        let mut options = options(RECEIVER);
        options.owner.cluster = ClusterId(6);
        let (mut store, _) = Store::open(receiving, options, &mut Vec::new()).await.expect("it opens");
        let refused = store.receive(&mut held).await.map(drop).expect_err("not ours");
        assert!(refused.to_string().contains("it is of another cluster"), "{refused}");
    });
}

/// A manifest, and nothing of what it tells of.
struct Bare(Bytes);

impl Export for Bare {
    fn manifest(&self) -> Bytes {
        self.0.clone()
    }

    fn read<'a>(&'a mut self, _: &'a SegmentRef, _: u64) -> Piece<'a> {
        Box::pin(std::future::ready(None))
    }
}

#[test]
fn numbers_that_nobody_counts_to_are_refused() {
    let world = World::new(5);
    let (sending, receiving) = (world.env(SENDER), world.env(RECEIVER));
    world.run(RECEIVER, async move {
        let (_sender, held, _) = sender(&sending).await;
        let (mut store, ..) = open(&receiving).await;
        let changes: [fn(&mut Manifest); 3] = [
            |manifest| manifest.generation = u64::MAX,
            |manifest| manifest.segments.last_mut().expect("it has some").sequence = u64::MAX,
            |manifest| manifest.segments[0].bytes = u64::MAX,
        ];
        for change in changes {
            let mut manifest = Manifest::decode(&held.manifest(), ShardId(3)).expect("its own");
            change(&mut manifest);
            let mut bare = Bare(manifest.encode(ShardId(3), 1).into());
            let refused = store.receive(&mut bare).await.map(drop).expect_err("it makes no sense");
            assert!(refused.to_string().contains("makes no sense"), "{refused}");
        }
    });
}

#[test]
fn a_segment_that_only_readers_keep_comes_back() {
    let world = World::new(4);
    let (sending, receiving) = (world.env(SENDER), world.env(RECEIVER));
    world.run(RECEIVER, async move {
        let (_sender, held, expected) = sender(&sending).await;
        let (mut store, ..) = open(&receiving).await;
        let received = store.receive(&mut held.clone()).await.expect("received");
        store.install(received).await.expect("installed");
        let reader = store.hold();
        let all = (0..20).map(|number| block(number, 7));
        store.write(checkpoint(61, all), true).await.expect("written");
        store.sweep().await.expect("swept");

        let received = store.receive(&mut CutOff(held, 0)).await.expect("everything is here");
        store.install(received).await.expect("installed");
        drop(reader);
        store.sweep().await.expect("swept");
        drop(store);
        assert_eq!(open(&receiving).await.2, expected);
    });
}

#[test]
fn a_transfer_that_is_cut_off_changes_nothing_and_can_be_repeated() {
    let world = World::new(3);
    let (sending, receiving) = (world.env(SENDER), world.env(RECEIVER));
    world.run(RECEIVER, async move {
        let (_sender, held, expected) = sender(&sending).await;
        let (mut store, ..) = open(&receiving).await;
        let own: Vec<Block> = (0..4).map(|number| block(number, 9)).collect();
        store.write(checkpoint(7, own.clone()), false).await.expect("written");
        for pieces in 0..3 {
            let cut = store.receive(&mut CutOff(held.clone(), pieces)).await.err();
            assert!(matches!(cut, Some(CheckpointError::CutOff)), "{pieces}: {cut:?}");
        }
        drop(store);
        let (mut store, _, blocks) = open(&receiving).await;
        assert_eq!(blocks, own);
        let received = store.receive(&mut held.clone()).await.expect("received");
        store.install(received).await.expect("installed");
        drop(store);
        assert_eq!(open(&receiving).await.2, expected);
    });
}

/// At whatever step the receiver's machine crashes, it starts with what it had or with what it was to get.
#[test]
fn a_crash_finds_the_old_state_or_the_new_one() {
    let (mut old, mut new) = (0, 0);
    for seed in 0..6 {
        for steps in (0..).step_by(3) {
            let world = World::new(seed);
            let (sending, receiving) = (world.env(SENDER), world.env(RECEIVER));
            let (held, expected) = world.run(SENDER, async move {
                let (_, held, expected) = sender(&sending).await;
                (held, expected)
            });
            let own: Vec<Block> = (0..4).map(|number| block(number, 9)).collect();
            let (env, before) = (receiving.clone(), own.clone());
            world.run(RECEIVER, async move {
                let (mut store, ..) = open(&env).await;
                store.write(checkpoint(7, before), false).await.expect("written");
            });
            let (env, done) = (receiving.clone(), Rc::new(RefCell::new(false)));
            let (mut held, ended) = (held, done.clone());
            world.sim.spawn(RECEIVER, async move {
                let (mut store, ..) = open(&env).await;
                let received = store.receive(&mut held).await.expect("received");
                store.install(received).await.expect("installed");
                store.sweep().await.expect("swept");
                *ended.borrow_mut() = true;
            });
            world.sim.run_until(steps, || *done.borrow());
            let finished = *done.borrow();
            world.sim.crash(RECEIVER);
            world.disks[1].crash();
            let found = world.run(RECEIVER, async move { open(&receiving).await.2 });
            match found == expected {
                true => new += 1,
                false => {
                    assert!(!finished, "seed {seed}, step {steps}: it was installed");
                    assert_eq!(found, own, "seed {seed}, step {steps}");
                    old += 1;
                }
            }
            if finished {
                break;
            }
        }
    }
    assert!(old > 20 && new > 6, "{old} found the old one, {new} the new one");
}
