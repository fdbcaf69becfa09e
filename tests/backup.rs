//! Backups go to upstream etcd and come from it: files we write are restored and served by a real etcd, files of real
//! etcds are read to the last version, and our `etcdutl` says what upstream's says.

mod backup {
    pub mod commands;
    pub mod file;
    pub mod moving;
    pub mod upstream;
    pub mod workload;
}

use std::{fs, path::Path};

use backup::{
    commands,
    file::{self, Owned},
    moving,
    upstream::{Etcd, etcdutl, oracle, restore},
    workload,
};
use pinion::backup::{Backup, Compaction, Digest, FileStatus, Metadata};

/// Beside the build, so on a real disk.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("make a directory")
}

#[test]
fn a_backup_of_etcd_3_7_is_read_and_written_again() {
    round_trip("etcd", Some("3.7.0"));
}

#[test]
fn a_backup_of_etcd_3_6_is_read_and_written_again() {
    round_trip("etcd-3.6", Some("3.6.0"));
}

#[test]
fn a_backup_of_etcd_3_5_is_read_and_written_again() {
    round_trip("etcd-3.5", None);
}

/// A real etcd's backup, read, compared with what that etcd answers, written again and served by another etcd.
fn round_trip(program: &str, storage_version: Option<&str>) {
    let directory = directory();
    let at = |name: &str| directory.path().join(name);
    let etcd = Etcd::start(oracle(program), &at("data"));
    let end = workload::run(&etcd);
    etcd.save(&at("saved.db"));

    let bytes = fs::read(at("saved.db")).expect("a file");
    let backup = Backup::open(&bytes, Digest::Demanded).unwrap_or_else(|error| panic!("{program}: {error}"));
    let metadata = backup.metadata();
    assert_eq!((metadata.revision, metadata.compaction.revision()), (end.revision, Some(end.compacted)));
    assert_eq!(metadata.storage_version.as_deref(), storage_version);
    assert_eq!((metadata.members.len(), metadata.auth.revision, metadata.term), (1, 1, 2));
    let versions = file::versions(&backup);
    for revision in end.compacted..=end.revision {
        let served = etcd.range_at(revision);
        assert!(file::keys_at(&versions, revision) == served, "{program}: revision {revision}");
    }
    assert_eq!(backup.live_keys(), etcd.range_at(end.revision).len() as u64);
    // At the compacted revision itself, etcd may answer what it hashed while it compacted.
    for revision in [0, end.compacted + 1, end.compacted + 7, end.revision] {
        let ours = backup.hash_kv(revision).expect("readable");
        assert_eq!((ours.hash, ours.compacted), etcd.hash_kv(revision), "{program}: revision {revision}");
    }
    let hash = etcd.hash();
    agree_on_status(&at("saved.db"), &bytes);
    drop(etcd);

    let copy = file::write(metadata, &versions);
    assert_eq!(file::hash(&copy), hash, "{program}: every row is back");
    fs::write(at("copy.db"), &copy).expect("a file");
    agree_on_status(&at("copy.db"), &copy);
    restore(&at("copy.db"), &at("restored"), &[]);
    let etcd = Etcd::start(oracle("etcd"), &at("restored"));
    assert_eq!(etcd.revision(), end.revision);
    for revision in end.compacted..=end.revision {
        assert!(file::keys_at(&versions, revision) == etcd.range_at(revision), "revision {revision}");
    }
    assert_eq!(etcd.put("after", "restore").revision, end.revision + 1, "it goes on");
}

/// Values over many pages, a compaction that is not finished, a revision beyond the last version.
#[test]
fn a_large_backup_is_served_by_etcd() {
    let directory = directory();
    let at = |name: &str| directory.path().join(name);
    let versions = workload::generated(30_000);
    let last = versions.last().expect("versions").main;
    let metadata = Metadata {
        revision: last + 1_000,
        compaction: Compaction { scheduled: Some(500), finished: None },
        index: 123,
        term: 4,
        storage_version: Some("3.7.0".into()),
        cluster_version: Some("3.7.0".into()),
        members: workload::members(3),
        removed: vec![77],
        ..Metadata::default()
    };
    let bytes = file::write(&metadata, &versions);
    fs::write(at("ours.db"), &bytes).expect("a file");
    agree_on_status(&at("ours.db"), &bytes);
    let backup = Backup::open(&bytes, Digest::Demanded).expect("sound");
    assert!(file::versions(&backup)[..versions.len()] == versions);

    restore(&at("ours.db"), &at("restored"), &[]);
    let etcd = Etcd::start(oracle("etcd"), &at("restored"));
    assert_eq!(etcd.revision(), metadata.revision);
    for revision in [501, 5_000, last, metadata.revision] {
        assert!(file::keys_at(&versions, revision) == etcd.range_at(revision), "revision {revision}");
    }
    assert!(etcd.refuses_revision(499), "compacted");
    for revision in [501, 5_000, 0] {
        let ours = backup.hash_kv(revision).expect("readable");
        assert_eq!((ours.hash, ours.compacted), etcd.hash_kv(revision), "revision {revision}");
    }
    drop(etcd);

    // The mark that upstream leaves behind when it bumps the revision is read back.
    restore(&at("ours.db"), &at("bumped"), &["--bump-revision=5000", "--mark-compacted"]);
    let etcd = Etcd::start(oracle("etcd"), &at("bumped"));
    assert_eq!(etcd.revision(), metadata.revision + 5_000);
    etcd.save(&at("bumped.db"));
    let bytes = fs::read(at("bumped.db")).expect("a file");
    let bumped = Backup::open(&bytes, Digest::Demanded).expect("sound");
    assert_eq!(bumped.metadata().revision, metadata.revision + 5_000);
    assert_eq!(bumped.metadata().compaction.revision(), Some(metadata.revision + 5_000));
    assert_eq!(bumped.live_keys(), backup.live_keys());
    agree_on_status(&at("bumped.db"), &bytes);
}

/// etcd 3.4.23 wrote the file, after 60 puts of 25 keys, two deletes and a put again, a compaction at 40, and a
/// transaction with four puts and a delete.
#[test]
fn a_backup_of_etcd_3_4_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/backup/etcd-3.4.db");
    let bytes = fs::read(&path).expect("a file of the repository");
    let backup = Backup::open(&bytes, Digest::Demanded).expect("sound");
    let metadata = backup.metadata();
    assert_eq!((metadata.revision, metadata.compaction.revision(), metadata.term), (65, Some(40), 0));
    assert_eq!(
        (metadata.cluster_version.as_deref(), metadata.storage_version.as_deref()),
        (Some("3.4.0"), None)
    );
    assert_eq!((backup.live_keys(), backup.hash_kv(0).expect("readable").hash), (25, 3_823_426_115));
    let versions = file::versions(&backup);
    let last: Vec<(i64, String, bool)> = versions
        .iter()
        .filter(|version| version.main >= 64)
        .map(|version| (version.sub, String::from_utf8_lossy(&version.key).into_owned(), version.tombstone))
        .collect();
    let expected = [(0, "k3", false), (0, "c", false), (1, "d", false), (2, "k7", true)];
    assert_eq!(last, expected.map(|(sub, key, tombstone)| (sub, key.to_string(), tombstone)));

    let directory = directory();
    agree_on_status(&path, &bytes);
    let copy = directory.path().join("copy.db");
    fs::write(&copy, file::write(metadata, &versions)).expect("a file");
    restore(&copy, &directory.path().join("restored"), &[]);
    let etcd = Etcd::start(oracle("etcd"), &directory.path().join("restored"));
    assert!(file::keys_at(&versions, 65) == etcd.range_at(65));
}

#[test]
fn pinion_moves_to_etcd() {
    moving::out(directory().path());
}

#[test]
fn etcd_3_7_moves_to_pinion() {
    moving::within(directory().path(), "etcd");
}

#[test]
fn etcd_3_6_moves_to_pinion() {
    moving::within(directory().path(), "etcd-3.6");
}

#[test]
fn etcd_3_5_moves_to_pinion() {
    moving::within(directory().path(), "etcd-3.5");
}

#[test]
fn etcd_3_4_moves_to_pinion() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/backup/etcd-3.4.db");
    drop(moving::served(&path, directory().path(), "restored"));
}

#[test]
fn pinion_is_restored_to_pinion() {
    moving::home(directory().path());
}

#[test]
fn a_snapshot_is_of_one_moment_while_a_writer_goes_on() {
    moving::while_writing(directory().path());
}

#[test]
fn a_restore_that_fails_leaves_nothing_behind() {
    moving::refused(directory().path());
}

#[test]
fn the_documented_commands_work() {
    moving::documented(directory().path());
}

#[test]
fn etcdutl_says_what_upstream_says() {
    let directory = directory();
    commands::compare(directory.path());
}

fn agree_on_status(path: &Path, bytes: &[u8]) {
    let status = FileStatus::of(bytes).expect("sound");
    let ours = serde_json::json!({
        "hash": status.hash,
        "revision": status.revision,
        "totalKey": status.total_keys,
        "totalSize": status.total_bytes,
        "version": status.storage_version.unwrap_or_default(),
    });
    let file = path.display().to_string();
    let theirs = etcdutl(&oracle("etcdutl"), &["snapshot", "status", &file, "-w", "json"], path.parent());
    assert_eq!((theirs.code, theirs.errors.as_str()), (Some(0), ""), "{file}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&theirs.output).expect("JSON"), ours, "{file}");
}

#[test]
fn versions_of_one_revision_replace_and_delete() {
    let put = |main, key: &str| Owned { main, create: main, version: 1, key: key.into(), ..Owned::default() };
    let gone = Owned { main: 3, tombstone: true, key: "a".into(), ..Owned::default() };
    let versions = [put(2, "a"), put(2, "b"), gone];
    assert_eq!(file::keys_at(&versions, 2).len(), 2);
    assert_eq!(file::keys_at(&versions, 3).len(), 1);
}
