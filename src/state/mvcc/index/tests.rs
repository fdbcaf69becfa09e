//! The index against maps, with enough keys to split and join leaves and pages of the directory.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Builder, Directory, Hit, Index, Leaf, directory::Spot, shared};
use crate::state::mvcc::{
    Record, Span,
    log::{Log, Pos},
};

const PREFIXES: [&[u8]; 5] = [
    b"",
    b"/registry/pods/",
    b"/registry/pods/default/a-long-name-shared-by-many-",
    b"/registry/pods/default/a-long-name-shared-by-many-\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    &[0xff; 40],
];

/// Keys of a few bytes, so that some come twice and some begin others, and numbers, so that there can be many.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let byte = || prop::sample::select(vec![0u8, 1, b'a', 0xff]);
    let tail = prop_oneof![
        prop::collection::vec(byte(), 0..5),
        any::<u16>().prop_map(|number| format!("{number:05}").into_bytes()),
        any::<u16>().prop_map(|number| format!("{:04x}/a-name-after-the-number", number % 512).into_bytes()),
        (0usize..40).prop_map(|len| vec![0; len]),
    ];
    (prop::sample::select(PREFIXES.to_vec()), tail).prop_map(|(prefix, tail)| [prefix, &tail].concat())
}

/// Whether every leaf is where the directory says, and its keys are in order and found.
fn assert_sound(index: &Index, log: &Log) {
    let mut spot = Some(index.directory.find(b""));
    let mut leaves = BTreeSet::new();
    let mut last: Option<&[u8]> = None;
    while let Some(here) = spot {
        let (lower, upper) = (index.directory.fence(here), index.upper(here));
        let leaf_id = index.directory.leaf(here);
        assert!(leaves.insert(leaf_id), "a leaf has one place");
        let leaf: &Leaf = &index.leaves[leaf_id];
        for (at, entry) in leaf.entries().iter().enumerate() {
            let key = index.key(log, *entry);
            assert!(last.is_none_or(|last| last < key), "keys ascend");
            assert!(lower <= key && upper.is_none_or(|upper| key < upper));
            assert!(shared(lower, key) >= usize::from(leaf.skip()), "all share what is skipped");
            assert_eq!(index.search(log, leaf_id, key), Ok(at), "{key:?}");
            assert_eq!(index.directory.find(key), here);
            last = Some(key);
        }
        spot = index.directory.after(here);
        assert!(spot.is_none_or(|after| index.directory.before(after) == Some(here)));
    }
}

fn append(log: &mut Log, main: i64, key: &[u8], tombstone: bool) -> Pos {
    let version = i64::from(!tombstone);
    let create = if tombstone { 0 } else { main };
    log.append(&Record { main, create, version, tombstone, key, ..Record::default() })
}

fn hits(index: &Index, log: &Log, until: Pos) -> Vec<Hit> {
    index.scan(log, Span::From(b""), until).collect()
}

/// All versions of every key, in order.
type Model = BTreeMap<Vec<u8>, Vec<Pos>>;

fn assert_as(model: &Model, index: &Index, log: &Log, probes: &[Vec<u8>]) {
    assert_sound(index, log);
    let some = probes.iter().filter_map(|key| model.get(key)).map(|versions| versions[versions.len() / 2]);
    for until in some.chain([Pos::END]) {
        let expected: Vec<Hit> = model
            .values()
            .map(|versions| match versions.iter().rev().find(|pos| **pos < until) {
                Some(pos) => Hit { pos: *pos, exists: !pos.is_tombstone() },
                None => Hit { pos: versions[versions.len() - 1], exists: false },
            })
            .collect();
        assert_eq!(hits(index, log, until), expected);
        let mut counting = index.scan(log, Span::From(b""), until);
        let mut existing = usize::from(counting.next().is_some_and(|hit| hit.exists));
        loop {
            let counted = counting.count_on(100);
            existing += counted.existing;
            if counted.last.is_none() {
                break;
            }
        }
        assert_eq!(existing, expected.iter().filter(|hit| hit.exists).count());
    }
    for key in probes {
        let versions = index.get(log, key).map(|versions| versions.newest());
        assert_eq!(versions, model.get(key).map(|versions| versions[versions.len() - 1]), "{key:?}");
        let count = index.scan(log, Span::Between(key, &[0xff; 30]), Pos::END).count();
        let inside = model.keys().filter(|other| *other >= key && other[..] < [0xff; 30][..]).count();
        assert_eq!(count, inside);
    }
    for (key, versions) in model {
        for pos in versions {
            assert!(index.locate_version(log, key, *pos).is_some());
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push(Vec<Vec<u8>>),
    /// Ascending numbers after a prefix.
    Ascend(usize, u16, u16),
    /// Every key from one on, but each so many-th, loses all versions or all but the newest.
    Forget(Vec<u8>, usize, usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(key(), 1..400).prop_map(Step::Push),
        1 => (0..PREFIXES.len(), any::<u16>(), 1u16..3000).prop_map(|(prefix, from, count)| Step::Ascend(prefix, from, count)),
        2 => (key(), 1usize..3000, 2usize..100, any::<bool>())
            .prop_map(|(from, count, every, all)| Step::Forget(from, count, every, all)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn pushed_or_built_it_is_as_a_map(steps in prop::collection::vec(step(), 1..12), probes in prop::collection::vec(key(), 8)) {
        let (mut log, mut index, mut model) = (Log::default(), Index::default(), Model::new());
        let mut main = 1;
        for step in steps {
            let pushed = match step {
                Step::Push(keys) => keys,
                Step::Ascend(prefix, from, count) => (from..from.saturating_add(count))
                    .map(|number| [PREFIXES[prefix], format!("{number:05}").as_bytes()].concat()).collect(),
                Step::Forget(from, count, every, all) => {
                    let keys: Vec<Vec<u8>> = model.range(from..).take(count).map(|(key, _)| key.clone()).collect();
                    for (at, key) in keys.iter().enumerate().filter(|(at, _)| at % every > 0) {
                        let versions = model.get_mut(key).expect("the key was listed");
                        let newest = versions[versions.len() - 1];
                        index.forget(&mut log, key, if all { Pos::END } else { newest });
                        match all {
                            true => drop(model.remove(key)),
                            false => *versions = vec![newest],
                        }
                        if at % 64 == 0 {
                            assert_sound(&index, &log);
                        }
                    }
                    Vec::new()
                }
            };
            for key in pushed {
                main += 1;
                let place = index.locate(&log, &key);
                let pos = append(&mut log, main, &key, main % 5 == 0);
                index.push(&log, place, &key, pos);
                model.entry(key).or_default().push(pos);
            }
            assert_sound(&index, &log);
        }
        assert_as(&model, &index, &log, &probes);

        // In another order than that of positions.
        let records = model.iter().flat_map(|(key, versions)| versions.iter().rev().map(|pos| (*pos, &key[..])));
        let (mut built, live) = build(&log, records);
        let exists = |versions: &&Vec<Pos>| !versions.last().expect("a version").is_tombstone();
        assert_eq!(live, model.values().filter(exists).count() as u64);
        assert_as(&model, &built, &log, &probes);
        for key in probes {
            main += 1;
            let place = built.locate(&log, &key);
            let pos = append(&mut log, main, &key, false);
            built.push(&log, place, &key, pos);
            model.entry(key).or_default().push(pos);
        }
        assert_as(&model, &built, &log, &[]);
    }

    #[test]
    fn a_directory_is_as_a_map(steps in prop::collection::vec((any::<bool>(), key(), 1usize..1500, 1usize..50), 1..20)) {
        let mut directory = Directory::new(0);
        let mut model = BTreeMap::from([(Vec::new(), 0)]);
        let mut leaf = 0;
        for (adds, from, count, every) in steps {
            if adds {
                for number in 0..count {
                    // From both ends, so that pages grow at their front, at their end and in between.
                    let number = if number % every == 0 { 60_000 - number } else { number };
                    let fence = [&from[..], format!("{number:05}").as_bytes()].concat();
                    leaf += 1;
                    if model.contains_key(&fence) {
                        continue;
                    }
                    model.insert(fence.clone(), leaf);
                    let spot = directory.find(&fence);
                    directory.insert_after(spot, fence.into(), leaf);
                }
            } else {
                let fences: Vec<Vec<u8>> = model.range(from..).take(count).map(|(fence, _)| fence.clone()).collect();
                for fence in fences.iter().filter(|fence| !fence.is_empty()) {
                    model.remove(fence);
                    directory.remove(directory.find(fence));
                }
            }
        }
        let mut pushed = Directory::new(0);
        model.iter().skip(1).for_each(|(fence, leaf)| pushed.push(fence[..].into(), *leaf));
        for directory in [directory, pushed] {
            let first = directory.find(b"");
            let spots: Vec<Spot> = std::iter::successors(Some(first), |spot| directory.after(*spot)).collect();
            let listed: Vec<(&[u8], u32)> =
                spots.iter().map(|spot| (directory.fence(*spot), directory.leaf(*spot))).collect();
            let expected: Vec<(&[u8], u32)> = model.iter().map(|(fence, leaf)| (&fence[..], *leaf)).collect();
            prop_assert_eq!(&listed, &expected);
            prop_assert!(directory.following(first).eq(expected[1..].iter().map(|(_, leaf)| *leaf)));
            for (at, fence) in model.keys().enumerate() {
                let mut inside = fence.clone();
                prop_assert_eq!(directory.find(&inside), spots[at]);
                inside.push(0);
                let place = model.range::<Vec<u8>, _>(..=&inside).next_back().map(|(_, leaf)| *leaf);
                prop_assert_eq!(Some(directory.leaf(directory.find(&inside))), place);
                prop_assert_eq!(directory.before(spots[at]), at.checked_sub(1).map(|at| spots[at]));
            }
        }
    }
}

fn build<'k>(log: &Log, records: impl Iterator<Item = (Pos, &'k [u8])>) -> (Index, u64) {
    let mut builder = Builder::default();
    records.for_each(|(pos, key)| builder.take(pos, key));
    builder.finish(log)
}

#[test]
fn built_of_nothing_it_is_empty() {
    let log = Log::default();
    let (index, live) = build(&log, std::iter::empty());
    assert_eq!(live, 0);
    assert!(hits(&index, &log, Pos::END).is_empty());
}

/// Each key begins the next one, so each round of ordering settles one of them.
#[test]
fn built_of_keys_that_begin_each_other() {
    let mut log = Log::default();
    let keys: Vec<Vec<u8>> = (0..300).rev().map(|len| vec![0; len * 20]).collect();
    let mut records = Vec::new();
    for (at, key) in keys.iter().enumerate() {
        records.push((append(&mut log, at as i64 + 1, key, false), &key[..]));
    }
    let (index, live) = build(&log, records.iter().copied());
    assert_eq!(live, 300);
    assert_sound(&index, &log);
    let found: Vec<Pos> = hits(&index, &log, Pos::END).iter().map(|hit| hit.pos).collect();
    assert_eq!(found, records.iter().rev().map(|(pos, _)| *pos).collect::<Vec<_>>());
}
