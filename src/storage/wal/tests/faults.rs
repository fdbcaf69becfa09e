//! A disk that is full, read-only, broken or of the wrong kind: the log stops and says what to do.

use std::{cell::RefCell, path::PathBuf, rc::Rc, time::Duration};

use super::super::*;
use crate::env::{
    DiskError,
    sim::{
        Sim, SimEnv,
        disk::{SimDisk, WriteFault},
    },
};

const MEMBER: MemberId = MemberId(1);

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
    assert!(sim.run_until(1_000_000, || result.borrow().is_some()), "the test ends");
    let value = result.borrow_mut().take();
    value.expect("the test ended")
}

async fn open(env: &SimEnv) -> Result<Wal<SimEnv>, WalError> {
    let options = WalOptions {
        segment_bytes: SEGMENT_BYTES_MIN,
        ..WalOptions::new(PathBuf::from("/data/wal"), ShardId(0))
    };
    Wal::open(env.clone(), options, |_| Ok(())).await.map(|(wal, _)| wal)
}

async fn write(wal: &mut Wal<SimEnv>, bytes: usize) -> Result<(), WalError> {
    wal.append(Record::Entry { term: Term(1), index: LogIndex(1), kind: 0, data: &vec![1; bytes] });
    let written = wal.submit().expect("something is pending").await?;
    wal.written(written);
    Ok(())
}

#[test]
fn a_failed_write_is_the_last_one() {
    with_disk(async |env, disk| {
        let mut wal = open(&env).await.expect("the log opens");
        env.sleep(Duration::from_secs(1)).await;
        disk.fail_write(0, WriteFault::Errno(libc::EIO));
        let error = write(&mut wal, 100).await.expect_err("the write fails");
        assert!(matches!(error, WalError::Disk(DiskError::Io { action: "write", .. })), "{error}");
        wal.append(Record::HardState { term: Term(1), vote: MEMBER, commit: LogIndex(1) });
        assert!(wal.in_flight() && wal.submit().is_none(), "no write follows a failed one");
    });
}

#[test]
fn a_short_write_is_an_error() {
    with_disk(async |env, disk| {
        let mut wal = open(&env).await.expect("the log opens");
        env.sleep(Duration::from_secs(1)).await;
        disk.fail_write(0, WriteFault::Short(512));
        let error = write(&mut wal, 1000).await.expect_err("the write is short");
        assert!(
            matches!(error, WalError::Disk(DiskError::ShortWrite { expected: 4096, written: 512, .. })),
            "{error}"
        );
    });
}

#[test]
fn a_full_disk_is_named_when_the_next_segment_is_needed_and_not_before() {
    with_disk(async |env, disk| {
        disk.set_free_bytes(Some(SEGMENT_BYTES_MIN + 100_000));
        let mut wal = open(&env).await.expect("one segment fits");
        let mut written = 0;
        let error = loop {
            match write(&mut wal, 100_000).await {
                Ok(()) => written += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(written, 10, "the segment is used to its end");
        assert!(matches!(error, WalError::Disk(DiskError::Full { .. })), "{error}");
        assert!(
            error.to_string().ends_with("to a larger disk, then start again; nothing acknowledged is lost"),
            "{error}"
        );

        disk.set_free_bytes(None);
        let mut wal = open(&env).await.expect("the log opens again");
        write(&mut wal, 100_000).await.expect("there is space again");
        wal.close().await.expect("the log closes");
    });
}

#[test]
fn space_that_comes_back_in_time_is_used() {
    with_disk(async |env, disk| {
        disk.set_free_bytes(Some(SEGMENT_BYTES_MIN));
        let mut wal = open(&env).await.expect("one segment fits");
        env.sleep(Duration::from_secs(5)).await;
        disk.set_free_bytes(None);
        env.sleep(Duration::from_secs(5)).await;
        for _ in 0..15 {
            write(&mut wal, 100_000).await.expect("the next segment was prepared after all");
        }
        wal.close().await.expect("the log closes");
    });
}

#[test]
fn a_read_only_disk_and_one_without_direct_io_have_their_own_errors() {
    with_disk(async |env, disk| {
        disk.set_read_only(true);
        let error = open(&env).await.map(drop).expect_err("read-only");
        assert!(matches!(error, WalError::Disk(DiskError::ReadOnly { .. })), "{error}");
        disk.set_read_only(false);
        disk.set_direct_io(false);
        let error = open(&env).await.map(drop).expect_err("no direct I/O");
        assert!(
            matches!(&error, WalError::Disk(DiskError::NoDirectIo { file_system, .. }) if file_system == "simfs"),
            "{error}"
        );
        disk.set_direct_io(true);
        disk.fail_write(0, WriteFault::Errno(libc::EINVAL));
        let error = open(&env).await.map(drop).expect_err("no direct I/O at the first write");
        assert!(matches!(error, WalError::Disk(DiskError::NoDirectIo { .. })), "{error}");
        disk.set_unit(8192);
        let options = WalOptions {
            sector_bytes: Some(4096),
            ..WalOptions::new(PathBuf::from("/data/wal"), ShardId(0))
        };
        let error = Wal::open(env.clone(), options, |_| Ok(())).await.map(drop).expect_err("too small");
        assert!(matches!(error, WalError::Options(_)), "{error}");
    });
}

#[test]
fn a_disk_with_larger_sectors_is_continued_in_a_new_segment() {
    with_disk(async |env, disk| {
        let mut wal = open(&env).await.expect("the log opens");
        write(&mut wal, 10).await.expect("written");
        wal.close().await.expect("the log closes");
        disk.set_unit(8192);
        for _ in 0..3 {
            let mut wal = open(&env).await.expect("the log opens");
            write(&mut wal, 10).await.expect("written");
            wal.close().await.expect("the log closes");
        }
        let mut entries = 0;
        let options = WalOptions {
            segment_bytes: SEGMENT_BYTES_MIN,
            ..WalOptions::new(PathBuf::from("/data/wal"), ShardId(0))
        };
        let count = |record: Record<'_>| {
            entries += usize::from(matches!(record, Record::Entry { .. }));
            Ok(())
        };
        Wal::open(env.clone(), options, count).await.map(drop).expect("the log opens");
        assert_eq!(entries, 4);
    });
}

#[test]
fn every_segment_begins_with_the_hard_state() {
    with_disk(async |env, _| {
        let mut wal = open(&env).await.expect("the log opens");
        wal.append(Record::HardState { term: Term(4), vote: MemberId(9), commit: LogIndex(5) });
        for _ in 0..25 {
            write(&mut wal, 100_000).await.expect("written");
        }
        wal.close().await.expect("the log closes");
        let mut hard_states = Vec::new();
        let options = WalOptions {
            segment_bytes: SEGMENT_BYTES_MIN,
            ..WalOptions::new(PathBuf::from("/data/wal"), ShardId(0))
        };
        let note = |record: Record<'_>| {
            if let Record::HardState { term, vote, commit } = record {
                hard_states.push((term.0, vote.0, commit.0));
            }
            Ok(())
        };
        Wal::open(env.clone(), options, note).await.map(drop).expect("the log opens");
        assert_eq!(hard_states, vec![(4, 9, 5); 3]);
    });
}

#[test]
fn larger_segments_take_larger_batches_at_once() {
    with_disk(async |env, _| {
        let small = {
            let mut wal = open(&env).await.expect("the log opens");
            write(&mut wal, 1_000).await.expect("written");
            wal.close().await.expect("the log closes");
            wal_room(&env, SEGMENT_BYTES_MIN).await
        };
        for _ in 0..2 {
            let options = with_segments(4 * SEGMENT_BYTES_MIN);
            let (mut wal, _) = Wal::open(env.clone(), options, |_| Ok(())).await.expect("the log opens");
            assert!(wal.room_max() > 3 * small, "{} and {small}", wal.room_max());
            let bytes = wal.room_max() - 64;
            write(&mut wal, bytes).await.expect("written");
            wal.close().await.expect("the log closes");
        }
        // Back again: what is there stays readable, whatever its size.
        assert_eq!(wal_room(&env, SEGMENT_BYTES_MIN).await, small);
    });
}

fn with_segments(bytes: u64) -> WalOptions {
    WalOptions { segment_bytes: bytes, ..WalOptions::new(PathBuf::from("/data/wal"), ShardId(0)) }
}

async fn wal_room(env: &SimEnv, segment_bytes: u64) -> usize {
    let opened = Wal::open(env.clone(), with_segments(segment_bytes), |_| Ok(())).await;
    let (wal, _) = opened.expect("the log opens");
    let room = wal.room_max();
    wal.close().await.expect("the log closes");
    room
}
