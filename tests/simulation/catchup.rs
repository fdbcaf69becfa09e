//! A member that was away for too long gets a checkpoint, and crashes at whatever step of putting it in place.

use std::{cell::Cell, cell::RefCell, collections::BTreeSet, rc::Rc, time::Duration};

use pinion::{
    env::sim::Faults,
    shard::{Due, Shard},
};

use crate::world::{self, Memory, STEPS_MAX, World};

const AWAY: usize = 2;
const STEPS_BETWEEN: u64 = 25;
/// Some elections.
const MISSED_AFTER: Duration = Duration::from_secs(2);
/// To two others and from them.
const LINKS_OF_ONE: u64 = 4;

struct Behind {
    seed: u64,
    world: World,
    memory: Rc<RefCell<Memory>>,
    clients: Cell<u64>,
}

impl Behind {
    /// One of three members is behind by more than the others keep.
    fn new(seed: u64, sockets: bool) -> Self {
        let mut world = World::new(seed, 3);
        world.sockets = sockets;
        world.checkpoint = Due { entries: 10, bytes: 256 * 1024, log_bytes: 1 << 20 };
        world.catchup_entries = 2;
        (0..3).for_each(|at| world.start(at));
        let behind = Behind { seed, world, memory: Rc::default(), clients: Cell::new(0) };
        behind.write(5);
        behind.agree();
        behind.cut_off();
        behind.write(60);
        behind.world.sim.set_faults(Faults::default());
        assert_eq!(behind.world.carried.get(), 0, "seed {seed}");
        behind
    }

    /// Nothing gets to it and from it, and where there are links they are lost.
    fn cut_off(&self) {
        let all_up = || !self.world.sockets || self.world.counted("etcd_network_active_peers") == 6;
        self.wait("a link is missing", all_up);
        let lost = || self.world.counted("etcd_network_disconnected_peers_total");
        let before = lost();
        let isolated = BTreeSet::from([self.world.nodes[AWAY].id.0]);
        self.world.sim.set_faults(Faults { isolated, ..Faults::default() });
        let are_lost = || !self.world.sockets || lost() >= before + LINKS_OF_ONE;
        self.wait("nobody misses the member", are_lost);
        // For as long as it counts as present, the others keep what it lacks.
        let (sim, is_missed) = (&self.world.sim, Rc::new(Cell::new(false)));
        let (timer, missed) = (sim.clone(), is_missed.clone());
        sim.spawn(world::client_id(900), async move {
            timer.sleep(MISSED_AFTER).await;
            missed.set(true);
        });
        self.wait("time does not pass", || is_missed.get());
    }

    /// Until something is so, which is looked at now and then: counting takes longer than a step.
    fn wait(&self, or: &str, is_so: impl Fn() -> bool) {
        for _ in 0..STEPS_MAX / STEPS_BETWEEN {
            if is_so() {
                return;
            }
            self.world.sim.run_until(STEPS_BETWEEN, || false);
        }
        panic!("seed {}: {or}", self.seed);
    }

    /// One more client writes.
    fn write(&self, writes: u64) {
        let running = Rc::new(Cell::new(0));
        let number = self.clients.replace(self.clients.get() + 1);
        // Through those who are not away.
        let nodes = &self.world.nodes[..AWAY];
        world::client_of(&self.world, nodes, (number, writes), self.memory.clone(), running.clone());
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
        let came = Behind::new(seed, false).steps();
        for steps in came.saturating_sub(60)..came + 40 {
            let behind = Behind::new(seed, false);
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

#[test]
fn a_transfer_goes_on_where_its_connection_was_lost() {
    for seed in world::seeds(6) {
        let behind = Behind::new(seed, true);
        let sim = &behind.world.sim;
        let under_way = || behind.world.counted("etcd_network_snapshot_receive_inflights_total") > 0;
        let failed = || behind.world.counted("etcd_network_snapshot_send_failures");
        for cuts in 0..3 {
            behind.wait(&format!("no checkpoint comes after {cuts} cuts"), || {
                under_way() || behind.world.received() > 0
            });
            sim.run_until(sim.below(30), || false);
            behind.cut_off();
            sim.set_faults(Faults::default());
        }
        behind.wait("it never comes", || behind.world.received() > 0);
        behind.agree();
        assert_eq!(failed(), 0, "seed {seed}: one transfer outlives its connections");
    }
}
