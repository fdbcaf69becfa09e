//! Three members through lost, repeated and late messages, partitions, crashes of one or of all, and checkpoints beside.
//!
//! Each round is a storm and a calm. In the storm only safety counts: every linearizable read is checked as it comes. In
//! the calm a quorum is whole, the rest may be dead, and clients must get on. At the end everybody heals and agrees.

use std::{cell::Cell, cell::RefCell, collections::BTreeSet, rc::Rc, time::Duration};

use pinion::{
    env::sim::Faults,
    pb::etcdserverpb as pb,
    shard::{Due, Shard},
    state::Principal,
};

use crate::world::{self, Memory, Node, STEPS_MAX, World};

const ROUNDS: usize = 5;
const WRITERS: u64 = 3;
const READERS: u64 = 3;
/// Writes and linearizable reads that a calm must bring.
const PROGRESS: u64 = 30;
/// Entries that members keep for slow followers: one that is further behind gets a checkpoint.
const CATCHUP_ENTRIES: u64 = 20;

/// What a world showed.
struct Seen {
    acknowledged: u64,
    read: u64,
    /// Of all members together.
    checkpoints: usize,
    /// From one member to another.
    carried: u64,
}

struct Members {
    seed: u64,
    world: World,
    memory: Rc<RefCell<Memory>>,
    running: Rc<Cell<u64>>,
    checkpoints: BTreeSet<(usize, std::path::PathBuf)>,
}

impl Members {
    fn new(seed: u64, sockets: bool) -> Self {
        let mut world = World::new(seed, 3);
        world.sockets = sockets;
        world.checkpoint = Due { entries: 5 + world.sim.below(40), bytes: 256 * 1024, log_bytes: 1 << 20 };
        world.catchup_entries = (1 + world.sim.below(CATCHUP_ENTRIES)) as usize;
        (0..3).for_each(|at| world.start(at));
        let (memory, running) = (Rc::new(RefCell::new(Memory::default())), Rc::new(Cell::new(0)));
        (0..WRITERS).for_each(|n| world::client(&world, n, u64::MAX, memory.clone(), running.clone()));
        (0..READERS).for_each(|n| reader(&world, n, memory.clone(), running.clone()));
        Members { seed, world, memory, running, checkpoints: BTreeSet::new() }
    }

    /// Messages are lost, repeated and late, one member may be cut off, and some or all crash.
    fn storm(&mut self) {
        let sim = &self.world.sim;
        let cut_off = BTreeSet::from([1 + sim.below(3)]);
        sim.set_faults(Faults {
            drop_permille: sim.below(100),
            duplicate_permille: sim.below(100),
            delay_max: Duration::from_micros(1 + sim.below(5_000)),
            isolated: if sim.chance(400) { cut_off } else { BTreeSet::new() },
            ..Faults::default()
        });
        for _ in 0..1 + sim.below(3) {
            sim.run_until(1 + sim.below(6_000), || false);
            let crashing = (0..3).filter(|_| sim.chance(350)).collect::<Vec<usize>>();
            crashing.iter().for_each(|at| self.world.crash(*at));
            sim.run_until(sim.below(2_000), || false);
            crashing.iter().for_each(|at| self.world.start(*at));
        }
    }

    /// A quorum, or everybody, is whole: clients get on.
    fn calm(&mut self) {
        let sim = &self.world.sim;
        let lost = sim.below(3) as usize;
        let (dead, cut_off) = (sim.chance(400), sim.chance(300));
        let isolated = if cut_off { BTreeSet::from([self.world.nodes[lost].id.0]) } else { BTreeSet::new() };
        sim.set_faults(Faults { isolated, ..Faults::default() });
        if dead {
            self.world.crash(lost);
        }
        self.progress(&format!("member {lost} dead: {dead}, cut off: {cut_off}"));
        if dead {
            self.world.start(lost);
        }
    }

    fn progress(&mut self, while_what: &str) {
        let count = || {
            let memory = self.memory.borrow();
            (memory.acknowledged.len() as u64, memory.read)
        };
        let (acknowledged, read) = count();
        let enough = || {
            let now = count();
            now.0 >= acknowledged + PROGRESS && now.1 >= read + PROGRESS
        };
        let got_on = self.world.sim.run_until(STEPS_MAX, enough);
        let (seed, now) = (self.seed, count());
        assert!(
            got_on,
            "seed {seed}, {while_what}: {now:?} after {acknowledged}, {read}: {:?}",
            self.positions()
        );
        for at in 0..3 {
            self.checkpoints.extend(self.world.checkpoint_segments(at).into_iter().map(|path| (at, path)));
        }
    }

    /// Everybody heals, clients end, and all members are the same.
    fn end(mut self) -> Seen {
        self.world.sim.set_faults(Faults::default());
        self.progress("everybody whole");
        self.memory.borrow_mut().over = true;
        let seed = self.seed;
        let running = || self.running.get() == 0;
        assert!(self.world.sim.run_until(STEPS_MAX, running), "seed {seed}: clients are stuck");
        let settled = || {
            self.shards().is_some_and(|shards| {
                let applied: BTreeSet<_> = shards.iter().map(|shard| shard.status().applied).collect();
                let leaders = shards.iter().filter(|shard| shard.can_read()).count();
                let whole = |shard: &Shard| shard.status().committed == shard.status().applied;
                applied.len() == 1 && leaders == 1 && shards.iter().all(whole)
            })
        };
        let agreed = self.world.sim.run_until(STEPS_MAX, settled);
        assert!(agreed, "seed {seed}: members do not agree: {:?}", self.positions());
        let all = pb::RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
        let states: Vec<_> = self
            .shards()
            .expect("all run")
            .iter()
            .map(|shard| {
                self.memory.borrow().check(shard);
                shard.with_state(|state| state.range(&all)).expect("readable")
            })
            .collect();
        assert!(states.windows(2).all(|pair| pair[0] == pair[1]), "seed {seed}: members differ");
        let memory = self.memory.borrow();
        let (acknowledged, read) = (memory.acknowledged.len() as u64, memory.read);
        let carried = self.world.carried.get() + self.world.received();
        Seen { acknowledged, read, checkpoints: self.checkpoints.len(), carried }
    }

    fn shards(&self) -> Option<Vec<Shard>> {
        self.world.nodes.iter().map(|node| node.shard.borrow().clone()).collect()
    }

    /// Where members stand, or how they ended.
    fn positions(&self) -> Vec<impl std::fmt::Debug> {
        let position = |node: &Node| {
            let status = node.shard.borrow().as_ref().map(Shard::status);
            status.map(|s| (s.leader, s.term, s.committed, s.applied)).ok_or(node.ended.borrow().clone())
        };
        self.world.nodes.iter().map(position).collect()
    }
}

/// Reads keys through any member that answers, and checks what it sees: nothing older than what was acknowledged or
/// seen before the read began, nothing that was never sent.
fn reader(world: &World, number: u64, memory: Rc<RefCell<Memory>>, running: Rc<Cell<u64>>) {
    let sim = world.sim.clone();
    let shards: Vec<_> = world.nodes.iter().map(|node| node.shard.clone()).collect();
    running.set(running.get() + 1);
    world.sim.spawn(world::client_id(100 + number), async move {
        while !memory.borrow().over {
            sim.sleep(Duration::from_micros(sim.below(2_000))).await;
            let able = shards.iter().filter_map(|shard| shard.borrow().clone()).collect::<Vec<_>>();
            let Some(shard) = able.get(sim.below(able.len().max(1) as u64) as usize) else { continue };
            let key = world::key(sim.below(WRITERS), sim.below(4));
            let (least, least_revision) = memory.borrow().least(&key);
            let request = pb::RangeRequest { key: key.clone().into(), ..Default::default() };
            let answer = match shard.linearize().await {
                Ok(()) => shard.range(&Principal::default(), request).await,
                Err(error) => Err(error),
            };
            let Ok(answer) = answer else {
                sim.sleep(Duration::from_millis(sim.below(20))).await;
                continue;
            };
            let response = answer.whole();
            let revision = response.header.expect("a header").revision;
            let value = response.kvs.first().map_or(0, |kv| world::number(&kv.value));
            let mut memory = memory.borrow_mut();
            let sent = memory.sent.get(&key).copied().unwrap_or(0);
            assert!(value >= least, "{key} was read as {value}, and {least} was there before");
            assert!(value <= sent, "{key} was read as {value}, only {sent} was sent");
            assert!(revision >= least_revision, "revision {revision}, and {least_revision} was there before");
            memory.see(key, value, revision);
            memory.read += 1;
        }
        running.set(running.get() - 1);
    });
}

#[test]
fn three_members_agree_lose_nothing_and_get_on() {
    agree(40, false);
}

#[test]
fn three_members_agree_over_sockets() {
    agree(4, true);
}

fn agree(seeds: u64, sockets: bool) {
    let seeds = world::seeds(seeds);
    let count = seeds.clone().count();
    let (mut checkpoints, mut carried) = (0, 0);
    for seed in seeds {
        let mut members = Members::new(seed, sockets);
        for _ in 0..ROUNDS {
            members.storm();
            members.calm();
        }
        let seen = members.end();
        let least = PROGRESS * (ROUNDS as u64 + 1);
        assert!(seen.acknowledged >= least && seen.read >= least, "seed {seed}: nothing was tested");
        checkpoints += seen.checkpoints;
        carried += seen.carried;
    }
    assert!(checkpoints >= 10 * count, "{checkpoints} checkpoints in {count} worlds");
    assert!(carried >= count as u64, "{carried} checkpoints were carried in {count} worlds");
}
