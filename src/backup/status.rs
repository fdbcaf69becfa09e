//! What `etcdutl snapshot status` shows of a file: the database alone counts, a digest behind it is not looked at.

use std::collections::HashSet;

use super::{
    Error, Record,
    schema::{KEY, META, STORAGE_VERSION},
};
use crate::backup::bbolt::File;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// CRC-32C over every bucket's name and rows.
    pub hash: u32,
    /// Of the last version.
    pub revision: i64,
    /// Keys that exist, a mark counted as one, as upstream does.
    pub total_keys: u64,
    /// Bytes of the database.
    pub total_bytes: u64,
    pub storage_version: Option<String>,
}

impl FileStatus {
    pub fn of(bytes: &[u8]) -> Result<Self, Error> {
        let file = File::open(bytes)?;
        file.check()?;
        let mut status =
            Self { hash: 0, revision: 0, total_keys: 0, total_bytes: file.size(), storage_version: None };
        let mut live = HashSet::new();
        for row in file.root().rows() {
            let row = row?;
            let name = row.key;
            let bucket = row.bucket.ok_or_else(|| Error::UnknownBucket(name.escape_ascii().to_string()))?;
            status.hash = crc32c::crc32c_append(status.hash, name);
            for row in bucket.rows() {
                let row = row?;
                status.hash = crc32c::crc32c_append(status.hash, row.key);
                status.hash = crc32c::crc32c_append(status.hash, row.value);
                if name == META && row.key == STORAGE_VERSION {
                    status.storage_version = str::from_utf8(row.value).ok().map(str::to_owned);
                }
                if name == KEY {
                    let version = Record::from_row(row.key, row.value)
                        .map_err(|what| super::reader::bad(KEY, row.key, what))?;
                    status.revision = version.main;
                    match version.tombstone {
                        true => live.remove(version.key),
                        false => live.insert(version.key),
                    };
                }
            }
        }
        status.total_keys = live.len() as u64;
        Ok(status)
    }
}
