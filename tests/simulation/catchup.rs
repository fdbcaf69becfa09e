//! A member that was away for too long gets a checkpoint, and crashes at whatever step of putting it in place.

use std::{cell::Cell, cell::RefCell, collections::BTreeSet, rc::Rc};

use pinion::{
    env::sim::Faults,
    shard::{Due, Shard},
};

use crate::world::{self, Memory, STEPS_MAX, World};

const AWAY: usize = 2;

struct Behind {
    seed: u64,
    world: World,
    memory: Rc<RefCell<Memory>>,
    clients: Cell<u64>,
}

impl Behind {
    /// One of three members is behind by more than the others keep.
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed, 3);
        world.checkpoint = Due { entries: 10, bytes: 256 * 1024, log_bytes: 1 << 20 };
        world.catchup_entries = 2;
        (0..3).for_each(|at| world.start(at));
        let behind = Behind { seed, world, memory: Rc::default(), clients: Cell::new(0) };
        behind.write(5);
        behind.agree();
        let isolated = BTreeSet::from([behind.world.nodes[AWAY].id.0]);
        behind.world.sim.set_faults(Faults { isolated, ..Faults::default() });
        behind.write(60);
        behind.world.sim.set_faults(Faults::default());
        assert_eq!(behind.world.carried.get(), 0, "seed {seed}");
        behind
    }

    /// One more client writes.
    fn write(&self, writes: u64) {
        let running = Rc::new(Cell::new(0));
        let number = self.clients.replace(self.clients.get() + 1);
        world::client(&self.world, number, writes, self.memory.clone(), running.clone());
        let seed = self.seed;
        assert!(
            self.world.sim.run_until(STEPS_MAX, || running.get() == 0),
            "seed {seed}: the client is stuck"
        );
    }

    /// All members have come to the same entry, and have what was acknowledged.
    fn agree(&self) {
        let shards = || -> Option<Vec<Shard>> {
            self.world.nodes.iter().map(|node| node.shard.borrow().clone()).collect()
        };
        let agreed = || {
            shards().is_some_and(|shards| {
                let applied: BTreeSet<_> = shards.iter().map(|shard| shard.status().applied).collect();
                applied.len() == 1 && shards.iter().any(Shard::can_read)
            })
        };
        let seed = self.seed;
        assert!(self.world.sim.run_until(STEPS_MAX, agreed), "seed {seed}: members do not agree");
        shards().expect("just seen").iter().for_each(|shard| self.memory.borrow().check(shard));
    }

    /// Steps until the checkpoint has come.
    fn steps(&self) -> u64 {
        let mut steps = 0;
        while self.world.carried.get() == 0 {
            assert!(self.world.sim.step() && steps < STEPS_MAX, "seed {}: no checkpoint comes", self.seed);
            steps += 1;
        }
        steps
    }
}

#[test]
fn a_crash_while_a_checkpoint_is_put_in_place_loses_nothing() {
    for seed in world::seeds(2) {
        let came = Behind::new(seed).steps();
        for steps in came.saturating_sub(60)..came + 40 {
            let behind = Behind::new(seed);
            for _ in 0..steps {
                behind.world.sim.step();
            }
            behind.world.crash(AWAY);
            behind.world.start(AWAY);
            behind.agree();
            // And once more, from what the log says now.
            behind.write(1);
            behind.world.crash(AWAY);
            behind.world.start(AWAY);
            behind.agree();
        }
    }
}
