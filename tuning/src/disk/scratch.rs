//! The files that are written: made, filled, and removed again.
//!
//! All files are in one directory of their own inside the measured one, which is removed when
//! [`Scratch`] is dropped, however the measurement ends.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use crate::{
    disk::{
        device::{self, Device},
        ring::{self, AtEnd, Durable, Job, Stop},
        target::{FILL_BYTES, Pool, Target},
    },
    error::Error,
};

const FILL_DEPTH: u32 = 4;
/// How the blocks of a file came to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Blocks {
    /// Written once with data: a segment used again.
    Recycled,
    Zeroed,
    /// Only reserved (fallocate).
    Reserved,
    /// Not even reserved: each write makes the file longer.
    None,
}

pub struct Scratch<'a> {
    dir: PathBuf,
    file_system: String,
    pool: Pool,
    stop: &'a Stop,
}

impl<'a> Scratch<'a> {
    pub fn create(device: &Device, pool: Pool, stop: &'a Stop) -> Result<Self, Error> {
        let dir = device.dir.join(format!(".pinion-tuning-{}", std::process::id()));
        fs::create_dir(&dir).map_err(|error| Error::file(&device.dir, &device.file_system, error))?;
        Ok(Self { dir, file_system: device.file_system.clone(), pool, stop })
    }

    pub fn explain(&self, error: io::Error) -> Error {
        Error::file(self.dir.parent().unwrap_or(Path::new("/")), &self.file_system, error)
    }

    /// A new file of `bytes` bytes, open for durable writes; MiB per second of filling it.
    pub fn file(&self, name: &str, blocks: Blocks, bytes: u64) -> Result<(Target, f64), Error> {
        let path = self.dir.join(name);
        let plain = self.open(&path, 0)?;
        let mut mib_per_s = 0.0;
        if blocks != Blocks::None {
            self.reserve(&plain, bytes)?;
        }
        if matches!(blocks, Blocks::Recycled | Blocks::Zeroed) {
            let mut filled = Target { file: plain, path: path.clone(), bytes, position: 0 };
            let job = Job {
                bytes: FILL_BYTES,
                depth: FILL_DEPTH,
                durable: Durable::Left,
                at_end: AtEnd::Stop,
                seconds: f64::INFINITY,
                zeros: blocks == Blocks::Zeroed,
            };
            let sample = ring::run(&job, &mut filled, self.pool, self.stop).map_err(|error| match error {
                Error::Io { source, .. } => self.explain(source),
                other => other,
            })?;
            filled.file.sync_all().map_err(|error| self.explain(error))?;
            mib_per_s = bytes as f64 / (1024.0 * 1024.0) / sample.seconds;
        }
        let file = self.open(&path, libc::O_DSYNC)?;
        Ok((Target { file, path, bytes, position: 0 }, mib_per_s))
    }

    /// The same file without O_DSYNC.
    pub fn without_dsync(&self, target: &Target) -> Result<Target, Error> {
        let file = self.open(&target.path, 0)?;
        Ok(Target { file, path: target.path.clone(), bytes: target.bytes, position: 0 })
    }

    fn open(&self, path: &Path, flags: i32) -> Result<File, Error> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.custom_flags(libc::O_DIRECT | flags).open(path);
        file.map_err(|error| self.explain(error))
    }

    fn reserve(&self, file: &File, bytes: u64) -> Result<(), Error> {
        let length = i64::try_from(bytes).expect("sizes are bounded");
        // SAFETY: the descriptor is open; the call takes no pointers.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() == Some(libc::EOPNOTSUPP) {
            // Filling the file, or writing it, makes the blocks instead.
            return file.set_len(bytes).map_err(|error| self.explain(error));
        }
        Err(self.explain(error))
    }

    /// What statx says, and the smallest direct write that the file takes.
    pub fn probe(&self, target: &Target) -> Result<(Option<u32>, u32), Error> {
        let mut bytes = 512;
        loop {
            match target.file.write_at(self.pool.noise(0, bytes), u64::from(bytes)) {
                Ok(written) if written == bytes as usize => break,
                Ok(written) => {
                    return Err(Error::ShortWrite { asked: bytes, written: written as i32 });
                }
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) && bytes < FILL_BYTES => bytes *= 2,
                Err(error) => return Err(self.explain(error)),
            }
        }
        Ok((device::direct_align(&target.file)?, bytes))
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("{} is left behind: {error}", self.dir.display());
        }
    }
}
