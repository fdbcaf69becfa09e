//! What is written is read back; what is damaged or cannot be held is refused; the hashes follow their rule.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::pb::{
    authpb::{Role, User},
    etcdserverpb::{AlarmMember, Member},
};

/// A version that owns its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Owned {
    main: i64,
    sub: i64,
    create: i64,
    version: i64,
    lease: i64,
    tombstone: bool,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Owned {
    fn of(version: &Record<'_>) -> Self {
        let Record { main, sub, create, version, lease, tombstone, key, value } = *version;
        Self { main, sub, create, version, lease, tombstone, key: key.to_vec(), value: value.to_vec() }
    }

    fn borrowed(&self) -> Record<'_> {
        let Self { main, sub, create, version, lease, tombstone, .. } = *self;
        Record { main, sub, create, version, lease, tombstone, key: &self.key, value: &self.value }
    }
}

/// One transaction: the keys it puts, with a value, or deletes.
type Txn = BTreeMap<u8, Option<Vec<u8>>>;

/// The versions a store would hold after these transactions.
fn history(txns: &[Txn]) -> (i64, Vec<Owned>) {
    let mut versions: Vec<Owned> = Vec::new();
    let mut revision = 1;
    for txn in txns {
        let before = versions.len();
        for (key, value) in txn {
            let key = vec![b'k', *key];
            let prior = versions.iter().rev().find(|version| version.key == key && !version.tombstone);
            let prior = prior
                .filter(|prior| !versions.iter().any(|v| v.tombstone && v.key == key && v.main > prior.main));
            let (main, sub) = (revision + 1, (versions.len() - before) as i64);
            let version = match (value, prior) {
                (Some(value), prior) => Owned {
                    create: prior.map_or(main, |prior| prior.create),
                    version: prior.map_or(1, |prior| prior.version + 1),
                    value: value.clone(),
                    ..Owned::default()
                },
                (None, Some(_)) => Owned { tombstone: true, ..Owned::default() },
                (None, None) => continue,
            };
            versions.push(Owned { main, sub, key, ..version });
        }
        revision += i64::from(versions.len() > before);
    }
    (revision, versions)
}

fn write(metadata: &Metadata, versions: &[Owned]) -> Vec<u8> {
    let mut planner = Planner::new(metadata).expect("metadata");
    versions.iter().for_each(|version| planner.version(&version.borrowed()).expect("a version"));
    let plan = planner.finish().expect("a plan");
    let bytes = plan.bytes();
    let mut writer = plan.write();
    let mut file = Vec::new();
    for version in versions {
        writer.version(&version.borrowed()).expect("a version");
        while let Some(piece) = writer.piece() {
            file.extend_from_slice(&piece);
        }
    }
    let (pieces, digest) = writer.finish().expect("as planned");
    pieces.iter().for_each(|piece| file.extend_from_slice(piece));
    assert_eq!(file.len() as u64, bytes);
    file.extend_from_slice(&digest);
    file
}

fn versions(backup: &Backup<'_>) -> Vec<Owned> {
    backup.versions().map(|version| Owned::of(&version.expect("checked"))).collect()
}

fn full_metadata(revision: i64) -> Metadata {
    let member = |id| Member {
        id,
        peer_ur_ls: vec!["http://a:2380".into()],
        is_learner: id == 3,
        name: format!("m{id}"),
        client_ur_ls: Vec::new(),
    };
    Metadata {
        revision,
        compaction: Compaction { scheduled: Some(1), finished: Some(1) },
        index: 77,
        term: 3,
        storage_version: Some("3.7.0".into()),
        cluster_version: Some("3.7.0".into()),
        members: vec![member(1), member(2), member(3)],
        removed: vec![4, 0xffff_ffff_ffff_ffff],
        alarms: vec![AlarmMember { member_id: 1, alarm: 1 }, AlarmMember { member_id: 2, alarm: 2 }],
        leases: vec![Lease { id: -5, ttl: 60, remaining_ttl: 7 }],
        auth: Auth {
            enabled: true,
            revision: 9,
            users: vec![User { name: "root".into(), roles: vec!["root".into()], ..User::default() }],
            roles: vec![Role { name: "root".into(), ..Role::default() }],
        },
    }
}

fn plain_metadata(revision: i64) -> Metadata {
    Metadata { revision, ..Metadata::default() }
}

fn put(main: i64, key: &str, value: &str) -> Owned {
    Owned { main, create: main, version: 1, key: key.into(), value: value.into(), ..Owned::default() }
}

/// Keeps what it is given.
#[derive(Debug, Default, PartialEq)]
struct Memory {
    metadata: Option<Metadata>,
    versions: Vec<Owned>,
    finished: bool,
    fails_at: Option<usize>,
}

impl RestoreTarget for Memory {
    type Error = &'static str;

    fn begin(&mut self, metadata: &Metadata) -> Result<(), Self::Error> {
        assert_eq!(self.metadata.replace(metadata.clone()), None, "begun once");
        Ok(())
    }

    fn version(&mut self, version: &Record<'_>) -> Result<(), Self::Error> {
        assert!(self.metadata.is_some() && !self.finished);
        if self.fails_at == Some(self.versions.len()) {
            return Err("no room");
        }
        self.versions.push(Owned::of(version));
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Self::Error> {
        self.finished = true;
        Ok(())
    }
}

#[test]
fn metadata_is_read_back() {
    for metadata in [full_metadata(6), plain_metadata(6), plain_metadata(1)] {
        let file = write(&metadata, &[]);
        let backup = Backup::open(&file, Digest::Demanded).expect("sound");
        assert_eq!(backup.metadata(), &metadata);
        assert!(versions(&backup).iter().all(|version| version.key.is_empty()), "marks only");
        assert_eq!(backup.live_keys(), 0);
    }
}

#[test]
fn the_configuration_is_in_etcds_json() {
    let rows = full_metadata(1).buckets();
    let row = |bucket: &[u8], key: &[u8]| {
        let bucket = rows.iter().find(|small| small.name == bucket).expect("a bucket");
        let (_, value) = bucket.rows.iter().find(|row| row.0 == key).expect("a row");
        String::from_utf8(value.clone()).expect("text")
    };
    assert_eq!(row(b"meta", b"confState"), r#"{"voters":[1,2],"learners":[3],"auto_leave":false}"#);
    let learner = r#"{"id":3,"peerURLs":["http://a:2380"],"isLearner":true,"name":"m3"}"#;
    assert_eq!(row(b"members", b"3"), learner);
    assert_eq!(row(b"members_removed", b"ffffffffffffffff"), "removed");
}

#[test]
fn a_revision_beyond_the_last_version_is_marked() {
    let file = write(&plain_metadata(9), &[put(2, "a", "b")]);
    let backup = Backup::open(&file, Digest::Demanded).expect("sound");
    assert_eq!(backup.metadata().revision, 9);
    let mark = Owned { main: 9, ..Owned::default() };
    assert_eq!(versions(&backup), [put(2, "a", "b"), mark]);
    assert_eq!(backup.live_keys(), 1);
    let mut planner = Planner::new(&plain_metadata(2)).expect("metadata");
    let beyond = WriteError::Revision { main: 3, revision: 2 };
    assert_eq!(planner.version(&Record { main: 3, ..Record::default() }), Err(beyond));
}

#[test]
fn every_truncation_and_every_flipped_byte_is_refused() {
    let file = write(&full_metadata(3), &[put(2, "a", "b"), put(3, "c", "d")]);
    assert!(Backup::open(&file, Digest::Demanded).is_ok());
    for len in 0..file.len() {
        assert!(Backup::open(&file[..len], Digest::Demanded).is_err(), "{len} bytes");
        // The digest itself may be missing when it is not asked for.
        if len < file.len() - 32 {
            assert!(Backup::open(&file[..len], Digest::Skipped).is_err(), "{len} bytes");
        }
    }
    let mut bad = file.clone();
    for at in (0..file.len()).step_by(37) {
        bad[at] ^= 0x10;
        assert!(matches!(Backup::open(&bad, Digest::Demanded), Err(Error::Digest { .. })), "byte {at}");
        bad[at] ^= 0x10;
    }
    let plain = &file[..file.len() - 32];
    assert_eq!(Backup::open(plain, Digest::Demanded).err(), Some(Error::NoDigest));
    assert!(Backup::open(plain, Digest::Skipped).is_ok());
}

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// A database whose rows are given as they are.
fn raw(buckets: &[(&str, Rows)]) -> Vec<u8> {
    let small = |(name, rows): &(&str, Rows)| crate::backup::bbolt::Small {
        name: name.as_bytes().to_vec(),
        rows: rows.clone(),
    };
    let planner =
        crate::backup::bbolt::Placer::new(b"zzz", buckets.iter().map(small).collect()).expect("buckets");
    let pieces = planner.finish().write().finish().expect("as planned");
    pieces.concat()
}

#[test]
fn a_database_of_something_else_is_refused() {
    let open = |file: &[u8]| Backup::open(file, Digest::Skipped).expect_err("not a backup");
    assert_eq!(open(&raw(&[])), Error::UnknownBucket("zzz".into()));
    let row = |bucket, key: &[u8], value: &[u8]| {
        open(&raw(&[(bucket, vec![(key.to_vec(), value.to_vec())])])).to_string()
    };
    assert_eq!(row("meta", b"term", b"x"), "bucket \"meta\", row term: it is not a number of eight bytes");
    assert_eq!(row("meta", b"more", b""), "bucket \"meta\", row more: etcd 3.4 to 3.7 have no such row");
    assert_eq!(row("members", b"1", b"{}"), "bucket \"members\", row 1: it is not a member in JSON");
    assert_eq!(row("lease", b"1", b""), "bucket \"lease\", row 1: it is filed under another lease's id");
    let newer = Metadata { storage_version: Some("3.8.0".into()), ..plain_metadata(1) };
    let newer = open(&write(&newer, &[]));
    assert_eq!(newer, Error::TooNew("3.8.0".into()));
    assert!(newer.to_string().contains("etcd 3.8.0"), "{newer}");
}

#[test]
fn rows_that_contradict_themselves_are_refused() {
    let at = |main, sub, tombstone| crate::row::RevisionKey::new(main, sub, tombstone).as_bytes().to_vec();
    let value = |change: fn(&mut Owned)| {
        let mut version = put(5, "a", "b");
        change(&mut version);
        let mut row = Vec::new();
        version.borrowed().row_value(|bytes| row.extend_from_slice(bytes));
        row
    };
    let good = value(|_| {});
    assert!(Record::from_row(&at(5, 0, false), &good).is_ok());
    for (key, row) in [
        (at(5, 0, true), good.clone()),
        (at(6, 0, false), good.clone()),
        (at(0, 0, false), value(|v| v.main = 0)),
        (at(5, 0, false), value(|v| v.create = 6)),
        (at(5, 0, false), value(|v| v.create = 0)),
        (at(5, 0, false), value(|v| v.version = -1)),
        (at(5, 0, false), value(|v| v.key.clear())),
        (at(5, 0, true), Vec::new()),
        (at(5, 0, false)[1..].to_vec(), good.clone()),
        (at(-5, 0, false), good.clone()),
        ([&at(5, 0, false)[..], b"x"].concat(), good.clone()),
        (at(5, 0, false), good[..good.len() - 1].to_vec()),
        (at(5, 0, false), b"\x0f\x01".to_vec()),
        (at(5, 0, false), b"\x08\x01".to_vec()),
    ] {
        assert!(Record::from_row(&key, &row).is_err(), "{key:?} {row:?}");
    }
    // Fields of later releases are no reason to refuse.
    let more = [&good[..], b"\x38\x01\x42\x01x\x49\0\0\0\0\0\0\0\0\x55\0\0\0\0"].concat();
    assert_eq!(Record::from_row(&at(5, 0, false), &more), Ok(put(5, "a", "b").borrowed()));
}

#[test]
fn what_cannot_be_held_is_refused_before_anything_is_written() {
    let refuse = |metadata: &Metadata, versions: &[Owned], bump| {
        let file = write(metadata, versions);
        let mut target = Memory::default();
        let backup = Backup::open(&file, Digest::Demanded).expect("sound");
        let refusal = restore(&backup, bump, &mut target).expect_err("refused");
        assert_eq!(target, Memory::default(), "nothing was written");
        refusal
    };
    let by = i64::MAX as u64;
    assert_eq!(refuse(&plain_metadata(2), &[], Some(Bump(by))), Failure::Bump { revision: 2, by });
}

#[test]
fn a_version_whose_lease_is_history_is_restored() {
    let versions = [
        Owned { lease: 7, ..put(2, "a", "b") },
        Owned { main: 3, tombstone: true, key: b"a".to_vec(), ..Owned::default() },
    ];
    let metadata = Metadata { auth: Auth { revision: 1, ..Auth::default() }, ..plain_metadata(3) };
    let file = write(&metadata, &versions);
    let mut target = Memory::default();
    let backup = Backup::open(&file, Digest::Demanded).expect("sound");
    let outcome = restore(&backup, None, &mut target).expect("restored");
    assert_eq!(outcome, Outcome { revision: 3, versions: 2, live_keys: 0 });
    assert_eq!(
        target,
        Memory { metadata: Some(metadata), versions: versions.to_vec(), finished: true, fails_at: None }
    );
}

#[test]
fn a_target_that_fails_is_not_finished() {
    let file = write(&plain_metadata(3), &[put(2, "a", "b"), put(3, "c", "d")]);
    let mut target = Memory { fails_at: Some(1), ..Memory::default() };
    let backup = Backup::open(&file, Digest::Demanded).expect("sound");
    let failure = restore(&backup, None, &mut target);
    assert_eq!(failure, Err(Failure::Target("no room")));
    assert!(!target.finished);
}

/// Unreadable versions are left behind: by a bump, and by a compaction that was under way.
#[test]
fn a_restore_finishes_the_compaction() {
    let tombstone = |main| Owned { main, tombstone: true, key: b"gone".to_vec(), ..Owned::default() };
    let kept = Owned { create: 2, version: 2, ..put(5, "a", "2") };
    let all = [put(2, "a", "1"), put(3, "gone", "x"), tombstone(4), kept.clone()];
    let run = |compaction, bump| {
        let metadata = Metadata { compaction, ..plain_metadata(5) };
        let file = write(&metadata, &all);
        let mut target = Memory::default();
        let backup = Backup::open(&file, Digest::Demanded).expect("sound");
        let outcome = restore(&backup, bump, &mut target).expect("restored");
        assert_eq!(outcome.versions, target.versions.len() as u64);
        let metadata = target.metadata.expect("begun");
        assert_eq!(metadata.compaction.scheduled, metadata.compaction.finished);
        (outcome.revision, metadata.compaction.finished, target.versions)
    };
    let none = Compaction::default();
    assert_eq!(run(none, None), (5, None, all.to_vec()));
    assert_eq!(run(none, Some(Bump(1_000))), (1_005, Some(1_005), vec![kept.clone()]));
    let scheduled = |revision| Compaction { scheduled: Some(revision), finished: None };
    assert_eq!(run(scheduled(5), None), (5, Some(5), vec![kept.clone()]));
    assert_eq!(
        run(scheduled(4), None),
        (5, Some(4), [&all[..1], &all[2..]].concat()),
        "its own tombstone stays"
    );
    let finished = Compaction { scheduled: Some(1), finished: Some(1) };
    assert_eq!(run(finished, None), (5, Some(1), all.to_vec()));
}

#[test]
fn hashes_need_a_revision_that_can_be_read() {
    let metadata =
        Metadata { compaction: Compaction { scheduled: Some(3), finished: Some(3) }, ..plain_metadata(5) };
    let file = write(&metadata, &[put(3, "a", "b"), put(5, "c", "d")]);
    let backup = Backup::open(&file, Digest::Demanded).expect("sound");
    assert_eq!(backup.hash_kv(2), Err(Error::Compacted));
    assert_eq!(backup.hash_kv(6), Err(Error::FutureRevision));
    assert_eq!(backup.hash_kv(0), backup.hash_kv(5));
    let HashedKeys { revision, compacted, .. } = backup.hash_kv(4).expect("readable");
    assert_eq!((revision, compacted), (4, 3));
}

fn txns() -> impl Strategy<Value = Vec<Txn>> {
    let value = prop::option::weighted(0.75, vec(any::<u8>(), 0..40));
    vec(prop::collection::btree_map(0u8..12, value, 1..4), 0..40)
}

proptest! {
    #[test]
    fn any_history_is_read_back(txns in txns(), large in vec(any::<u8>(), 0..20_000)) {
        let (revision, mut all) = history(&txns);
        if let Some(version) = all.iter_mut().find(|version| !version.tombstone) {
            version.value = large;
        }
        let file = write(&plain_metadata(revision), &all);
        let backup = Backup::open(&file, Digest::Demanded).unwrap();
        prop_assert_eq!(backup.metadata().revision, revision);
        prop_assert_eq!(versions(&backup), all);
        prop_assert_eq!(FileStatus::of(&file).unwrap().total_keys, backup.live_keys());
    }

    /// Whether superseded versions are still there or not, the hash is the same.
    #[test]
    fn freeing_does_not_change_the_hash(txns in txns(), compacted in any::<prop::sample::Index>(), at in any::<prop::sample::Index>()) {
        let (revision, all) = history(&txns);
        let compacted = 1 + compacted.index(revision as usize) as i64;
        let at = compacted + at.index((revision - compacted + 1) as usize) as i64;
        let mut keep = Keep::new(compacted);
        all.iter().for_each(|version| keep.version(&version.borrowed()));
        let keep = keep.kept_by_compaction();
        let freed: Vec<Owned> = all
            .iter()
            .filter(|version| version.main > compacted || keep.contains(&(version.main, version.sub)))
            .cloned()
            .collect();
        let metadata = Metadata { compaction: Compaction { scheduled: Some(compacted), finished: None }, ..plain_metadata(revision) };
        let hash = |versions: &[Owned]| {
            let file = write(&metadata, versions);
            Backup::open(&file, Digest::Demanded).unwrap().hash_kv(at).unwrap()
        };
        // Upstream hashes all that is there if nothing is kept.
        let mut live = Keep::new(at);
        all.iter().for_each(|version| live.version(&version.borrowed()));
        if !live.kept_by_hash().is_empty() {
            prop_assert_eq!(hash(&all), hash(&freed));
        }
    }

    #[test]
    fn mutated_bytes_are_harmless(changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        let (revision, all) = history(&[Txn::from([(1, Some(vec![1; 300])), (2, None), (3, Some(Vec::new()))]), Txn::from([(1, None)])]);
        let mut file = write(&full_metadata(revision), &all);
        for (place, byte) in changes {
            let at = place.index(file.len());
            file[at] = byte;
        }
        if let Ok(backup) = Backup::open(&file, Digest::Skipped) {
            for version in backup.versions() {
                version.expect("surveyed");
            }
            backup.hash_kv(0).expect("readable");
        }
        drop(FileStatus::of(&file));
    }
}
