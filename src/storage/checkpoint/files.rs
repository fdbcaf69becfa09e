//! The files of a checkpoint directory: their names, direct writes in pieces, removal in steps.

use std::{
    cell::Cell,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use prometheus::Histogram;

use super::CheckpointError;
use crate::{
    env::{Disk, DiskError, Env, File, Instant, OpenOptions, write_all},
    limits,
};

pub const MANIFEST: &str = "manifest";
pub const MANIFEST_UNFINISHED: &str = "manifest.new";
const SUFFIX: &str = ".seg";

pub type FileOf<E> = <<E as Env>::Disk as Disk>::File;

/// The epoch is random: a segment that was received never takes the place of one made here.
pub fn segment_path(dir: &Path, sequence: u64, epoch: u64) -> PathBuf {
    dir.join(format!("{sequence:016x}-{epoch:016x}{SUFFIX}"))
}

/// Sequence and epoch of a segment's file name.
pub fn segment_name(name: &str) -> Option<(u64, u64)> {
    let (sequence, epoch) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    let number = |digits: &str| {
        let number = u64::from_str_radix(digits, 16).ok()?;
        (format!("{number:016x}") == digits).then_some(number)
    };
    Some((number(sequence)?, number(epoch)?))
}

/// How fast checkpoints may write: what was written so far says when the next piece may leave.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: u64,
    next: Cell<Instant>,
}

impl Pace {
    /// 0 is as fast as possible.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, next: Cell::default() }
    }

    async fn wait<E: Env>(&self, env: &E, bytes: usize) {
        if self.bytes_per_second == 0 {
            return;
        }
        let now = env.now();
        let start = self.next.get().max(now);
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.bytes_per_second);
        // Time lost is not made up for by a burst.
        self.next.set(Instant(start.0 + u64::try_from(nanos).expect("a piece takes less than centuries")));
        if start > now {
            env.sleep(start.since(now)).await;
        }
    }
}

/// Writes a new file from its start to its end.
pub struct Writer<'a, E: Env> {
    env: &'a E,
    file: FileOf<E>,
    path: PathBuf,
    unit: usize,
    pace: &'a Pace,
    commit_seconds: &'a Histogram,
    piece: Option<<FileOf<E> as File>::Buffer>,
    filled: usize,
    /// Bytes handed to the disk, durable ones of them, and those prefetched.
    written: u64,
    durable: u64,
    /// Time the disk took since the last sync; pauses not counted.
    busy: Duration,
}

impl<'a, E: Env> Writer<'a, E> {
    pub async fn create(
        env: &'a E,
        path: PathBuf,
        pace: &'a Pace,
        commit_seconds: &'a Histogram,
    ) -> Result<Self, CheckpointError> {
        let options = OpenOptions { create: true, data_sync: false };
        let opened = env.disk().open(&path, options).await;
        let file = opened.map_err(|e| DiskError::from_direct_io(env, "open", &path, e))?;
        let unit = file.unit();
        let (piece, busy) = (None, Duration::ZERO);
        Ok(Self {
            env,
            file,
            path,
            unit,
            pace,
            commit_seconds,
            piece,
            filled: 0,
            written: 0,
            durable: 0,
            busy,
        })
    }

    /// The file's size must be a multiple of this.
    pub fn unit(&self) -> usize {
        self.unit
    }

    /// Reserves the whole file.
    pub async fn allocate(&self, bytes: u64) -> Result<(), CheckpointError> {
        match self.file.allocate(bytes).await {
            // Writes allocate too, in more pieces.
            Err(e) if e.kind() == io::ErrorKind::Unsupported => Ok(()),
            other => other.map_err(|e| CheckpointError::from_io("allocate space for", &self.path, e)),
        }
    }

    pub async fn append(&mut self, mut bytes: &[u8]) -> Result<(), CheckpointError> {
        while !bytes.is_empty() {
            let file = &self.file;
            let piece =
                self.piece.get_or_insert_with(|| file.buffer(&[], limits::CHECKPOINT_PIECE_BYTES)).as_mut();
            let count = bytes.len().min(piece.len() - self.filled);
            piece[self.filled..][..count].copy_from_slice(&bytes[..count]);
            self.filled += count;
            bytes = &bytes[count..];
            if self.filled == piece.len() {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Makes everything durable and closes the file.
    pub async fn finish(self) -> Result<(), CheckpointError> {
        assert!(self.filled.is_multiple_of(self.unit), "a file ends at a multiple of the unit");
        self.end(None).await
    }

    /// The same for a file of any size: `bytes` is that.
    pub async fn finish_at(mut self, bytes: u64) -> Result<(), CheckpointError> {
        let rest = self.filled.next_multiple_of(self.unit) - self.filled;
        self.append(&vec![0; rest]).await?;
        self.end(Some(bytes)).await
    }

    async fn end(mut self, bytes: Option<u64>) -> Result<(), CheckpointError> {
        self.flush().await?;
        if let Some(bytes) = bytes
            && bytes != self.written
        {
            let cut = self.file.truncate(bytes).await;
            cut.map_err(|e| CheckpointError::from_io("truncate", &self.path, e))?;
        }
        self.sync().await?;
        self.file.close().await.map_err(|e| CheckpointError::from_io("close", &self.path, e))
    }

    async fn flush(&mut self) -> Result<(), CheckpointError> {
        let Some(full) = self.piece.take() else { return Ok(()) };
        let bytes = std::mem::take(&mut self.filled);
        let buffer = match bytes {
            limits::CHECKPOINT_PIECE_BYTES => full,
            _ => self.file.buffer(&full.as_ref()[..bytes], bytes),
        };
        self.pace.wait(self.env, bytes).await;
        let started = self.env.now();
        write_all(self.env, &self.file, &self.path, buffer, self.written).await?;
        self.busy += self.env.now().since(started);
        self.written += bytes as u64;
        if self.written - self.durable >= limits::CHECKPOINT_SYNC_BYTES {
            self.sync().await?;
        }
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), CheckpointError> {
        let started = self.env.now();
        self.file.sync().await.map_err(|e| CheckpointError::from_io("sync", &self.path, e))?;
        let busy = std::mem::take(&mut self.busy) + self.env.now().since(started);
        self.commit_seconds.observe(busy.as_secs_f64());
        let (from, bytes) = (self.durable, self.written - self.durable);
        self.durable = self.written;
        // Direct writes leave the page cache cold, and readers of the mapping must not wait for the disk.
        prefetch(self.env, &self.path, from, bytes).await
    }
}

/// Brings a range of a file into memory, step by step so that no step holds up others for long.
pub async fn prefetch<E: Env>(env: &E, path: &Path, offset: u64, bytes: u64) -> Result<(), CheckpointError> {
    let mut at = offset;
    while at < offset + bytes {
        let step = limits::CHECKPOINT_PREFETCH_BYTES.min(offset + bytes - at);
        env.disk().prefetch(path, at, step).await.map_err(|e| CheckpointError::from_io("read", path, e))?;
        at += step;
    }
    Ok(())
}

/// Removes a file at once; a missing one is fine.
pub async fn remove<E: Env>(env: &E, path: &Path) -> Result<(), CheckpointError> {
    match env.disk().remove(path).await {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(CheckpointError::from_io("remove", path, e)),
        _ => Ok(()),
    }
}

pub async fn sync_dir<E: Env>(env: &E, dir: &Path) -> Result<(), CheckpointError> {
    env.disk().sync_dir(dir).await.map_err(|e| CheckpointError::from_io("sync", dir, e))
}
