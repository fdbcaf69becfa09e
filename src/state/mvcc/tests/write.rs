//! Writes that pause, beside a store in which none does.

use proptest::prelude::*;

use super::{
    super::{Deleted, Freed, HashCursor, HashKv, HistoryCursor, Record, Store, Write, Writing},
    Span, key, listed,
};

#[derive(Clone, Debug)]
enum Op {
    Put(Vec<u8>, usize),
    Delete(Vec<u8>, Vec<u8>),
}

#[derive(Clone, Debug)]
enum Step {
    /// Operations of one transaction, how many keys it goes at a time, and whether it pauses after each of them.
    Write(Vec<Op>, usize, bool),
    Compact(u8),
    Sweep(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let op = prop_oneof![
        4 => (key(), prop_oneof![9 => 0usize..50, 1 => 0usize..70_000]).prop_map(|(key, len)| Op::Put(key, len)),
        1 => (key(), key()).prop_map(|(start, end)| Op::Delete(start, end)),
    ];
    prop_oneof![
        6 => (prop::collection::vec(op, 0..12), 1usize..6, any::<bool>())
            .prop_map(|(ops, keys, pauses)| Step::Write(ops, keys, pauses)),
        1 => any::<u8>().prop_map(Step::Compact),
        2 => prop_oneof![Just(usize::MAX), 1usize..50].prop_map(Step::Sweep),
    ]
}

/// Everything one can see of a store.
#[derive(Debug, PartialEq)]
struct Seen {
    revision: i64,
    live_keys: u64,
    /// Keys and values at each revision that can be read.
    states: Vec<Vec<(Vec<u8>, usize, i64)>>,
    hash: HashKv,
    history: Vec<(i64, i64, bool)>,
}

fn see(store: &Store) -> Seen {
    let revision = store.revision().0;
    let states = (store.compacted().0.max(1)..=revision).map(|revision| {
        let view = store.at(revision).expect("readable");
        let all = listed(&view, Span::From(b"")).into_iter();
        all.map(|(key, value, main)| (key.to_vec(), value.len(), main)).collect()
    });
    let mut hash = HashCursor::new(store, 0).expect("readable");
    let mut history = Vec::new();
    let mut cursor = HistoryCursor::new(store);
    let take = |record: &Record<'_>| {
        history.push((record.main, record.sub, record.tombstone));
        Ok::<_, super::Error>(())
    };
    assert_eq!(cursor.step(store, usize::MAX, take), Ok(true));
    let hash = hash.step(store, usize::MAX).expect("its own store").expect("the budget is boundless");
    Seen { revision, live_keys: store.live_keys(), states: states.collect(), hash, history }
}

fn put(write: &mut Write<'_>, key: &[u8], len: usize) {
    write.put(key, &vec![b'v'; len], 0);
}

/// Pauses and looks, if it is to; what is seen is the state before the write.
fn pause<'a>(store: &'a mut Store, writing: Writing, before: Option<&Seen>) -> Write<'a> {
    if let Some(before) = before {
        assert_eq!(&see(store), before);
        let pin = store.pin(store.revision());
        let view = store.at_pin(&pin).expect("its own store");
        let now = store.now();
        assert_eq!(listed(&view, Span::From(b"")), listed(&now, Span::From(b"")));
        assert!(listed(&now, Span::From(b"")).iter().all(|(key, ..)| now.find(key).is_some()));
        let counted = now.scan(Span::From(b"")).count_on(usize::MAX).existing;
        assert_eq!(counted, before.states.last().map_or(0, Vec::len));
    }
    store.resume(writing)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_write_that_pauses_comes_to_the_same_and_is_not_seen_before_its_end(
        steps in prop::collection::vec(step(), 1..20),
    ) {
        let (mut whole, mut paused) = (Store::default(), Store::default());
        for step in &steps {
            match step {
                Step::Write(ops, keys, pauses) => {
                    let before = pauses.then(|| see(&paused));
                    let mut at_once = whole.write();
                    let mut write = paused.write();
                    for op in ops {
                        match op {
                            Op::Put(key, len) => {
                                put(&mut at_once, key, *len);
                                put(&mut write, key, *len);
                            }
                            Op::Delete(start, end) => {
                                let all = at_once.delete(Span::Between(start, end), usize::MAX);
                                prop_assert_eq!(all.next, None);
                                let (mut from, mut count) = (start.clone(), 0);
                                loop {
                                    let deleted = write.delete(Span::Between(&from, end), *keys);
                                    prop_assert!(deleted.seen <= *keys);
                                    count += deleted.count;
                                    let Deleted { next: Some(next), .. } = deleted else { break };
                                    prop_assert!(next > from);
                                    from = next;
                                    let writing = write.pause();
                                    write = pause(&mut paused, writing, before.as_ref());
                                }
                                prop_assert_eq!(count, all.count);
                            }
                        }
                        prop_assert_eq!(write.revision(), at_once.revision());
                        let seen = listed(&write.now(), Span::From(b"")) == listed(&at_once.now(), Span::From(b""));
                        prop_assert!(seen);
                        let writing = write.pause();
                        write = pause(&mut paused, writing, before.as_ref());
                    }
                    let told = (at_once.end(), write.end());
                    prop_assert_eq!(told.0, told.1);
                    prop_assert_eq!(whole.now().scan(Span::From(b"")).collect::<Vec<_>>(),
                        paused.now().scan(Span::From(b"")).collect::<Vec<_>>());
                }
                Step::Compact(back) => {
                    let revision = whole.revision().0 - i64::from(*back % 8);
                    prop_assert_eq!(whole.compact(revision), paused.compact(revision));
                }
                Step::Sweep(budget) => {
                    let freed = [&mut whole, &mut paused].map(|store| store.compact_step(*budget, true));
                    prop_assert_eq!(freed[0], freed[1]);
                }
            }
            prop_assert_eq!(see(&whole), see(&paused));
        }
        while paused.compact_step(usize::MAX, true) != Freed::All {}
    }
}

#[test]
#[should_panic(expected = "one write after the other")]
fn no_write_begins_while_one_pauses() {
    let mut store = Store::default();
    let _writing = store.write().pause();
    store.write();
}

#[test]
#[should_panic(expected = "no half of a write")]
fn no_checkpoint_is_taken_while_a_write_pauses() {
    let mut store = Store::default();
    let mut write = store.write();
    put(&mut write, b"k", 1);
    let _writing = write.pause();
    crate::state::space::Space::changes(&mut store);
}

#[test]
#[should_panic(expected = "knows where records lie")]
fn nothing_is_freed_while_a_write_pauses() {
    let mut store = Store::default();
    let _writing = store.write().pause();
    store.compact_step(1, true);
}
