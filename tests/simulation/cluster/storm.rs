//! What goes wrong in a cluster, and how it is made good again. Which kinds of faults a world knows is drawn from its
//! seed: worlds in which nothing but links fail show other things than those in which everything does.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    time::Duration,
};

use pinion::{
    env::{
        Instant,
        sim::{Faults, LinkFault, Sim, disk::WriteFault},
    },
    shard::Shard,
    types::MemberId,
};

use crate::world::World;

use super::chronicle::Chronicle;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Messages get lost, come twice, are late.
    Messages,
    /// A member is cut off from all others, or half of them from the rest.
    Partition,
    /// One direction between two members: cut, clogged, lossy or slow.
    Link,
    /// What goes over a connection may end at any time.
    Reset,
    /// A member stands still.
    Pause,
    Crash,
    /// Power is gone everywhere.
    Blackout,
    SlowDisk,
    /// Nothing that a member asks of its disk ends.
    HangingDisk,
    /// A write fails, or ends short.
    FailingWrite,
    /// All but the log's writes fail now and then.
    FailingDisk,
    FullDisk,
    /// A clock goes too fast or too slow, or its time of day jumps.
    Clock,
    /// Whoever leads is gone, messages are late, disks are slow, and members crash as they vote.
    Election,
    /// Those who have decided something last are gone but for one, who goes on with the others. It takes its time: see
    /// `Cluster::succession`.
    Succession,
}

const KINDS: [Kind; 15] = [
    Kind::Messages,
    Kind::Partition,
    Kind::Link,
    Kind::Reset,
    Kind::Pause,
    Kind::Crash,
    Kind::Blackout,
    Kind::SlowDisk,
    Kind::HangingDisk,
    Kind::FailingWrite,
    Kind::FailingDisk,
    Kind::FullDisk,
    Kind::Clock,
    Kind::Election,
    Kind::Succession,
];

/// Clocks are off by so much at most, in thousandths.
pub const SKEW_PERMILLE: u64 = 30;
const EIO: i32 = 5;

pub struct Storm {
    kinds: Vec<Kind>,
    /// What the storm has set, on top of each other.
    faults: Faults,
    /// Members crash as they come to another term.
    haunts: Cell<bool>,
    /// Who is to crash when.
    doomed: RefCell<BTreeMap<usize, Instant>>,
}

pub fn some<T: Copy>(sim: &Sim, of: &[T]) -> T {
    of[sim.below(of.len() as u64) as usize]
}

impl Storm {
    /// Of some kinds.
    pub fn new(sim: &Sim) -> Self {
        let rate = some(sim, &[250, 500, 1_000]);
        let kinds: Vec<_> = KINDS.into_iter().filter(|_| sim.chance(rate)).collect();
        let kinds = match kinds.is_empty() || sim.chance(150) {
            true => vec![some(sim, &[Kind::Election, Kind::Succession])],
            false => kinds,
        };
        Storm { kinds, faults: Faults::default(), haunts: Cell::default(), doomed: RefCell::default() }
    }

    /// What goes wrong next.
    pub fn draw(&self, sim: &Sim) -> Kind {
        some(sim, &self.kinds)
    }

    /// Nothing comes from the one to the others any more.
    pub fn silence(&mut self, world: &World, from: usize, to: &[usize]) {
        let id = |at: usize| world.nodes[at].id.0;
        self.faults.links.extend(to.iter().map(|to| ((id(from), id(*to)), LinkFault::Cut)));
        world.sim.set_faults(self.faults.clone());
    }

    /// Nothing is wrong with links any more.
    pub fn unsilence(&mut self, world: &World) {
        self.faults.links.clear();
        world.sim.set_faults(self.faults.clone());
    }

    /// One more thing goes wrong.
    pub fn strike(&mut self, kind: Kind, world: &World, chronicle: &Chronicle, members: &[usize]) {
        let sim = &world.sim;
        let ids: Vec<_> = members.iter().map(|at| world.nodes[*at].id.0).collect();
        let at = Self::target(world, members);
        let (id, disk) = (world.nodes[at].id, &world.nodes[at].disk);
        match kind {
            Kind::Succession => unreachable!("it is no single stroke"),
            Kind::Messages => {
                self.faults.drop_permille = sim.below(100);
                self.faults.duplicate_permille = sim.below(100);
                let most = some(sim, &[500, 5_000, 60_000]);
                self.faults.delay_max = Duration::from_micros(1 + sim.below(most));
            }
            Kind::Partition => {
                let alone = sim.chance(500);
                let side: Vec<_> =
                    ids.iter().filter(|m| if alone { **m == id.0 } else { sim.chance(500) }).collect();
                for (from, to) in pairs(&ids) {
                    if side.contains(&&from) != side.contains(&&to) {
                        self.faults.links.insert((from, to), LinkFault::Cut);
                    }
                }
            }
            Kind::Link => {
                let fault = match sim.below(4) {
                    0 => LinkFault::Cut,
                    1 => LinkFault::Clogged,
                    2 => LinkFault::Lossy(sim.below(900)),
                    _ => LinkFault::Slow(Duration::from_millis(sim.below(150))),
                };
                self.faults.links.insert(some(sim, &pairs(&ids)), fault);
            }
            Kind::Reset => {
                for (one, other) in pairs(&ids) {
                    if sim.chance(300) {
                        sim.reset_connections(MemberId(one), MemberId(other));
                    }
                }
            }
            Kind::Pause if world.nodes[at].shard.borrow().is_some() => {
                sim.pause(id);
                if sim.chance(400) {
                    // And it does not hear of what happened meanwhile.
                    let own = pairs(&ids).into_iter().filter(|(from, to)| [*from, *to].contains(&id.0));
                    self.faults.links.extend(own.map(|link| (link, LinkFault::Cut)));
                }
            }
            Kind::Pause => {}
            Kind::Crash => {
                for crashing in members.iter().copied() {
                    if crashing == at || sim.chance(200) {
                        crash(world, chronicle, crashing);
                    }
                }
            }
            Kind::Blackout => members.iter().for_each(|at| crash(world, chronicle, *at)),
            Kind::SlowDisk => disk.set_slowness(2 + sim.below(100) as u32),
            Kind::HangingDisk => disk.set_hanging(true),
            Kind::FailingWrite => {
                let fault = if sim.chance(500) { WriteFault::Errno(EIO) } else { WriteFault::Short(512) };
                disk.fail_write(sim.below(20), fault);
            }
            Kind::FailingDisk => disk.set_failing(1 + sim.below(40)),
            Kind::FullDisk => disk.set_free_bytes(Some(sim.below(1 << 21))),
            Kind::Clock => {
                let pace = 1_000 - SKEW_PERMILLE + sim.below(2 * SKEW_PERMILLE + 1);
                sim.set_clock(id, pace, Duration::from_secs(sim.below(100_000)));
            }
            Kind::Election => {
                self.haunts.set(true);
                self.faults.delay_max = Duration::from_millis(1 + sim.below(60));
                let slowness = some(sim, &[1, 5, 20]);
                members.iter().for_each(|at| world.nodes[*at].disk.set_slowness(slowness));
                for (at, node) in world.nodes.iter().enumerate() {
                    let leads = node.shard.borrow().as_ref().is_some_and(Shard::is_leader);
                    if leads {
                        crash(world, chronicle, at);
                    }
                }
            }
        }
        sim.set_faults(self.faults.clone());
    }

    /// Anybody, and more often who leads.
    fn target(world: &World, members: &[usize]) -> usize {
        let leads = |at: &usize| world.nodes[*at].shard.borrow().as_ref().is_some_and(Shard::is_leader);
        let leader = members.iter().copied().find(leads).filter(|_| world.sim.chance(400));
        leader.unwrap_or_else(|| some(&world.sim, members))
    }

    /// A member has come to another term.
    pub fn voted(&self, world: &World, at: usize) {
        let sim = &world.sim;
        if self.haunts.get() && sim.chance(600) {
            // Before its vote can be on disk, or when it may be.
            let most = some(sim, &[200, 1_000, 5_000]);
            let when = sim.now().after(Duration::from_micros(sim.below(most)));
            self.doomed.borrow_mut().insert(at, when);
        }
    }

    /// Whose time has come crashes, and is back at once.
    pub fn haunt(&self, world: &World, chronicle: &Chronicle) {
        let now = world.sim.now();
        let mut doomed = self.doomed.borrow_mut();
        let due: Vec<_> = doomed.iter().filter(|(_, when)| **when <= now).map(|(at, _)| *at).collect();
        for at in due {
            doomed.remove(&at);
            if world.nodes[at].shard.borrow().is_some() {
                crash(world, chronicle, at);
                world.start(at);
            }
        }
    }

    /// The links heal, or some of them.
    pub fn heal_links(&mut self, world: &World) {
        if world.sim.chance(500) {
            self.faults = Faults::default();
        } else {
            self.faults.links.retain(|_, _| world.sim.chance(500));
        }
        world.sim.set_faults(self.faults.clone());
    }

    /// These members are as they should be, and all that is between them.
    pub fn heal(&mut self, world: &World, chronicle: &Chronicle, members: &[usize]) {
        self.haunts.set(false);
        self.doomed.borrow_mut().clear();
        let ids: Vec<_> = members.iter().map(|at| world.nodes[*at].id.0).collect();
        let links = std::mem::take(&mut self.faults.links).into_iter();
        let others = |(from, to): &(u64, u64)| !ids.contains(from) || !ids.contains(to);
        let links: BTreeMap<_, _> = links.filter(|(link, _)| others(link)).collect();
        self.faults = Faults { links, ..Faults::default() };
        world.sim.set_faults(self.faults.clone());
        for at in members.iter().copied() {
            let node = &world.nodes[at];
            node.disk.set_slowness(1);
            node.disk.set_failing(0);
            node.disk.set_free_bytes(None);
            node.disk.set_hanging(false);
            world.sim.resume(node.id);
            revive(world, chronicle, at);
        }
    }
}

/// From each to each other.
fn pairs(members: &[u64]) -> Vec<(u64, u64)> {
    let each = members.iter().flat_map(|from| members.iter().map(|to| (*from, *to)));
    each.filter(|(from, to)| from != to).collect()
}

pub fn crash(world: &World, chronicle: &Chronicle, at: usize) {
    world.crash(at);
    chronicle.crashed(world.nodes[at].id.0);
}

/// Starts a member that does not run, and neither is about to.
pub fn revive(world: &World, chronicle: &Chronicle, at: usize) {
    let node = &world.nodes[at];
    let has_ended = node.ended.borrow().is_some();
    if has_ended || !node.started.get() {
        crash(world, chronicle, at);
        world.start(at);
    }
}
