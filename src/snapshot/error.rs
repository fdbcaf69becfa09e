//! Why a snapshot cannot be opened or a checkpoint not be written.
//!
//! What [`SnapshotStore::open`](super::SnapshotStore::open) returns is fatal: a state that is not the
//! checkpoint's is never served. What a write returns is not: the checkpoint before it stays whole.
//! Each text says what the operator can do.

use std::{io, path::Path, path::PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error(
        "the disk is full: {path} could not be written. Free space on it or move the data to a larger disk; \
         the last checkpoint is whole and nothing acknowledged is lost"
    )]
    DiskFull { path: PathBuf },

    #[error(
        "the file system of {path} is read-only. If it was remounted after an error, check the disk \
         (dmesg), repair it and remount it writable, then start again"
    )]
    ReadOnly { path: PathBuf },

    #[error(
        "{path} is on {file_system}, which refuses direct I/O (O_DIRECT). Put the data on a local ext4 or xfs \
         disk with --data-dir"
    )]
    NoDirectIo { path: PathBuf, file_system: String },

    #[error(
        "a write of {expected} bytes at offset {offset} of {path} ended after {written}. The disk or its \
         driver is at fault: check dmesg and free space; the last checkpoint is whole"
    )]
    ShortWrite { path: PathBuf, offset: u64, expected: usize, written: usize },

    #[error("cannot {action} {path}: {source}. Check the disk (dmesg) and the permissions, then start again")]
    Io { action: &'static str, path: PathBuf, source: io::Error },

    #[error(
        "the snapshot is damaged: {path}, offset {offset}: {what}. The log no longer has what is in it, so it is \
         not skipped. Restore this member from a backup, or remove it from the cluster and add it again empty; \
         keep the file for inspection"
    )]
    Corrupt { path: PathBuf, offset: u64, what: &'static str },

    #[error(
        "{path} is missing, and the snapshot needs it. The log no longer has what is in it. Put the file back, \
         restore this member from a backup, or remove it from the cluster and add it again empty"
    )]
    Missing { path: PathBuf },

    #[error(
        "{path} has format version {version}, this server reads version {supported}. Start the server that \
         wrote it, or a newer one"
    )]
    Version { path: PathBuf, version: u32, supported: u32 },

    #[error("{path} belongs to shard {found}, not to shard {expected}. Check --data-dir")]
    WrongShard { path: PathBuf, found: u32, expected: u32 },

    #[error("{path} is no file of the snapshot. Move it elsewhere, then start again")]
    Foreign { path: PathBuf },
}

impl SnapshotError {
    /// Sorts an error of the system. `action` reads "cannot {action} {path}".
    pub fn from_io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            _ => Self::Io { action, path, source },
        }
    }
}
