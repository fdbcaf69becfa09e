//! Faults: three members as real processes, each on a host of its own with a disk of its own, while members are killed, paused
//! and restarted, links are cut one way or both, and disks stand still or are full. Clients of all members go on meanwhile, and
//! what they were told must be explained by one thing happening after another.
//!
//! Hosts are network namespaces and disks are files behind loop devices, which only root can make.
//!
//! | variable        | meaning                                                       |
//! |-----------------|---------------------------------------------------------------|
//! | `PINION_FAULTS` | rounds, each with every kind of fault (default 1)              |
//! | `PINION_SEED`   | seed of what is chosen (default 1); moments are those of the machine |
//! | `PINION_BIN`    | the program to test instead of the one just built              |

#[path = "history/keys.rs"]
mod keys;
#[path = "history/linearizable.rs"]
mod linearizable;
#[path = "conformance/seeded.rs"]
mod seeded;
#[path = "tested/launch.rs"]
mod tested;

mod faults {
    pub mod disks;
    pub mod hosts;
    pub mod traffic;
}

use std::{
    thread,
    time::{Duration, Instant},
};

use bench_harness::process::{Server, cluster::Cluster};
use faults::{
    disks::Disks,
    hosts::Hosts,
    traffic::{self, Progress, Traffic},
};
use seeded::Rng;

const MEMBERS: usize = 3;
/// A member that is asked to stop may take so long on the slowest machine.
const GRACE: Duration = Duration::from_secs(60);
/// Milliseconds that a fault lasts: some elections.
const FAULT_MS: (i64, i64) = (2_000, 5_000);
/// What clients must get done once nothing is wrong any more, and within what.
const PROGRESS: u64 = 100;
const PROGRESS_MAX: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Pause,
    CutOneWay,
    Isolate,
    RollingRestart,
    DiskStandsStill,
    DiskFull,
}

const FAULTS: [Fault; 7] = [
    Fault::Kill,
    Fault::Pause,
    Fault::CutOneWay,
    Fault::Isolate,
    Fault::RollingRestart,
    Fault::DiskStandsStill,
    Fault::DiskFull,
];

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text}: not a number")),
        Err(_) => default,
    }
}

struct World {
    rng: Rng,
    // Members end before their disks and hosts go.
    cluster: Cluster,
    disks: Disks,
    hosts: Hosts,
}

impl World {
    fn new(seed: u64, directory: &std::path::Path) -> Self {
        let (hosts, disks) = (Hosts::new(MEMBERS), Disks::new(MEMBERS, directory));
        let launch = |n: usize| {
            let launch = tested::launch(tested::program(), &disks.of(n).join("data"));
            // The log of lines must not fill the disk, nor stand still with it.
            launch
                .host(hosts.address(n))
                .wrapper(["ip", "netns", "exec", hosts.name(n)])
                .log(directory.join(format!("m{n}.log")))
        };
        let cluster = Cluster::start(MEMBERS, launch).unwrap_or_else(|error| panic!("{error}"));
        Self { rng: Rng::new(seed), cluster, disks, hosts }
    }

    fn leader(&self) -> usize {
        self.cluster.leader(GRACE).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The leader more often than not: that is where it hurts.
    fn victim(&mut self) -> usize {
        if self.rng.percent(70) { self.leader() } else { self.rng.pick(&[0, 1, 2]) }
    }

    fn member(&mut self, n: usize) -> &mut Server {
        &mut self.cluster.members[n]
    }

    fn start_again(&mut self, n: usize) {
        self.member(n).start_again().unwrap_or_else(|error| panic!("member {n} starts again: {error}"));
    }

    fn suffer(&mut self, fault: Fault) {
        let victim = self.victim();
        let lasts = Duration::from_millis(self.rng.between(FAULT_MS.0, FAULT_MS.1).unsigned_abs());
        match fault {
            Fault::Kill => {
                self.member(victim).kill().expect("it runs");
                thread::sleep(lasts);
                self.start_again(victim);
            }
            Fault::Pause => {
                self.member(victim).signal(libc::SIGSTOP).expect("it runs");
                thread::sleep(lasts);
                self.member(victim).signal(libc::SIGCONT).expect("it runs");
            }
            Fault::CutOneWay => {
                let other = (victim + 1 + self.rng.below(2) as usize) % MEMBERS;
                self.hosts.cut(victim, other);
                thread::sleep(lasts);
                self.hosts.heal();
            }
            Fault::Isolate => {
                for other in (0..MEMBERS).filter(|other| *other != victim) {
                    self.hosts.cut(victim, other);
                    self.hosts.cut(other, victim);
                }
                thread::sleep(lasts);
                self.hosts.heal();
            }
            Fault::RollingRestart => {
                for n in 0..MEMBERS {
                    self.member(n)
                        .terminate(GRACE)
                        .unwrap_or_else(|error| panic!("member {n} stops: {error}"));
                    self.start_again(n);
                }
            }
            Fault::DiskStandsStill => {
                let frozen = self.disks.freeze(victim);
                thread::sleep(lasts);
                drop(frozen);
            }
            Fault::DiskFull => {
                let full = self.disks.fill(victim);
                thread::sleep(lasts);
                drop(full);
            }
        }
        // A member may have ended because of its disk, and says so.
        for n in 0..MEMBERS {
            if self.member(n).exited().expect("it was started").is_some() {
                let told = self.member(n).log_tail().expect("it has a log");
                assert!(
                    matches!(fault, Fault::DiskFull | Fault::DiskStandsStill),
                    "{fault:?}, member {n}: {told}"
                );
                self.member(n).kill().expect("it has ended");
                self.start_again(n);
            }
        }
    }

    fn told(&self) -> String {
        self.cluster.members.iter().map(|member| member.log_tail().expect("it has a log")).collect()
    }
}

/// Clients get on, once all is well.
fn calm(world: &World, progress: &Progress, after: &str) {
    let (since, before) = (Instant::now(), progress.done());
    while progress.done() < before + PROGRESS {
        let done = progress.done() - before;
        assert!(
            since.elapsed() < PROGRESS_MAX,
            "{after}: {done} requests in {PROGRESS_MAX:?}\n{}",
            world.told()
        );
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn whatever_happens_to_members_and_links_there_is_one_history() {
    let (seed, rounds) = (number("PINION_SEED", 1), number("PINION_FAULTS", 1));
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("make a directory");
    let mut world = World::new(seed, directory.path());
    let traffic = Traffic::start(world.cluster.addrs(), seed);
    calm(&world, traffic.progress(), "before the first fault");
    for round in 0..rounds {
        for fault in FAULTS {
            world.suffer(fault);
            calm(&world, traffic.progress(), &format!("seed {seed}, round {round}, {fault:?}"));
        }
    }
    let history = traffic.stop();
    let answered = history.answered().count();
    assert!(answered as u64 >= PROGRESS * FAULTS.len() as u64, "{answered} answers");
    history.check().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    // What each member has is what all have.
    let hashes: Vec<_> = world.cluster.addrs().into_iter().map(traffic::hash).collect();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    println!("{answered} answers explained, hashes {hashes:?}");
}
