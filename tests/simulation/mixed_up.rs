//! What people and disks do to a member's files while it is stopped: something is missing, is another member's, is from
//! an older copy, or is zeroed. The member has everything, or does not start and says why; what was right is put back,
//! and it has everything.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
    rc::Rc,
};

use pinion::{shard::Due, types::ClusterId};

use crate::{
    checkpoint::{self, Known},
    world::{self, STEPS_MAX, World},
};

type Copied = BTreeMap<PathBuf, Vec<u8>>;

const ROUNDS: u64 = 6;

/// One member that is started and stopped, and what its disk was like at each stop.
struct Life {
    seed: u64,
    world: Rc<World>,
    known: Rc<RefCell<Known>>,
    stops: Vec<Copied>,
    /// How the last run ended.
    was_closed: bool,
}

impl Life {
    fn new(seed: u64, cluster: u64, wal_dir: Option<&str>, checkpoints: bool) -> Self {
        let mut world = World::new(seed, 1);
        if checkpoints {
            world.checkpoint =
                Due { entries: 1 + world.sim.below(12), bytes: 256 * 1024, log_bytes: 1 << 20 };
            world.catchup_entries = world.sim.below(5) as usize;
        }
        world.cluster = ClusterId(cluster);
        world.wal_dir = wal_dir.map(PathBuf::from);
        let known = Rc::new(RefCell::new(Known::new()));
        Life { seed, world: Rc::new(world), known, stops: Vec::new(), was_closed: false }
    }

    /// Starts it: everything is there, or why it does not start.
    fn start(&self) -> Result<(), String> {
        self.world.start(0);
        let shard = self.world.serving(0)?;
        self.known.borrow_mut().settle(&shard, self.seed);
        Ok(())
    }

    /// Writes for a while after a start, then stops or crashes.
    fn live(&mut self) {
        let (world, node) = (&self.world, &self.world.nodes[0]);
        let shard = node.shard.borrow().clone().expect("it serves");
        checkpoint::client(world.clone(), self.known.clone(), shard.clone());
        world.sim.run_until(1 + world.sim.below(1_500), || false);
        self.was_closed = world.sim.chance(500);
        if self.was_closed {
            shard.stop();
            drop(shard);
            assert!(world.sim.run_until(STEPS_MAX, || node.ended.borrow().is_some()), "it does not end");
            assert_eq!(*node.ended.borrow(), Some(Ok(())), "seed {}", self.seed);
        }
        world.crash(0);
        checkpoint::end_client(world);
        self.stops.push(node.disk.copy(Path::new("/")));
    }

    fn lived(seed: u64, cluster: u64, wal_dir: Option<&str>, checkpoints: bool) -> Self {
        let mut life = Self::new(seed, cluster, wal_dir, checkpoints);
        for round in 0..ROUNDS {
            life.start().unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
            life.live();
        }
        life
    }

    fn below(&self, bound: usize) -> usize {
        self.world.sim.below(bound as u64) as usize
    }

    /// Some of what is on the disk: a directory that a person might take for one thing, or a file.
    fn part(&self) -> PathBuf {
        let wal = match &self.world.wal_dir {
            Some(dir) => dir.join("shard-0"),
            None => PathBuf::from("/data/member/shard-0/wal"),
        };
        let parts = ["identity", "log-0", "version", "shard-0", "shard-0/snap", "shard-0/snap/manifest"];
        let mut parts: Vec<_> = parts.iter().map(|part| Path::new("/data/member").join(part)).collect();
        parts.push(wal.clone());
        parts.extend(self.world.wal_dir.clone());
        let files: Vec<_> = self.world.nodes[0].disk.files().into_iter().map(|(path, _)| path).collect();
        match self.below(3) {
            0 => files[self.below(files.len())].clone(),
            // Segments of the log, which there are most to say about.
            1 => {
                let segments: Vec<_> = files.into_iter().filter(|path| path.starts_with(&wal)).collect();
                segments[self.below(segments.len())].clone()
            }
            _ => parts[self.below(parts.len())].clone(),
        }
    }

    /// Part of a log that was not closed, whose end cannot be told from a write that was cut off.
    fn has_open_end(&self, file: &Path) -> bool {
        !self.was_closed && file.extension().is_some_and(|extension| extension == "wal")
    }

    /// No segment of the log comes after it.
    fn is_last(&self, segment: &Path) -> bool {
        let files = self.world.nodes[0].disk.files();
        !files.iter().any(|(path, _)| path.parent() == segment.parent() && path.as_path() > segment)
    }

    /// Some bytes up to the end are zeros, or some in the middle, or all.
    fn zeroed(&self, part: &Path) -> Copied {
        let mut copied = self.world.nodes[0].disk.copy(part);
        let names: Vec<_> = copied.keys().cloned().collect();
        if names.is_empty() {
            return copied;
        }
        let name = &names[self.below(names.len())];
        let whole = self.has_open_end(name);
        let bytes = copied.get_mut(name).expect("just listed");
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let from = if whole { 0 } else { self.below(used + 1) / 512 * 512 };
        let to = if whole || self.below(2) == 0 { bytes.len() } else { bytes.len().min(from + 4096) };
        bytes[from..to].fill(0);
        copied
    }
}

/// What happened in some worlds.
#[derive(Debug, Default)]
struct Outcomes {
    started: u64,
    refused: u64,
    reasons: BTreeMap<String, u64>,
}

fn mix_up(seed: u64, outcomes: &mut Outcomes) {
    let wal_dir = (seed % 2 == 1).then_some("/log");
    let checkpoints = !seed.is_multiple_of(3);
    let life = Life::lived(seed, 1, wal_dir, checkpoints);
    // Another member, of the same ids or of another cluster.
    let other = Life::lived(seed ^ 0xffff_0000, 1 + seed % 5 / 4, wal_dir, checkpoints);
    let (foreign, newest) = (other.stops.last().expect("it lived"), life.stops.last().expect("it lived"));
    let disk = &life.world.nodes[0].disk;
    for _ in 0..12 {
        let part = life.part();
        let within = |copied: &Copied| -> Copied {
            copied
                .iter()
                .filter(|(path, _)| path.starts_with(&part))
                .map(|(p, c)| (p.clone(), c.clone()))
                .collect()
        };
        let (how, content) = match life.below(4) {
            0 => ("missing", Copied::new()),
            1 => ("another member's", within(foreign)),
            2 if !life.has_open_end(&part) => {
                ("an older copy", within(&life.stops[life.below(life.stops.len() - 1)]))
            }
            _ => ("zeroed", life.zeroed(&part)),
        };
        let what = format!("seed {seed}: {} is {how}", part.display());
        if content.is_empty() && life.has_open_end(&part) && life.is_last(&part) {
            // Nothing need tell of it: the log may have gone on in it a moment ago.
            continue;
        }
        println!("{what}");
        disk.put(&part, &content);
        match life.start() {
            Ok(()) => outcomes.started += 1,
            Err(why) => {
                assert!(why.contains('/') || why.contains("checkpoint"), "{what}: {why}");
                outcomes.refused += 1;
                *outcomes.reasons.entry(why.chars().take(40).collect()).or_default() += 1;
                life.world.crash(0);
                disk.put(&part, &within(newest));
                life.start().unwrap_or_else(|error| panic!("{what}, {why}\nput back: {error}"));
            }
        }
        life.world.crash(0);
        disk.put(Path::new("/"), newest);
    }
}

#[test]
fn a_member_has_everything_or_says_what_is_wrong_with_its_files() {
    let mut outcomes = Outcomes::default();
    let seeds = world::seeds(60);
    let count = seeds.clone().count() as u64;
    seeds.for_each(|seed| mix_up(seed, &mut outcomes));
    let Outcomes { started, refused, reasons } = &outcomes;
    println!("{started} started, {refused} refused: {reasons:#?}");
    assert!(count < 10 || (*started > count && *refused > count), "{outcomes:?}");
}
