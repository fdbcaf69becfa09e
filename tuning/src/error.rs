//! What keeps a disk from being measured, in words that say what to do about it.

use std::{
    io,
    path::{Path, PathBuf},
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}: is no directory that exists; make it on the disk to be measured")]
    NoDirectory(PathBuf),
    #[error(
        "{dir}: the file system ({file_system}) takes no direct I/O (O_DIRECT), which the server needs; choose a \
         directory on ext4, xfs or btrfs"
    )]
    NoDirectIo { dir: PathBuf, file_system: String },
    #[error(
        "{dir}: {file_system} keeps its files in memory, there is no disk to measure; choose another directory"
    )]
    InMemory { dir: PathBuf, file_system: String },
    #[error(
        "{dir}: the measurement needs {needed_mib} MiB and {free_mib} are free; free some space, or take --quick or \
         a smaller --file-mib"
    )]
    NoSpace { dir: PathBuf, needed_mib: u64, free_mib: u64 },
    #[error("{dir}: the disk or the quota is full ({source}); free some space, or take a smaller --file-mib")]
    Full { dir: PathBuf, source: io::Error },
    #[error(
        "{dir}: no permission to write there ({source}); run as the user the server will run as, or choose another"
    )]
    NoPermission { dir: PathBuf, source: io::Error },
    #[error(
        "io_uring is forbidden here ({source}): allow it with sysctl kernel.io_uring_disabled=0, and in a container \
         with a seccomp profile that has the io_uring calls; the server needs it too"
    )]
    UringForbidden { source: io::Error },
    #[error("this kernel has no io_uring ({source}); the server needs Linux 5.11 or newer with it")]
    UringMissing { source: io::Error },
    #[error("io_uring gets no memory ({source}): raise the limit of locked memory (ulimit -l)")]
    UringMemory { source: io::Error },
    #[error("a write of {asked} bytes wrote {written}")]
    ShortWrite { asked: u32, written: i32 },
    #[error("stopped by signal {0}, the files are removed")]
    Interrupted(i32),
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("fio: {0}")]
    Fio(String),
}

impl Error {
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Of making, opening or writing a file in `dir`.
    pub fn file(dir: &Path, file_system: &str, source: io::Error) -> Self {
        let dir = dir.to_path_buf();
        match source.raw_os_error() {
            Some(libc::EINVAL | libc::EOPNOTSUPP) => {
                Self::NoDirectIo { dir, file_system: file_system.into() }
            }
            Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => Self::Full { dir, source },
            Some(libc::EACCES | libc::EPERM | libc::EROFS) => Self::NoPermission { dir, source },
            Some(libc::ENOENT | libc::ENOTDIR) => Self::NoDirectory(dir),
            _ => Self::Io { what: format!("{}: a file to measure with", dir.display()), source },
        }
    }

    /// Of setting up a ring.
    pub fn ring(source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::UringForbidden { source },
            Some(libc::ENOSYS) => Self::UringMissing { source },
            Some(libc::ENOMEM) => Self::UringMemory { source },
            _ => Self::Io { what: "set up io_uring".into(), source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(errno: i32) -> String {
        Error::file(Path::new("/srv/x"), "vfat", io::Error::from_raw_os_error(errno)).to_string()
    }

    fn ring(errno: i32) -> String {
        Error::ring(io::Error::from_raw_os_error(errno)).to_string()
    }

    #[test]
    fn each_cause_says_what_to_do() {
        for (text, words) in [
            (file(libc::EINVAL), ["vfat", "direct I/O"]),
            (file(libc::ENOSPC), ["full", "--file-mib"]),
            (file(libc::EDQUOT), ["quota", "--file-mib"]),
            (file(libc::EACCES), ["permission", "user"]),
            (file(libc::EROFS), ["Read-only", "choose another"]),
            (file(libc::ENOENT), ["no directory", "make it"]),
            (file(libc::EIO), ["/srv/x", "Input/output"]),
            (ring(libc::EPERM), ["forbidden", "io_uring_disabled"]),
            (ring(libc::ENOSYS), ["no io_uring", "Linux"]),
            (ring(libc::ENOMEM), ["memory", "ulimit"]),
            (ring(libc::EMFILE), ["set up io_uring", "open files"]),
        ] {
            assert!(words.iter().all(|word| text.contains(word)), "{text}: lacks one of {words:?}");
        }
    }
}
