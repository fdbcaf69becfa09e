//! Clusters of three and five members with everything that can go wrong, on simulated machines.
//!
//! ```text
//! cargo test --test simulation cluster                        a few seeds
//! PINION_SEEDS=5000 cargo test --test simulation a_cluster    many
//! PINION_SEED=17 cargo test --test simulation a_cluster       one again, exactly as it was
//! PINION_SEED=1000000 cargo test --test simulation laws       each law broken, in worlds from that seed on
//! ```
//!
//! A world is some rounds of a storm and a calm. In the storm faults of the kinds that the seed has chosen come one upon
//! the other, and only safety counts: it is looked at after every step. In the calm a quorum that the seed has chosen is
//! healed, the rest stays as the storm left it or dies, and what is asked of the members must be answered. In the end all are
//! healed, agree, and have what they were told to have.
//!
//! What is checked: what clients were told is linearizable, over all members; everything acknowledged is in the one
//! history that all members have, at its revision; each read shows the keys as they were at the revision it tells,
//! whomever it asked; nobody goes back, not the revisions that clients see and not a member in one life; one leader in each
//! term; equal hashes after equal entries; watches that go from member to member are told everything once and in order;
//! no lease ends before its time; no member ever gets to a command that it does not know.

#[path = "cluster/chronicle.rs"]
mod chronicle;
#[path = "cluster/laws.rs"]
mod laws;
#[path = "cluster/membership.rs"]
mod membership;
#[path = "cluster/release.rs"]
mod release;
#[path = "cluster/storm.rs"]
mod storm;
#[path = "cluster/traffic.rs"]
mod traffic;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    path::Path,
    rc::Rc,
    time::Duration,
};

use pinion::{
    env::Law,
    pb::etcdserverpb as pb,
    shard::{Due, Keys, Pace, Shard},
};

use crate::{
    lease::{self, Ledger},
    watch,
    world::{self, Node, STEPS_MAX, World},
};

use chronicle::Chronicle;
pub use chronicle::hash;
pub use membership::{Change, operate};
pub use release::newer;
use storm::{Kind, Storm};
use traffic::Traffic;

const ROUNDS: usize = 3;
const CLIENTS: u64 = 4;
/// Writes and linearizable reads that a calm must bring.
const PROGRESS: u64 = 20;

/// What a world showed, so that nobody takes one for a test in which nothing happened.
#[derive(Debug, Default)]
pub struct Seen {
    written: u64,
    read: u64,
    carried: u64,
    terms: u64,
    replaced: u64,
    wiped: u64,
    marked: u64,
    alone: u64,
}

struct Cluster {
    seed: u64,
    world: World,
    /// Which of the world's members belong to the cluster now, and how many were replaced.
    members: Vec<usize>,
    replaced: u64,
    /// Who leaves, or did last: without it the others may go on to what it does not know.
    leaves: Option<usize>,
    wiped: u64,
    /// It begins with the older release and goes on to the newer one.
    is_mixed: bool,
    storm: Storm,
    chronicle: Chronicle,
    traffic: Rc<Traffic>,
    watchers: Vec<(Keys, Rc<RefCell<watch::Log>>)>,
    watching: Rc<watch::Seen>,
    ledger: Rc<RefCell<Ledger>>,
    /// Clients of leases.
    leasing: Rc<Cell<u64>>,
}

impl Cluster {
    fn new(seed: u64, broken: Option<Law>) -> Self {
        let members = if seed.is_multiple_of(2) { 3 } else { 5 };
        let mut world = World::with_others(seed, members, ROUNDS as u64);
        broken.into_iter().for_each(|law| world.sim.break_law(law));
        let sim = world.sim.clone();
        world.checkpoint = Due { entries: 5 + sim.below(60), bytes: 256 * 1024, log_bytes: 1 << 20 };
        world.catchup_entries = 1 + sim.below(40) as usize;
        // As real members do; or faster, and messages overtake each other more.
        world.sockets = sim.chance(400) && broken.is_none();
        world.publishes = true;
        let is_mixed = sim.chance(400);
        world.pace = Pace { keys: 1 + sim.below(6) as usize, ..world.pace };
        let storm = Storm::new(&sim);
        let traffic = Rc::new(Traffic::default());
        let watching = Rc::new(watch::Seen::default());
        (0..members as usize).for_each(|at| world.start(at));
        (0..CLIENTS).for_each(|number| traffic::client(&world, number, &traffic));
        traffic::compactor(&world, &traffic);
        let ranges = [("", "\0"), ("g0/", "g1"), ("g1/k2", "")];
        let watchers = (0..).zip(ranges).map(|(number, (key, end))| {
            let keys = Keys::new(key.as_bytes(), end.as_bytes()).expect("a range");
            let log = watch::watcher(&world, number, keys.clone(), &watching);
            (keys, log)
        });
        let watchers = watchers.collect();
        let ledger = Rc::new(RefCell::new(Ledger::with_clocks_off_by(storm::SKEW_PERMILLE)));
        let leasing = Rc::default();
        if sim.chance(250) {
            lease::client(&world, 7, ledger.clone(), Rc::clone(&leasing));
        }
        let chronicle = Chronicle::default();
        let members = (0..members as usize).collect();
        Cluster {
            seed,
            world,
            members,
            replaced: 0,
            leaves: None,
            wiped: 0,
            is_mixed,
            storm,
            chronicle,
            traffic,
            watchers,
            watching,
            ledger,
            leasing,
        }
    }

    /// Goes on until it is done; whether it is. Whatever must hold is looked at in between.
    fn run(&self, steps: u64, mut done: impl FnMut() -> bool) -> bool {
        let mut since = 0;
        self.world.sim.run_until(steps, || {
            since += 1;
            self.look_at_who_ran();
            if since % 256 == 0 {
                self.world.nodes.iter().for_each(|node| self.look_at_leases(node));
            }
            self.storm.haunt(&self.world, &self.chronicle);
            since % 8 == 0 && done()
        })
    }

    /// Nothing changes on a member but in its own turns.
    fn look_at_who_ran(&self) {
        let ran = self.world.sim.ran().0.wrapping_sub(1) as usize;
        let Some(node) = self.world.nodes.get(ran) else { return };
        if let Some(shard) = &*node.shard.borrow()
            && self.chronicle.look(shard)
        {
            self.storm.voted(&self.world, ran);
        }
        if let Some(Err(why)) = &*node.ended.borrow()
            && self.leaves != Some(ran)
        {
            assert!(!why.contains("does not know"), "seed {}: member {}: {why}", self.seed, node.id);
        }
    }

    fn look_at_leases(&self, node: &Node) {
        if let Some(shard) = &*node.shard.borrow() {
            // Who led before does not know what was granted since.
            let knows = shard.term().0 >= self.chronicle.term() || !shard.can_read();
            if knows {
                lease::check(shard, &self.ledger.borrow(), self.world.sim.now(), self.seed);
            }
        }
    }

    /// The same, with somebody who starts members again whose disk has failed them.
    fn tend(&self, mut done: impl FnMut() -> bool) -> bool {
        self.run(STEPS_MAX, || {
            self.members.iter().for_each(|at| storm::revive(&self.world, &self.chronicle, *at));
            done()
        })
    }

    fn run_for(&self, time: Duration) {
        let until = self.world.sim.now().after(time);
        self.run(STEPS_MAX, || self.world.sim.now() >= until);
    }

    /// Faults come, one upon the other; some go.
    fn storm(&mut self) {
        for _ in 0..2 + self.world.sim.below(6) {
            match self.storm.draw(&self.world.sim) {
                Kind::Succession => self.succession(),
                kind => self.storm.strike(kind, &self.world, &self.chronicle, &self.members),
            }
            self.run_for(Duration::from_micros(self.world.sim.below(250_000)));
            if self.world.sim.chance(300) {
                self.storm.heal_links(&self.world);
            }
            for at in self.members.iter().copied() {
                if self.world.sim.chance(600) {
                    storm::revive(&self.world, &self.chronicle, at);
                }
                if self.world.sim.chance(300) {
                    self.world.sim.resume(self.world.nodes[at].id);
                }
                if self.is_mixed && self.world.sim.chance(100) {
                    self.upgrade(at);
                }
            }
        }
    }

    /// A quorum decides, one of it with a slow disk, and the rest hears nothing. Then that one goes on with the rest, and the
    /// others who decided are gone: what they acknowledged must be known to it.
    fn succession(&mut self) {
        let sim = self.world.sim.clone();
        let leads = |at: &usize| self.world.nodes[*at].shard.borrow().as_ref().is_some_and(Shard::can_read);
        let Some(leader) = self.members.iter().copied().find(leads) else { return };
        let mut rest: Vec<_> = self.members.iter().copied().filter(|at| *at != leader).collect();
        let mut decide = vec![leader];
        while decide.len() < self.members.len() / 2 + 1 {
            decide.push(rest.remove(sim.below(rest.len() as u64) as usize));
        }
        let heir = storm::some(&sim, &decide);
        self.storm.silence(&self.world, leader, &rest);
        self.world.nodes[heir].disk.set_slowness(storm::some(&sim, &[5, 20, 100]));
        self.run_for(Duration::from_micros(sim.below(80_000)));
        decide.iter().for_each(|at| storm::crash(&self.world, &self.chronicle, *at));
        self.world.nodes[heir].disk.set_slowness(1);
        self.storm.unsilence(&self.world);
        for at in rest.into_iter().chain([heir]) {
            self.world.sim.resume(self.world.nodes[at].id);
            storm::revive(&self.world, &self.chronicle, at);
        }
        self.run_for(Duration::from_millis(200 + sim.below(800)));
    }

    /// The newer release takes the older one's place on a member, if it has not yet.
    fn upgrade(&self, at: usize) {
        let release = &self.world.nodes[at].release;
        if release.get().newest() < release::NEWER {
            release.set(release::newer());
            storm::crash(&self.world, &self.chronicle, at);
            self.world.start(at);
        }
    }

    /// A quorum is whole, and gets on whatever becomes of the rest.
    fn calm(&mut self) {
        let sim = self.world.sim.clone();
        let quorum = self.members.len() / 2 + 1;
        let mut whole = self.members.clone();
        if sim.chance(300) {
            // What was acknowledged must be durable in any quorum.
            whole.iter().for_each(|at| storm::crash(&self.world, &self.chronicle, *at));
        }
        while whole.len() > quorum {
            let dead = whole.remove(sim.below(whole.len() as u64) as usize);
            if sim.chance(600) {
                storm::crash(&self.world, &self.chronicle, dead);
            }
        }
        self.storm.heal(&self.world, &self.chronicle, &whole);
        self.progress(&whole);
    }

    /// One member goes for good, and another takes its place, while everybody else goes on.
    fn replace(&mut self) {
        let sim = self.world.sim.clone();
        self.storm.heal(&self.world, &self.chronicle, &self.members);
        let victim = self.members.remove(sim.below(self.members.len() as u64) as usize);
        let (id, disk) = (self.world.nodes[victim].id, &self.world.nodes[victim].disk);
        let comes = (0..self.world.nodes.len())
            .find(|at| self.world.nodes[*at].joins && !self.world.nodes[*at].has_lived.get())
            .expect("one for each round");
        self.leaves = Some(victim);
        let comes_first = sim.chance(300);
        if comes_first {
            self.join(comes);
        }
        match sim.below(4) {
            // It serves to the end.
            0 => {}
            // Its disk is lost.
            1 => storm::crash(&self.world, &self.chronicle, victim),
            // And it begins anew as who it was: nobody hears what it says.
            2 if self.knows_log_of(victim) => {
                storm::crash(&self.world, &self.chronicle, victim);
                disk.put(Path::new("/"), &BTreeMap::new());
                self.world.start(victim);
                self.wiped += 1;
                let other = self.members[sim.below(self.members.len() as u64) as usize];
                self.run_for(Duration::from_micros(sim.below(200_000)));
                storm::crash(&self.world, &self.chronicle, other);
                self.world.start(other);
                self.run_for(Duration::from_micros(sim.below(200_000)));
            }
            // Or damaged: it says so and does not start, or has everything.
            _ => {
                storm::crash(&self.world, &self.chronicle, victim);
                membership::damage(&sim, disk);
                self.world.start(victim);
                let ended = &self.world.nodes[victim].ended;
                let decided =
                    || ended.borrow().is_some() || self.world.nodes[victim].shard.borrow().is_some();
                assert!(self.run(STEPS_MAX, decided), "seed {}: it neither starts nor ends", self.seed);
            }
        }
        self.operate(Change::Remove(id));
        storm::crash(&self.world, &self.chronicle, victim);
        if !comes_first {
            self.join(comes);
        }
        for at in [comes, self.members[sim.below(self.members.len() as u64) as usize]] {
            if sim.chance(300) {
                self.run_for(Duration::from_micros(sim.below(60_000)));
                storm::crash(&self.world, &self.chronicle, at);
                self.world.start(at);
            }
        }
        let promote = Change::Promote(self.world.nodes[comes].id);
        self.operate(promote.clone());
        self.members.push(comes);
        // Until a member knows of a voter it does without, and more of the others must live. A crash makes it forget what is
        // committed, unless it has logged more since.
        let all_know = || self.shards().is_some_and(|all| all.iter().all(|shard| promote.is_there(shard)));
        assert!(self.tend(all_know), "seed {}: not all know of the new voter", self.seed);
        self.progress(&self.members);
        self.replaced += 1;
    }

    /// One more belongs to the cluster, and does not vote yet.
    fn join(&self, at: usize) {
        self.operate(Change::join(&self.world, at));
        // From here on it holds back what is in use, unless that is beyond it.
        let is_late = self.chronicle.level() >= release::NEWER;
        if self.is_mixed && (is_late || self.world.sim.chance(500)) {
            self.world.nodes[at].release.set(release::newer());
        }
        self.world.start(at);
    }

    /// Whether all others know which log the member has, and would hear of it: where the world carries frames, nobody asks.
    fn knows_log_of(&self, at: usize) -> bool {
        let id = self.world.nodes[at].id;
        let knows = |shard: &Shard| shard.log_of(id).is_some();
        self.world.sockets && self.shards().is_some_and(|shards| shards.iter().all(knows))
    }

    fn operate(&self, change: Change) {
        let what = format!("{change:?}");
        let done = membership::operate(&self.world, change);
        let done = self.tend(|| done.get());
        assert!(done, "seed {}: {what} is stuck: {:?}", self.seed, self.positions());
    }

    fn progress(&self, whole: &[usize]) {
        let count = || (self.traffic.written.get(), self.traffic.read.get());
        let before = count();
        let got_on = self.run(STEPS_MAX, || {
            // A disk that failed ends its member; whoever looks after it starts it again.
            whole.iter().for_each(|at| storm::revive(&self.world, &self.chronicle, *at));
            count().0 >= before.0 + PROGRESS && count().1 >= before.1 + PROGRESS
        });
        let (seed, now) = (self.seed, count());
        assert!(got_on, "seed {seed}, {whole:?} whole: {now:?} after {before:?}: {:?}", self.positions());
    }

    /// Where members stand, or how they ended.
    fn positions(&self) -> Vec<impl std::fmt::Debug> {
        let position = |node: &Node| {
            let status = node.shard.borrow().as_ref().map(Shard::status);
            let known = |members: &[pb::Member]| {
                members
                    .iter()
                    .map(|m| format!("{}{}", m.id, if m.is_learner { "l" } else { "" }))
                    .collect::<Vec<_>>()
            };
            let position = status.map(|s| (s.leader, s.term, s.committed, s.applied, known(&s.members)));
            position.ok_or(node.ended.borrow().clone())
        };
        self.world.nodes.iter().map(position).collect()
    }

    fn shards(&self) -> Option<Vec<Shard>> {
        self.members.iter().map(|at| self.world.nodes[*at].shard.borrow().clone()).collect()
    }

    /// Everybody heals, clients end, and all members are the same and as they were told to be.
    fn end(mut self) -> Seen {
        let seed = self.seed;
        self.storm.heal(&self.world, &self.chronicle, &self.members);
        self.progress(&self.members);
        if self.is_mixed {
            self.end_upgrade();
        }
        self.traffic.over.set(true);
        self.ledger.borrow_mut().over = true;
        let clients = || self.traffic.running.get() == 0 && self.leasing.get() == 0;
        assert!(self.tend(clients), "seed {seed}: clients are stuck");
        let no_leases = || {
            let leads = self.shards().and_then(|shards| shards.into_iter().find(Shard::can_read));
            leads.is_some_and(|shard| shard.with_state(|state| state.leases().is_empty()))
        };
        assert!(self.tend(no_leases), "seed {seed}: a lease lives for ever");
        let settled = || {
            self.shards().is_some_and(|shards| {
                let applied: BTreeSet<_> = shards.iter().map(|shard| shard.status().applied).collect();
                let leaders = shards.iter().filter(|shard| shard.can_read()).count();
                let whole = |shard: &Shard| shard.status().committed == shard.status().applied;
                applied.len() == 1 && leaders == 1 && shards.iter().all(whole)
            })
        };
        assert!(self.tend(settled), "seed {seed}: members do not agree: {:?}", self.positions());
        self.agree();
        self.watching.end.set(self.shards().expect("all run")[0].revision().0);
        let watched = self.tend(|| self.watching.running.get() == 0);
        assert!(watched, "seed {seed}: watchers do not come to the end");
        let alone = self.world.sim.chance(150);
        if alone {
            self.go_alone();
        }
        Seen { alone: alone.into(), ..self.check() }
    }

    /// Whoever is of the older release yet goes over to the newer one, and then all of it is in use.
    fn end_upgrade(&self) {
        for at in self.members.iter().copied() {
            self.upgrade(at);
            self.run_for(Duration::from_micros(self.world.sim.below(50_000)));
        }
        let is_used =
            || self.shards().is_some_and(|all| all.iter().all(|shard| shard.level() == release::NEWER));
        let seed = self.seed;
        assert!(self.tend(is_used), "seed {seed}: the newer release is not in use: {:?}", self.positions());
        let before = self.traffic.marked.get();
        assert!(self.tend(|| self.traffic.marked.get() > before), "seed {seed}: what is new is not used");
    }

    /// All members but one are lost for good, and that one goes on with everything they had.
    fn go_alone(&self) {
        let sim = &self.world.sim;
        let left = self.members[sim.below(self.members.len() as u64) as usize];
        let had = |shard: &Shard| shard.with_state(|state| (state.revision(), chronicle::hash(state)));
        let before = had(&self.shards().expect("all run")[0]);
        self.members.iter().for_each(|at| storm::crash(&self.world, &self.chronicle, *at));
        let node = &self.world.nodes[left];
        for goes_alone in [true, false] {
            // And not again: a flag that was left set does no harm, and one that was taken away is not missed.
            node.goes_alone.set(goes_alone || sim.chance(500));
            self.world.start(left);
            let serves = || node.shard.borrow().as_ref().is_some_and(Shard::can_read);
            assert!(
                self.tend_one(left, serves),
                "seed {}: it does not go on alone: {:?}",
                self.seed,
                self.positions()
            );
            let shard = node.shard.borrow().clone().expect("just seen");
            assert_eq!(had(&shard), before, "seed {}: alone it has something else", self.seed);
            shard.with_state(|state| {
                let members: Vec<_> = state.cluster().members().map(|member| member.id).collect();
                assert_eq!(members, [node.id.0], "seed {}", self.seed);
            });
            storm::crash(&self.world, &self.chronicle, left);
        }
    }

    fn tend_one(&self, at: usize, mut done: impl FnMut() -> bool) -> bool {
        self.run(STEPS_MAX, || {
            storm::revive(&self.world, &self.chronicle, at);
            done()
        })
    }

    /// Members have the same, to the last version.
    fn agree(&self) {
        let all = pb::RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
        let shards = self.shards().expect("all run");
        let states: Vec<_> = shards
            .iter()
            .map(|shard| {
                shard.with_state(|state| {
                    let members: Vec<_> = state.cluster().members().cloned().collect();
                    let level = state.cluster().level();
                    (state.range(&all).expect("readable"), chronicle::hash(state), members, level)
                })
            })
            .collect();
        assert!(states.windows(2).all(|pair| pair[0] == pair[1]), "seed {}: members differ", self.seed);
    }

    fn check(self) -> Seen {
        let seed = self.seed;
        let (history, local) = (self.traffic.history.borrow(), self.traffic.local.borrow());
        history.check().unwrap_or_else(|why| panic!("seed {seed}: not linearizable: {why}"));
        for history in [&history, &local] {
            self.chronicle.check(history).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        }
        // What a client gave up may still be written, after everybody has come to the end.
        let (events, end) = (self.chronicle.events(), self.watching.end.get());
        self.watchers.iter().for_each(|(keys, log)| log.borrow().check(seed, keys, &events, end));
        Seen {
            written: self.traffic.written.get(),
            read: self.traffic.read.get(),
            carried: self.world.carried.get() + self.world.received(),
            terms: self.chronicle.term(),
            replaced: self.replaced,
            wiped: self.wiped,
            marked: self.traffic.marked.get(),
            alone: 0,
        }
    }
}

/// All of a world's life.
fn live(seed: u64, broken: Option<Law>) -> Seen {
    let mut cluster = Cluster::new(seed, broken);
    for _ in 0..ROUNDS {
        cluster.storm();
        cluster.calm();
        if cluster.world.sim.chance(300) {
            cluster.replace();
        }
    }
    cluster.end()
}

#[test]
fn a_cluster_keeps_its_word_whatever_fails() {
    let mut seen = Vec::new();
    for seed in world::seeds(8) {
        let one = live(seed, None);
        println!("seed {seed}: {one:?}");
        let least = PROGRESS * (ROUNDS as u64 + 1);
        assert!(one.written >= least && one.read >= least, "seed {seed}: nothing was tested: {one:?}");
        seen.push(one);
    }
    let (worlds, sum) = (seen.len() as u64, |of: fn(&Seen) -> u64| seen.iter().map(of).sum::<u64>());
    let (carried, terms) = (sum(|one| one.carried), sum(|one| one.terms));
    let (replaced, marked) = (sum(|one| one.replaced), sum(|one| one.marked));
    let (wiped, alone) = (sum(|one| one.wiped), sum(|one| one.alone));
    println!(
        "{worlds} worlds: {carried} checkpoints, {terms} terms, {replaced} replaced, {wiped} wiped, {alone} alone"
    );
    let enough = carried > 0 && terms > 2 * worlds && replaced > 0 && marked > 0;
    assert!(
        worlds < 8 || enough,
        "{carried} checkpoints, {terms} terms, {replaced} replaced, {marked} marked"
    );
    assert!(worlds < 200 || (wiped > 0 && alone > 0), "{wiped} wiped, {alone} alone");
}
