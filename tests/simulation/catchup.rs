//! A member that was away gets what it lacks from the log, and if that does not have it, a checkpoint; whoever crashes at
//! whatever step of it, and however slow the way.

use std::{cell::Cell, cell::RefCell, collections::BTreeSet, rc::Rc, time::Duration};

use pinion::{
    env::sim::{Faults, LinkFault},
    pb::etcdserverpb as pb,
    shard::{Due, Shard},
    state::Principal,
};

use crate::world::{self, Memory, STEPS_MAX, World};

const AWAY: usize = 2;
const STEPS_BETWEEN: u64 = 25;
/// Some elections.
const MISSED_AFTER: Duration = Duration::from_secs(2);
/// To two others and from them.
const LINKS_OF_ONE: u64 = 4;
/// Checkpoints are frequent, and the log keeps little.
const OFTEN: Due = Due { entries: 10, bytes: 256 * 1024, log_bytes: 1 << 20 };
/// The log has everything.
const NEVER: Due = Due { entries: u64::MAX, bytes: usize::MAX, log_bytes: u64::MAX };
/// Some segments of log, of a batch for each.
const MANY: u64 = 400;
/// Of a value that makes a slow link feel it.
const VALUE_BYTES: usize = 8 * 1024;
const CRASHES: u64 = 24;
/// Each time 64 KiB go over a link: several times less than is written.
const SLOW: Duration = Duration::from_millis(80);
/// Entries that are just under way.
const IN_STEP: u64 = 4;

struct Behind {
    seed: u64,
    world: World,
    memory: Rc<RefCell<Memory>>,
    clients: Cell<u64>,
}

impl Behind {
    /// One of three members is behind by more than the others keep.
    fn new(seed: u64, sockets: bool) -> Self {
        let behind = Self::together(seed, sockets, OFTEN);
        behind.leave(60);
        behind
    }

    /// One of three members is behind by more than the others have in memory.
    fn in_the_log(seed: u64, sockets: bool) -> Self {
        let behind = Self::together(seed, sockets, NEVER);
        behind.leave(MANY);
        behind
    }

    fn together(seed: u64, sockets: bool, checkpoint: Due) -> Self {
        let mut world = World::new(seed, 3);
        world.sockets = sockets;
        world.checkpoint = checkpoint;
        world.catchup_entries = 2;
        Self::of(seed, world)
    }

    fn of(seed: u64, world: World) -> Self {
        (0..3).for_each(|at| world.start(at));
        let behind = Behind { seed, world, memory: Rc::default(), clients: Cell::new(0) };
        behind.write(5);
        behind.agree();
        behind
    }

    /// So much is written while it is away; now it is back.
    fn leave(&self, writes: u64) {
        self.cut_off();
        self.write(writes);
        self.world.sim.set_faults(Faults::default());
        assert_eq!(self.checkpoints(), 0, "seed {}", self.seed);
    }

    /// Those that came from one member to another.
    fn checkpoints(&self) -> u64 {
        self.world.carried.get() + self.world.received()
    }

    /// Only little goes from others to the member at a time, and from it.
    fn slow_down(&self) {
        let away = self.world.nodes[AWAY].id.0;
        let ids = self.world.nodes[..AWAY].iter().map(|node| node.id.0);
        let links = ids.flat_map(|id| [(id, away), (away, id)]).map(|link| (link, LinkFault::Slow(SLOW)));
        self.world.sim.set_faults(Faults { links: links.collect(), ..Faults::default() });
    }

    /// Somebody writes long values through members that are not away, until told to end or so many are written. How many
    /// were, and whether it goes on.
    fn write_long(&self, writes: u64) -> (Rc<Cell<u64>>, Rc<Cell<bool>>) {
        let (written, goes_on) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(true)));
        let shards: Vec<_> = self.world.nodes[..AWAY].iter().map(|node| node.shard.clone()).collect();
        let (sim, count, on) = (self.world.sim.clone(), written.clone(), goes_on.clone());
        self.world.sim.spawn(world::client_id(800), async move {
            while on.get() && count.get() < writes {
                let shard = shards[sim.below(shards.len() as u64) as usize].borrow().clone();
                let Some(shard) = shard else {
                    sim.sleep(Duration::from_millis(5)).await;
                    continue;
                };
                let key = format!("long/{}", sim.below(60));
                let put = pb::PutRequest {
                    key: key.into(),
                    value: vec![b'x'; VALUE_BYTES].into(),
                    ..Default::default()
                };
                match shard.write(&Principal::default(), put).await {
                    Ok(_) => count.set(count.get() + 1),
                    Err(_) => sim.sleep(Duration::from_millis(sim.below(20))).await,
                }
            }
            on.set(false);
        });
        (written, goes_on)
    }

    /// Until the member has come as near to the others as who is in step with them.
    fn wait_until_in_step(&self, or: &str) {
        let applied = |at: usize| {
            let shard = self.world.nodes[at].shard.borrow().clone();
            shard.map(|shard| shard.status().applied.0)
        };
        self.wait(or, || match (applied(0).max(applied(1)), applied(AWAY)) {
            (Some(others), Some(away)) => others - away.min(others) <= IN_STEP,
            _ => false,
        });
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

#[test]
fn what_memory_has_no_more_comes_from_the_log() {
    for seed in world::seeds(6) {
        let behind = Behind::in_the_log(seed, seed % 2 == 1);
        behind.agree();
        assert_eq!(behind.checkpoints(), 0, "seed {seed}: it needs none");
        // And from where it is read on while it grows.
        behind.leave(MANY / 4);
        behind.agree();
        assert_eq!(behind.checkpoints(), 0, "seed {seed}: it needs none");
    }
}

#[test]
fn a_crash_of_either_side_while_the_log_is_read_back_loses_nothing() {
    for seed in world::seeds(2) {
        let behind = Behind::in_the_log(seed, false);
        let mut steps = 0;
        let has_all = |behind: &Behind| {
            let status =
                |at: usize| behind.world.nodes[at].shard.borrow().as_ref().map(|s| s.status().applied);
            status(AWAY) >= status(0).max(status(1))
        };
        while !has_all(&behind) {
            assert!(behind.world.sim.step() && steps < STEPS_MAX);
            steps += 1;
        }
        for crash in 0..CRASHES {
            let behind = Behind::in_the_log(seed, false);
            for _ in 0..steps * crash / CRASHES {
                behind.world.sim.step();
            }
            let leads = |at: &usize| {
                behind.world.nodes[*at].shard.borrow().as_ref().is_some_and(|shard| shard.status().is_leader)
            };
            let at = match crash % 3 {
                0 => AWAY,
                1 => (0..AWAY).find(leads).unwrap_or(0),
                _ => (0..AWAY).find(|at| !leads(at)).unwrap_or(1),
            };
            behind.world.crash(at);
            behind.world.start(at);
            behind.agree();
            behind.write(1);
            behind.agree();
            assert_eq!(behind.checkpoints(), 0, "seed {seed}: the log has it all");
        }
    }
}

#[test]
fn what_is_damaged_or_cannot_be_read_is_not_sent() {
    for seed in world::seeds(6) {
        let behind = Behind::together(seed, false, NEVER);
        behind.cut_off();
        behind.write(MANY);
        for node in &behind.world.nodes[..AWAY] {
            if seed % 2 == 0 {
                node.disk.set_unreadable(true);
                continue;
            }
            let is_segment = |path: &std::path::Path| path.extension().is_some_and(|name| name == "wal");
            let files = node.disk.files().into_iter().filter(|(path, _)| is_segment(path));
            let (first, _) = files.min().expect("it has a log");
            // Somewhere in each of some batches, in the header or in what it brings.
            for batch in 10..MANY / 2 {
                let at = 4096 * (1 + batch) + behind.world.sim.below(80);
                assert!(
                    node.disk.corrupt(&first, at, 1 << behind.world.sim.below(8)),
                    "the segment is longer"
                );
            }
        }
        behind.world.sim.set_faults(Faults::default());
        behind.wait("no checkpoint comes in place of the log", || behind.checkpoints() > 0);
        behind.agree();
    }
}

#[test]
fn a_checkpoint_slower_than_the_writes_comes_and_the_log_from_there() {
    for seed in world::seeds(2) {
        let mut world = World::new(seed, 3);
        world.sockets = true;
        world.catchup_entries = 2;
        world.checkpoint = Due { entries: 400, bytes: 1 << 20, log_bytes: 8 << 20 };
        world.checkpoint_rate = 1_000_000;
        let behind = Behind::of(seed, world);
        behind.cut_off();
        let (written, _) = behind.write_long(200);
        behind.wait("nobody writes", || written.get() >= 200);
        let (written, goes_on) = behind.write_long(u64::MAX);
        behind.world.sim.set_faults(Faults::default());
        behind.wait("no checkpoint comes", || behind.checkpoints() > 0);
        let during = written.get();
        behind.wait_until_in_step("it never catches up");
        assert!(during > 100 && goes_on.get(), "seed {seed}: {during} writes meanwhile");
        goes_on.set(false);
        behind.agree();
    }
}

#[test]
fn over_a_link_slower_than_the_writes_it_gets_all_once_and_comes_when_they_end() {
    for seed in world::seeds(2) {
        let behind = Behind::together(seed, true, NEVER);
        behind.leave(MANY);
        behind.agree();
        behind.slow_down();
        let (written, goes_on) = behind.write_long(400);
        behind.wait("nobody writes", || written.get() >= 200);
        let applied = |at: usize| {
            behind.world.nodes[at].shard.borrow().as_ref().map_or(0, |shard| shard.status().applied.0)
        };
        assert!(applied(0).max(applied(1)) > applied(AWAY) + 50, "seed {seed}: the link is too fast");
        behind.wait("the writers end", || !goes_on.get());
        behind.wait_until_in_step("it never catches up");
        assert_eq!(behind.checkpoints(), 0, "seed {seed}: the log has it all");
        behind.world.sim.set_faults(Faults::default());
        behind.agree();
    }
}

#[test]
fn who_is_needed_for_a_quorum_has_the_writes_go_at_its_pace() {
    for seed in world::seeds(2) {
        let behind = Behind::together(seed, true, NEVER);
        behind.cut_off();
        let (written, _) = behind.write_long(300);
        behind.wait("nobody writes", || written.get() >= 300);
        let leads = |at: &usize| {
            behind.world.nodes[*at].shard.borrow().as_ref().is_some_and(|shard| shard.status().is_leader)
        };
        let other = (0..AWAY).find(|at| !leads(at)).expect("one of them leads");
        behind.world.crash(other);
        behind.slow_down();
        let (written, goes_on) = behind.write_long(50);
        behind.wait("writers wait in vain", || !goes_on.get() && written.get() >= 50);
        behind.wait_until_in_step("it never catches up");
        behind.world.start(other);
        behind.agree();
    }
}
