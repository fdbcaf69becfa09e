//! The store against a map of histories, with enough keys to split and join leaves.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Error, Freed, HashCursor, HistoryCursor, ReadView, Span, Store};

mod hash;
mod history;
mod loader;

#[derive(Default)]
struct Model {
    /// Key to its versions.
    keys: BTreeMap<Vec<u8>, Vec<Version>>,
}

/// Main revision and value (none: deleted).
type Version = (i64, Option<Vec<u8>>);

impl Model {
    fn at(&self, revision: i64) -> impl Iterator<Item = (&[u8], &[u8], i64)> {
        self.keys.iter().filter_map(move |(key, versions)| {
            let (main, value) = versions.iter().rev().find(|(main, _)| *main <= revision)?;
            Some((&key[..], value.as_deref()?, *main))
        })
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Keys written in one transaction.
    Put(Vec<Vec<u8>>, usize),
    /// Keys that ascend, as a load does.
    Load(Vec<u8>, u16),
    Delete(Vec<u8>, Vec<u8>),
    Compact(u8),
    Sweep(usize),
    Scan(Vec<u8>, Vec<u8>, u8),
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    let byte = || prop::sample::select(vec![0u8, 1, b'a', b'b', 0xff]);
    let prefix = prop::sample::select(vec![
        "",
        "/registry/pods/",
        "/registry/pods/default/a-long-name-shared-by-many-",
    ]);
    (prefix, prop::collection::vec(byte(), 1..7))
        .prop_map(|(prefix, tail)| [prefix.as_bytes(), &tail].concat())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (prop::collection::vec(key(), 1..60), prop_oneof![9 => 0usize..50, 1 => 0usize..70_000])
            .prop_map(|(keys, len)| Step::Put(keys, len)),
        1 => (key(), 1u16..300).prop_map(|(key, count)| Step::Load(key, count)),
        2 => (key(), key()).prop_map(|(start, end)| Step::Delete(start, end)),
        1 => any::<u8>().prop_map(Step::Compact),
        3 => prop_oneof![Just(usize::MAX), 1usize..500].prop_map(Step::Sweep),
        3 => (key(), key(), any::<u8>()).prop_map(|(start, end, back)| Step::Scan(start, end, back)),
    ]
}

fn span<'a>(start: &'a [u8], end: &'a [u8], kind: u8) -> Span<'a> {
    match kind % 4 {
        0 => Span::From(start),
        1 => Span::One(start),
        _ => Span::Between(start, end),
    }
}

fn inside(span: Span<'_>, key: &[u8]) -> bool {
    key >= span.start()
        && match span {
            Span::One(one) => key == one,
            Span::Between(_, end) => key < end,
            Span::From(_) => true,
        }
}

fn listed<'a>(view: &ReadView<'a>, span: Span<'a>) -> Vec<(&'a [u8], &'a [u8], i64)> {
    let hits = view.scan(span).filter(|hit| hit.exists);
    hits.map(|hit| view.record(hit.pos)).map(|record| (record.key, record.value, record.main)).collect()
}

mod checkpoint;
mod write;

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn answers_as_a_map_of_histories(steps in prop::collection::vec(step(), 1..80)) {
        let mut store = Store::default();
        let mut model = Model::default();
        for step in &steps {
            let next = store.revision().0 + 1;
            match step {
                Step::Put(keys, len) => {
                    let value = vec![b'v'; *len];
                    let mut write = store.write();
                    for key in keys {
                        write.put(key, &value, 0);
                        model.keys.entry(key.clone()).or_default().push((next, Some(value.clone())));
                    }
                    write.end();
                }
                Step::Load(prefix, count) => {
                    let mut write = store.write();
                    for number in 0..*count {
                        let key = [&prefix[..], format!("{number:05}").as_bytes()].concat();
                        write.put(&key, b"loaded", 0);
                        model.keys.entry(key).or_default().push((next, Some(b"loaded".to_vec())));
                    }
                    write.end();
                }
                Step::Delete(start, end) => {
                    let mut write = store.write();
                    let deleted = write.delete(Span::Between(start, end), usize::MAX).count;
                    write.end();
                    let gone: Vec<Vec<u8>> = model.at(next).map(|(key, ..)| key.to_vec())
                        .filter(|key| key >= start && key < end).collect();
                    prop_assert_eq!(deleted as usize, gone.len());
                    for key in gone {
                        model.keys.get_mut(&key).unwrap().push((next, None));
                    }
                }
                Step::Compact(back) => {
                    let revision = store.revision().0 - i64::from(*back % 16);
                    let expected = if revision <= store.compacted().0 { Err(Error::Compacted) } else { Ok(()) };
                    prop_assert_eq!(store.compact(revision), expected);
                }
                Step::Sweep(budget) => {
                    store.compact_step(*budget, *budget % 3 > 0);
                }
                Step::Scan(start, end, back) => {
                    let revision = store.revision().0 - i64::from(*back % 16);
                    let span = span(start, end, *back);
                    match store.at(revision) {
                        Err(error) => prop_assert!(error == Error::Compacted && revision < store.compacted().0),
                        Ok(view) => {
                            let at = if revision <= 0 { store.revision().0 } else { revision };
                            let expected: Vec<_> = model.at(at).filter(|(key, ..)| inside(span, key)).collect();
                            prop_assert_eq!(listed(&view, span), expected);
                        }
                    }
                }
            }
        }
        while store.compact_step(100, true) != Freed::All {}
        for revision in store.compacted().0.max(1)..=store.revision().0 {
            let view = store.at(revision).unwrap();
            let expected: Vec<_> = model.at(revision).collect();
            prop_assert_eq!(listed(&view, Span::From(b"")), expected);
        }
        for key in model.keys.keys() {
            let expected = model.at(store.revision().0).find(|(other, ..)| other == key).map(|(_, value, _)| value);
            prop_assert_eq!(store.now().get(key).map(|record| record.value), expected);
        }
        prop_assert_eq!(store.live_keys() as usize, model.at(store.revision().0).count());
    }
}

#[test]
fn deleting_everything_and_compacting_leaves_nothing_behind() {
    let mut store = Store::default();
    for number in 0..20_000u32 {
        let mut write = store.write();
        write.put(format!("key{:05}", number.wrapping_mul(7919) % 20_000).as_bytes(), &[b'v'; 100], 0);
        write.end();
    }
    let mut write = store.write();
    assert_eq!(write.delete(Span::Between(b"key00000", b"key19990"), usize::MAX).count, 19_990);
    write.end();
    let revision = store.revision().0;
    store.compact(revision).unwrap();
    while store.compact_step(1000, true) != Freed::All {}
    assert_eq!(
        store.now().scan(Span::From(b"")).filter(|hit| !hit.exists).count(),
        19_990,
        "tombstones at the revision stay"
    );
    let mut write = store.write();
    write.put(b"key", b"", 0);
    write.end();
    store.compact(revision + 1).unwrap();
    while store.compact_step(1000, true) != Freed::All {}
    assert_eq!(store.now().scan(Span::From(b"")).count(), 11);
    assert!(store.bytes() < 100_000, "{}", store.bytes());
}

#[test]
fn a_pinned_revision_outlives_its_compaction() {
    let mut store = Store::default();
    let put = |store: &mut Store, value: &str| {
        let mut write = store.write();
        write.put(b"key", value.as_bytes(), 0);
        write.end();
        store.revision()
    };
    let first = put(&mut store, "first");
    let pin = store.pin(first);
    let second = put(&mut store, "second");
    store.compact(second.0).unwrap();
    assert_eq!(store.compact_step(usize::MAX, true), Freed::All);
    assert_eq!(store.at(first.0).err(), Some(Error::Compacted));
    assert_eq!(store.at_pin(&pin).unwrap().get(b"key").unwrap().value, b"first");
    drop(pin);
    assert!(store.bytes_in_use() == store.bytes());
    assert_eq!(store.compact_step(usize::MAX, true), Freed::All);
    assert!(store.bytes_in_use() < store.bytes());
}

#[test]
fn what_is_dead_as_a_whole_goes_while_rewriting_waits() {
    let mut store = Store::default();
    let put = |store: &mut Store, key: &[u8]| {
        let mut write = store.write();
        write.put(key, &[7; 1000], 0);
        write.end();
    };
    // A key that stays in each chunk of the first half, none in the second.
    for round in 0..4_000u32 {
        if round < 2_000 && round % 50 == 0 {
            put(&mut store, &round.to_be_bytes());
        }
        put(&mut store, b"overwritten");
    }
    let before = store.bytes();
    for revision in [store.revision().0 - 1, store.revision().0] {
        store.compact(revision).expect("readable");
        while store.compact_step(100, false) == Freed::Some {}
        assert_eq!(store.compact_step(100, false), Freed::AllButRewriting, "and the next one is not held up");
    }
    let waiting = store.bytes();
    assert!(waiting < before * 6 / 10, "{waiting} of {before} bytes are left");
    assert!(waiting > before * 4 / 10, "{waiting} of {before} bytes are left");
    while store.compact_step(100, true) != Freed::All {}
    assert!(store.bytes() < before / 10, "{} of {before} bytes are left", store.bytes());
    assert_eq!(store.live_keys(), 41);
}

#[test]
fn what_was_begun_on_a_store_ends_when_another_takes_its_place() {
    let mut store = Store::default();
    for key in [b"a", b"b"] {
        let mut write = store.write();
        write.put(key, b"value", 0);
        write.end();
    }
    let pin = store.pin(store.revision());
    let (mut hash, mut history) = (HashCursor::new(&store, 0).unwrap(), HistoryCursor::new(&store));
    // It even has the revision, and the same keys.
    let mut other = Store::default();
    for key in [b"a", b"b"] {
        let mut write = other.write();
        write.put(key, b"other", 0);
        write.end();
    }
    assert_eq!(other.at_pin(&pin).err(), Some(Error::Replaced));
    assert_eq!(hash.step(&other, 1).err(), Some(Error::Replaced));
    assert_eq!(history.step(&other, 1, |_| Ok::<_, Error>(())), Err(Error::Replaced));
    assert!(store.at_pin(&pin).is_ok());
    drop(store);
    drop(pin);
}
