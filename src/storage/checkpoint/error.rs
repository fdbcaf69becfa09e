//! Why a checkpoint cannot be opened, written or received.
//!
//! What [`CheckpointStore::open`](super::CheckpointStore::open) returns is fatal: a state that is not the
//! checkpoint's is never served. What a write returns is not: the checkpoint before it stays whole.
//! Each text says what the operator can do.

use std::{io, path::Path, path::PathBuf};

use crate::{env::DiskError, types::Owner};

#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("{0}{then}", then = consequence(.0))]
    Disk(#[from] DiskError),

    #[error(
        "the checkpoint is damaged: {path}, offset {offset}: {what}. The log no longer has what is in it, so it is \
         not skipped. Restore this member from a backup, or remove it from the cluster and add it again empty; \
         keep the file for inspection"
    )]
    Corrupt { path: PathBuf, offset: u64, what: &'static str },

    #[error(
        "{path} is missing, and the checkpoint needs it. The log no longer has what is in it. Put the file back, \
         restore this member from a backup, or remove it from the cluster and add it again empty"
    )]
    Missing { path: PathBuf },

    #[error(
        "{path} has format version {version}, this server reads version {supported}. Start the release that wrote it; \
         to move to this one, save a snapshot there (etcdctl snapshot save) and restore it here (etcdutl snapshot restore)"
    )]
    Version { path: PathBuf, version: u32, supported: u32 },

    #[error("{path} belongs to shard {found}, not to shard {expected}. Check --data-dir")]
    WrongShard { path: PathBuf, found: u32, expected: u32 },

    #[error(
        "{path} is of a checkpoint behind {found}, and the log here is {expected}. Was it mixed up with another member's? \
         Put back what belongs here"
    )]
    NotOurs { path: PathBuf, found: Owner, expected: Owner },

    #[error("{path} is no file of the checkpoint. Move it elsewhere, then start again")]
    Foreign { path: PathBuf },

    #[error("the member that was sending its checkpoint ended that")]
    CutOff,
}

impl CheckpointError {
    /// Sorts an error of the system. `action` reads "cannot {action} {path}".
    pub fn from_io(action: &'static str, path: &Path, source: io::Error) -> Self {
        DiskError::from_io(action, path, source).into()
    }
}

/// Follows the text of what the disk did.
fn consequence(error: &DiskError) -> &'static str {
    match error {
        DiskError::Full { .. } => "; the last checkpoint is whole and nothing acknowledged is lost",
        DiskError::ShortWrite { .. } => "; the last checkpoint is whole",
        DiskError::NoDirectIo { .. } => ". Put the data on a local ext4 or xfs disk with --data-dir",
        DiskError::ReadOnly { .. } | DiskError::Io { .. } => "",
    }
}
