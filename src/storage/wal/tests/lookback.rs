//! What is read back while the log is written: all of it, in order, and nothing that is damaged.

use std::{cell::RefCell, path::PathBuf, rc::Rc, time::Duration};

use super::super::*;
use crate::env::sim::{Sim, SimEnv, disk::SimDisk};

const MEMBER: MemberId = MemberId(1);
const DIR: &str = "/data/wal";
/// Of an entry: a few dozen to a segment.
const BYTES: usize = 20_000;

fn with_disk<T: 'static>(test: impl AsyncFnOnce(SimEnv, SimDisk) -> T + 'static) -> T {
    let sim = Sim::new(1);
    let disk = SimDisk::new(&sim);
    let env = SimEnv::new(&sim, MEMBER, disk.clone());
    let result = Rc::new(RefCell::new(None));
    let slot = result.clone();
    sim.spawn(MEMBER, async move {
        let value = test(env, disk).await;
        *slot.borrow_mut() = Some(value);
    });
    assert!(sim.run_until(3_000_000, || result.borrow().is_some()), "the test ends");
    let value = result.borrow_mut().take();
    value.expect("the test ended")
}

fn options() -> WalOptions {
    WalOptions { segment_bytes: SEGMENT_BYTES_MIN, ..WalOptions::new(PathBuf::from(DIR), ShardId(0)) }
}

async fn open(env: &SimEnv) -> Wal<SimEnv> {
    let (wal, _) = Wal::open(env.clone(), options(), |_| Ok(())).await.expect("the log opens");
    wal
}

/// Appends entries of a term, one to a batch.
async fn append(wal: &mut Wal<SimEnv>, term: u64, indices: impl IntoIterator<Item = u64>) {
    for index in indices {
        let data = vec![index as u8; BYTES];
        wal.append(Record::Entry { term: Term(term), index: LogIndex(index), kind: 0, data: &data });
        let written = wal.submit().expect("something is pending").await.expect("it is written");
        wal.written(written);
    }
}

/// Index and term of all that comes from there, and how it ends.
async fn rest(lookback: &mut Lookback<SimEnv>) -> (Vec<(u64, u64)>, Result<(), WalError>) {
    let mut found = Vec::new();
    loop {
        let batch = lookback.batch(|record| {
            if let Record::Entry { term, index, data, .. } = record {
                assert!(data.iter().all(|byte| *byte == index.0 as u8));
                found.push((index.0, term.0));
            }
        });
        match batch.await {
            Ok(true) => {}
            Ok(false) => return (found, Ok(())),
            Err(error) => return (found, Err(error)),
        }
    }
}

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let files = disk.files().into_iter().map(|(path, _)| path);
    files.filter(|path| path.starts_with(DIR) && path.extension().is_some_and(|e| e == "wal")).collect()
}

#[test]
fn it_goes_from_the_segment_of_an_entry_to_the_end_and_on_from_there() {
    with_disk(async |env, disk| {
        let mut wal = open(&env).await;
        append(&mut wal, 1, 1..=300).await;
        assert!(segments(&disk).len() > 4);
        for from in [1, 57, 150, 299, 300] {
            let mut lookback = wal.look_back(LogIndex(from));
            let (found, ended) = rest(&mut lookback).await;
            ended.expect("nothing is damaged");
            assert!(found.contains(&(from, 1)) && found.last() == Some(&(300, 1)), "{from}: {found:?}");
            assert!(found.is_sorted() && found[0].0 + 60 > from, "not from the beginning");
        }
        let mut lookback = wal.look_back(LogIndex(300));
        rest(&mut lookback).await.1.expect("nothing is damaged");
        append(&mut wal, 1, 301..=400).await;
        assert!(rest(&mut lookback).await.0.is_empty(), "what came later was not asked for");
        assert!(wal.may_go_on(&mut lookback));
        let (found, ended) = rest(&mut lookback).await;
        ended.expect("nothing is damaged");
        assert_eq!(found, (301..=400).map(|index| (index, 1)).collect::<Vec<_>>());
        lookback.close().await.expect("it closes");
        wal.close().await.expect("it closes");

        // And after a start.
        let mut wal = open(&env).await;
        append(&mut wal, 1, [401]).await;
        let (found, ended) = rest(&mut wal.look_back(LogIndex(390))).await;
        ended.expect("nothing is damaged");
        assert!(found.contains(&(390, 1)) && found.last() == Some(&(401, 1)));
    });
}

#[test]
fn of_what_was_replaced_the_newest_comes_last() {
    with_disk(async |env, _| {
        let mut wal = open(&env).await;
        append(&mut wal, 1, 1..=100).await;
        append(&mut wal, 2, 60..=200).await;
        let (found, ended) = rest(&mut wal.look_back(LogIndex(70))).await;
        ended.expect("nothing is damaged");
        let at = found.iter().rposition(|(index, _)| *index == 70).expect("it is there");
        let newest: Vec<_> = (70..=200).map(|index| (index, 2)).collect();
        assert_eq!(found[at..], newest);
    });
}

#[test]
fn what_is_damaged_is_an_error_and_nothing_of_it_comes() {
    with_disk(async |env, disk| {
        let mut wal = open(&env).await;
        append(&mut wal, 1, 1..=100).await;
        let first = segments(&disk).remove(0);
        let batch = (BYTES as u64).next_multiple_of(4096);
        // The fifth entry.
        assert!(disk.corrupt(&first, 4096 + 4 * batch + 1_000, 1));
        let mut lookback = wal.look_back(LogIndex(1));
        let (found, ended) = rest(&mut lookback).await;
        assert_eq!(found, [(1, 1), (2, 1), (3, 1), (4, 1)]);
        assert!(matches!(ended, Err(WalError::Unreadable { path, .. }) if path == first));
        assert!(wal.has(&lookback), "and it matters");
        let (found, ended) = rest(&mut wal.look_back(LogIndex(90))).await;
        ended.expect("others are whole");
        assert!(found.contains(&(90, 1)));
    });
}

#[test]
fn a_segment_that_left_the_log_gives_nothing_of_another_one() {
    with_disk(async |env, disk| {
        let mut wal = open(&env).await;
        append(&mut wal, 1, 1..=150).await;
        let mut lookback = wal.look_back(LogIndex(1));
        let mut begun = Vec::new();
        let batch = lookback.batch(|record| {
            if let Record::Entry { index, .. } = record {
                begun.push(index.0);
            }
        });
        assert!(batch.await.expect("it is whole") && begun == [1]);
        let before = segments(&disk);
        wal.cut(LogIndex(120));
        assert!(!wal.has(&lookback) && !wal.may_go_on(&mut lookback));
        append(&mut wal, 2, 151..=400).await;
        env.sleep(Duration::from_secs(10)).await;
        assert!(!segments(&disk).contains(&before[0]), "it is used again");
        let (found, ended) = rest(&mut lookback).await;
        assert!(ended.is_err() && found.iter().all(|(index, term)| *index <= 150 && *term == 1), "{found:?}");
    });
}

#[test]
fn a_log_is_kept_within_bytes_by_whole_segments() {
    with_disk(async |env, disk| {
        let mut wal = open(&env).await;
        append(&mut wal, 1, 1..=300).await;
        assert_eq!(wal.first_within(u64::MAX), LogIndex(0), "all of it");
        let within = wal.first_within(2 * SEGMENT_BYTES_MIN);
        let before = segments(&disk).len();
        wal.cut(within);
        env.sleep(Duration::from_secs(10)).await;
        // Two full ones, the one that is written and the next.
        assert!(before > 4 && segments(&disk).len() <= 4, "{:?}", segments(&disk));
        let (found, ended) = rest(&mut wal.look_back(within)).await;
        ended.expect("nothing is damaged");
        assert_eq!(found, (found[0].0..=300).map(|index| (index, 1)).collect::<Vec<_>>());
        assert!(found[0].0 <= within.0);
        assert!(wal.first_within(0) > within);
    });
}
