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

    #[error("cannot {action} {path}: {source}. {}", advice(source))]
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

/// What to do about an error, by what the system says is missing.
fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EMFILE) => {
            "This process may have no more files open: raise the limit with `ulimit -n` or LimitNOFILE=, then start again"
        }
        Some(libc::ENFILE) => {
            "This machine may have no more files open: raise fs.file-max, or find out who has them (lsof), then start again"
        }
        Some(libc::ENOMEM) => {
            "Memory is short: free some, or raise what this process may have (cgroup, container, vm.max_map_count), then \
             start again"
        }
        Some(libc::EACCES | libc::EPERM) => {
            "Give the user of this process the permission (owner, mode, security policy), then start again"
        }
        Some(libc::ENOENT) => "Check that the path is right and its disk mounted, then start again",
        Some(libc::EIO) => {
            "The disk has failed: see dmesg. If it is broken, restore this member from a backup on another one"
        }
        _ => "Check the disk (dmesg) and the permissions, then start again",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_fits_what_is_missing() {
        for (code, part) in [
            (libc::EMFILE, "ulimit -n"),
            (libc::ENFILE, "fs.file-max"),
            (libc::ENOMEM, "Memory is short"),
            (libc::EACCES, "permission"),
            (libc::EIO, "The disk has failed"),
        ] {
            let source = io::Error::from_raw_os_error(code);
            let error = DiskError::from_io("open", Path::new("/data/x"), source).to_string();
            assert!(error.starts_with("cannot open /data/x: ") && error.contains(part), "{error}");
            assert_eq!(error.contains("disk"), code == libc::EIO, "{error}");
        }
    }
}
