use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
};

use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::{
    limits,
    pb::{
        etcdserverpb as pb,
        mvccpb::{self, event::EventType},
    },
    state::mvcc::{Span, Store},
};

/// What a client sees of an event: revision, key, whether it is a deletion, the value, and the one before if it is told.
type Seen = (i64, Vec<u8>, bool, Vec<u8>, Option<Vec<u8>>);

fn decoded(pieces: &[bytes::Bytes]) -> Vec<Seen> {
    let answer = pb::WatchResponse::decode(&pieces.concat()[..]).expect("events of an answer");
    answer.events.into_iter().map(seen).collect()
}

fn seen(event: mvccpb::Event) -> Seen {
    let is_delete = event.r#type() == EventType::Delete;
    let kv = event.kv.expect("it is about a key");
    let prior = event.prev_kv.map(|prior| prior.value.to_vec());
    (kv.mod_revision, kv.key.to_vec(), is_delete, kv.value.to_vec(), prior)
}

/// A history, its hub and what happened.
struct World {
    store: Store,
    hub: Hub,
    happened: Vec<Seen>,
}

impl Default for World {
    fn default() -> Self {
        Self { store: Store::default(), hub: Hub::new(1), happened: Vec::new() }
    }
}

impl World {
    fn value(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.store.now().get(key).map(|record| record.value.to_vec())
    }

    /// One revision with these puts and then a deletion.
    fn write(&mut self, puts: &[(Vec<u8>, Vec<u8>)], deleted: Option<(Vec<u8>, Vec<u8>)>) {
        let next = self.store.revision().0 + 1;
        let mut events = Vec::new();
        let priors: BTreeMap<_, _> = puts.iter().map(|(key, _)| (key.clone(), self.value(key))).collect();
        let mut gone = Vec::new();
        if let Some((start, end)) = &deleted {
            let view = self.store.now();
            for hit in view.scan(Span::new(start, end)).filter(|hit| hit.exists) {
                let record = view.record(hit.pos);
                if !priors.contains_key(record.key) {
                    gone.push((record.key.to_vec(), record.value.to_vec()));
                }
            }
        }
        let mut write = self.store.write();
        for (key, value) in puts {
            write.put(key, value, 0);
            events.push((next, key.clone(), false, value.clone(), priors[key].clone()));
        }
        for (key, value) in gone {
            let deleted = write.delete(Span::One(&key), usize::MAX);
            assert_eq!(deleted.count, 1);
            events.push((next, key, true, Vec::new(), Some(value)));
        }
        let written = write.end();
        if let Some(written) = written {
            self.hub.note(written);
        }
        self.happened.extend(events);
    }

    fn put(&mut self, key: &str, value: &str) {
        self.write(&[(key.into(), value.into())], None);
    }

    fn tell(&mut self) {
        while !self.hub.publish(&self.store, 1) {}
    }

    fn compact(&mut self, revision: i64) {
        assert!(self.store.compact(revision).is_ok());
    }

    fn free(&mut self) {
        assert!(self.hub.is_at_rest(), "what is to be told must not move");
        self.store.defragment();
        while self.store.compact_step(7, true) != crate::state::mvcc::Freed::All {}
    }
}

/// A stream and what its client was told, watch by watch.
struct Client {
    watches: Watches,
    told: BTreeMap<i64, Vec<Seen>>,
    compacted: BTreeMap<i64, i64>,
    progress: Vec<(Option<i64>, i64)>,
    /// Of a message that has begun.
    open: Option<(i64, usize, Vec<bytes::Bytes>)>,
}

impl Client {
    fn new(world: &mut World) -> Self {
        let watches = Watches::new(&mut world.hub);
        let (told, compacted, progress) = Default::default();
        Self { watches, told, compacted, progress, open: None }
    }

    fn create(&mut self, world: &mut World, wanted: Wanted) -> Result<i64, Duplicate> {
        self.watches.create(&mut world.hub, &world.store, wanted)
    }

    fn take(&mut self, world: &mut World) -> bool {
        let Some(told) = self.watches.next(&mut world.hub) else { return false };
        match told {
            Told::Events { id, events, revision, .. } => {
                assert!(self.open.is_none());
                let events = decoded(&events);
                assert!(events.iter().all(|event| event.0 <= revision));
                self.told.entry(id).or_default().extend(events);
            }
            Told::Compacted { id, compacted } => assert_eq!(self.compacted.insert(id, compacted), None),
            Told::Progress { id, revision } => self.progress.push((id, revision)),
            Told::Begin { id, bytes, .. } => self.open = Some((id, bytes, Vec::new())),
            Told::Piece(pieces) => {
                let (id, bytes, mut all) = self.open.take().expect("it has begun");
                all.extend(pieces);
                if all.iter().map(bytes::Bytes::len).sum::<usize>() == bytes {
                    self.told.entry(id).or_default().extend(decoded(&all));
                } else {
                    self.open = Some((id, bytes, all));
                }
            }
            Told::Broken => panic!("nothing is compacted in the middle of a message here"),
        }
        true
    }

    fn settle(&mut self, world: &mut World) {
        loop {
            world.tell();
            while self.take(world) {}
            if !self.watches.is_catching_up() {
                return;
            }
            self.watches.walk(&mut world.hub, &world.store, 3);
        }
    }
}

fn wanted(start: &str, end: &str) -> Wanted {
    Wanted {
        id: 0,
        keys: Keys::new(start.as_bytes(), end.as_bytes()).expect("a range"),
        taste: Taste { puts: true, deletes: true, prior: false },
        start: 0,
        notify: false,
        fragment: false,
    }
}

fn expected(world: &World, wanted: &Wanted, from: i64) -> Vec<Seen> {
    let concerns =
        |event: &&Seen| event.0 >= from && wanted.keys.contain(&event.1) && wanted.taste.takes(event.2);
    let told = world.happened.iter().filter(concerns).cloned();
    told.map(|(revision, key, is_delete, value, prior)| {
        (revision, key, is_delete, value, prior.filter(|_| wanted.taste.prior))
    })
    .collect()
}

#[test]
fn a_watch_is_told_what_happens_from_now_on_and_what_happened_from_its_start() {
    let mut world = World::default();
    world.put("a", "1");
    world.put("b", "1");
    let mut client = Client::new(&mut world);
    let live = client.create(&mut world, wanted("a", "")).expect("a name");
    let past = client.create(&mut world, Wanted { start: 2, ..wanted("a", "c") }).expect("a name");
    let future = client.create(&mut world, Wanted { start: 6, ..wanted("", "\0") }).expect("a name");
    assert_eq!((live, past, future), (0, 1, 2));
    world.put("a", "2");
    world.write(&[], Some((b"a".into(), b"c".into())));
    world.put("b", "2");
    client.settle(&mut world);
    let revisions = |id| client.told[&id].iter().map(|event| event.0).collect::<Vec<_>>();
    assert_eq!(revisions(live), [4, 5]);
    assert_eq!(revisions(past), [2, 3, 4, 5, 5, 6]);
    assert_eq!(revisions(future), [6]);
    assert!(client.watches.cancel(&mut world.hub, past) && !client.watches.cancel(&mut world.hub, past));
    world.put("a", "3");
    client.settle(&mut world);
    assert_eq!((client.told[&live].len(), client.told[&past].len()), (3, 6));
    assert!(client.watches.leave(&mut world.hub, 10));
    assert_eq!(world.hub.counts, Counts::default());
}

#[test]
fn names_are_the_clients_or_the_next_that_is_free() {
    let mut world = World::default();
    let mut client = Client::new(&mut world);
    let named = |id| Wanted { id, ..wanted("a", "") };
    assert_eq!(client.create(&mut world, named(1)), Ok(1));
    assert_eq!(client.create(&mut world, named(0)), Ok(0));
    assert_eq!(client.create(&mut world, named(0)), Ok(2));
    assert_eq!(client.create(&mut world, named(2)), Err(Duplicate));
    assert_eq!(client.create(&mut world, named(-7)), Ok(-7));
    assert!(client.watches.cancel(&mut world.hub, 0));
    assert_eq!(client.create(&mut world, named(0)), Ok(3), "no name is given twice");
}

#[test]
fn a_start_that_is_compacted_ends_the_watch_and_the_compacted_revision_itself_does_not() {
    let mut world = World::default();
    world.put("a", "1");
    world.write(&[], Some((b"a".into(), b"".into())));
    world.put("b", "1");
    world.compact(3);
    world.free();
    let mut client = Client::new(&mut world);
    let before = client.create(&mut world, Wanted { start: 2, ..wanted("a", "z") }).expect("a name");
    let at = client.create(&mut world, Wanted { start: 3, ..wanted("a", "z") }).expect("a name");
    client.settle(&mut world);
    assert_eq!(client.compacted, BTreeMap::from([(before, 3)]));
    assert_eq!(
        client.told[&at].iter().map(|event| (event.0, event.2)).collect::<Vec<_>>(),
        [(3, true), (4, false)]
    );
    assert_eq!(client.create(&mut world, Wanted { id: 99, ..wanted("a", "") }), Ok(99));
    client.watches.ask_for_progress(4);
    client.settle(&mut world);
    assert_eq!(client.progress, [], "not as long as there is one that is over");
    assert!(client.watches.cancel(&mut world.hub, before));
    client.watches.ask_for_progress(4);
    client.settle(&mut world);
    assert_eq!(client.progress, [(None, 4)]);
}

#[test]
fn progress_is_told_once_nothing_is_missing_any_more() {
    let mut world = World::default();
    let mut client = Client::new(&mut world);
    client.watches.ask_for_progress(1);
    client.settle(&mut world);
    assert_eq!(client.progress, [], "there is no watch");
    client.create(&mut world, Wanted { notify: true, ..wanted("a", "") }).expect("a name");
    world.put("a", "1");
    world.put("b", "1");
    client.watches.ask_for_progress(world.store.revision().0);
    assert!(!client.take(&mut world), "nothing was told yet, and the hub does not know it");
    client.settle(&mut world);
    assert_eq!((client.told[&0].len(), &client.progress[..]), (1, &[(None, 3)][..]));
    client.watches.notify(&world.hub);
    client.settle(&mut world);
    assert_eq!(client.progress.len(), 1, "it was told something since");
    client.watches.notify(&world.hub);
    client.settle(&mut world);
    assert_eq!(client.progress[1], (Some(0), 3));
    let future = Wanted { start: 100, ..wanted("a", "") };
    client.create(&mut world, future).expect("a name");
    client.watches.ask_for_progress(3);
    client.settle(&mut world);
    assert_eq!(client.progress.len(), 2, "not before the start of one of them");
}

#[test]
fn progress_is_told_once_all_have_begun_or_are_gone() {
    let mut world = World::default();
    let mut client = Client::new(&mut world);
    let start = |start| Wanted { start, ..wanted("a", "") };
    client.create(&mut world, start(0)).expect("a name");
    client.create(&mut world, start(3)).expect("a name");
    let latest = client.create(&mut world, start(9)).expect("a name");
    let ask = |world: &mut World, client: &mut Client| {
        client.watches.ask_for_progress(world.store.revision().0);
        client.settle(world);
        std::mem::take(&mut client.progress)
    };
    assert_eq!(ask(&mut world, &mut client), []);
    assert!(client.watches.cancel(&mut world.hub, latest));
    assert_eq!(ask(&mut world, &mut client), [], "there is another one");
    world.put("b", "1");
    world.put("b", "2");
    assert_eq!(ask(&mut world, &mut client), [(None, 3)]);
    // What is not told yet has begun when it is.
    world.put("b", "3");
    client.create(&mut world, start(4)).expect("a name");
    assert_eq!(ask(&mut world, &mut client), [(None, 4)]);
    client.create(&mut world, start(9)).expect("a name");
    assert_eq!(ask(&mut world, &mut client), []);
}

struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_stream_is_woken_for_what_concerns_it_and_once_until_it_looks() {
    let mut world = World::default();
    let mut client = Client::new(&mut world);
    client.create(&mut world, wanted("a", "b")).expect("a name");
    let bell = Arc::new(Bell(AtomicUsize::new(0)));
    let waker = Waker::from(bell.clone());
    let rings = |world: &mut World, watches: &Watches, key: &str| {
        let before = bell.0.load(Ordering::Relaxed);
        world.hub.wait(watches.stream(), &Context::from_waker(&waker));
        for _ in 0..3 {
            world.put(key, "1");
            world.tell();
        }
        bell.0.load(Ordering::Relaxed) - before
    };
    assert_eq!(rings(&mut world, &client.watches, "b"), 0);
    assert_eq!(rings(&mut world, &client.watches, "a"), 1);
    client.settle(&mut world);
    assert_eq!(client.told[&0].len(), 3);
}

#[test]
fn who_is_too_slow_reads_from_history_what_it_has_missed() {
    let mut world = World::default();
    let (mut slow, mut quick) = (Client::new(&mut world), Client::new(&mut world));
    for client in [&mut slow, &mut quick] {
        client.create(&mut world, wanted("a", "b")).expect("a name");
    }
    let value = "v".repeat(limits::WATCH_QUEUED_BYTES / 16);
    for _ in 0..40 {
        world.put("a", &value);
        world.tell();
        while quick.take(&mut world) {}
    }
    assert_eq!((quick.told[&0].len(), world.hub.counts.slow), (40, 0));
    assert!(world.hub.pending() < 20, "{} entries are kept", world.hub.pending());
    assert!(!slow.take(&mut world) && slow.watches.is_catching_up());
    assert_eq!(world.hub.counts.slow, 1);
    slow.settle(&mut world);
    assert_eq!(slow.told, quick.told);
    assert_eq!((world.hub.counts.slow, world.hub.pending()), (0, 0));
    world.put("a", "1");
    slow.settle(&mut world);
    assert_eq!(slow.told[&0].len(), 41);
}

#[test]
fn a_revision_that_is_long_comes_in_pieces_or_fragments() {
    let mut world = World::default();
    let value = vec![b'v'; 1_000];
    let keys = 3 * limits::WATCH_REVISION_BYTES / 1_000;
    for key in 0..keys {
        world.write(&[(format!("a{key:06}").into(), value.clone())], None);
    }
    let mut client = Client::new(&mut world);
    let prior = Taste { puts: true, deletes: true, prior: true };
    let whole = client.create(&mut world, Wanted { taste: prior, ..wanted("a", "b") }).expect("a name");
    let parts = Wanted { taste: prior, fragment: true, ..wanted("a", "b") };
    let parts = client.create(&mut world, parts).expect("a name");
    let other = client.create(&mut world, wanted("b", "c")).expect("a name");
    world.write(&[(b"b".into(), b"1".into())], Some((b"a".into(), b"b".into())));
    world.put("a", "after");
    client.settle(&mut world);
    assert_eq!(client.told[&whole].len(), keys + 1);
    assert!(client.told[&whole][..keys].iter().all(|event| event.2 && event.4.as_ref() == Some(&value)));
    assert_eq!((&client.told[&parts], client.told[&other].len()), (&client.told[&whole], 1));
}

#[test]
fn another_history_is_read_from_where_each_watch_stood() {
    let mut world = World::default();
    let mut client = Client::new(&mut world);
    let now = client.create(&mut world, wanted("a", "")).expect("a name");
    let future = client.create(&mut world, Wanted { start: 6, ..wanted("a", "") }).expect("a name");
    world.put("a", "1");
    client.settle(&mut world);
    // What a leader's checkpoint brings was written elsewhere.
    for value in 2..10 {
        let mut write = world.store.write();
        write.put(b"a", value.to_string().as_bytes(), 0);
        assert!(write.end().is_some());
    }
    world.hub.lose(world.store.revision().0);
    client.settle(&mut world);
    let revisions = |id| client.told[&id].iter().map(|event| event.0).collect::<Vec<_>>();
    assert_eq!(revisions(now), (2..=10).collect::<Vec<_>>());
    assert_eq!(revisions(future), (6..=10).collect::<Vec<_>>());
}

#[test]
fn a_watch_that_has_not_begun_may_be_lost_and_still_begins_where_it_wants() {
    let mut world = World::default();
    let mut client = Client::new(&mut world);
    let id = client.create(&mut world, Wanted { start: 4, ..wanted("a", "") }).expect("a name");
    client.create(&mut world, wanted("b", "")).expect("a name");
    world.put("b", "1");
    world.hub.lose(world.store.revision().0);
    world.tell();
    while client.take(&mut world) {}
    client.watches.walk(&mut world.hub, &world.store, usize::MAX);
    // The other watch has something to take before they go on.
    for value in ["1", "2"] {
        world.put("a", value);
    }
    client.settle(&mut world);
    assert_eq!(client.told[&id].iter().map(|event| event.0).collect::<Vec<_>>(), [4]);
}

#[test]
fn what_was_told_of_a_revision_that_others_still_wait_for_is_not_told_again() {
    for steps in 1..10 {
        let mut world = World::default();
        let mut clients: Vec<_> = (0..3).map(|_| Client::new(&mut world)).collect();
        for client in &mut clients {
            client.create(&mut world, wanted("a", "")).expect("a name");
        }
        world.put("a", "1");
        world.hub.publish(&world.store, steps);
        for client in &mut clients {
            client.take(&mut world);
        }
        world.hub.lose(world.store.revision().0);
        for client in &mut clients {
            client.settle(&mut world);
            assert_eq!(client.told[&0].len(), 1, "after {steps} steps");
        }
    }
}

#[test]
fn however_many_watch_they_are_visited_some_at_a_time() {
    const WATCHES: usize = 1_000;
    let mut world = World::default();
    let mut client = Client::new(&mut world);
    let bell = Arc::new(Bell(AtomicUsize::new(0)));
    let waker = Waker::from(bell.clone());
    // Of one key, and of one each.
    for key in 0..WATCHES {
        client.create(&mut world, wanted("a", "")).expect("a name");
        client.create(&mut world, wanted(&format!("b{key}"), "")).expect("a name");
    }
    let publishes = |world: &mut World| {
        let mut publishes = 1;
        while !world.hub.publish(&world.store, 10) {
            publishes += 1;
        }
        publishes
    };
    world.put("a", "1");
    assert_eq!(publishes(&mut world), WATCHES / 10 + 1);
    world.hub.wait(client.watches.stream(), &Context::from_waker(&waker));
    while client.take(&mut world) {}
    world.hub.lose(world.store.revision().0);
    assert_eq!(
        (bell.0.load(Ordering::Relaxed), world.hub.is_at_rest()),
        (0, false),
        "nobody is woken at once"
    );
    assert_eq!(publishes(&mut world), (WATCHES + 1 + 2 * WATCHES) / 10 + 1);
    assert_eq!(bell.0.load(Ordering::Relaxed), 1);
    client.settle(&mut world);
    assert_eq!((client.told.len(), world.hub.pending()), (WATCHES, 0));
    world.put("a", "2");
    client.settle(&mut world);
    assert!(client.told.values().all(|told| told.len() == 2));
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(u8, u16)>, Option<(u8, u8)>),
    /// Start and end, how far back it starts, whether it wants priors, and puts or deletes alone.
    Create(usize, u8, u8, Option<i64>, bool, u8),
    Cancel(usize, u8),
    Publish(usize),
    Take(usize, usize),
    Walk(usize, usize),
    Compact(i64),
    Free,
    Ask(usize),
    Lose,
}

#[test]
fn what_was_told_is_not_told_again_when_another_history_comes_in_between() {
    let mut world = World::default();
    let mut client = Client::new(&mut world);
    let ids = [0, 1].map(|_| client.create(&mut world, wanted("a", "")).expect("created"));
    world.put("a", "2");
    // One of them is told before the other.
    while !client.take(&mut world) {
        assert!(!world.hub.publish(&world.store, 1), "it is told before everything is");
    }
    world.hub.lose(world.store.revision().0);
    client.settle(&mut world);
    for id in ids {
        assert_eq!(client.told[&id], expected(&world, &wanted("a", ""), 2));
    }
}

#[test]
fn a_start_that_is_yet_to_come_holds_when_the_history_is_another_one() {
    let mut world = World::default();
    let mut client = Client::new(&mut world);
    let all = Wanted { start: 5, ..wanted("a", "") };
    let id = client.create(&mut world, all.clone()).expect("created");
    world.put("a", "2");
    world.hub.lose(world.store.revision().0);
    client.settle(&mut world);
    for value in ["3", "4", "5", "6"] {
        world.put("a", value);
        client.settle(&mut world);
    }
    assert_eq!(client.told[&id], expected(&world, &all, 5));
}

fn step() -> impl Strategy<Value = Step> {
    let put = (0u8..20, prop_oneof![9 => 0u16..20, 1 => Just(60_000u16)]);
    prop_oneof![
        12 => (prop::collection::vec(put, 0..4), prop::option::of((0u8..20, 0u8..20)))
            .prop_map(|(puts, deleted)| Step::Write(puts, deleted)),
        4 => (0usize..2, 0u8..20, 0u8..21, prop::option::of(-3i64..30), any::<bool>(), 0u8..4)
            .prop_map(|(c, a, b, s, p, f)| Step::Create(c, a, b, s, p, f)),
        1 => (0usize..2, any::<u8>()).prop_map(|(c, n)| Step::Cancel(c, n)),
        6 => (0usize..10).prop_map(Step::Publish),
        6 => (0usize..2, 0usize..6).prop_map(|(c, n)| Step::Take(c, n)),
        6 => (0usize..2, 0usize..10).prop_map(|(c, n)| Step::Walk(c, n)),
        1 => (0i64..30).prop_map(Step::Compact),
        1 => Just(Step::Free),
        2 => (0usize..2).prop_map(Step::Ask),
        1 => Just(Step::Lose),
    ]
}

fn key(number: u8) -> Vec<u8> {
    vec![b'a' + number / 5, b'0' + number % 5]
}

proptest! {
    /// However writing, telling, reading and compacting interleave, a watch is told what concerns it, once and in order, or
    /// that it was too late; and progress never overtakes an event.
    #[test]
    fn watches_are_told_all_that_concerns_them(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::default();
        let mut clients: Vec<_> = (0..2).map(|_| Client::new(&mut world)).collect();
        let mut all: Vec<BTreeMap<i64, (Wanted, i64)>> = vec![BTreeMap::new(), BTreeMap::new()];
        for step in steps {
            let before = clients.iter().map(|client| client.progress.len()).collect::<Vec<_>>();
            match step {
                Step::Write(puts, deleted) => {
                    let mut puts: BTreeMap<_, _> =
                        puts.into_iter().map(|(k, len)| (key(k), vec![b'v'; len.into()])).collect();
                    let puts: Vec<_> = std::mem::take(&mut puts).into_iter().collect();
                    world.write(&puts, deleted.map(|(a, b)| (key(a), key(b))));
                }
                Step::Create(at, a, b, back, prior, filter) => {
                    let end = match b {
                        20 => vec![0],
                        b if b <= a => vec![],
                        b => key(b),
                    };
                    let keys = Keys::new(&key(a), &end).expect("a range");
                    let taste = Taste { puts: filter != 1, deletes: filter != 2, prior };
                    let current = world.store.revision().0;
                    let start = back.map_or(0, |back| (current - back).max(1));
                    let wanted = Wanted { id: 0, keys, taste, start, notify: false, fragment: filter == 3 };
                    let id = clients[at].create(&mut world, wanted.clone()).expect("a name");
                    let from = if start == 0 { current + 1 } else { start };
                    all[at].insert(id, (wanted, from));
                }
                Step::Cancel(at, number) => {
                    let id = all[at].keys().nth(usize::from(number) % all[at].len().max(1)).copied();
                    if let Some(id) = id && clients[at].open.is_none() {
                        prop_assert!(clients[at].watches.cancel(&mut world.hub, id));
                        all[at].remove(&id);
                    }
                }
                Step::Publish(steps) => drop(world.hub.publish(&world.store, steps)),
                Step::Take(at, count) => {
                    for _ in 0..count {
                        clients[at].take(&mut world);
                    }
                }
                Step::Walk(at, steps) => {
                    if clients[at].watches.is_catching_up() {
                        clients[at].watches.walk(&mut world.hub, &world.store, steps);
                    }
                }
                Step::Compact(back) => {
                    let revision = world.store.revision().0 - back;
                    if revision > world.store.compacted().0 && revision > 0 {
                        world.compact(revision);
                    }
                }
                Step::Free => {
                    if world.hub.is_at_rest() {
                        world.free();
                    }
                }
                Step::Ask(at) => clients[at].watches.ask_for_progress(world.store.revision().0),
                Step::Lose => {
                    let known = world.store.revision().0;
                    world.hub.lose(known);
                }
            }
            for ((client, all), before) in clients.iter().zip(&all).zip(before) {
                for (id, (wanted, from)) in all {
                    let told = client.told.get(id).map_or(&[][..], Vec::as_slice);
                    let expected = expected(&world, wanted, *from);
                    prop_assert!(told.len() <= expected.len());
                    for (told, expected) in told.iter().zip(&expected) {
                        prop_assert_eq!((told.0, &told.1, told.2, &told.3), (expected.0, &expected.1, expected.2, &expected.3));
                        prop_assert!(told.4 == expected.4 || told.4.is_none(), "what was before, or nothing");
                    }
                }
                for (_, revision) in &client.progress[before..] {
                    for (id, (wanted, from)) in all {
                        let told = client.told.get(id).map_or(0, Vec::len);
                        let due = expected(&world, wanted, *from).iter().filter(|event| event.0 <= *revision).count();
                        prop_assert!(told >= due || client.compacted.contains_key(id), "progress is ahead of an event");
                    }
                }
            }
        }
        for (client, all) in clients.iter_mut().zip(&all) {
            client.settle(&mut world);
            for (id, (wanted, from)) in all {
                let told = client.told.get(id).map_or(0, Vec::len);
                let expected = expected(&world, wanted, *from);
                match client.compacted.get(id) {
                    Some(compacted) => prop_assert!(expected.get(told).is_none_or(|next| next.0 <= *compacted) || *from < *compacted),
                    None => prop_assert_eq!(told, expected.len()),
                }
            }
            while !client.watches.leave(&mut world.hub, 1) {}
        }
        prop_assert_eq!((world.hub.counts, world.hub.pending()), (Counts::default(), 0));
    }
}
