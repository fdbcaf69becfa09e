//! A walk over the history: what it sees depends on the moment it began alone, whatever is written, compacted and
//! rewritten meanwhile.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{Error, HistoryCursor, Record, Span, Store};

#[derive(Clone, Debug)]
enum Step {
    Put(u8, usize),
    Delete(u8, u8),
    Compact(u8),
    Sweep(usize),
    Defragment,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u8..30, prop_oneof![9 => 0usize..40, 1 => 0usize..40_000]).prop_map(|(key, len)| Step::Put(key, len)),
        3 => (0u8..30, 0u8..9).prop_map(|(from, len)| Step::Delete(from, len)),
        1 => any::<u8>().prop_map(Step::Compact),
        2 => prop_oneof![Just(usize::MAX), 1usize..20].prop_map(Step::Sweep),
        1 => Just(Step::Defragment),
    ]
}

/// Revision, sub revision, key, and whether it is a tombstone.
type Row = (i64, i64, Vec<u8>, bool);

fn row(record: &Record<'_>) -> Row {
    (record.main, record.sub, record.key.to_vec(), record.tombstone)
}

/// Takes the step, and everything it wrote into `all`.
fn take(store: &mut Store, step: &Step, all: &mut Vec<Row>) {
    let before = store.revision().0;
    match step {
        Step::Put(key, len) => {
            let mut write = store.write();
            write.put(&[*key], &vec![*key; *len], 0);
            write.end();
        }
        Step::Delete(from, len) => {
            let mut write = store.write();
            write.delete(Span::Between(&[*from], &[from + len]), usize::MAX);
            write.end();
        }
        Step::Compact(back) => {
            let revision = store.revision().0 - i64::from(*back) / 8;
            if revision > store.compacted().0 {
                store.compact(revision).expect("between the two");
            }
        }
        Step::Sweep(budget) => drop(store.compact_step(*budget, *budget % 3 > 0)),
        Step::Defragment => store.defragment(),
    }
    let mut at = store.log.after(before);
    while let Some((_, record, following)) = store.log.next(at) {
        all.push(row(&record));
        at = following;
    }
}

fn walk(cursor: &mut HistoryCursor, store: &mut Store, budget: usize, meanwhile: &[Step]) -> Vec<Row> {
    let mut seen = Vec::new();
    let mut steps = meanwhile.iter();
    let done = |record: &Record<'_>, seen: &mut Vec<Row>| {
        seen.push(row(record));
        Ok::<_, Error>(())
    };
    while !cursor.step(store, budget, |record| done(record, &mut seen)).expect("the same store") {
        if let Some(step) = steps.next() {
            take(store, step, &mut Vec::new());
        }
    }
    seen
}

/// All above the compacted revision; below it what a compaction leaves.
fn expected(all: &[Row], compacted: i64) -> Vec<Row> {
    let mut newest = BTreeMap::new();
    for (main, sub, key, _) in all.iter().filter(|row| row.0 <= compacted) {
        newest.insert(key, (*main, *sub));
    }
    let is_left = |(main, sub, key, tombstone): &&Row| {
        *main > compacted || newest[key] == (*main, *sub) && !(*tombstone && *main < compacted)
    };
    all.iter().filter(is_left).cloned().collect()
}

proptest! {
    #[test]
    fn two_walks_see_the_history_of_the_begin(
        before in prop::collection::vec(step(), 0..120), meanwhile in prop::collection::vec(step(), 0..120),
        budget in prop_oneof![Just(1usize), 1usize..10_000],
    ) {
        let (mut store, mut all) = (Store::default(), Vec::new());
        before.iter().for_each(|step| take(&mut store, step, &mut all));
        let mut cursor = HistoryCursor::new(&store);
        let expected = expected(&all, store.compacted().0);
        let half = meanwhile.len() / 2;
        prop_assert_eq!(&walk(&mut cursor, &mut store, budget, &meanwhile[..half]), &expected);
        cursor.rewind();
        prop_assert_eq!(&walk(&mut cursor, &mut store, budget, &meanwhile[half..]), &expected);
    }
}
