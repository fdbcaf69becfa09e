//! Reading a backup: the digest, the pages, every row, then the metadata and the versions.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};

use super::{
    Keep, Metadata, Record,
    schema::{BUCKETS, KEY, META},
};
use crate::{
    backup::bbolt::{self, File},
    row::Hasher,
    types,
};

const DIGEST_BYTES: usize = 32;
/// A database is a multiple of it, so that 32 bytes over it are a digest (etcd's `hasChecksum`).
const SECTOR_BYTES: usize = 512;

/// The file cannot be used. The first two texts are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("snapshot missing hash but --skip-hash-check=false")]
    NoDigest,
    #[error("expected sha256 {}, got {}", decimal(.expected), decimal(.found))]
    Digest { expected: [u8; DIGEST_BYTES], found: [u8; DIGEST_BYTES] },
    #[error(transparent)]
    File(#[from] bbolt::Error),
    #[error("not a backup of etcd: it has no bucket \"{0}\"")]
    NoBucket(&'static str),
    #[error("it has a bucket \"{0}\", which etcd 3.4 to 3.7 do not")]
    UnknownBucket(String),
    #[error("bucket \"{bucket}\", row {key}: {what}")]
    Row { bucket: &'static str, key: String, what: &'static str },
    #[error("it was written by etcd {0}; this release reads those up to {max}", max = types::ETCD_VERSION)]
    TooNew(String),
    #[error("mvcc: required revision has been compacted")]
    Compacted,
    #[error("mvcc: required revision is a future revision")]
    FutureRevision,
}

/// As Go prints bytes.
fn decimal(bytes: &[u8]) -> String {
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    format!("[{}]", numbers.join(" "))
}

/// What to do about the SHA-256 that follows the database. A file copied from a data directory has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    Demanded,
    Skipped,
}

/// What `etcdutl hashkv` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashedKeys {
    pub hash: u32,
    pub revision: i64,
    /// -1 if nothing was compacted.
    pub compacted: i64,
}

/// A sound file: every page and every row was looked at once.
#[derive(Clone, Debug)]
pub struct Backup<'a> {
    keys: bbolt::Bucket<'a>,
    metadata: Metadata,
    live_keys: u64,
}

impl<'a> Backup<'a> {
    pub fn open(bytes: &'a [u8], digest: Digest) -> Result<Self, Error> {
        let file = File::open(unsealed(bytes, digest)?)?;
        file.check()?;
        let mut metadata = Metadata::default();
        let mut keys = None;
        let mut has_meta = false;
        for row in file.root().rows() {
            let row = row?;
            let name = BUCKETS.into_iter().find(|name| *name == row.key);
            let (Some(name), Some(bucket)) = (name, row.bucket) else {
                return Err(Error::UnknownBucket(row.key.escape_ascii().to_string()));
            };
            has_meta |= name == META;
            match name {
                KEY => keys = Some(bucket),
                _ => bucket.rows().try_for_each(|row| {
                    let row = row?;
                    let taken = match row.bucket {
                        Some(_) => Err("it is a bucket"),
                        None => metadata.take(name, row.key, row.value),
                    };
                    taken.map_err(|what| bad(name, row.key, what))
                })?,
            }
        }
        let keys = keys.ok_or(Error::NoBucket("key"))?;
        has_meta.then_some(()).ok_or(Error::NoBucket("meta"))?;
        refuse_newer(&metadata)?;
        Self { keys, metadata, live_keys: 0 }.survey()
    }

    /// Reads every version once, so that nothing is left to refuse.
    fn survey(mut self) -> Result<Self, Error> {
        let mut last = 1;
        let mut live = HashSet::new();
        for version in self.versions() {
            let version = version?;
            last = version.main;
            match version.tombstone {
                true => live.remove(version.key),
                false if version.is_mark() => false,
                false => live.insert(version.key),
            };
        }
        self.live_keys = live.len() as u64;
        // As etcd starts on it (`store.restore` in `server/storage/mvcc/kvstore.go`).
        self.metadata.revision =
            self.metadata.compaction.revision().map_or(last, |compacted| compacted.max(last));
        Ok(self)
    }

    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Number of keys that exist.
    pub fn live_keys(&self) -> u64 {
        self.live_keys
    }

    /// All versions and marks in revision order.
    pub fn versions(&self) -> Versions<'a> {
        Versions { rows: self.keys.rows() }
    }

    /// The hash of the versions up to a revision, 0 for all.
    pub fn hash_kv(&self, revision: i64) -> Result<HashedKeys, Error> {
        let compacted = self.metadata.compaction.revision().unwrap_or(-1);
        if revision > 0 && revision < compacted {
            return Err(Error::Compacted);
        }
        if revision > self.metadata.revision {
            return Err(Error::FutureRevision);
        }
        let revision = if revision == 0 { self.metadata.revision } else { revision };
        let mut keep = Keep::new(revision);
        self.versions().try_for_each(|version| version.map(|version| keep.version(&version)))?;
        let keep = keep.kept_by_hash();
        let mut hasher = Hasher::new(compacted);
        for version in self.versions() {
            let version = version?;
            if version.main > revision {
                break;
            }
            let is_kept = || keep.contains(&(version.main, version.sub));
            hasher.version(&version, is_kept, || version.main < compacted || !version.tombstone);
        }
        Ok(HashedKeys { hash: hasher.finish(), revision, compacted })
    }
}

/// See [`Backup::versions`].
#[derive(Debug)]
pub struct Versions<'a> {
    rows: bbolt::Rows<'a>,
}

impl<'a> Iterator for Versions<'a> {
    type Item = Result<Record<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = match self.rows.next()? {
            Ok(row) => row,
            Err(error) => return Some(Err(error.into())),
        };
        let version = match row.bucket {
            Some(_) => Err("it is a bucket"),
            None => Record::from_row(row.key, row.value),
        };
        Some(version.map_err(|what| bad(KEY, row.key, what)))
    }
}

pub(super) fn bad(bucket: &'static [u8], key: &[u8], what: &'static str) -> Error {
    let bucket = str::from_utf8(bucket).expect("a name in ASCII");
    Error::Row { bucket, key: key.escape_ascii().to_string(), what }
}

/// The database without its digest.
fn unsealed(bytes: &[u8], digest: Digest) -> Result<&[u8], Error> {
    let database = match bytes.len() % SECTOR_BYTES {
        DIGEST_BYTES => &bytes[..bytes.len() - DIGEST_BYTES],
        _ if digest == Digest::Demanded => return Err(Error::NoDigest),
        _ => bytes,
    };
    if digest == Digest::Demanded {
        let expected = *bytes.last_chunk().expect("a digest follows");
        let found: [u8; DIGEST_BYTES] = Sha256::digest(database).into();
        if found != expected {
            return Err(Error::Digest { expected, found });
        }
    }
    Ok(database)
}

fn refuse_newer(metadata: &Metadata) -> Result<(), Error> {
    let minor = |version: &str| -> Option<(u64, u64)> {
        let mut parts = version.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    let own = minor(types::ETCD_VERSION).expect("a version of three numbers");
    match &metadata.storage_version {
        Some(version) if minor(version).is_none_or(|theirs| theirs > own) => {
            Err(Error::TooNew(version.clone()))
        }
        _ => Ok(()),
    }
}
