//! Checkpoints of the store: what they have is the store as it was when they were taken.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::{Step, listed, step};
use crate::{
    block::{Block, BlockChange, BlockId},
    state::{
        mvcc::{Loading, Mark, Span, Store},
        space::Space,
    },
};

/// Chunks as files would have them.
#[derive(Clone, Default)]
struct Disk {
    blocks: BTreeMap<BlockId, Block>,
    mark: Option<Mark>,
}

impl Disk {
    fn take(&mut self, mark: Mark, changes: Vec<BlockChange>) {
        self.mark = Some(mark);
        for change in changes {
            match change {
                BlockChange::Write(block) => drop(self.blocks.insert(block.id, block)),
                BlockChange::Meta { id, meta } => {
                    self.blocks.get_mut(&id).expect("only a stored chunk has dead records").meta = meta;
                }
                BlockChange::Drop { id } => drop(self.blocks.remove(&id)),
            }
        }
    }

    fn load(&self) -> Store {
        let Some(mark) = self.mark else { return Store::default() };
        let mut loading = Loading::default();
        // In another order than that of chunks.
        self.blocks.values().rev().for_each(|block| loading.take(block).expect("a chunk"));
        let mark = Mark::decode(&mark.encode()).expect("just encoded");
        loading.finish(mark)
    }
}

/// Key, value and revision.
type Listed = (Vec<u8>, Vec<u8>, i64);

/// Everything a client could read.
fn readable(store: &Store) -> Vec<(i64, Vec<Listed>)> {
    let owned = |(key, value, main): (&[u8], &[u8], i64)| (key.to_vec(), value.to_vec(), main);
    (store.compacted().0.max(1)..=store.revision().0)
        .map(|revision| {
            let view = store.at(revision).expect("a readable revision");
            (revision, listed(&view, Span::From(b"")).into_iter().map(owned).collect())
        })
        .collect()
}

fn run(store: &mut Store, step: &Step) {
    let mut write = store.write();
    match step {
        Step::Put(keys, len) => {
            keys.iter().for_each(|key| {
                write.put(key, &vec![b'v'; *len], 0);
            });
        }
        Step::Load(prefix, count) => {
            for number in 0..*count {
                write.put(&[&prefix[..], format!("{number:05}").as_bytes()].concat(), b"loaded", 0);
            }
        }
        Step::Delete(start, end) => drop(write.delete(Span::Between(start, end), usize::MAX)),
        Step::Compact(_) | Step::Sweep(_) | Step::Scan(..) => {}
    }
    write.end();
    match step {
        Step::Compact(share) => {
            let revision = store.revision().0 * i64::from(*share) / 256;
            // Refused if it is not above the last one.
            store.compact(revision).unwrap_or_default();
        }
        Step::Sweep(budget) => drop(store.compact_step(*budget, *budget % 3 > 0)),
        _ => {}
    }
}

#[derive(Clone, Debug)]
enum Event {
    Step(Step),
    /// A checkpoint begins, or the one under way ends well or not.
    Checkpoint(bool),
    Reopen,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => step().prop_map(Event::Step),
        3 => prop::bool::weighted(0.7).prop_map(Event::Checkpoint),
        1 => Just(Event::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_checkpoint_has_the_store_as_it_was(events in prop::collection::vec(event(), 1..60)) {
        let mut store = Store::default();
        let mut disk = Disk::default();
        let mut last = readable(&store);
        let mut under_way = None;
        for event in &events {
            match event {
                Event::Step(step) => run(&mut store, step),
                Event::Checkpoint(well) => match under_way.take() {
                    None => under_way = Some((store.mark(), store.changes(), readable(&store))),
                    Some((mark, changes, then)) if *well => {
                        let placed: Vec<_> = changes.iter().filter_map(|change| match change {
                            BlockChange::Write(Block { id, body, .. }) => {
                                Some((id.number, Bytes::copy_from_slice(body)))
                            }
                            _ => None,
                        }).collect();
                        disk.take(mark, changes);
                        store.saved();
                        placed.into_iter().for_each(|(chunk, mapped)| store.place(chunk, mapped));
                        last = then;
                    }
                    Some(_) => store.not_saved(),
                },
                Event::Reopen => {
                    prop_assert_eq!(readable(&disk.load()), last.clone());
                    if under_way.take().is_some() {
                        store.not_saved();
                    }
                    last = readable(&store);
                    disk.take(store.mark(), store.changes());
                    let loaded = disk.load();
                    prop_assert_eq!(readable(&loaded), last.clone());
                    prop_assert_eq!(loaded.live_keys(), store.live_keys());
                    prop_assert_eq!((loaded.bytes(), loaded.bytes_in_use()), (store.bytes(), store.bytes_in_use()));
                    store = loaded;
                }
            }
        }
    }
}
