//! Crashes while checkpoints are made, merged and switched, compaction rewrites chunks and the log is cut.
//!
//! One client at a time knows exactly what the state must be: everything it was told of, and of the one request
//! that was under way, all or nothing. The same on disks where now and then anything fails but the log's writes.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use pinion::{
    pb::etcdserverpb as pb,
    shard::{self, Due, Shard},
    state::Principal,
    types::MemberId,
};

use crate::world::{self, World};

/// Key to value.
pub type Keys = BTreeMap<String, String>;

/// What the client knows.
#[derive(Clone)]
pub struct Known {
    pub revision: i64,
    pub compacted: i64,
    /// The keys at each revision since the compacted one.
    pub history: BTreeMap<i64, Keys>,
    /// What a request that was not answered would have made of it.
    maybe: Option<(i64, i64, Keys)>,
}

impl Known {
    /// Of an empty state.
    pub fn new() -> Self {
        Known { revision: 1, compacted: 0, history: BTreeMap::from([(1, Keys::new())]), maybe: None }
    }

    fn keys(&self) -> Keys {
        self.history.get(&self.revision).cloned().unwrap_or_default()
    }

    fn advance(&mut self, revision: i64, compacted: i64, keys: Keys) {
        assert!(revision >= self.revision && compacted >= self.compacted);
        self.revision = revision;
        self.compacted = compacted;
        self.history.insert(revision, keys);
        self.history.retain(|at, _| *at >= compacted);
    }

    /// The shard's state is what is known, with the request under way done or not.
    pub fn settle(&mut self, shard: &Shard, seed: u64) {
        let status = shard.status();
        let told = (status.revision.0, status.compact_revision.0.max(0));
        if let Some((revision, compacted, keys)) = self.maybe.take()
            && told == (revision, compacted)
        {
            self.advance(revision, compacted, keys);
        }
        assert_eq!(told, (self.revision, self.compacted), "seed {seed}: revision and compacted revision");
        for (revision, keys) in &self.history {
            let everything = pb::RangeRequest {
                key: "\0".into(),
                range_end: "\0".into(),
                revision: *revision,
                ..Default::default()
            };
            let response = shard.with_state(|state| state.range(&everything)).expect("a readable revision");
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text was written");
            let found: Keys = response.kvs.iter().map(|kv| (text(&kv.key), text(&kv.value))).collect();
            assert_eq!(&found, keys, "seed {seed}: keys at revision {revision}");
        }
    }
}

/// What a client may send.
enum Request {
    Put(pb::PutRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Compact(pb::CompactionRequest),
}

impl Request {
    /// The header of the answer.
    async fn write(self, shard: &Shard) -> Result<Option<pb::ResponseHeader>, shard::Error> {
        let nobody = Principal::default();
        Ok(match self {
            Self::Put(put) => shard.write(&nobody, put).await?.header,
            Self::DeleteRange(delete) => shard.write_long(&nobody, delete).await?.whole().header,
            Self::Compact(compact) => shard.write(&nobody, compact).await?.header,
        })
    }
}

/// A request and what it makes of the state.
fn draw(world: &World, known: &Known) -> (Request, (i64, i64, Keys)) {
    let sim = &world.sim;
    let mut keys = known.keys();
    let key = |number: u64| format!("k{number:02}");
    let span = 30;
    match sim.below(10) {
        0 => {
            let (from, to) = (sim.below(span), sim.below(span));
            let request = pb::DeleteRangeRequest {
                key: key(from).into(),
                range_end: key(to.max(from + 1)).into(),
                ..Default::default()
            };
            let before = keys.len();
            keys.retain(|k, _| *k < key(from) || *k >= key(to.max(from + 1)));
            let revision = known.revision + i64::from(keys.len() < before);
            (Request::DeleteRange(request), (revision, known.compacted, keys))
        }
        1 if known.revision > known.compacted + 1 => {
            let back = sim.below((known.revision - known.compacted) as u64) as i64;
            let revision = known.revision - back;
            let request = pb::CompactionRequest { revision, physical: sim.chance(500) };
            (Request::Compact(request), (known.revision, revision, keys))
        }
        _ => {
            let key = key(sim.below(span));
            // Large enough to fill chunks, so that some are sealed, rewritten and dropped.
            let len = if sim.chance(300) { sim.below(30_000) } else { sim.below(300) };
            let value = format!("{}{}", known.revision, "v".repeat(len as usize));
            keys.insert(key.clone(), value.clone());
            let put = pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() };
            (Request::Put(put), (known.revision + 1, known.compacted, keys))
        }
    }
}

const CLIENT: MemberId = MemberId(1000);

/// Writes until its member is gone.
pub fn client(world: Rc<World>, known: Rc<RefCell<Known>>, shard: Shard) {
    let sim = world.sim.clone();
    sim.spawn(CLIENT, async move {
        loop {
            let (request, outcome) = draw(&world, &known.borrow());
            known.borrow_mut().maybe = Some(outcome.clone());
            let Ok(header) = request.write(&shard).await else { return };
            let (revision, compacted, keys) = outcome;
            assert_eq!(header.expect("a header").revision, revision);
            let mut known = known.borrow_mut();
            known.maybe = None;
            known.advance(revision, compacted, keys);
        }
    });
}

pub fn end_client(world: &World) {
    world.sim.crash(CLIENT);
}

/// How often a world's member crashes.
const CRASHES: u64 = 20;

/// Crashes so often, and so many of a thousand operations of the disk fail; how many checkpoints and failures there were.
fn crashes(seed: u64, failing_permille: u64) -> (usize, u64) {
    let mut world = World::new(seed, 1);
    world.checkpoint = Due { entries: 1 + world.sim.below(12), bytes: 256 * 1024, log_bytes: 1 << 20 };
    world.catchup_entries = world.sim.below(5) as usize;
    let world = Rc::new(world);
    let known = Rc::new(RefCell::new(Known::new()));
    let mut checkpoints = std::collections::BTreeSet::new();
    for _ in 0..CRASHES {
        world.start(0);
        let shard = match world.serving(0) {
            Ok(shard) => shard,
            Err(error) => panic!("seed {seed}: no start: {error}"),
        };
        known.borrow_mut().settle(&shard, seed);
        client(world.clone(), known.clone(), shard);
        world.nodes[0].disk.set_failing(failing_permille);
        world.sim.run_until(1 + world.sim.below(1_500), || false);
        world.nodes[0].disk.set_failing(0);
        if let Some(how) = world.nodes[0].ended.borrow().as_ref() {
            let error = how.as_ref().expect_err("nobody stopped it");
            assert!(error.contains("/wal"), "seed {seed}: only the log may end it: {error}");
        }
        world.crash(0);
        end_client(&world);
        checkpoints.extend(world.checkpoint_segments(0));
        if world.sim.chance(200) {
            world.start(0);
            world.sim.run_until(1 + world.sim.below(100), || false);
            world.crash(0);
        }
    }
    (checkpoints.len(), world.nodes[0].disk.failures())
}

/// Nothing acknowledged is lost, nothing deleted or compacted comes back.
#[test]
fn crashes_during_checkpoints_lose_nothing() {
    let seeds = world::seeds(60);
    let count = seeds.clone().count();
    let checkpoints: usize = seeds.map(|seed| crashes(seed, 0).0).sum();
    assert!(checkpoints > count, "{checkpoints} checkpoints in {count} worlds");
}

/// Nor do they when syncs, renames, removals, allocations and the checkpoint's own writes fail, and the
/// member goes on unless it was the log's next segment that could not be made.
#[test]
fn failures_during_checkpoints_lose_nothing() {
    let seeds = world::seeds(30);
    let count = seeds.clone().count();
    let (mut checkpoints, mut failures) = (0, 0);
    for seed in seeds {
        let (made, failed) = crashes(seed, 2 + seed % 40);
        checkpoints += made;
        failures += failed as usize;
    }
    assert!(
        checkpoints > count && failures > count,
        "{checkpoints} checkpoints, {failures} failures, {count} worlds"
    );
}
