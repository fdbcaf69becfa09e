//! The hash of versions against etcd's rule told plainly, over all histories and every state of physical compaction.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use prost::Message;

use super::super::{Freed, HashCursor, HashKv, Span, Store};
use crate::{pb::mvccpb::KeyValue, types::Revision};

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>, usize, i64),
    Delete(u8, u8),
    Compact(u8),
    Sweep(usize),
    Defragment,
}

fn step() -> impl Strategy<Value = Step> {
    let keys = || prop::collection::vec(0u8..12, 1..4);
    prop_oneof![
        8 => (keys(), prop_oneof![9 => 0usize..40, 1 => 0usize..40_000], prop_oneof![Just(0), any::<i64>()])
            .prop_map(|(keys, len, lease)| Step::Put(keys, len, lease)),
        3 => (0u8..12, 0u8..16).prop_map(|(from, len)| Step::Delete(from, len)),
        1 => any::<u8>().prop_map(Step::Compact),
        2 => prop_oneof![Just(usize::MAX), 1usize..20].prop_map(Step::Sweep),
        1 => Just(Step::Defragment),
    ]
}

/// Rows of etcd's bucket in order, nothing ever freed.
#[derive(Default)]
struct Rows(BTreeMap<(i64, i64), (Option<KeyValue>, Vec<u8>)>);

impl Rows {
    fn take(&mut self, store: &Store) {
        let newest = self.0.keys().next_back().map_or(0, |last| last.0);
        let mut at = store.log.after(newest);
        while let Some((_, record, following)) = store.log.next(at) {
            let kv = KeyValue {
                key: record.key.to_vec().into(),
                create_revision: record.create,
                mod_revision: record.main,
                version: record.version,
                value: record.value.to_vec().into(),
                lease: record.lease,
            };
            let row = ((!record.tombstone).then_some(kv), record.key.to_vec());
            self.0.insert((record.main, record.sub), row);
            at = following;
        }
    }

    /// Newest row of each key at or below a revision that is no tombstone.
    fn keep(&self, revision: i64) -> BTreeSet<(i64, i64)> {
        let mut newest = BTreeMap::new();
        for (at, (kv, key)) in self.0.range(..(revision + 1, 0)) {
            newest.insert(key, (at, kv.is_some()));
        }
        newest.into_values().filter(|(_, exists)| *exists).map(|(at, _)| *at).collect()
    }

    fn hash(&self, compacted: i64, revision: i64) -> u32 {
        let keep = self.keep(revision);
        let left_by_compaction = self.keep(compacted);
        let kept = if keep.is_empty() { &left_by_compaction } else { &keep };
        let mut bytes = b"key".to_vec();
        for (at, (kv, key)) in self.0.range(..(revision + 1, 0)) {
            if at.0 <= compacted && !kept.contains(at) {
                continue;
            }
            bytes.extend(at.0.to_be_bytes());
            bytes.push(b'_');
            bytes.extend(at.1.to_be_bytes());
            match kv {
                Some(kv) => bytes.extend(kv.encode_to_vec()),
                None => {
                    bytes.push(b't');
                    bytes.extend(KeyValue { key: key.clone().into(), ..KeyValue::default() }.encode_to_vec());
                }
            }
        }
        crc32c::crc32c(&bytes)
    }
}

fn run(store: &Store, revision: i64, budget: usize) -> HashKv {
    let mut cursor = HashCursor::new(store, revision).expect("readable");
    loop {
        if let Some(hash) = cursor.step(store, budget).unwrap() {
            return hash;
        }
    }
}

fn apply(store: &mut Store, step: &Step) {
    match step {
        Step::Put(keys, len, lease) => {
            let mut write = store.write();
            for key in keys.iter().collect::<BTreeSet<_>>() {
                write.put(&[b'k', *key], &vec![b'v'; *len], *lease);
            }
            write.end();
        }
        Step::Delete(from, len) => {
            let mut write = store.write();
            write.delete(Span::Between(&[b'k', *from], &[b'k', from.saturating_add(*len)]), usize::MAX);
            write.end();
        }
        Step::Compact(back) => {
            let (before, revision) = (store.compacted().0, store.revision().0 - i64::from(*back) % 8);
            assert_eq!(store.compact(revision).is_ok(), revision > before);
        }
        Step::Sweep(budget) => {
            store.compact_step(*budget, *budget % 3 > 0);
        }
        Step::Defragment => store.defragment(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn depends_on_history_and_revisions_alone(
        steps in prop::collection::vec(step(), 1..60), budgets in prop::collection::vec(1usize..5_000, 4),
    ) {
        let mut store = Store::default();
        let mut rows = Rows::default();
        let mut slow: Option<(HashCursor, u32)> = None;
        for (number, step) in steps.iter().enumerate() {
            apply(&mut store, step);
            rows.take(&store);
            let (compacted, current) = (store.compacted(), store.revision());
            for revision in compacted.0.max(1)..=current.0 {
                let hash = rows.hash(compacted.0, revision);
                let expected = HashKv { hash, compacted, revision: Revision(revision) };
                prop_assert_eq!(run(&store, revision, budgets[number % 4]), expected);
            }
            // One that goes on while everything else does.
            match &mut slow {
                None => {
                    slow = Some((HashCursor::new(&store, 0).unwrap(), rows.hash(compacted.0, current.0)));
                }
                Some((cursor, expected)) => {
                    if let Some(seen) = cursor.step(&store, 600).unwrap() {
                        prop_assert_eq!(seen.hash, *expected);
                        slow = None;
                    }
                }
            }
        }
    }

    #[test]
    fn defragmenting_leaves_nothing_to_free(steps in prop::collection::vec(step(), 1..60)) {
        let mut store = Store::default();
        for step in &steps {
            apply(&mut store, step);
        }
        store.defragment();
        while store.compact_step(7, true) != Freed::All {}
        prop_assert_eq!(store.bytes(), store.bytes_in_use());
        prop_assert!(!store.compaction_is_due());
    }
}

#[test]
fn revisions_that_cannot_be_read_are_refused_and_those_before_all_are_empty() {
    let mut store = Store::default();
    for key in 0..5u8 {
        apply(&mut store, &Step::Put(vec![key], 1, 0));
    }
    store.compact(4).unwrap();
    let refused = |revision| HashCursor::new(&store, revision).err().map(|error| error.to_string());
    assert_eq!(refused(3).as_deref(), Some("required revision has been compacted"));
    assert_eq!(refused(7).as_deref(), Some("required revision is a future revision"));
    assert_eq!(run(&store, -3, 1).hash, crc32c::crc32c(b"key"));
    assert_eq!((run(&store, 0, 1), run(&store, 0, 1).revision.0), (run(&store, 6, 9999), 6));
}
