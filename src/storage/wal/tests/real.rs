//! The log on a real disk, through the executor it serves on.

use std::{path::PathBuf, time::Duration};

use glommio::{LocalExecutorBuilder, Placement};

use super::super::*;
use crate::env::{Disk, Env, File, OpenOptions, real::RealEnv};

type Seen = Vec<(u64, u64, Vec<u8>)>;

fn options(dir: PathBuf) -> WalOptions {
    WalOptions { segment_bytes: SEGMENT_BYTES_MIN, ..WalOptions::new(dir, ShardId(0)) }
}

/// A directory on the disk that holds the build, not on a memory file system.
fn scratch() -> tempfile::TempDir {
    let base = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tmp");
    std::fs::create_dir_all(&base).expect("the build directory is writable");
    tempfile::tempdir_in(base).expect("the build directory is writable")
}

fn on_glommio<T: Send + 'static>(test: impl AsyncFnOnce(RealEnv) -> T + Send + 'static) -> T {
    LocalExecutorBuilder::new(Placement::Unbound)
        .spawn(|| async move { test(RealEnv::default()).await })
        .expect("an executor starts")
        .join()
        .expect("the test does not panic")
}

async fn open(env: &RealEnv, dir: &std::path::Path) -> (Wal<RealEnv>, Seen, Recovery) {
    let mut seen = Vec::new();
    let (wal, recovery) = Wal::open(env.clone(), options(dir.to_path_buf()), |record| {
        if let Record::Entry { term, index, data, .. } = record {
            seen.push((term.0, index.0, data.to_vec()));
        }
        Ok(())
    })
    .await
    .expect("the log opens");
    (wal, seen, recovery)
}

#[test]
fn entries_survive_restarts_and_rotation_on_a_real_disk() {
    let dir = scratch();
    let path = dir.path().to_path_buf();
    on_glommio(async move |env| {
        let (mut wal, seen, _) = open(&env, &path).await;
        assert!(seen.is_empty());
        let mut expected = Vec::new();
        for index in 1..=400u64 {
            let data = vec![index as u8; (index as usize * 37) % 30_000];
            wal.append(Record::Entry { term: Term(1), index: LogIndex(index), kind: 0, data: &data });
            wal.append(Record::HardState { term: Term(1), vote: MemberId(7), commit: LogIndex(index - 1) });
            expected.push((1, index, data));
            let written = wal.submit().expect("something is pending").await.expect("the disk works");
            assert!(wal.submit().is_none(), "one write in flight");
            wal.written(written);
        }
        wal.close().await.expect("the log closes");

        let (wal, seen, recovery) = open(&env, &path).await;
        assert_eq!(seen, expected);
        assert!(!recovery.torn_tail);
        assert!(recovery.segments > 3, "{recovery:?}");
        wal.close().await.expect("the log closes");
    });
}

#[test]
fn segments_are_cut_and_used_again_on_a_real_disk() {
    use std::os::unix::fs::MetadataExt;
    let dir = scratch();
    let path = dir.path().to_path_buf();
    on_glommio(async move |env| {
        let (mut wal, _, _) = open(&env, &path).await;
        let mut inodes = std::collections::BTreeSet::new();
        let (mut expected, mut files_max) = (Vec::new(), 0);
        for index in 1..=600u64 {
            let data = vec![index as u8; 60_000];
            wal.append(Record::Entry { term: Term(1), index: LogIndex(index), kind: 0, data: &data });
            wal.append(Record::HardState { term: Term(1), vote: MemberId(7), commit: LogIndex(index - 1) });
            expected.push((1, index, data));
            let written = wal.submit().expect("something is pending").await.expect("the disk works");
            wal.written(written);
            if index % 10 == 0 {
                wal.cut(LogIndex(index.saturating_sub(20)));
            }
            env.sleep(Duration::from_millis(1)).await;
            let files: Vec<_> = std::fs::read_dir(&path).expect("listed").flatten().collect();
            files_max = files_max.max(files.len());
            inodes.extend(files.iter().filter_map(|file| file.metadata().ok()).map(|stat| stat.ino()));
        }
        assert!(wal.current.header.sequence > 30, "segment {}", wal.current.header.sequence);
        assert!(files_max < 15 && inodes.len() < 20, "{files_max} files at a time, {} in all", inodes.len());
        wal.close().await.expect("the log closes");

        let (wal, seen, recovery) = open(&env, &path).await;
        assert!(!recovery.torn_tail && recovery.segments < 10, "{recovery:?}");
        let start = seen.first().expect("there are entries").1;
        // What was not retired yet is still there.
        assert!(start <= 580, "{start}");
        assert_eq!(seen, expected[start as usize - 1..]);
        wal.close().await.expect("the log closes");
    });
}

#[test]
fn a_file_still_held_by_a_dead_process_is_waited_for() {
    let dir = scratch();
    let path = dir.path().join("segment");
    on_glommio(async move |env| {
        let made = env.disk().open(&path, OpenOptions { create: true, data_sync: false }).await;
        made.expect("the file is made").close().await.expect("it closes");
        // Held as by a write that is still under way.
        let held = std::fs::File::open(&path).expect("it opens");
        held.try_lock().expect("it is free");
        let released = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(100));
            let at = std::time::Instant::now();
            drop(held);
            at
        });
        let opened = env.disk().open(&path, OpenOptions { create: false, data_sync: true }).await;
        let at = std::time::Instant::now();
        opened.expect("it opens once it is free").close().await.expect("it closes");
        assert!(at >= released.join().expect("it does not panic"), "opened while it was held");
    });
}
