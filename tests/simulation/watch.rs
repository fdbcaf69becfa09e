//! Watches across crashes, restarts, checkpoints and compactions: no event is lost, told twice or out of order.
//!
//! A watcher follows a range through whichever member it finds, and goes on elsewhere, from the revision after the last it
//! was told of. What is compacted before it gets there it is told, and may miss. In the end what it was told is compared
//! with the history.

use std::{cell::Cell, cell::RefCell, rc::Rc, time::Duration};

use bytes::Bytes;
use futures_lite::future::or;
use pinion::{
    pb::{
        etcdserverpb as pb,
        mvccpb::{Event, event::EventType},
    },
    shard::{Due, Keys, Shard, Taste, Told, Wanted},
    state::Principal,
};
use prost::Message;

use crate::world::{self, Memory, STEPS_MAX, World};

/// What a watcher was told, and what it was told it cannot be told.
#[derive(Default)]
pub struct Log {
    events: Vec<Event>,
    /// From this revision up to that one, which is not part of it.
    missed: Vec<(i64, i64)>,
    next: i64,
    progress: u64,
    created: u64,
    ended: u64,
}

impl Log {
    fn tell(&mut self, pieces: &[Bytes]) {
        let answer = pb::WatchResponse::decode(&pieces.concat()[..]).expect("events of an answer");
        for event in answer.events {
            let revision = event.kv.as_ref().expect("it is about a key").mod_revision;
            let last = self.events.last().map_or(0, |last| last.kv.as_ref().expect("a pair").mod_revision);
            assert!(revision >= self.next, "revision {revision} again, {} was to come", self.next);
            assert!(revision >= last, "revision {revision} after {last}");
            self.events.push(event);
        }
    }

    /// All there is in an answer was told.
    fn told(&mut self) {
        if let Some(last) = self.events.last() {
            self.next = self.next.max(last.kv.as_ref().expect("a pair").mod_revision + 1);
        }
    }

    fn say(&mut self, told: Told, open: &mut Option<(usize, Vec<Bytes>)>) {
        match told {
            Told::Events { events, more, .. } => {
                self.tell(&events);
                if !more {
                    self.told();
                }
            }
            Told::Begin { bytes, .. } => *open = Some((bytes, Vec::new())),
            Told::Piece(more) => {
                let (bytes, mut pieces) = open.take().expect("it has begun");
                pieces.extend(more);
                if pieces.iter().map(Bytes::len).sum::<usize>() == bytes {
                    self.tell(&pieces);
                    self.told();
                } else {
                    *open = Some((bytes, pieces));
                }
            }
            Told::Compacted { compacted, .. } => {
                assert!(compacted > self.next, "{} was not compacted, {compacted} was", self.next);
                self.missed.push((self.next, compacted));
                self.next = compacted;
                self.ended += 1;
            }
            Told::Progress { revision, .. } => {
                // Everything up to there was told, so that it need not be told again.
                self.next = self.next.max(revision + 1);
                self.progress += 1;
            }
            Told::Broken => {}
        }
    }

    /// Against the versions that there were, up to a revision.
    pub fn check(&self, seed: u64, keys: &Keys, history: &[Event], end: i64) {
        let concerns = |event: &&Event| {
            let kv = event.kv.as_ref().expect("a pair");
            let missed = self.missed.iter().any(|(from, to)| (*from..*to).contains(&kv.mod_revision));
            !missed && kv.mod_revision <= end && keys.contain(&kv.key)
        };
        let expected: Vec<_> = history.iter().filter(concerns).collect();
        let told: Vec<_> = self.events.iter().filter(concerns).collect();
        for (told, expected) in told.iter().zip(&expected) {
            assert_eq!(told, expected, "seed {seed}: {keys:?}, missed {:?}", self.missed);
        }
        assert_eq!(told.len(), expected.len(), "seed {seed}: {keys:?}, missed {:?}", self.missed);
    }
}

fn wanted(keys: &Keys, start: i64) -> Wanted {
    let taste = Taste { puts: true, deletes: true, prior: false };
    Wanted { id: 0, keys: keys.clone(), taste, start, notify: false, fragment: false }
}

/// Follows these keys from revision 2 on until everything is over and it has come to the end.
pub fn watcher(world: &World, number: u64, keys: Keys, seen: &Rc<Seen>) -> Rc<RefCell<Log>> {
    let log = Rc::new(RefCell::new(Log { next: 2, ..Log::default() }));
    let (sim, telling, seen) = (world.sim.clone(), log.clone(), seen.clone());
    let shards: Vec<_> = world.nodes.iter().map(|node| node.shard.clone()).collect();
    seen.running.set(seen.running.get() + 1);
    world.sim.spawn(world::client_id(500 + number), async move {
        while seen.end.get() == 0 || telling.borrow().next <= seen.end.get() {
            sim.sleep(Duration::from_millis(1 + sim.below(10))).await;
            let Some(shard) = shards[sim.below(shards.len() as u64) as usize].borrow().clone() else {
                continue;
            };
            let mut feed = shard.feed();
            let next = telling.borrow().next;
            let created = feed.create(wanted(&keys, next));
            assert!(matches!(created, Ok(Ok(_))));
            drop(shard);
            telling.borrow_mut().created += 1;
            let mut open = None;
            for _ in 0..sim.below(60) {
                if sim.chance(200) {
                    // It does not look for a while.
                    sim.sleep(Duration::from_millis(sim.below(30))).await;
                }
                if sim.chance(100) {
                    feed.ask_for_progress();
                }
                // A member that is gone says nothing any more.
                let patience = async {
                    sim.sleep(Duration::from_millis(40)).await;
                    None
                };
                let Some(told) = or(async { feed.next().await.ok() }, patience).await else { break };
                let is_over = matches!(told, Told::Compacted { .. } | Told::Broken);
                telling.borrow_mut().say(told, &mut open);
                if is_over {
                    break;
                }
            }
            if seen.end.get() > 0 && telling.borrow().next <= seen.end.get() {
                feed.ask_for_progress();
                let patience = async {
                    sim.sleep(Duration::from_millis(40)).await;
                    None
                };
                if let Some(told) = or(async { feed.next().await.ok() }, patience).await {
                    telling.borrow_mut().say(told, &mut open);
                }
            }
        }
        seen.running.set(seen.running.get() - 1);
    });
    log
}

#[derive(Default)]
pub struct Seen {
    pub running: Cell<u64>,
    /// The last revision there will be, once it is known.
    pub end: Cell<i64>,
    compactions: Cell<u64>,
}

/// Deletes ranges and compacts, as long as others write.
fn meddler(world: &World, writing: &Rc<Cell<u64>>, seen: &Rc<Seen>) {
    let (sim, writing, seen) = (world.sim.clone(), writing.clone(), seen.clone());
    let shards: Vec<_> = world.nodes.iter().map(|node| node.shard.clone()).collect();
    seen.running.set(seen.running.get() + 1);
    world.sim.spawn(world::client_id(900), async move {
        while writing.get() > 0 {
            sim.sleep(Duration::from_millis(1 + sim.below(30))).await;
            let Some(shard) = shards[sim.below(shards.len() as u64) as usize].borrow().clone() else {
                continue;
            };
            if sim.chance(600) {
                let client = sim.below(4);
                let delete = pb::DeleteRangeRequest {
                    key: format!("c{client}/").into(),
                    range_end: format!("c{client}0").into(),
                    prev_kv: false,
                };
                let deleted = shard.write_long(&Principal::default(), delete).await;
                drop(deleted);
            } else {
                let revision = shard.revision().0 - sim.below(40) as i64;
                let compaction = pb::CompactionRequest { revision, physical: sim.chance(500) };
                let compacted = shard.write(&Principal::default(), compaction).await.is_ok();
                seen.compactions.set(seen.compactions.get() + u64::from(compacted));
            }
        }
        seen.running.set(seen.running.get() - 1);
    });
}

/// Everything that was ever written, as far as it is still there, from the member that never compacts what it has seen.
fn note(shard: &Shard, history: &mut Vec<Event>) {
    let next = history.last().map_or(2, |last| last.kv.as_ref().expect("a pair").mod_revision + 1);
    shard.with_state(|state| {
        let store = state.history();
        for (_, version) in store.versions_from(store.seek(next, 0)) {
            let kind = if version.tombstone { EventType::Delete } else { EventType::Put };
            let kv = pinion::pb::mvccpb::KeyValue {
                key: version.key.to_vec().into(),
                create_revision: version.create,
                mod_revision: version.main,
                version: version.version,
                value: version.value.to_vec().into(),
                lease: version.lease,
            };
            history.push(Event { r#type: kind as i32, kv: Some(kv), prev_kv: None });
        }
    });
}

fn follow(seed: u64, members: u64) -> u64 {
    let mut world = World::new(seed, members);
    // Checkpoints are frequent, so that some come from another member.
    world.checkpoint = Due { entries: 10 + world.sim.below(30), bytes: usize::MAX, log_bytes: u64::MAX };
    world.catchup_entries = 5;
    (0..members as usize).for_each(|at| world.start(at));
    let (memory, writing) = (Rc::new(RefCell::new(Memory::default())), Rc::new(Cell::new(0)));
    for number in 0..4 {
        world::client(&world, number, 40, memory.clone(), writing.clone());
    }
    let seen = Rc::new(Seen::default());
    meddler(&world, &writing, &seen);
    let ranges = [("c0/", "c1"), ("", "\0"), ("c1/k1", ""), ("c2/k1", "c2/k3"), ("c2/k2", "c9")];
    let watchers: Vec<_> = ranges
        .iter()
        .zip(0..)
        .map(|((key, end), number)| {
            let keys = Keys::new(key.as_bytes(), end.as_bytes()).expect("a range");
            let log = watcher(&world, number, keys.clone(), &seen);
            (keys, log)
        })
        .collect();
    let mut history = Vec::new();
    let mut crashes = 4;
    while writing.get() > 0 {
        // Often enough that nothing is freed in between unseen.
        let until = 1 + world.sim.below(6);
        world.sim.run_until(until, || writing.get() == 0);
        let newest = world.nodes.iter().filter_map(|node| node.shard.borrow().clone());
        let newest = newest.max_by_key(|shard| shard.revision());
        newest.iter().for_each(|shard| note(shard, &mut history));
        if crashes > 0 && world.sim.chance(8) {
            crashes -= 1;
            let at = world.sim.below(members) as usize;
            world.crash(at);
            world.start(at);
        }
    }
    let leads = || {
        let shards = world.nodes.iter().map(|node| node.shard.borrow().clone());
        shards.flatten().find(|shard| shard.can_read() && shard.status().applied == shard.status().committed)
    };
    let only_watchers = || seen.running.get() == watchers.len() as u64;
    assert!(world.sim.run_until(STEPS_MAX, only_watchers), "seed {seed}: a deletion or compaction is stuck");
    assert!(world.sim.run_until(STEPS_MAX, || leads().is_some()), "seed {seed}: nobody leads");
    let leader = leads().expect("just seen");
    note(&leader, &mut history);
    seen.end.set(leader.revision().0);
    drop(leader);
    let done = world.sim.run_until(STEPS_MAX, || seen.running.get() == 0);
    assert!(done, "seed {seed}: watchers do not come to the end");
    for (keys, log) in &watchers {
        log.borrow().check(seed, keys, &history, i64::MAX);
    }
    watchers.iter().map(|(_, log)| log.borrow().ended).sum()
}

#[test]
fn watchers_of_a_member_that_crashes_are_told_everything_once() {
    let ended: u64 = world::seeds(60).map(|seed| follow(seed, 1)).sum();
    assert!(ended > 0, "nobody was ever too late");
}

#[test]
fn watchers_that_go_from_member_to_member_are_told_everything_once() {
    for seed in world::seeds(20) {
        follow(seed, 3);
    }
}
