//! A log that is not the one that was here: missing, another's, in part or as a whole, or shorter.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
    rc::Rc,
};

use super::super::*;
use crate::{
    env::sim::{Sim, SimEnv, disk::SimDisk},
    types::{ClusterId, LogId},
};

const DIR: &str = "/log/shard-0";
const OTHER: &str = "/log/other";
const UNIT: u64 = 512;

fn options(dir: &str, log: u64, batches: u64) -> WalOptions {
    WalOptions {
        owner: Owner { cluster: ClusterId(1), member: MemberId(2), log: LogId(log) },
        known: Known { batches, place: DIR.to_owned() },
        segment_bytes: SEGMENT_BYTES_MIN,
        sector_bytes: Some(UNIT as u32),
        ..WalOptions::new(PathBuf::from(dir), ShardId(0))
    }
}

fn run<T: 'static>(test: impl AsyncFnOnce(SimEnv, SimDisk) -> T + 'static) -> T {
    let sim = Sim::new(1);
    let disk = SimDisk::new(&sim);
    let env = SimEnv::new(&sim, MemberId(1), disk.clone());
    let result = Rc::new(RefCell::new(None));
    let slot = result.clone();
    sim.spawn(MemberId(1), async move {
        let value = test(env, disk).await;
        *slot.borrow_mut() = Some(value);
    });
    assert!(sim.run_until(1_000_000, || result.borrow().is_some()), "the test ends");
    result.take().expect("just seen")
}

/// Opens the log, adds an entry of `bytes` so often, and closes it; how many batches it has then.
async fn write(env: &SimEnv, options: WalOptions, times: u64, bytes: usize) -> u64 {
    let mut last = 0;
    let note = |record: Record<'_>| {
        if let Record::Entry { index, .. } = record {
            last = index.0;
        }
        Ok(())
    };
    let (mut wal, _) = Wal::open(env.clone(), options, note).await.expect("it opens");
    for index in last + 1..=last + times {
        wal.append(Record::Entry { term: Term(1), index: LogIndex(index), kind: 0, data: &vec![1; bytes] });
        let written = wal.submit().expect("something is pending").await.expect("the disk works");
        wal.written(written);
    }
    wal.close().await.expect("it closes")
}

/// A whole file.
async fn content(disk: &SimDisk, path: &Path) -> Vec<u8> {
    disk.read_small(path).await.expect("it is there")
}

async fn refusal(env: &SimEnv, options: WalOptions) -> WalError {
    Wal::open(env.clone(), options, |_| Ok(())).await.map(drop).expect_err("it must not open")
}

#[test]
fn a_log_that_should_be_there_is_missed() {
    run(async |env, _| {
        for dir in [DIR, OTHER] {
            let looked = Wal::look(&env, &options(dir, 7, 1)).await.expect_err("there is none");
            assert!(matches!(looked, WalError::Missing { .. }), "{looked}");
            assert!(env.disk().list(Path::new(dir)).await.is_err(), "nothing is made");
            let opened = refusal(&env, options(dir, 7, 1)).await.to_string();
            for part in [dir, "log 0000000000000007 of member 2 in cluster 1", "last in /log/shard-0"] {
                assert!(opened.contains(part), "{opened}");
            }
        }
        Wal::look(&env, &options(DIR, 7, 0)).await.expect("it may be new");
        let batches = write(&env, options(DIR, 7, 0), 3, 10).await;
        assert_eq!(batches, 4);
        Wal::look(&env, &options(DIR, 7, batches)).await.expect("it is there");
        assert_eq!(write(&env, options(DIR, 7, batches), 0, 0).await, batches + 2);
    });
}

#[test]
fn another_log_and_one_segment_of_another_are_refused_by_name() {
    run(async |env, disk| {
        // Three segments each.
        write(&env, options(DIR, 7, 0), 25, 100_000).await;
        write(&env, options(OTHER, 8, 0), 25, 100_000).await;
        let refused = refusal(&env, options(DIR, 9, 0)).await;
        assert!(matches!(refused, WalError::NotOurs { .. }), "{refused}");
        for name in ["0000000000000002.wal", "0000000000000003.wal"] {
            let (own, other) = (Path::new(DIR).join(name), Path::new(OTHER).join(name));
            let (kept, foreign) = (content(&disk, &own).await, content(&disk, &other).await);
            disk.write_small(&own, &foreign).await.expect("written");
            let refused = refusal(&env, options(DIR, 7, 0)).await;
            assert!(matches!(&refused, WalError::NotOurs { path, .. } if *path == own), "{refused}");
            assert!(refused.to_string().contains("log 0000000000000008 of member 2"), "{refused}");
            disk.write_small(&own, &kept).await.expect("written");
        }
        write(&env, options(DIR, 7, 0), 1, 10).await;
    });
}

/// The last batches of a clean stop, the closing one included, are zeros.
#[test]
fn an_end_that_was_zeroed_after_a_clean_stop_is_missed() {
    run(async |env, disk| {
        let batches = write(&env, options(DIR, 7, 0), 20, 10).await;
        let segment = Path::new(DIR).join("0000000000000001.wal");
        let whole = content(&disk, &segment).await;
        for zeroed in [1, 2, 19, 21] {
            let mut damaged = whole.clone();
            // One unit for the header, and each batch is one.
            let end = (batches + 1 - zeroed) * UNIT;
            damaged[end as usize..].fill(0);
            disk.write_small(&segment, &damaged).await.expect("written");
            match refusal(&env, options(DIR, 7, batches)).await {
                WalError::Shorter { path, offset, found, batches: had } => {
                    assert_eq!((&path, offset, found, had), (&segment, end, batches - zeroed, batches));
                }
                other => panic!("{zeroed}: {other}"),
            }
        }
        disk.write_small(&segment, &whole).await.expect("written");
        write(&env, options(DIR, 7, batches), 1, 10).await;
    });
}

/// After a kill, when nothing else tells how long the log was: the segment after the last one is prepared once that has
/// a batch.
#[test]
fn a_last_segment_that_is_gone_or_empty_is_missed_if_the_next_one_was_begun() {
    run(async |env, disk| {
        let before = write(&env, options(DIR, 7, 0), 25, 100_000).await;
        let path = |name: &str| Path::new(DIR).join(name);
        let (last, next) = (path("0000000000000003.wal"), path("0000000000000004.wal"));
        let begun = path("0000000000000004.new");
        disk.put(&next, &BTreeMap::new());
        disk.put(&begun, &BTreeMap::from([(begun.clone(), vec![0; 4096])]));
        let whole = content(&disk, &last).await;
        let mut zeroed = whole.clone();
        zeroed[UNIT as usize..].fill(0);
        for harmed in [None, Some(zeroed)] {
            disk.put(&last, &harmed.into_iter().map(|content| (last.clone(), content)).collect());
            let refused = refusal(&env, options(DIR, 7, 0)).await;
            assert!(matches!(&refused, WalError::Corrupt { path, .. } if *path == last), "{refused}");
        }
        disk.put(&last, &BTreeMap::from([(last.clone(), whole)]));
        assert!(write(&env, options(DIR, 7, 0), 1, 10).await > before, "it goes on");
    });
}
