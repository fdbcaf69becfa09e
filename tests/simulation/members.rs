//! Three members through lost, repeated and late messages, partitions and crashes.

use std::{cell::Cell, cell::RefCell, collections::BTreeSet, rc::Rc, time::Duration};

use pinion::{env::sim::Faults, pb::etcdserverpb as pb};

use crate::world::{self, Memory, STEPS_MAX, World};

fn three(seed: u64) {
    let world = World::new(seed, 3);
    let memory = Rc::new(RefCell::new(Memory::default()));
    let running = Rc::new(Cell::new(0));
    (0..3).for_each(|at| world.start(at));
    (0..3).for_each(|n| world::client(&world, n, 80, memory.clone(), running.clone()));
    for _ in 0..5 {
        let isolated = BTreeSet::from([1 + world.sim.below(3)]);
        world.sim.set_faults(Faults {
            drop_permille: world.sim.below(100),
            duplicate_permille: world.sim.below(100),
            delay_max: Duration::from_micros(1 + world.sim.below(5_000)),
            isolated: if world.sim.chance(400) { isolated } else { BTreeSet::new() },
        });
        world.sim.run_until(1 + world.sim.below(6_000), || false);
        if world.sim.chance(600) {
            let at = world.sim.below(3) as usize;
            world.crash(at);
            world.sim.run_until(world.sim.below(2_000), || false);
            world.start(at);
        }
    }
    // Safety was stressed; now faults stop and everything must finish.
    world.sim.set_faults(Faults::default());
    assert!(world.sim.run_until(STEPS_MAX, || running.get() == 0), "seed {seed}: clients are stuck");
    let shards = || world.nodes.iter().map(|node| node.shard.borrow().clone()).collect::<Option<Vec<_>>>();
    let settled = || {
        shards().is_some_and(|shards| {
            let applied: BTreeSet<_> = shards.iter().map(|s| s.status().applied).collect();
            let leaders = shards.iter().filter(|s| s.can_read()).count();
            applied.len() == 1
                && leaders == 1
                && shards.iter().all(|s| s.status().committed == s.status().applied)
        })
    };
    let agreed = world.sim.run_until(STEPS_MAX, settled);
    let positions = || {
        let position = |node: &world::Node| {
            let shard = node.shard.borrow();
            let status = shard.as_ref().map(|s| s.status());
            status.map(|s| (s.leader, s.term, s.committed, s.applied)).ok_or(node.ended.borrow().clone())
        };
        world.nodes.iter().map(position).collect::<Vec<_>>()
    };
    assert!(agreed, "seed {seed}: members do not agree: {:?}", positions());
    let everything = pb::RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
    let states: Vec<_> = shards()
        .expect("all run")
        .iter()
        .map(|shard| {
            memory.borrow().check(shard);
            shard.with_state(|state| state.range(&everything)).expect("readable")
        })
        .collect();
    assert!(states.windows(2).all(|pair| pair[0] == pair[1]), "seed {seed}: members differ");
}

#[test]
fn three_members_agree_and_lose_nothing() {
    for seed in world::seeds(60) {
        three(seed);
    }
}
