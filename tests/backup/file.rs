//! Backups as values: versions that own their bytes, written and read whole.

use std::collections::BTreeMap;

use bench_harness::pb::mvccpb::KeyValue;
use pinion::{
    backup::bbolt::File,
    backup::{Backup, Metadata, Planner, Record},
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owned {
    pub main: i64,
    pub sub: i64,
    pub create: i64,
    pub version: i64,
    pub lease: i64,
    pub tombstone: bool,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

impl Owned {
    pub fn borrowed(&self) -> Record<'_> {
        let Self { main, sub, create, version, lease, tombstone, .. } = *self;
        Record { main, sub, create, version, lease, tombstone, key: &self.key, value: &self.value }
    }
}

pub fn versions(backup: &Backup<'_>) -> Vec<Owned> {
    let owned = |version: Record<'_>| {
        let Record { main, sub, create, version, lease, tombstone, key, value } = version;
        Owned { main, sub, create, version, lease, tombstone, key: key.to_vec(), value: value.to_vec() }
    };
    backup.versions().map(|version| owned(version.expect("checked"))).collect()
}

/// The keys that a store with these versions has at a revision, as a range returns them.
pub fn keys_at(versions: &[Owned], revision: i64) -> Vec<KeyValue> {
    let mut keys = BTreeMap::new();
    for version in versions.iter().filter(|version| version.main <= revision && !version.key.is_empty()) {
        if version.tombstone {
            keys.remove(&version.key);
            continue;
        }
        let key_value = KeyValue {
            key: version.key.clone().into(),
            create_revision: version.create,
            mod_revision: version.main,
            version: version.version,
            value: version.value.clone().into(),
            lease: version.lease,
        };
        keys.insert(&version.key, key_value);
    }
    keys.into_values().collect()
}

/// What `Maintenance.Hash` of an etcd with these rows is: over all buckets in order, without those rows that may differ
/// between members that agree (`DefaultIgnores` in `server/storage/schema/bucket.go`).
pub fn hash(file: &[u8]) -> u32 {
    let ignored: [&[u8]; 3] = [b"term", b"consistent_index", b"storageVersion"];
    let file = File::open(file).expect("a database");
    let mut crc = 0;
    for bucket in file.root().rows().map(|row| row.expect("sound")) {
        crc = crc32c::crc32c_append(crc, bucket.key);
        for row in bucket.bucket.expect("the root holds buckets").rows().map(|row| row.expect("sound")) {
            if bucket.key != b"meta" || !ignored.contains(&row.key) {
                crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, row.key), row.value);
            }
        }
    }
    crc
}

pub fn write(metadata: &Metadata, versions: &[Owned]) -> Vec<u8> {
    let mut planner = Planner::new(metadata).expect("metadata");
    versions.iter().for_each(|version| planner.version(&version.borrowed()).expect("a version"));
    let mut writer = planner.finish().expect("a plan").write();
    let mut file = Vec::new();
    for version in versions {
        writer.version(&version.borrowed()).expect("a version");
        while let Some(piece) = writer.piece() {
            file.extend_from_slice(&piece);
        }
    }
    let (pieces, digest) = writer.finish().expect("as planned");
    pieces.iter().for_each(|piece| file.extend_from_slice(piece));
    file.extend_from_slice(&digest);
    file
}
