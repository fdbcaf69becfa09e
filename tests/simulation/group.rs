//! A few members, and a client that does one thing after the other: what brought out a fault that somebody had.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    future::Future,
    rc::Rc,
    time::Duration,
};

use pinion::{
    env::sim::Faults,
    pb::{etcdserverpb as pb, mvccpb::Event},
    shard::{Due, Feed, Keys, Shard, Taste, Told, Wanted},
    state::Principal,
};
use prost::Message;

use crate::world::{self, STEPS_MAX, World};

pub struct Group {
    pub seed: u64,
    pub world: World,
}

/// Checkpoints are frequent, and the log keeps little.
const OFTEN: Due = Due { entries: 10, bytes: 256 * 1024, log_bytes: 1 << 20 };
/// Longer than an election may take.
pub const ELECTIONS: Duration = Duration::from_millis(1_500);

impl Group {
    pub fn new(seed: u64, members: u64) -> Self {
        let mut world = World::new(seed, members);
        world.catchup_entries = 2;
        Self::with(seed, world)
    }

    /// Of a world in which something is different. Those that join do not run yet.
    pub fn with(seed: u64, mut world: World) -> Self {
        world.checkpoint = OFTEN;
        let group = Group { seed, world };
        group.founders().iter().for_each(|at| group.world.start(*at));
        group.leader();
        group
    }

    fn founders(&self) -> Vec<usize> {
        (0..self.world.nodes.len()).filter(|at| !self.world.nodes[*at].joins).collect()
    }

    /// What the client comes to.
    pub fn run<T: 'static>(&self, what: impl Future<Output = T> + 'static) -> T {
        let (came, told) = (Rc::new(RefCell::new(None)), Rc::new(RefCell::new(None)));
        let coming = came.clone();
        self.world.sim.spawn(world::client_id(0), async move {
            let value = what.await;
            *coming.borrow_mut() = Some(value);
        });
        let done = self.world.sim.run_until(STEPS_MAX, || {
            if let Some(value) = came.borrow_mut().take() {
                *told.borrow_mut() = Some(value);
            }
            told.borrow().is_some()
        });
        assert!(done, "seed {}: it does not end", self.seed);
        told.take().expect("just seen")
    }

    pub fn pass(&self, time: Duration) {
        let until = self.world.sim.now().after(time);
        self.world.sim.run_until(STEPS_MAX, || self.world.sim.now() >= until);
    }

    pub fn shard(&self, at: usize) -> Shard {
        self.world.nodes[at].shard.borrow().clone().expect("it runs")
    }

    /// Who leads, among those that are not cut off or paused.
    pub fn leader_of(&self, among: &[usize]) -> usize {
        let newest = || {
            let shards =
                among.iter().filter_map(|at| Some((*at, self.world.nodes[*at].shard.borrow().clone()?)));
            let leads = shards.filter(|(_, shard)| shard.can_read());
            let newest = leads.max_by_key(|(_, shard)| shard.term())?;
            let known = |at: &usize| {
                let shard = self.world.nodes[*at].shard.borrow();
                shard.as_ref().is_some_and(|shard| shard.term() <= newest.1.term())
            };
            among.iter().all(known).then_some(newest.0)
        };
        let found = Cell::new(None);
        let done = self.world.sim.run_until(STEPS_MAX, || {
            found.set(newest());
            found.get().is_some()
        });
        assert!(done, "seed {}: nobody leads", self.seed);
        found.get().expect("just seen")
    }

    /// Those that were started.
    pub fn all(&self) -> Vec<usize> {
        (0..self.world.nodes.len()).filter(|at| self.world.nodes[*at].has_lived.get()).collect()
    }

    pub fn leader(&self) -> usize {
        self.leader_of(&self.all())
    }

    pub fn isolate(&self, at: usize) {
        let isolated = BTreeSet::from([self.world.nodes[at].id.0]);
        self.world.sim.set_faults(Faults { isolated, ..Faults::default() });
    }

    pub fn heal(&self) {
        self.world.sim.set_faults(Faults::default());
    }

    pub fn put(&self, at: usize, key: &str, value: &str) -> i64 {
        let (shard, put) = (self.shard(at), put(key, value));
        let answer = self.run(async move { shard.write(&Principal::default(), put).await });
        answer
            .unwrap_or_else(|error| panic!("seed {}: {error}", self.seed))
            .header
            .expect("a header")
            .revision
    }

    pub fn delete(&self, at: usize, key: &str) -> i64 {
        let (shard, delete) =
            (self.shard(at), pb::DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() });
        let answer = self.run(async move { shard.write_long(&Principal::default(), delete).await });
        answer.expect("deleted").whole().header.expect("a header").revision
    }

    pub fn compact(&self, at: usize, revision: i64) {
        let (shard, compact) = (self.shard(at), pb::CompactionRequest { revision, physical: true });
        let answer = self.run(async move { shard.write(&Principal::default(), compact).await.map(drop) });
        answer.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
    }

    /// All have applied the same.
    pub fn agree(&self) {
        let agreed = || {
            let shards: Option<Vec<_>> =
                self.all().into_iter().map(|at| self.world.nodes[at].shard.borrow().clone()).collect();
            shards.is_some_and(|shards| {
                let applied: BTreeSet<_> = shards.iter().map(|shard| shard.status().applied).collect();
                applied.len() == 1 && shards.iter().any(Shard::can_read)
            })
        };
        assert!(self.world.sim.run_until(STEPS_MAX, agreed), "seed {}: members do not agree", self.seed);
        let hashes: Vec<_> =
            self.all().into_iter().map(|at| self.shard(at).with_state(crate::cluster::hash)).collect();
        assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "seed {}: members differ", self.seed);
    }

    /// One member missed so much that it needs a checkpoint; `meanwhile` is done by the others.
    pub fn left_behind(&self, meanwhile: impl FnOnce(usize)) -> usize {
        self.put(self.leader(), "before", "1");
        self.agree();
        let away = (self.leader() + 1) % self.world.nodes.len();
        self.isolate(away);
        // For as long as it counts as present, the others keep what it lacks.
        self.pass(ELECTIONS);
        let others: Vec<_> = self.all().into_iter().filter(|at| *at != away).collect();
        let leader = self.leader_of(&others);
        meanwhile(leader);
        for n in 0..40 {
            self.put(leader, &format!("k{}", n % 3), "v");
        }
        // The checkpoint that these are due for is made, and the log cut behind it.
        self.pass(ELECTIONS);
        away
    }

    pub fn catch_up(&self) {
        let carried = self.world.carried.get();
        self.heal();
        self.agree();
        self.have_come(carried + 1);
    }

    /// So many checkpoints have come from one member to another.
    pub fn have_come(&self, count: u64) {
        let came = self.world.sim.run_until(STEPS_MAX, || self.world.carried.get() >= count);
        assert!(came, "seed {}: {} checkpoints have come", self.seed, self.world.carried.get());
    }
}

pub fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

pub fn watch(shard: &Shard, key: &str, start: i64) -> Feed {
    let keys = Keys::new(key.as_bytes(), b"").expect("a key");
    let taste = Taste { puts: true, deletes: true, prior: false };
    let mut feed = shard.feed();
    let wanted = Wanted { id: 0, keys, taste, start, notify: false, fragment: false };
    assert!(matches!(feed.create(wanted), Ok(Ok(_))));
    feed
}

/// The next events that come.
pub async fn told(feed: &mut Feed) -> Vec<Event> {
    match feed.next().await.expect("it runs") {
        Told::Events { events, .. } => {
            pb::WatchResponse::decode(&events.concat()[..]).expect("events of an answer").events
        }
        other => panic!("{other:?}"),
    }
}
