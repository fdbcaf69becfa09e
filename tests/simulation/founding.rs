//! A first start that is cut off anywhere: the next one goes on with it, or founds the member anew, and never refuses.

use std::{cell::RefCell, path::PathBuf, rc::Rc};

use crate::{
    checkpoint::{self, Known},
    world::{self, World},
};

fn world(seed: u64) -> World {
    let mut world = World::new(seed, 1);
    world.wal_dir = seed.is_multiple_of(2).then(|| PathBuf::from("/log"));
    world
}

/// It serves, takes writes, and has them after a crash.
fn lives(world: World, what: &str) {
    let (world, known) = (Rc::new(world), Rc::new(RefCell::new(Known::new())));
    for _ in 0..2 {
        world.start(0);
        let shard = world.serving(0).unwrap_or_else(|error| panic!("{what}: {error}"));
        known.borrow_mut().settle(&shard, 0);
        checkpoint::client(world.clone(), known.clone(), shard);
        world.sim.run_until(200, || false);
        world.crash(0);
        checkpoint::end_client(&world);
    }
}

#[test]
fn a_first_start_that_is_cut_off_at_any_step_is_made_good_by_the_next() {
    for seed in world::seeds(2) {
        for steps in 0.. {
            let first = world(seed);
            first.start(0);
            let served = (0..steps).any(|_| {
                first.sim.step();
                first.nodes[0].shard.borrow().is_some()
            });
            first.crash(0);
            if first.sim.chance(300) {
                // And the second one is cut off as well.
                first.start(0);
                first.sim.run_until(first.sim.below(120), || false);
                first.crash(0);
            }
            lives(first, &format!("seed {seed}, cut off after {steps} steps"));
            if served {
                assert!(steps > 50, "seed {seed}: a start of {steps} steps");
                break;
            }
        }
    }
}
