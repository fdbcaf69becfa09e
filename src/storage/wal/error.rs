//! Why the log cannot be opened or written. All of it is fatal for the shard: it stops before
//! anything depends on the failed write. Each text says what the operator can do.

use std::{io, path::Path, path::PathBuf};

use crate::{env::DiskError, types::Owner};

#[derive(Debug, thiserror::Error)]
pub enum WalError {
    #[error("{0}{then}", then = consequence(.0))]
    Disk(#[from] DiskError),

    #[error(
        "the log is damaged: {path}, offset {offset}: {what}. What follows was acknowledged to clients, so \
         it is not cut off. Restore this member from a backup, or remove it from the cluster and add it again \
         empty; keep the file for inspection"
    )]
    Corrupt { path: PathBuf, offset: u64, what: &'static str },

    #[error("{path} is damaged at offset {offset}, where a batch was durable")]
    Unreadable { path: PathBuf, offset: u64 },

    #[error(
        "{path} has format version {version}, this server reads version {supported}. Start the release that wrote it; \
         to move to this one, save a snapshot there (etcdctl snapshot save) and restore it here (etcdutl snapshot restore)"
    )]
    Version { path: PathBuf, version: String, supported: u32 },

    #[error("{path} belongs to shard {found}, not to shard {expected}. Check --data-dir and --wal-dir")]
    WrongShard { path: PathBuf, found: u32, expected: u32 },

    #[error(
        "{path} is of {found}, and the log here is {expected}. Was it mixed up with another member's, or --wal-dir with \
         another directory? Put back what belongs here"
    )]
    NotOurs { path: PathBuf, found: Owner, expected: Owner },

    #[error(
        "the log is missing: {dir} has no segment of {owner}, which was last in {place} and had {batches} batches or \
         more. Is a disk not mounted, or --wal-dir not what it was? Put the log back: without it this member would have \
         forgotten what it acknowledged. If it is gone, restore this member from a backup, in an empty --data-dir"
    )]
    Missing { dir: PathBuf, owner: Owner, place: String, batches: u64 },

    #[error(
        "the log is shorter than it was: {path} ends with batch {found} at offset {offset}, and the log had {batches} \
         batches when it was last closed or opened. Its end was damaged, or an older copy was put back. What is missing \
         was acknowledged to clients: put the right log back, or restore this member from a backup; keep the files for \
         inspection"
    )]
    Shorter { path: PathBuf, offset: u64, found: u64, batches: u64 },

    #[error("{0}")]
    Options(String),

    /// The caller could not take a record that is whole: its order or content makes no sense.
    #[error("the log cannot be replayed: {0}. Restore this member from a backup")]
    Replay(String),
}

impl WalError {
    /// Sorts an error of the system. `action` reads "cannot {action} {path}".
    pub fn from_io(action: &'static str, path: &Path, source: io::Error) -> Self {
        DiskError::from_io(action, path, source).into()
    }
}

/// Follows the text of what the disk did.
fn consequence(error: &DiskError) -> &'static str {
    match error {
        DiskError::Full { .. } | DiskError::ShortWrite { .. } => {
            ", then start again; nothing acknowledged is lost"
        }
        DiskError::NoDirectIo { .. } => {
            ". Put the log on a local ext4 or xfs disk with --data-dir or --wal-dir"
        }
        DiskError::ReadOnly { .. } | DiskError::Io { .. } => "",
    }
}
