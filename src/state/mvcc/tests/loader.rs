//! A loaded store is the one its versions were taken from.

use super::super::{Error, Freed, HistoryCursor, Loader, Loading, Record, Span, Store};

/// Every version in words.
fn versions(store: &Store) -> Vec<String> {
    let mut versions = Vec::new();
    let take = |record: &Record<'_>| {
        versions.push(format!("{record:?}"));
        Ok::<_, Error>(())
    };
    assert!(HistoryCursor::new(store).step(store, usize::MAX, take).expect("the same store"));
    versions
}

#[test]
fn it_has_the_same_history_and_goes_on() {
    let mut store = Store::default();
    for n in 0..5_000u32 {
        let mut write = store.write();
        write.put(&(n % 700).to_be_bytes(), &vec![n as u8; n as usize % 300], 0);
        write.put(&(n % 11).to_be_bytes(), b"", 0);
        if n % 50 == 0 {
            write.delete(Span::One(&(n % 699).to_be_bytes()), 1);
        }
        write.end();
    }
    store.compact(2_000).expect("readable");
    let mut loader = Loader::default();
    let pack = |record: &Record<'_>| {
        loader.version(record);
        Ok::<_, Error>(())
    };
    assert!(HistoryCursor::new(&store).step(&store, usize::MAX, pack).expect("the same store"));
    let (mark, blocks) = loader.finish(store.revision().0, store.compacted().0);
    let mut loading = Loading::default();
    blocks.iter().for_each(|block| loading.take(block).expect("a chunk"));
    let mut loaded = loading.finish(mark);
    assert_eq!(loaded.live_keys(), store.live_keys());
    assert_eq!((loaded.revision(), loaded.compacted()), (store.revision(), store.compacted()));
    assert_eq!(versions(&loaded), versions(&store));

    for store in [&mut store, &mut loaded] {
        let mut write = store.write();
        write.put(b"after", b"it", 0);
        write.end();
        store.compact(4_000).expect("readable");
        while store.compact_step(100, true) != Freed::All {}
    }
    assert_eq!(versions(&loaded), versions(&store));
}
