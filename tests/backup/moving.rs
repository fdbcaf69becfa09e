//! From Pinion to etcd, from etcd to Pinion, and home again.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    thread,
    time::{Duration, Instant},
};

use bench_harness::{
    pb::etcdserverpb::{PutRequest, kv_client::KvClient, request_op::Request},
    process::Launch,
};
use pinion::backup::{Backup, Digest};

use super::{
    file,
    upstream::{Etcd, etcdutl, oracle, restore, restore_ours},
    workload,
};

/// The same keys at every readable revision, and the same hashes.
fn agree(ours: &Etcd, theirs: &Etcd, compacted: i64, revision: i64) {
    assert_eq!((ours.revision(), theirs.revision()), (revision, revision));
    let leases = ours.leases();
    assert!(leases == theirs.leases() && leases.len() == 6, "{leases:?}");
    for revision in compacted..=revision {
        assert!(ours.range_at(revision) == theirs.range_at(revision), "revision {revision}");
    }
    // At the compacted revision itself, etcd may answer what it hashed while it compacted.
    for revision in [compacted + 1, compacted + 7, revision, 0] {
        assert_eq!(ours.hash_kv(revision), theirs.hash_kv(revision), "revision {revision}");
    }
    assert!(ours.refuses_revision(compacted - 1) && theirs.refuses_revision(compacted - 1));
}

pub fn out(directory: &Path) {
    let at = |name: &str| directory.join(name);
    let pinion = Etcd::pinion(&at("data"));
    let end = workload::run(&pinion);
    let said = pinion.save(&at("saved.db"));
    let log = pinion.log();
    for line in [
        "sending database snapshot to client",
        "sending database sha256 checksum to client",
        "successfully sent database snapshot to client",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
    let bytes = fs::read(at("saved.db")).expect("a file");
    let backup = Backup::open(&bytes, Digest::Demanded).expect("sound");
    let metadata = backup.metadata();
    assert_eq!((metadata.members.len(), metadata.members[0].name.as_str()), (1, "default"));
    assert_eq!((metadata.term, metadata.index > end.revision as u64), (2, true));
    super::super::agree_on_status(&at("saved.db"), &bytes);

    restore(&at("saved.db"), &at("restored"), &[]);
    let etcd = Etcd::start(oracle("etcd"), &at("restored"));
    agree(&pinion, &etcd, end.compacted, end.revision);
    assert_eq!(etcd.put("after", "restore").revision, end.revision + 1);

    // What the client prints is the same.
    let shown = |run: super::upstream::Run, file: &str| run.output.replace(file, "FILE");
    let theirs = etcd.save(&at("theirs.db"));
    assert_eq!(
        shown(said, &at("saved.db").display().to_string()),
        shown(theirs, &at("theirs.db").display().to_string())
    );
}

/// Restores a file and compares what the server shows with what is in it.
pub fn served(path: &Path, directory: &Path, name: &str) -> Etcd {
    let bytes = fs::read(path).expect("a file");
    let backup = Backup::open(&bytes, Digest::Demanded).expect("sound");
    let versions = file::versions(&backup);
    let revision = backup.metadata().revision;
    let compacted = backup.metadata().compaction.revision().expect("compacted");
    restore_ours(path, &directory.join(name), &[]);
    let mut pinion = Etcd::pinion(&directory.join(name));
    let same = |pinion: &Etcd| {
        for revision in compacted..=revision {
            assert!(file::keys_at(&versions, revision) == pinion.range_at(revision), "revision {revision}");
        }
        for revision in [compacted + 1, compacted + 7, revision] {
            let expected = backup.hash_kv(revision).expect("readable");
            assert_eq!(pinion.hash_kv(revision), (expected.hash, expected.compacted), "revision {revision}");
        }
        assert!(pinion.refuses_revision(compacted - 1));
    };
    assert_eq!(pinion.revision(), revision);
    same(&pinion);
    assert_eq!(pinion.put("after", "restore").revision, revision + 1, "it goes on");
    pinion.crash();
    assert_eq!(pinion.revision(), revision + 1);
    same(&pinion);
    pinion.compact(revision + 1);
    pinion.crash();
    assert_eq!(pinion.put("after", "compaction").revision, revision + 2);
    assert!(pinion.refuses_revision(revision));
    pinion
}

pub fn within(directory: &Path, program: &str) {
    let at = |name: &str| directory.join(name);
    let etcd = Etcd::start(oracle(program), &at("data"));
    let end = workload::run(&etcd);
    etcd.save(&at("saved.db"));
    let restored = served(&at("saved.db"), directory, "restored");
    assert_eq!(restored.leases(), etcd.leases());
    drop(restored);

    let wal_dir = format!("--wal-dir={}", at("log").display());
    restore_ours(&at("saved.db"), &at("bumped"), &["--bump-revision=1000", "--mark-compacted", &wal_dir]);
    let launch = Launch::pinion(env!("CARGO_BIN_EXE_pinion"), at("bumped"));
    let mut pinion = Etcd::launch(launch.arg(wal_dir));
    assert!(pinion.range_at(0) == etcd.range_at(0));
    assert!(pinion.refuses_revision(end.revision));
    assert_eq!(pinion.put("a", "b").revision, end.revision + 1_001);
    pinion.crash();
    assert_eq!(pinion.revision(), end.revision + 1_001);
    // A revision beyond the last version is taken along.
    pinion.save(&at("again.db"));
    restore(&at("again.db"), &at("back"), &[]);
    let etcd = Etcd::start(oracle("etcd"), &at("back"));
    assert!(pinion.range_at(0) == etcd.range_at(0));
    assert_eq!(etcd.revision(), end.revision + 1_001);
}

pub fn home(directory: &Path) {
    let at = |name: &str| directory.join(name);
    let first = Etcd::pinion(&at("data"));
    let end = workload::run(&first);
    first.save(&at("saved.db"));
    restore_ours(
        &at("saved.db"),
        &at("restored"),
        &["--name=other", "--initial-cluster=other=http://localhost:2380"],
    );
    let second =
        Etcd::launch(Launch::pinion(env!("CARGO_BIN_EXE_pinion"), at("restored")).arg("--name=other"));
    agree(&first, &second, end.compacted, end.revision);
    second.save(&at("second.db"));
    let hash = |name: &str| {
        let bytes = fs::read(at(name)).expect("a file");
        Backup::open(&bytes, Digest::Demanded).expect("sound").hash_kv(0).expect("readable")
    };
    assert_eq!(hash("saved.db"), hash("second.db"));
}

/// A key per put, numbered, beside a large store: what a snapshot has of them is a beginning without a gap.
pub fn while_writing(directory: &Path) {
    let at = |name: &str| directory.join(name);
    let pinion = Etcd::pinion(&at("data"));
    for n in 0..120 {
        let put = |m: usize| {
            let (key, value) = (format!("large/{n}/{m}").into(), vec![n as u8; 4_000].into());
            Request::RequestPut(PutRequest { key, value, ..Default::default() })
        };
        pinion.txn((0..100).map(put).collect());
    }
    let (acknowledged, stop) = (AtomicI64::new(-1), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| write(&pinion.endpoint(), &acknowledged, &stop));
        let wait_beyond = |count: i64| {
            let since = Instant::now();
            while acknowledged.load(Ordering::SeqCst) <= count {
                assert!(since.elapsed() < Duration::from_secs(30), "the writer does not come on");
                thread::sleep(Duration::from_millis(1));
            }
        };
        let saves = thread::scope(|inner| {
            let saves = inner.spawn(|| {
                for round in 0..3 {
                    wait_beyond(50 * round);
                    let before = acknowledged.load(Ordering::SeqCst);
                    let file = at(&format!("{round}.db"));
                    pinion_save(&pinion.endpoint(), &file);
                    let after = acknowledged.load(Ordering::SeqCst);
                    assert!(after > before, "writes went on while the snapshot was taken");
                    is_whole(&file, before, after);
                }
            });
            saves.join()
        });
        stop.store(true, Ordering::SeqCst);
        saves.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });

    // A client that goes away: the snapshot ends with it, and the next one is fine.
    let ended = pinion.snapshots_ended();
    assert_eq!(ended, 3);
    assert!(pinion.abandon_snapshot().remaining_bytes > 0);
    let since = Instant::now();
    while pinion.snapshots_ended() == ended {
        assert!(since.elapsed() < Duration::from_secs(10), "the abandoned snapshot is still held");
        // The client's side of the connection works only while something is asked.
        pinion.revision();
    }
    pinion.compact(pinion.revision());
    pinion.save(&at("after.db"));
    restore_ours(&at("after.db"), &at("restored"), &[]);
    let restored = Etcd::pinion(&at("restored"));
    assert_eq!(restored.hash_kv(0), pinion.hash_kv(0));
}

fn pinion_save(endpoint: &str, to: &Path) {
    let saved = Command::new(oracle("etcdctl"))
        .arg(format!("--endpoints={endpoint}"))
        .args(["snapshot", "save"])
        .arg(to)
        .output()
        .expect("run etcdctl");
    assert!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
}

fn write(endpoint: &str, acknowledged: &AtomicI64, stop: &AtomicBool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut kv = KvClient::connect(endpoint.to_string()).await.expect("a connection");
        for n in 0.. {
            if stop.load(Ordering::SeqCst) {
                return;
            }
            let request = PutRequest { key: format!("n/{n:09}").into(), ..Default::default() };
            kv.put(request).await.expect("a put");
            acknowledged.store(n, Ordering::SeqCst);
        }
    });
}

fn is_whole(file: &Path, before: i64, after: i64) {
    let bytes = fs::read(file).expect("a file");
    let backup = Backup::open(&bytes, Digest::Demanded).expect("sound");
    let versions = file::versions(&backup);
    let numbered: Vec<_> = versions.iter().filter(|version| version.key.starts_with(b"n/")).collect();
    let count = numbered.len() as i64;
    // One more may have been on its way.
    assert!((before + 1..=after + 2).contains(&count), "{before} < {count} <= {after}");
    for (n, version) in numbered.iter().enumerate() {
        assert_eq!(version.key, format!("n/{n:09}").into_bytes(), "no gap");
    }
    assert_eq!(versions.iter().filter(|version| version.key.starts_with(b"large/")).count(), 12_000);
    assert_eq!(versions.last().expect("versions").main, backup.metadata().revision);
}

pub fn refused(directory: &Path) {
    let at = |name: &str| directory.join(name);
    let versions = workload::generated(3_000);
    let metadata = pinion::backup::Metadata { revision: 3_001, ..Default::default() };
    let good = file::write(&metadata, &versions);
    let ours = Path::new(env!("CARGO_BIN_EXE_pinion"));
    let refuse = |bytes: &[u8], more: &[&str]| {
        fs::write(at("file.db"), bytes).expect("a file");
        let (file, dir) = (at("file.db").display().to_string(), at("new/data").display().to_string());
        let args = [&["snapshot", "restore", &file, "--data-dir", &dir], more].concat();
        let run = etcdutl(ours, &args, Some(directory));
        assert_eq!((run.code, run.output.as_str()), (Some(1), ""), "{}", run.errors);
        assert!(!at("new").exists(), "nothing is left behind");
        run.errors
    };
    for len in [0, 31, 100, 4_096, good.len() / 2, good.len() - 33, good.len() - 1] {
        refuse(&good[..len], &[]);
        refuse(&good[..len.min(good.len() - 5_000)], &["--skip-hash-check"]);
    }
    for at in [10, 5_000, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        assert!(refuse(&bad, &[]).contains("expected sha256"));
    }
    // The log cannot be made where a file is, by when the rest was begun.
    fs::write(at("occupied"), "").expect("a file");
    refuse(&good, &["--wal-dir", &at("occupied/log").display().to_string()]);

    // A directory that is there and empty is filled, one that is not empty is let alone.
    fs::create_dir(at("empty")).expect("a directory");
    fs::write(at("file.db"), &good).expect("a file");
    restore_ours(&at("file.db"), &at("empty"), &[]);
    let pinion = Etcd::pinion(&at("empty"));
    assert!(pinion.range_at(0) == file::keys_at(&versions, 3_001));
    let run = etcdutl(ours, &["snapshot", "restore", "file.db", "--data-dir=empty"], Some(directory));
    assert!(run.code == Some(1) && run.errors.contains("not empty"), "{}", run.errors);
    fs::create_dir_all(at("killed/restoring/member")).expect("a directory");
    let run = etcdutl(ours, &["snapshot", "restore", "file.db", "--data-dir=killed"], Some(directory));
    assert!(run.code == Some(1) && run.errors.contains("killed/restoring is of a restore"), "{}", run.errors);
    assert!(at("killed/restoring/member").exists(), "it is let alone too");
}

/// The commands of `docs/backup.md`, as they stand there.
pub fn documented(directory: &Path) {
    let docs =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/backup.md")).expect("the page");
    let command = |target: &str| {
        let mut lines = docs.lines().filter(|line| line.starts_with("etcdctl snapshot save"));
        lines.find(|line| line.ends_with(target)).unwrap_or_else(|| panic!("no command for {target}"))
    };
    let run = |line: &str, etcdutl: &Path, endpoint: &str| {
        let bin = directory.join(line.replace(['/', ' '], "-"));
        fs::create_dir(&bin).expect("a directory");
        symlink(oracle("etcdctl"), bin.join("etcdctl")).expect("a link");
        symlink(etcdutl, bin.join("etcdutl")).expect("a link");
        let run = Command::new("/bin/sh")
            .args(["-c", line])
            .current_dir(directory)
            .env("PATH", &bin)
            .env("ETCDCTL_ENDPOINTS", endpoint)
            .output()
            .expect("a shell");
        assert!(run.status.success(), "{line}: {}", String::from_utf8_lossy(&run.stderr));
    };
    let etcd = Etcd::start(oracle("etcd"), &directory.join("data"));
    let end = workload::run(&etcd);
    run(command("pinion.data"), Path::new(env!("CARGO_BIN_EXE_pinion")), &etcd.endpoint());
    let pinion = Etcd::pinion(&directory.join("pinion.data"));
    agree(&pinion, &etcd, end.compacted, end.revision);
    assert_eq!(pinion.put("moved", "in").revision, end.revision + 1);
    run(command("etcd.data"), &oracle("etcdutl"), &pinion.endpoint());
    let back = Etcd::start(oracle("etcd"), &directory.join("etcd.data"));
    agree(&pinion, &back, end.compacted, end.revision + 1);
}
