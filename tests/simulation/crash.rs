//! One member that crashes at any moment, on a disk that tears, loses and corrupts.

use std::{cell::Cell, cell::RefCell, rc::Rc};

use crate::world::{self, Memory, STEPS_MAX, World};

/// Clients write, the member crashes after a drawn number of steps, comes back, and everything
/// acknowledged is there; at the end everybody finishes.
fn crashes(seed: u64) {
    let world = World::new(seed, 1);
    let memory = Rc::new(RefCell::new(Memory::default()));
    let running = Rc::new(Cell::new(0));
    world.start(0);
    for number in 0..4 {
        world::client(&world, number, 60, memory.clone(), running.clone());
    }
    for _ in 0..6 {
        let steps = 1 + world.sim.below(800);
        world.sim.run_until(steps, || false);
        world.crash(0);
        // Sometimes again while it is still starting.
        if world.sim.chance(300) {
            world.start(0);
            world.sim.run_until(1 + world.sim.below(60), || false);
            world.crash(0);
        }
        world.start(0);
        let shard = world.serving(0).unwrap_or_else(|error| panic!("seed {seed}: no start: {error}"));
        memory.borrow().check(&shard);
    }
    assert!(world.sim.run_until(STEPS_MAX, || running.get() == 0), "seed {seed}: clients are stuck");
    let shard = world.serving(0).expect("it serves");
    memory.borrow().check(&shard);
    assert!(!memory.borrow().acknowledged.is_empty(), "seed {seed}: nothing was acknowledged");
}

#[test]
fn nothing_acknowledged_is_lost_in_crashes() {
    for seed in world::seeds(300) {
        crashes(seed);
    }
}

#[test]
fn the_same_seed_runs_the_same() {
    let run = |seed| {
        let world = World::new(seed, 1);
        let memory = Rc::new(RefCell::new(Memory::default()));
        let running = Rc::new(Cell::new(0));
        world.start(0);
        (0..3).for_each(|n| world::client(&world, n, 20, memory.clone(), running.clone()));
        assert!(world.sim.run_until(STEPS_MAX, || running.get() == 0));
        let acknowledged = memory.borrow().acknowledged.clone();
        (acknowledged, world.sim.now())
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12));
}

#[test]
fn a_stopped_member_finishes_what_it_admitted() {
    for seed in world::seeds(30) {
        let world = World::new(seed, 1);
        let memory = Rc::new(RefCell::new(Memory::default()));
        let running = Rc::new(Cell::new(0));
        world.start(0);
        let shard = world.serving(0).expect("it serves");
        (0..4).for_each(|n| world::client(&world, n, 30, memory.clone(), running.clone()));
        world.sim.run_until(world.sim.below(500), || false);
        shard.stop();
        drop(shard);
        let node = &world.nodes[0];
        assert!(
            world.sim.run_until(STEPS_MAX, || node.ended.borrow().is_some()),
            "seed {seed}: does not end"
        );
        assert_eq!(*node.ended.borrow(), Some(Ok(())), "seed {seed}");
        world.crash(0);
        world.start(0);
        let shard = world.serving(0).expect("it serves again");
        memory.borrow().check(&shard);
    }
}
