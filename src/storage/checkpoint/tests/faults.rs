//! Disks that fail, and files that were damaged: what was saved stays, or the start is refused by name.

use std::path::Path;

use super::*;
use crate::env::{DiskError, sim::disk::WriteFault};
use crate::types::LogId;

async fn filled(env: &SimEnv, seed: u64) -> (CheckpointStore<SimEnv>, State, Rng) {
    let mut rng = Rng::new(seed);
    let mut state = State::default();
    let (mut store, _) = open(env.clone(), small()).await.expect("a new one opens");
    for _ in 0..6 {
        store.write(state.step(&mut rng, 9000), false).await.expect("the disk works");
    }
    store.sweep().await.expect("the disk works");
    (store, state, rng)
}

async fn reopened(env: &SimEnv) -> Result<Option<State>, CheckpointError> {
    open(env.clone(), small()).await.map(|(_, loaded)| State::of(loaded))
}

/// Fails every write of a checkpoint in turn, each in several ways.
#[test]
fn a_failed_write_leaves_the_last_checkpoint_and_a_usable_store() {
    let faults = [
        WriteFault::Errno(libc::EIO),
        WriteFault::Errno(libc::ENOSPC),
        WriteFault::Short(512),
        WriteFault::Short(0),
    ];
    for fault in faults {
        for at in 0..12 {
            with_disk(at, async move |env, disk| {
                let (mut store, before, mut rng) = filled(&env, 3).await;
                let mut state = before.clone();
                let failing = state.step(&mut rng, 300_000);
                disk.fail_write(at, fault);
                let outcome = store.write(failing.clone(), at % 2 == 0).await;
                match (&outcome, fault) {
                    (Ok(_), _) => {}
                    (
                        Err(CheckpointError::Disk(DiskError::Io { action: "write", .. })),
                        WriteFault::Errno(libc::EIO),
                    ) => {}
                    (Err(CheckpointError::Disk(DiskError::Full { .. })), WriteFault::Errno(libc::ENOSPC)) => {
                    }
                    (Err(CheckpointError::Disk(DiskError::ShortWrite { .. })), WriteFault::Short(_)) => {}
                    (Err(other), _) => panic!("{other}"),
                }
                let now = if outcome.is_ok() { state.clone() } else { before };
                drop(outcome);
                assert_eq!(reopened(&env).await.expect("it opens"), Some(now.clone()));

                let (mut store, _) = match now == state {
                    true => open(env.clone(), small()).await.expect("it opens"),
                    false => (store, None),
                };
                let more = state.step(&mut rng, 9000);
                let changes = match now == state {
                    true => more.changes,
                    false => [failing.changes, more.changes].concat(),
                };
                // The fault may not have been met yet.
                let all = Checkpoint { summary: more.summary, changes };
                if store.write(all.clone(), false).await.is_err() {
                    store.write(all, false).await.expect("one fault was asked for");
                }
                store.sweep().await.expect("the disk works");
                assert_eq!(disk.files().len(), store.segments.len() + 1, "nothing is left behind");
                assert_eq!(reopened(&env).await.expect("it opens"), Some(state));
            });
        }
    }
}

#[test]
fn a_full_disk_is_named_and_survived() {
    with_disk(1, async |env, disk| {
        let (mut store, before, mut rng) = filled(&env, 5).await;
        let mut state = before.clone();
        disk.set_free_bytes(Some(20_000));
        let mut large = state.step(&mut rng, 9000);
        large.changes.push(state.write(&mut rng, id(1_000_000), 300_000));
        let error = store.write(large.clone(), false).await.expect_err("it does not fit");
        assert!(matches!(error, CheckpointError::Disk(DiskError::Full { .. })), "{error}");
        assert!(error.to_string().contains("to a larger disk; the last checkpoint is whole"), "{error}");
        assert_eq!(reopened(&env).await.expect("it opens"), Some(before));
        disk.set_free_bytes(None);
        store.write(large, false).await.expect("there is space again");
        assert_eq!(reopened(&env).await.expect("it opens"), Some(state));
    });
}

#[test]
fn a_file_system_without_direct_io_is_named() {
    with_disk(1, async |env, disk| {
        disk.set_direct_io(false);
        let error = open(env, small()).await.map(drop).expect_err("refused");
        assert!(
            matches!(&error, CheckpointError::Disk(DiskError::NoDirectIo { file_system, .. }) if file_system == "simfs"),
            "{error}"
        );
    });
}

#[test]
fn no_flipped_bit_is_served() {
    with_disk(9, async |env, disk| {
        let (store, state, mut rng) = filled(&env, 7).await;
        drop(store);
        for _ in 0..300 {
            let files = disk.files();
            let (path, size) = &files[rng.below(files.len() as u64) as usize];
            let (offset, flip) = (rng.below(*size), 1 << rng.below(8));
            assert!(disk.corrupt(path, offset, flip));
            match reopened(&env).await {
                Err(CheckpointError::Corrupt { path: named, offset: at, .. }) => {
                    assert!(named == *path && at <= *size, "{named:?} for {path:?}");
                }
                Err(CheckpointError::Version { path: named, .. }) => assert_eq!(named, *path),
                other => panic!("{path:?} {offset}: {other:?}"),
            }
            disk.corrupt(path, offset, flip);
        }
        assert_eq!(reopened(&env).await.expect("it is whole again"), Some(state));
    });
}

/// Every file missing, cut, of another's name; a foreign one.
#[test]
fn missing_truncated_and_foreign_files_are_refused_by_name() {
    with_disk(4, async |env, disk| {
        let (store, state, _) = filled(&env, 8).await;
        drop(store);
        for (path, size) in disk.files() {
            let aside = Path::new("/data/snap").join("aside");
            disk.rename(&path, &aside).await.expect("renamed");
            let error = reopened(&env).await.expect_err("a foreign name");
            assert!(matches!(&error, CheckpointError::Foreign { path } if *path == aside), "{error}");
            // Out of the way.
            let unnamed = files::segment_path(Path::new(DIR), 0xffff, 7);
            disk.rename(&aside, &unnamed).await.expect("renamed");
            let content = disk.read_small(&unnamed).await.expect("it is there");
            let error = reopened(&env).await.expect_err("something is missing");
            assert!(matches!(&error, CheckpointError::Missing { path: named } if *named == path), "{error}");
            for bytes in [0, 1, size / 2, size - 512, size - 1] {
                disk.write_small(&path, &content[..bytes as usize]).await.expect("written");
                let error = reopened(&env).await.expect_err("truncated");
                assert!(
                    matches!(&error, CheckpointError::Corrupt { path: named, offset, .. } if *named == path && *offset <= size),
                    "{error}"
                );
            }
            disk.write_small(&path, &content).await.expect("written");
            assert_eq!(reopened(&env).await.expect("it is whole again"), Some(state.clone()));
        }
        let owner = Owner { log: LogId(1), ..Owner::default() };
        let other = CheckpointOptions { owner, ..small() };
        let error = open(env.clone(), other).await.map(drop).expect_err("of another log");
        assert!(matches!(error, CheckpointError::NotOurs { .. }), "{error}");
        let other = CheckpointOptions { shard: ShardId(0), ..small() };
        let error = open(env.clone(), other).await.map(drop).expect_err("another shard");
        assert!(matches!(error, CheckpointError::WrongShard { found: 3, expected: 0, .. }), "{error}");
    });
}
