//! Why the log cannot be opened or written. All of it is fatal for the shard: it stops before
//! anything depends on the failed write. Each text says what the operator can do.

use std::{io, path::Path, path::PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum WalError {
    #[error(
        "the disk is full: {path} could not be written. Free space on it or move the data to a larger disk, \
         then start again; nothing acknowledged is lost"
    )]
    DiskFull { path: PathBuf },

    #[error(
        "the file system of {path} is read-only. If it was remounted after an error, check the disk \
         (dmesg), repair it and remount it writable, then start again"
    )]
    ReadOnly { path: PathBuf },

    #[error(
        "{path} is on {file_system}, which refuses direct I/O (O_DIRECT). Put the log on a local ext4 or xfs \
         disk with --data-dir or --wal-dir"
    )]
    NoDirectIo { path: PathBuf, file_system: String },

    #[error(
        "a write of {expected} bytes at offset {offset} of {path} ended after {written}. The disk or its \
         driver is at fault: check dmesg and free space, then start again; nothing acknowledged is lost"
    )]
    ShortWrite { path: PathBuf, offset: u64, expected: usize, written: usize },

    #[error("cannot {action} {path}: {source}. Check the disk (dmesg) and the permissions, then start again")]
    Io { action: &'static str, path: PathBuf, source: io::Error },

    #[error(
        "the log is damaged: {path}, offset {offset}: {what}. What follows was acknowledged to clients, so \
         it is not cut off. Restore this member from a backup, or remove it from the cluster and add it again \
         empty; keep the file for inspection"
    )]
    Corrupt { path: PathBuf, offset: u64, what: &'static str },

    #[error(
        "{path} has format version {version}, this server reads version {supported}. Start the server that \
         wrote it, or a newer one"
    )]
    Version { path: PathBuf, version: String, supported: u32 },

    #[error("{path} belongs to shard {found}, not to shard {expected}. Check --data-dir and --wal-dir")]
    WrongShard { path: PathBuf, found: u32, expected: u32 },

    #[error(
        "the directory is in use by another process: {path} is locked. Stop the other server or choose \
         another --data-dir or --wal-dir"
    )]
    Locked { path: PathBuf },

    #[error("{0}")]
    Options(String),

    /// The caller could not take a record that is whole: its order or content makes no sense.
    #[error("the log cannot be replayed: {0}. Restore this member from a backup")]
    Replay(String),
}

impl WalError {
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
