//! A backup file, any bytes or a sound file with some of them changed: read or refused, without a panic and with an end.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pinion::{
    backup::bbolt::File,
    backup::{Backup, Digest, FileStatus, Metadata, Planner, Record},
};

static SOUND: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let keys: Vec<Vec<u8>> = (0..600).map(|n| format!("key{n:04}").into_bytes()).collect();
    let value = [7; 40];
    let versions = || {
        keys.iter().zip(2..).map(|(key, main)| Record {
            main,
            create: main,
            version: 1,
            key,
            value: &value,
            ..Record::default()
        })
    };
    let metadata = Metadata { revision: 601, storage_version: Some("3.7.0".into()), ..Metadata::default() };
    let mut planner = Planner::new(&metadata).expect("metadata");
    versions().for_each(|version| planner.version(&version).expect("a version"));
    let mut writer = planner.finish().expect("a plan").write();
    versions().for_each(|version| writer.version(&version).expect("a version"));
    let mut file = Vec::new();
    while let Some(piece) = writer.piece() {
        file.extend_from_slice(&piece);
    }
    let (pieces, _) = writer.finish().expect("as planned");
    pieces.iter().for_each(|piece| file.extend_from_slice(piece));
    file
});

fn read(bytes: &[u8]) {
    if let Ok(file) = File::open(bytes) {
        let rows = file.root().rows().take_while(Result::is_ok).flatten();
        let buckets = rows.filter_map(|row| row.bucket);
        // More rows than bytes would be a circle.
        let count: usize = buckets.map(|bucket| bucket.rows().count()).sum();
        assert!(count <= bytes.len());
    }
    drop(FileStatus::of(bytes));
    if let Ok(backup) = Backup::open(bytes, Digest::Skipped) {
        assert!(backup.versions().all(|version| version.is_ok()), "surveyed");
        backup.hash_kv(0).expect("surveyed");
    }
}

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    let mut changed = SOUND.clone();
    for change in bytes.chunks_exact(4) {
        let at = u32::from_le_bytes([change[0], change[1], change[2], 0]) as usize;
        let at = at % changed.len();
        changed[at] = change[3];
    }
    read(&changed);
});
