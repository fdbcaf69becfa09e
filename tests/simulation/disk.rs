//! One member on a disk that fails a write or loses bits: it stops or refuses, and forgets nothing.

use std::{cell::Cell, cell::RefCell, rc::Rc};

use pinion::env::sim::disk::WriteFault;

use crate::world::{self, Memory, STEPS_MAX, World};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn written(world: &World, clients: u64, writes: u64) -> Rc<RefCell<Memory>> {
    let memory = Rc::new(RefCell::new(Memory::default()));
    let running = Rc::new(Cell::new(0));
    for number in 0..clients {
        world::client(world, number, writes, memory.clone(), running.clone());
    }
    let node = &world.nodes[0];
    let over = || running.get() == 0 || node.ended.borrow().is_some();
    assert!(world.sim.run_until(STEPS_MAX, over), "clients are stuck");
    memory
}

/// A failed or short log write ends the member before anything depends on it; what was acknowledged
/// before is there after a restart.
#[test]
fn a_failed_write_ends_the_member_and_nothing_acknowledged_is_lost() {
    let (mut ran, mut ended) = (0, 0);
    for seed in world::seeds(60) {
        let world = World::new(seed, 1);
        world.start(0);
        world.serving(0).expect("it serves");
        let (fault, told) = match seed % 3 {
            0 => (WriteFault::Errno(EIO), "cannot write"),
            1 => (WriteFault::Errno(ENOSPC), "the disk is full"),
            _ => (WriteFault::Short(512), "ended after 512"),
        };
        world.nodes[0].disk.fail_write(world.sim.below(40), fault);
        let memory = written(&world, 3, 200);
        // None: the write that failed was preparing the next segment, which is tried again.
        if let Some(how) = world.nodes[0].ended.borrow().clone() {
            let error = how.expect_err("a failed write ends it with an error");
            assert!(error.contains(told), "seed {seed}: {error}");
            ended += 1;
        }
        ran += 1;
        world.crash(0);
        world.start(0);
        let shard = world.serving(0).unwrap_or_else(|error| panic!("seed {seed}: no start: {error}"));
        memory.borrow().check(&shard);
    }
    assert!(ran < 10 || ended * 2 > ran, "only {ended} of {ran} members met a failed log write");
}

/// Bits flipped in what was acknowledged are never skipped: the member refuses to start and names the
/// file.
#[test]
fn damage_to_what_was_acknowledged_refuses_the_start() {
    for seed in world::seeds(60) {
        let world = World::new(seed, 1);
        world.start(0);
        world.serving(0).expect("it serves");
        let before = world.nodes[0].disk.writes();
        // One client waits for each write: every acknowledgement is a batch of its own.
        let memory = written(&world, 1, 40);
        let batches = memory.borrow().acknowledged.len() as u64;
        assert!(world.nodes[0].disk.writes() - before >= batches);
        world.crash(0);
        let (path, _) = world.nodes[0]
            .disk
            .files()
            .into_iter()
            .find(|(path, _)| path.extension().is_some_and(|e| e == "wal"))
            .expect("the log has a segment");
        // Each batch fills at least one unit of 4 KiB, begins with its header, and all but the last
        // have a later one as evidence.
        let unit = 4096;
        let batch = 1 + world.sim.below(batches - 2);
        let offset = batch * unit + world.sim.below(40);
        assert!(world.nodes[0].disk.corrupt(&path, offset, 1 << world.sim.below(8)));
        world.start(0);
        let refusal =
            world.serving(0).err().unwrap_or_else(|| panic!("seed {seed}: damage at {offset} unseen"));
        assert!(refusal.contains("the log is damaged"), "seed {seed}: {refusal}");
        assert!(refusal.contains(&path.display().to_string()), "seed {seed}: {refusal}");
    }
}
