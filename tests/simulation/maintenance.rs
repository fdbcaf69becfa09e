//! What runs beside serving, on the simulated clock: automatic compaction, hashes while everything else goes on.

use std::{cell::Cell, cell::RefCell, rc::Rc, time::Duration};

use pinion::{
    env::{
        Env,
        sim::{Faults, SimEnv},
    },
    inquiry::Inquiry,
    shard::{AutoCompaction, CorruptionChecks, Duty, Others},
};

use crate::world::{self, Memory, STEPS_MAX, World};

fn loaded(world: &World, writes: u64) -> (Rc<RefCell<Memory>>, Rc<Cell<u64>>) {
    let (memory, running) = (Rc::new(RefCell::new(Memory::default())), Rc::new(Cell::new(0)));
    (0..2).for_each(|n| world::client(world, n, writes, memory.clone(), running.clone()));
    (memory, running)
}

fn env(world: &World) -> SimEnv {
    SimEnv::new(&world.sim, world.nodes[0].id, world.nodes[0].disk.clone())
}

fn duty(world: &World) -> Duty {
    world.nodes[0].duty.borrow().clone()
}

#[test]
fn periodic_compaction_follows_one_period_behind() {
    let period = Duration::from_secs(2);
    for seed in world::seeds(3) {
        let world = World::new(seed, 1);
        world.start(0);
        let shard = world.serving(0).expect("it serves");
        world.sim.spawn(
            world.nodes[0].id,
            AutoCompaction::Periodic(period).run(env(&world), shard.clone(), duty(&world)),
        );
        let began = env(&world).now();
        // The revision at each moment, and every compaction with the moment it was seen.
        let (mut revisions, mut compactions) = (vec![(began, 1)], vec![(began, -1)]);
        while env(&world).now().since(began) < 5 * period {
            let (_, running) = loaded(&world, 3);
            assert!(world.sim.run_until(STEPS_MAX, || running.get() == 0), "seed {seed}: clients are stuck");
            let until = env(&world).now().since(began) + period / 20;
            world.sim.run_until(STEPS_MAX, || env(&world).now().since(began) > until);
            let (now, status) = (env(&world).now(), shard.status());
            revisions.push((now, status.revision.0));
            if compactions.last().is_some_and(|last| last.1 != status.compact_revision.0) {
                compactions.push((now, status.compact_revision.0));
            }
        }
        assert!(compactions.len() >= 4, "seed {seed}: {compactions:?}");
        for (at, compacted) in compactions.into_iter().skip(1) {
            assert!(at.since(began) >= period, "seed {seed}: compacted before a period was over");
            let written = revisions.iter().find(|(_, revision)| *revision >= compacted).expect("it was seen");
            let age = at.since(written.0);
            assert!(age >= period * 3 / 4, "seed {seed}: {compacted} was compacted at an age of {age:?}");
        }
    }
}

#[test]
fn revision_compaction_keeps_so_many() {
    let world = World::new(1, 1);
    world.start(0);
    let shard = world.serving(0).expect("it serves");
    let (_, running) = loaded(&world, 100);
    assert!(world.sim.run_until(STEPS_MAX, || running.get() == 0), "clients are stuck");
    world.sim.spawn(
        world.nodes[0].id,
        AutoCompaction::Revisions(50).run(env(&world), shard.clone(), duty(&world)),
    );
    let compacted = || shard.status().compact_revision.0 > 0;
    assert!(world.sim.run_until(STEPS_MAX, compacted), "nothing was compacted");
    assert_eq!(shard.status().compact_revision.0, shard.status().revision.0 - 50);
}

/// Members that free at different times hash the same, and checks under load raise nothing.
#[test]
fn hashes_of_the_same_history_agree() {
    for seed in world::seeds(10) {
        let world = World::new(seed, 1);
        world.start(0);
        let shard = world.serving(0).expect("it serves");
        let often = Duration::from_millis(20);
        let checks = CorruptionChecks { initial: true, interval: often, compacted: often };
        let others = || Others::new(&shard, Inquiry::new(&env(&world), Duration::from_secs(1)));
        let parts = || (env(&world), shard.clone(), duty(&world), others());
        let (own, of, on, with) = parts();
        world.sim.spawn(world.nodes[0].id, checks.run(own, of, on, with));
        let (own, of, on, with) = parts();
        world.sim.spawn(world.nodes[0].id, checks.run_compacted(own, of, on, with));
        let keep = AutoCompaction::Periodic(Duration::from_millis(300));
        world.sim.spawn(world.nodes[0].id, keep.run(env(&world), shard.clone(), duty(&world)));
        let (_, running) = loaded(&world, 300);
        assert!(world.sim.run_until(STEPS_MAX, || running.get() == 0), "seed {seed}: clients are stuck");
        assert!(shard.alarms().list(0).is_empty(), "seed {seed}: {:?}", shard.alarms());
        let hash = |world: &World| {
            let seen = Rc::new(Cell::new(None));
            let (shard, result) = (world.serving(0).expect("it serves"), seen.clone());
            world.sim.spawn(world.nodes[0].id, async move { result.set(Some(shard.hash_kv(0).await)) });
            assert!(world.sim.run_until(STEPS_MAX, || {
                let hash = seen.take();
                seen.set(hash);
                hash.is_some()
            }));
            seen.take().expect("it is there")
        };
        let before = hash(&world);
        assert!(before.is_ok());
        drop(shard);
        world.crash(0);
        world.start(0);
        // Nothing has been freed since the replay began from the first entry.
        assert_eq!(hash(&world), before, "seed {seed}");
    }
}

/// Upkeep hears of leadership: the tasks go on where the leader is, and end where it was.
#[test]
fn what_the_leader_does_moves_with_leadership() {
    for seed in world::seeds(5) {
        let world = World::new(seed, 3);
        (0..3).for_each(|at| world.start(at));
        let duties = || -> Vec<_> { world.nodes.iter().map(|node| node.duty.borrow().term()).collect() };
        assert!(world.sim.run_until(STEPS_MAX, || duties().iter().flatten().count() == 1), "seed {seed}");
        let first = duties().iter().position(Option::is_some).expect("just seen");
        let keep = AutoCompaction::Periodic(Duration::from_millis(300));
        for (at, node) in world.nodes.iter().enumerate() {
            let env = SimEnv::new(&world.sim, node.id, node.disk.clone());
            let shard = world.nodes[at].shard.borrow().clone().expect("all run");
            world.sim.spawn(node.id, keep.run(env, shard, node.duty.borrow().clone()));
        }
        let (_, running) = loaded(&world, 100);
        assert!(world.sim.run_until(STEPS_MAX, || running.get() == 0), "seed {seed}: clients are stuck");
        let isolated = [world.nodes[first].id.0].into();
        world.sim.set_faults(Faults { isolated, ..Faults::default() });
        let moved = || duties()[first].is_none() && duties().iter().flatten().count() == 1;
        assert!(world.sim.run_until(STEPS_MAX, moved), "seed {seed}: {:?}", duties());
        let second = duties().iter().position(Option::is_some).expect("just seen");
        let shard = world.nodes[second].shard.borrow().clone().expect("it runs");
        let before = shard.status().compact_revision.0;
        let (_, running) = loaded(&world, 50);
        let compacted = || running.get() == 0 && shard.status().compact_revision.0 > before;
        assert!(world.sim.run_until(STEPS_MAX, compacted), "seed {seed}: the new leader does not compact");
    }
}
