//! Faults that etcd once had and what its operators reported, each as what brought it out. Others of them are laws that
//! `cluster` breaks on purpose, or are drawn there all the time.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    future::Future,
    rc::Rc,
    time::Duration,
};

use futures_lite::future::or;
use pinion::{
    env::sim::{Faults, LinkFault},
    pb::{
        authpb::UserAddOptions,
        etcdserverpb as pb,
        mvccpb::{Event, event::EventType},
    },
    shard::{Due, Error, Feed, Keys, Shard, Taste, Told, Wanted},
    state::Principal,
};
use prost::Message;

use crate::world::{self, STEPS_MAX, World};

/// A few members, and a client that does one thing after the other.
struct Group {
    seed: u64,
    world: World,
}

/// Checkpoints are frequent, and the log keeps little.
const OFTEN: Due = Due { entries: 10, bytes: 256 * 1024, log_bytes: 1 << 20 };
/// Longer than an election may take.
const ELECTIONS: Duration = Duration::from_millis(1_500);

impl Group {
    fn new(seed: u64, members: u64) -> Self {
        let mut world = World::new(seed, members);
        world.checkpoint = OFTEN;
        world.catchup_entries = 2;
        (0..members as usize).for_each(|at| world.start(at));
        let group = Group { seed, world };
        group.leader();
        group
    }

    /// What the client comes to.
    fn run<T: 'static>(&self, what: impl Future<Output = T> + 'static) -> T {
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

    fn pass(&self, time: Duration) {
        let until = self.world.sim.now().after(time);
        self.world.sim.run_until(STEPS_MAX, || self.world.sim.now() >= until);
    }

    fn shard(&self, at: usize) -> Shard {
        self.world.nodes[at].shard.borrow().clone().expect("it runs")
    }

    /// Who leads, among those that are not cut off or paused.
    fn leader_of(&self, among: &[usize]) -> usize {
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

    fn all(&self) -> Vec<usize> {
        (0..self.world.nodes.len()).collect()
    }

    fn leader(&self) -> usize {
        self.leader_of(&self.all())
    }

    fn isolate(&self, at: usize) {
        let isolated = BTreeSet::from([self.world.nodes[at].id.0]);
        self.world.sim.set_faults(Faults { isolated, ..Faults::default() });
    }

    fn heal(&self) {
        self.world.sim.set_faults(Faults::default());
    }

    fn put(&self, at: usize, key: &str, value: &str) -> i64 {
        let (shard, put) = (self.shard(at), put(key, value));
        let answer = self.run(async move { shard.write(&Principal::default(), put).await });
        answer
            .unwrap_or_else(|error| panic!("seed {}: {error}", self.seed))
            .header
            .expect("a header")
            .revision
    }

    fn delete(&self, at: usize, key: &str) -> i64 {
        let (shard, delete) =
            (self.shard(at), pb::DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() });
        let answer = self.run(async move { shard.write_long(&Principal::default(), delete).await });
        answer.expect("deleted").whole().header.expect("a header").revision
    }

    fn compact(&self, at: usize, revision: i64) {
        let (shard, compact) = (self.shard(at), pb::CompactionRequest { revision, physical: true });
        let answer = self.run(async move { shard.write(&Principal::default(), compact).await.map(drop) });
        answer.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
    }

    /// All have applied the same.
    fn agree(&self) {
        let agreed = || {
            let shards: Option<Vec<_>> =
                self.world.nodes.iter().map(|node| node.shard.borrow().clone()).collect();
            shards.is_some_and(|shards| {
                let applied: BTreeSet<_> = shards.iter().map(|shard| shard.status().applied).collect();
                applied.len() == 1 && shards.iter().any(Shard::can_read)
            })
        };
        assert!(self.world.sim.run_until(STEPS_MAX, agreed), "seed {}: members do not agree", self.seed);
        let hashes: Vec<_> =
            self.all().into_iter().map(|at| self.shard(at).with_state(super::cluster::hash)).collect();
        assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "seed {}: members differ", self.seed);
    }

    /// One member missed so much that it needs a checkpoint; `meanwhile` is done by the others.
    fn left_behind(&self, meanwhile: impl FnOnce(usize)) -> usize {
        self.put(self.leader(), "before", "1");
        self.agree();
        let away = (self.leader() + 1) % self.world.nodes.len();
        self.isolate(away);
        let others: Vec<_> = self.all().into_iter().filter(|at| *at != away).collect();
        let leader = self.leader_of(&others);
        meanwhile(leader);
        for n in 0..40 {
            self.put(leader, &format!("k{}", n % 3), "v");
        }
        away
    }

    fn catch_up(&self) {
        let carried = self.world.carried.get();
        self.heal();
        self.agree();
        self.have_come(carried + 1);
    }

    /// So many checkpoints have come from one member to another.
    fn have_come(&self, count: u64) {
        let came = self.world.sim.run_until(STEPS_MAX, || self.world.carried.get() >= count);
        assert!(came, "seed {}: {} checkpoints have come", self.seed, self.world.carried.get());
    }
}

fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

fn watch(shard: &Shard, key: &str, start: i64) -> Feed {
    let keys = Keys::new(key.as_bytes(), b"").expect("a key");
    let taste = Taste { puts: true, deletes: true, prior: false };
    let mut feed = shard.feed();
    let wanted = Wanted { id: 0, keys, taste, start, notify: false, fragment: false };
    assert!(matches!(feed.create(wanted), Ok(Ok(_))));
    feed
}

/// The next events that come.
async fn told(feed: &mut Feed) -> Vec<Event> {
    match feed.next().await.expect("it runs") {
        Told::Events { events, .. } => {
            pb::WatchResponse::decode(&events.concat()[..]).expect("events of an answer").events
        }
        other => panic!("{other:?}"),
    }
}

/// etcd#14571: who is who and who may what came with a checkpoint, and was not looked at again.
#[test]
fn users_and_rights_come_with_a_checkpoint() {
    for seed in world::seeds(4) {
        let group = Group::new(seed, 3);
        let away = group.left_behind(|leader| {
            let shard = group.shard(leader);
            group.run(async move {
                let nobody = Principal::default();
                let options = Some(UserAddOptions { no_password: true });
                let root = || "root".to_owned();
                let user = pb::AuthUserAddRequest { name: root(), options, ..Default::default() };
                shard.write(&nobody, user).await.expect("added");
                let role = pb::AuthRoleAddRequest { name: root() };
                shard.write(&nobody, role).await.expect("added");
                let grant = pb::AuthUserGrantRoleRequest { user: root(), role: root() };
                shard.write(&nobody, grant).await.expect("granted");
            });
        });
        let auth =
            |at| group.shard(at).with_state(|state| (state.auth().is_enabled(), state.auth().revision()));
        let before = auth(away);
        group.catch_up();
        assert_ne!(auth(away), before, "seed {seed}");
        assert_eq!(auth(away), auth(group.leader()), "seed {seed}");
    }
}

/// etcd#15271, etcd#20221: after a checkpoint watches went on from where they should not, or were told what is before their
/// start.
#[test]
fn a_watch_of_what_is_to_come_is_told_that_and_no_more_after_a_checkpoint() {
    for seed in world::seeds(6) {
        let group = Group::new(seed, 3);
        let feed = Rc::new(RefCell::new(None));
        let start = Cell::new(0);
        let away = group.left_behind(|leader| {
            // Beyond what the checkpoint will bring.
            start.set(group.shard(leader).revision().0 + 60);
            let away = (0..3).find(|at| group.shard(*at).revision() < group.shard(leader).revision());
            let away = away.unwrap_or((leader + 1) % 3);
            *feed.borrow_mut() = Some((away, watch(&group.shard(away), "w", start.get())));
        });
        group.catch_up();
        let leader = group.leader();
        let (at, mut feed) = feed.take().expect("it was created");
        while group.put(leader, "w", "v") < start.get() + 2 {}
        assert!(at == away || group.shard(at).revision() > pinion::types::Revision(0));
        let events = group.run(async move {
            let mut events = told(&mut feed).await;
            while events.len() < 3 {
                events.extend(told(&mut feed).await);
            }
            events
        });
        let revisions: Vec<_> =
            events.iter().map(|event| event.kv.as_ref().expect("a key").mod_revision).collect();
        assert_eq!(revisions, (start.get()..start.get() + 3).collect::<Vec<_>>(), "seed {seed}");
    }
}

/// etcd#18089, etcd#19179: the deletion at the compacted revision itself was not told.
#[test]
fn a_deletion_at_the_compacted_revision_is_told_by_every_member() {
    for seed in world::seeds(4) {
        let group = Group::new(seed, 3);
        let leader = group.leader();
        group.put(leader, "w", "1");
        let deleted = group.delete(leader, "w");
        group.compact(leader, deleted);
        group.agree();
        for at in group.all() {
            if seed % 2 == 1 {
                group.world.crash(at);
                group.world.start(at);
                group.agree();
            }
            let mut feed = watch(&group.shard(at), "w", deleted);
            let events = group.run(async move { told(&mut feed).await });
            assert_eq!(events.len(), 1, "seed {seed}, member {at}");
            let kv = events[0].kv.as_ref().expect("a key");
            assert_eq!((events[0].r#type(), kv.mod_revision), (EventType::Delete, deleted), "seed {seed}");
        }
    }
}

/// etcd#17780: everything was deleted and compacted, the member crashed, and its revision was lower than before.
#[test]
fn a_crash_in_a_compaction_of_everything_lowers_no_revision() {
    for seed in world::seeds(2) {
        for steps in (0..400).step_by(7) {
            let group = Group::new(seed, 1);
            for n in 0..12 {
                group.put(0, &format!("k{n}"), "v");
            }
            let deleted: Vec<_> = (0..12).map(|n| group.delete(0, &format!("k{n}"))).collect();
            let revision = *deleted.last().expect("a dozen");
            let shard = group.shard(0);
            group.world.sim.spawn(world::client_id(1), async move {
                let compact = pb::CompactionRequest { revision, physical: true };
                // It may crash at any time.
                if shard.write(&Principal::default(), compact).await.is_ok()
                    && shard.defragment().await.is_ok()
                {
                    shard.stop();
                }
            });
            group.world.sim.run_until(steps, || false);
            group.world.crash(0);
            group.world.start(0);
            let shard = group.world.serving(0).unwrap_or_else(|why| panic!("seed {seed}, {steps}: {why}"));
            assert_eq!(shard.revision().0, revision, "seed {seed}, {steps} steps");
            assert_eq!(group.put(0, "next", "v"), revision + 1);
        }
    }
}

/// etcd#20271: a checkpoint was put in place while the member gave back space.
#[test]
fn a_checkpoint_may_come_while_space_is_given_back() {
    for seed in world::seeds(6) {
        let group = Group::new(seed, 3);
        let away = group.left_behind(|_| {});
        let shard = group.shard(away);
        let running = Rc::new(Cell::new(true));
        let (again, sim) = (running.clone(), group.world.sim.clone());
        sim.clone().spawn(group.world.nodes[away].id, async move {
            while again.get() && shard.defragment().await.is_ok() {
                sim.sleep(Duration::from_micros(sim.below(2_000))).await;
            }
        });
        group.catch_up();
        running.set(false);
        group.world.crash(away);
        group.world.start(away);
        group.agree();
    }
}

/// etcd#18055: the second checkpoint that was sent removed the files of the first.
#[test]
fn two_members_get_checkpoints_while_newer_ones_are_made() {
    for seed in world::seeds(4) {
        let group = Group::new(seed, 5);
        group.put(group.leader(), "before", "1");
        group.agree();
        let leader = group.leader();
        let away: Vec<_> = group.all().into_iter().filter(|at| *at != leader).take(2).collect();
        let isolated = away.iter().map(|at| group.world.nodes[*at].id.0).collect();
        group.world.sim.set_faults(Faults { isolated, ..Faults::default() });
        for n in 0..40 {
            group.put(leader, &format!("k{}", n % 3), "v");
        }
        let carried = group.world.carried.get();
        group.heal();
        // Newer ones are made all the while.
        for n in 0..60 {
            group.put(leader, &format!("k{}", n % 3), "w");
        }
        group.agree();
        group.have_come(carried + 2);
    }
}

/// etcd#12291: a jump of the time of day moved leases. Neither does a clock that goes a little too fast.
#[test]
fn a_jump_of_the_time_of_day_ends_no_lease() {
    for seed in world::seeds(4) {
        let group = Group::new(seed, 3);
        let leader = group.leader();
        let (shard, grant) = (group.shard(leader), pb::LeaseGrantRequest { id: 7, ttl: 5 });
        group.run(async move { shard.write(&Principal::default(), grant).await }).expect("granted");
        for node in &group.world.nodes {
            group.world.sim.set_clock(node.id, 1_000, Duration::from_secs(1 << 30));
        }
        group.pass(Duration::from_millis(4_500));
        let lives = |at| group.shard(at).with_state(|state| state.leases().contains(7));
        assert!(lives(group.leader()), "seed {seed}: it has ended before its time");
        group.pass(Duration::from_secs(4));
        assert!(!lives(group.leader()), "seed {seed}: it lives for ever");
    }
}

/// etcd#15247: a leader whose disk had hung went on to end leases that were kept alive elsewhere.
#[test]
fn a_leader_that_was_stuck_ends_no_lease_that_others_kept_alive() {
    for seed in world::seeds(6) {
        let group = Group::new(seed, 3);
        let old = group.leader();
        let (shard, grant) = (group.shard(old), pb::LeaseGrantRequest { id: 7, ttl: 2 });
        group.run(async move { shard.write(&Principal::default(), grant).await }).expect("granted");
        // It stands still, its disk hangs, and nobody hears of it.
        group.world.sim.pause(group.world.nodes[old].id);
        group.world.nodes[old].disk.set_hanging(true);
        let others: Vec<_> = group.all().into_iter().filter(|at| *at != old).collect();
        for _ in 0..5 {
            let leader = group.leader_of(&others);
            let shard = group.shard(leader);
            let renewed = group.run(async move {
                shard.linearize().await?;
                shard.renew(7).await
            });
            assert!(matches!(renewed, Ok(Some(2))), "seed {seed}: {renewed:?}");
            group.pass(Duration::from_millis(900));
        }
        group.world.sim.resume(group.world.nodes[old].id);
        group.world.nodes[old].disk.set_hanging(false);
        for _ in 0..5 {
            let leader = group.leader();
            let shard = group.shard(leader);
            let renewed = group.run(async move {
                shard.linearize().await?;
                shard.renew(7).await
            });
            assert!(!matches!(renewed, Ok(None)), "seed {seed}: it has ended before its time");
            group.pass(Duration::from_millis(700));
        }
        group.agree();
    }
}

/// etcd#20418: a leader stood still for longer than an election; when it went on, it answered a read as if it still led.
#[test]
fn a_leader_that_stood_still_answers_with_what_is_new_or_not_at_all() {
    let mut answered = 0;
    for seed in world::seeds(60) {
        let group = Group::new(seed, 3);
        let old = group.leader();
        group.put(old, "k", "old");
        group.agree();
        let id = group.world.nodes[old].id;
        group.world.sim.pause(id);
        if seed % 2 == 0 {
            // And nothing that was sent to it meanwhile has arrived.
            group.isolate(old);
        }
        let others: Vec<_> = group.all().into_iter().filter(|at| *at != old).collect();
        group.pass(ELECTIONS);
        let revision = group.put(group.leader_of(&others), "k", "new");
        let shard = group.shard(old);
        let reading = shard.clone();
        let (read, told) = (Rc::new(RefCell::new(None)), Rc::new(Cell::new(false)));
        let (reads, tells) = (read.clone(), told.clone());
        group.world.sim.spawn(world::client_id(1), async move {
            let range = pb::RangeRequest { key: "k".into(), ..Default::default() };
            let answer = match reading.linearize().await {
                Ok(()) => reading.range(&Principal::default(), range).await.map(|answer| answer.whole()),
                Err(error) => Err(error),
            };
            *reads.borrow_mut() = Some(answer);
            tells.set(true);
        });
        group.world.sim.resume(id);
        group.pass(Duration::from_millis(group.world.sim.below(200)));
        group.heal();
        assert!(group.world.sim.run_until(STEPS_MAX, || told.get()), "seed {seed}: the read hangs");
        match read.take().expect("just told") {
            Ok(answer) => {
                assert_eq!(answer.kvs[0].value, "new".as_bytes(), "seed {seed}");
                assert!(answer.header.expect("a header").revision >= revision, "seed {seed}");
                answered += 1;
            }
            Err(Error::Timeout | Error::NoLeader) => {}
            Err(error) => panic!("seed {seed}: {error}"),
        }
        group.agree();
    }
    println!("{answered} were answered");
}

/// Cloudflare, 2020-11-02: one way between two members failed, and elections never ended.
#[test]
fn one_way_that_fails_brings_elections_to_an_end() {
    for seed in world::seeds(12) {
        let group = Group::new(seed, 3);
        let leader = group.leader();
        let before = group.shard(leader).term().0;
        let (from, to) = [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)][seed as usize % 6];
        let (from, to) = (group.world.nodes[from].id.0, group.world.nodes[to].id.0);
        let both = seed % 12 >= 6;
        let mut links = vec![((from, to), LinkFault::Cut)];
        links.extend(both.then_some(((to, from), LinkFault::Cut)));
        group.world.sim.set_faults(Faults { links: links.into_iter().collect(), ..Faults::default() });
        group.pass(Duration::from_secs(3));
        // Somebody leads, and is followed: what is written is acknowledged again and again.
        let mut written = 0;
        for _ in 0..40 {
            let able = group.all().into_iter().find(|at| group.shard(*at).can_read());
            if let Some(at) = able {
                let (shard, sim) = (group.shard(at), group.world.sim.clone());
                let patience = async move {
                    sim.sleep(Duration::from_millis(300)).await;
                    Err(Error::Timeout)
                };
                let write = async move { shard.write(&Principal::default(), put("k", "v")).await };
                written += u64::from(group.run(or(write, patience)).is_ok());
            }
            group.pass(Duration::from_millis(50));
        }
        let terms = group.all().into_iter().map(|at| group.shard(at).term().0).max().expect("some") - before;
        assert!(written >= 20, "seed {seed}, {from} to {to}, both {both}: {written} writes");
        assert!(terms <= 6, "seed {seed}, {from} to {to}, both {both}: {terms} terms");
        group.heal();
        group.agree();
    }
}

/// Crashes while space is given back: what was written is there once, and at its revision.
/// etcd#14685: data was there without what it was of, and was applied once more.
#[test]
fn a_crash_while_space_is_given_back_applies_nothing_twice() {
    for seed in world::seeds(2) {
        for steps in (0..600).step_by(9) {
            let group = Group::new(seed, 1);
            for n in 0..20 {
                group.put(0, &format!("k{}", n % 4), &n.to_string());
            }
            let revision = group.put(0, "k", "last");
            let shard = group.shard(0);
            let done = Rc::new(Cell::new(false));
            let told = done.clone();
            group.world.sim.spawn(world::client_id(1), async move {
                told.set(shard.defragment().await.is_ok());
            });
            group.world.sim.run_until(steps, || done.get());
            group.world.crash(0);
            group.world.start(0);
            let shard = group.world.serving(0).unwrap_or_else(|why| panic!("seed {seed}, {steps}: {why}"));
            assert_eq!(shard.revision().0, revision, "seed {seed}, {steps} steps");
            let range = pb::RangeRequest { key: "k".into(), ..Default::default() };
            let found = shard.with_state(|state| state.range(&range)).expect("readable");
            assert_eq!((found.kvs[0].version, found.kvs[0].mod_revision), (1, revision), "seed {seed}");
        }
    }
}
