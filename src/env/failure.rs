//! What a disk does wrong, in words for the operator; what follows from it is added by who was using the disk.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{Disk, Env, File};

#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error(
        "the disk is full: {path} could not be written. Free space on it or move the data to a larger disk"
    )]
    Full { path: PathBuf },

    #[error(
        "the file system of {path} is read-only. If it was remounted after an error, check the disk \
         (dmesg), repair it and remount it writable, then start again"
    )]
    ReadOnly { path: PathBuf },

    #[error("{path} is on {file_system}, which refuses direct I/O (O_DIRECT)")]
    NoDirectIo { path: PathBuf, file_system: String },

    #[error(
        "a write of {expected} bytes at offset {offset} of {path} ended after {written}. The disk or its \
         driver is at fault: check dmesg and free space"
    )]
    ShortWrite { path: PathBuf, offset: u64, expected: usize, written: usize },

    #[error("cannot {action} {path}: {source}. Check the disk (dmesg) and the permissions, then start again")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl DiskError {
    /// Sorts an error of the system. `action` reads "cannot {action} {path}".
    pub fn from_io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            _ => Self::Io { action, path, source },
        }
    }

    /// The same, of opening a file for direct I/O or of writing to one: some file systems take O_DIRECT when a file is
    /// opened and refuse the first write.
    pub fn from_direct_io<E: Env>(env: &E, action: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::InvalidInput => Self::NoDirectIo {
                path: path.to_path_buf(),
                file_system: env.disk().file_system(path.parent().unwrap_or(path)),
            },
            _ => Self::from_io(action, path, source),
        }
    }
}

/// Writes all of a buffer to the file at `path`.
pub async fn write_all<E: Env>(
    env: &E,
    file: &<E::Disk as Disk>::File,
    path: &Path,
    buffer: <<E::Disk as Disk>::File as File>::Buffer,
    offset: u64,
) -> Result<(), DiskError> {
    let expected = buffer.as_ref().len();
    let written = file.write_at(buffer, offset).await;
    let written = written.map_err(|e| DiskError::from_direct_io(env, "write", path, e))?;
    match written == expected {
        true => Ok(()),
        false => Err(DiskError::ShortWrite { path: path.to_path_buf(), offset, expected, written }),
    }
}
