//! What the kernel says of the directory's file system and device, before anything is measured.
//!
//! The readers of kernel text are pure; a fact the kernel does not give is absent, never guessed.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::error::Error;

#[derive(Clone, Debug, Default, Serialize)]
pub struct Device {
    pub dir: PathBuf,
    pub kernel: String,
    pub file_system: String,
    pub mount_options: String,
    /// As it was mounted: `/dev/vda1`, or a name for something that is no block device.
    pub source: String,
    /// The three below from sysfs; absent where the file system has no block device of its own.
    pub logical_bytes: Option<u32>,
    pub physical_bytes: Option<u32>,
    /// `write through`: the device says that a completed write needs no flush.
    pub write_cache: Option<String>,
    /// What statx (DIOALIGN) says direct offsets and lengths must be multiples of.
    pub direct_align_bytes: Option<u32>,
    /// The smallest direct write that was taken.
    pub smallest_write_bytes: u32,
}

/// What can be known without writing.
pub fn look(dir: &Path) -> Result<Device, Error> {
    let dir = fs::canonicalize(dir).map_err(|error| Error::file(dir, "", error))?;
    let metadata = fs::metadata(&dir).map_err(|error| Error::file(&dir, "", error))?;
    if !metadata.is_dir() {
        return Err(Error::NoDirectory(dir));
    }
    let text = |path: &str| fs::read_to_string(path).map_err(Error::io(path));
    let mount = mount_of(&text("/proc/self/mountinfo")?, &dir).unwrap_or_default();
    if ["tmpfs", "ramfs"].contains(&mount.file_system.as_str()) {
        return Err(Error::InMemory { dir, file_system: mount.file_system });
    }
    let queue = queue_dir(metadata.dev());
    let fact = |name: &str| {
        let path = queue.as_ref()?.join(name);
        fs::read_to_string(path).map(|text| text.trim().to_string()).ok()
    };
    let number = |name: &str| fact(name)?.parse().ok();
    Ok(Device {
        kernel: text("/proc/sys/kernel/osrelease")?.trim().into(),
        file_system: mount.file_system,
        mount_options: mount.options,
        source: mount.source,
        logical_bytes: number("logical_block_size"),
        physical_bytes: number("physical_block_size"),
        write_cache: fact("write_cache"),
        direct_align_bytes: None,
        smallest_write_bytes: 0,
        dir,
    })
}

/// A partition has no queue of its own, its disk has.
fn queue_dir(device: u64) -> Option<PathBuf> {
    let block = format!("/sys/dev/block/{}:{}", libc::major(device), libc::minor(device));
    let block = fs::canonicalize(block).ok()?;
    [block.join("queue"), block.join("../queue")].into_iter().find(|path| path.is_dir())
}

#[derive(Debug, Default, PartialEq)]
struct Mount {
    file_system: String,
    options: String,
    source: String,
}

/// The mount that holds `dir`: the longest mount point above it, and of those at the same place the last.
fn mount_of(mountinfo: &str, dir: &Path) -> Option<Mount> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let point = unescape(left.get(4)?);
        let [file_system, source, ..] = right[..] else { return None };
        dir.starts_with(&point).then(|| {
            let mount =
                Mount { file_system: file_system.into(), options: left[5].into(), source: unescape(source) };
            (point.len(), mount)
        })
    });
    mounts.max_by_key(|(length, _)| *length).map(|(_, mount)| mount)
}

/// mountinfo writes blanks, tabs, newlines and backslashes as `\` and three octal digits.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_string(), |text, (code, plain)| text.replace(code, plain))
}

/// statx's DIOALIGN; `None` if the file system does not say.
pub fn direct_align(file: &File) -> Result<Option<u32>, Error> {
    // SAFETY: an all-zero statx is a valid value of that plain struct.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, the path is an empty C string, and `stat` lives through the call.
    let result = unsafe {
        libc::statx(file.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, libc::STATX_DIOALIGN, &mut stat)
    };
    if result != 0 {
        return Err(Error::io("statx")(io::Error::last_os_error()));
    }
    let said = stat.stx_mask & libc::STATX_DIOALIGN != 0 && stat.stx_dio_offset_align > 0;
    Ok(said.then_some(stat.stx_dio_offset_align))
}

/// Bytes that this user may still write in `dir`.
pub fn free_bytes(dir: &Path) -> Result<u64, Error> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(dir.as_os_str().as_bytes()).expect("a path that was opened has no NUL");
    // SAFETY: an all-zero statvfs is a valid value of that plain struct.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a C string, and `stat` lives through the call.
    if unsafe { libc::statvfs(path.as_ptr(), &mut stat) } != 0 {
        return Err(Error::io(dir.display().to_string())(io::Error::last_os_error()));
    }
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
23 22 0:21 / /dev/shm rw,nosuid - tmpfs shm rw\n\
24 22 8:1 / /srv/my\\040disk rw,noatime shared:3 master:1 - xfs /dev/sda1 rw,attr2\n\
25 22 8:17 / /srv rw - btrfs /dev/sdb1 rw\n\
26 22 8:33 / /srv ro - ext3 /dev/sdc1 ro\n";

    #[test]
    fn the_mount_of_a_directory() {
        let system = |dir: &str| mount_of(MOUNTS, Path::new(dir)).map(|mount| mount.file_system);
        assert_eq!(system("/var/lib").as_deref(), Some("ext4"));
        assert_eq!(system("/dev/shm/x").as_deref(), Some("tmpfs"));
        assert_eq!(system("/dev/shmx").as_deref(), Some("ext4"), "a mount point is whole names");
        assert_eq!(system("/srv/a").as_deref(), Some("ext3"), "the last at one place covers the others");
        let disk = mount_of(MOUNTS, Path::new("/srv/my disk/a")).expect("is there");
        let expected =
            Mount { file_system: "xfs".into(), options: "rw,noatime".into(), source: "/dev/sda1".into() };
        assert_eq!(disk, expected);
        assert_eq!(mount_of("nonsense\n\n", Path::new("/")), None);
    }

    #[test]
    fn a_file_is_no_directory() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert!(matches!(look(&file), Err(Error::NoDirectory(_))));
        assert!(matches!(look(&file.join("x")), Err(Error::NoDirectory(_))));
    }
}
