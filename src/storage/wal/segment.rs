//! Segment files: their names, making one ready, opening one.
//!
//! A segment gets its final name only after it is written to its full size (zeros, or what it held in
//! an earlier use) and its header is durable. So a file with such a name and a bad header is corrupt, never unfinished; and the log
//! itself never extends a file, which would cost a journal commit per write.

use std::{
    cell::Cell,
    io,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use super::{
    WalError,
    format::{FORMAT_VERSION, HeaderFault, SEGMENT_HEADER_BYTES, SegmentHeader, UNIT_BYTES_MAX},
};
use crate::{
    env::{Disk, DiskError, Env, File, OpenOptions, write_all},
    types::ShardId,
};

/// Zeros written at a time; larger writes hold up the log's own.
const FILL_CHUNK_BYTES: u64 = 256 * 1024;
/// Pause between two of them in the background: about 200 MB/s with the write itself.
const FILL_PAUSE: Duration = Duration::from_millis(1);

const SUFFIX: &str = ".wal";
const UNFINISHED_SUFFIX: &str = ".new";

pub type FileOf<E> = <<E as Env>::Disk as Disk>::File;

/// What is known of a segment before it exists.
#[derive(Clone, Debug)]
pub struct SegmentSpec {
    pub dir: PathBuf,
    pub shard: ShardId,
    pub sequence: u64,
    pub epoch: u64,
    pub segment_bytes: u64,
    /// `--wal-sector-size`, or what the device says but at least 4 KiB.
    pub sector_bytes: Option<u32>,
    pub data_sync: bool,
}

/// A segment that can be written.
#[derive(Debug)]
pub struct Segment<F> {
    pub file: F,
    pub header: SegmentHeader,
    pub path: PathBuf,
}

pub fn path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:016x}{SUFFIX}"))
}

/// Name of a file that is not yet, or no longer, the segment of this path.
pub fn unfinished(path: &Path) -> PathBuf {
    path.with_extension(&UNFINISHED_SUFFIX[1..])
}

/// Sequence numbers of the segments in a directory, ascending. Files of unfinished preparations and
/// those that left the log are removed; any other name is refused, because it may be a segment someone renamed.
pub async fn list<E: Env>(env: &E, dir: &Path) -> Result<Vec<u64>, WalError> {
    let names = env.disk().list(dir).await.map_err(|e| WalError::from_io("list", dir, e))?;
    let mut sequences = Vec::with_capacity(names.len());
    for name in names {
        let path = dir.join(&name);
        if name.ends_with(UNFINISHED_SUFFIX) {
            env.disk().remove(&path).await.map_err(|e| WalError::from_io("remove", &path, e))?;
            continue;
        }
        let number = name.strip_suffix(SUFFIX).filter(|digits| digits.len() == 16);
        match number.map(|digits| u64::from_str_radix(digits, 16)) {
            Some(Ok(sequence)) => sequences.push(sequence),
            _ => {
                return Err(WalError::Options(format!(
                    "{} is no file of the log. Move it elsewhere, then start again",
                    path.display()
                )));
            }
        }
    }
    sequences.sort_unstable();
    Ok(sequences)
}

/// Opens an existing segment and checks that it is what its name says.
pub async fn open<E: Env>(
    env: &E,
    dir: &Path,
    shard: ShardId,
    sequence: u64,
    data_sync: bool,
) -> Result<Segment<FileOf<E>>, WalError> {
    let path = path(dir, sequence);
    let file = open_file(env, &path, OpenOptions { create: false, data_sync }).await?;
    let first = file
        .read_at(0, file.unit().max(SEGMENT_HEADER_BYTES))
        .await
        .map_err(|e| WalError::from_io("read", &path, e))?;
    let corrupt = |what| WalError::Corrupt { path: path.clone(), offset: 0, what };
    let header = SegmentHeader::decode(&first).map_err(|fault| match fault {
        HeaderFault::Magic => corrupt("this is no segment header"),
        HeaderFault::Checksum => corrupt("the checksum of the segment header does not match"),
        HeaderFault::Field => corrupt("the segment header makes no sense"),
        HeaderFault::Version(version) => {
            WalError::Version { path: path.clone(), version: version.to_string(), supported: FORMAT_VERSION }
        }
    })?;
    if header.shard != shard {
        return Err(WalError::WrongShard { path, found: header.shard.0, expected: shard.0 });
    }
    if header.sequence != sequence {
        return Err(corrupt("the segment header names another segment: the file was renamed"));
    }
    let size = file.size().await.map_err(|e| WalError::from_io("stat", &path, e))?;
    if size != header.segment_bytes {
        return Err(corrupt("the file does not have the size its header names"));
    }
    Ok(Segment { file, header, path })
}

/// Makes a segment from nothing: zeros, header, name, each durable before the next.
pub async fn create<E: Env>(env: &E, spec: &SegmentSpec) -> Result<Segment<FileOf<E>>, WalError> {
    fill_and_name(env, spec, &Pace::default()).await
}

/// How fast a preparation may go, set from outside while it runs.
#[derive(Debug, Default)]
pub struct Pace {
    pub slow: Cell<bool>,
    pub stopped: Cell<bool>,
}

/// [`create`] at the given pace.
pub async fn fill_and_name<E: Env>(
    env: &E,
    spec: &SegmentSpec,
    pace: &Pace,
) -> Result<Segment<FileOf<E>>, WalError> {
    let unfinished = unfinished(&path(&spec.dir, spec.sequence));
    // Without O_DSYNC: a sync per chunk of a growing file would flood the journal. One at the end.
    let file = open_file(env, &unfinished, OpenOptions { create: true, data_sync: false }).await?;
    let unit = unit_for(spec.sector_bytes, file.unit())?;
    match file.allocate(spec.segment_bytes).await {
        Ok(()) => {}
        // Zeros allocate too, in more pieces.
        Err(e) if e.kind() == io::ErrorKind::Unsupported => {}
        Err(e) => return Err(WalError::from_io("allocate space for", &unfinished, e)),
    }
    zero(env, &file, &unfinished, unit as u64, spec.segment_bytes, pace).await?;
    begin_and_name(env, spec, file, &unfinished, unit).await
}

/// Makes a segment of a file that left the log and is fully written. What it holds belongs to another
/// epoch, which is as good as zeros.
pub async fn recycle<E: Env>(
    env: &E,
    spec: &SegmentSpec,
    spare: &Path,
) -> Result<Segment<FileOf<E>>, WalError> {
    let file = open_file(env, spare, OpenOptions { create: false, data_sync: false }).await?;
    let size = file.size().await.map_err(|e| WalError::from_io("stat", spare, e))?;
    assert_eq!(size, spec.segment_bytes, "a spare has the size of a segment");
    let unit = unit_for(spec.sector_bytes, file.unit())?;
    begin_and_name(env, spec, file, spare, unit).await
}

/// Header, then name, each durable before the next.
async fn begin_and_name<E: Env>(
    env: &E,
    spec: &SegmentSpec,
    file: FileOf<E>,
    unfinished: &Path,
    unit: usize,
) -> Result<Segment<FileOf<E>>, WalError> {
    let header = SegmentHeader {
        shard: spec.shard,
        sequence: spec.sequence,
        epoch: spec.epoch,
        unit: u32::try_from(unit).expect("a unit is at most 64 KiB"),
        segment_bytes: spec.segment_bytes,
    };
    write(env, &file, unfinished, &header.encode(), unit, 0).await?;
    file.sync().await.map_err(|e| WalError::from_io("sync", unfinished, e))?;
    file.close().await.map_err(|e| WalError::from_io("close", unfinished, e))?;
    let (disk, path) = (env.disk(), path(&spec.dir, spec.sequence));
    disk.rename(unfinished, &path).await.map_err(|e| WalError::from_io("rename", unfinished, e))?;
    disk.sync_dir(&spec.dir).await.map_err(|e| WalError::from_io("sync", &spec.dir, e))?;
    open(env, &spec.dir, spec.shard, spec.sequence, spec.data_sync).await
}

async fn zero<E: Env>(
    env: &E,
    file: &FileOf<E>,
    path: &Path,
    from: u64,
    to: u64,
    pace: &Pace,
) -> Result<(), WalError> {
    let mut offset = from;
    while offset < to {
        if pace.stopped.get() {
            return Err(WalError::Options("the log was closed while a segment was being prepared".into()));
        }
        let bytes = FILL_CHUNK_BYTES.min(to - offset) as usize;
        write(env, file, path, &[], bytes, offset).await?;
        offset += bytes as u64;
        if pace.slow.get() {
            env.sleep(FILL_PAUSE).await;
        }
    }
    Ok(())
}

async fn write<E: Env>(
    env: &E,
    file: &FileOf<E>,
    path: &Path,
    content: &[u8],
    bytes: usize,
    offset: u64,
) -> Result<(), WalError> {
    Ok(write_all(env, file, path, file.buffer(content, bytes), offset).await?)
}

async fn open_file<E: Env>(env: &E, path: &Path, options: OpenOptions) -> Result<FileOf<E>, WalError> {
    let opened = env.disk().open(path, options).await;
    Ok(opened.map_err(|e| DiskError::from_direct_io(env, "open", path, e))?)
}

/// Some devices take 512 bytes and are not faster for it.
const UNIT_USUAL: usize = 4096;

/// The unit batches are padded to.
pub fn unit_for(asked: Option<u32>, device: usize) -> Result<usize, WalError> {
    let unit = asked.map_or(device.max(UNIT_USUAL), |bytes| bytes as usize);
    if !unit.is_power_of_two() || unit < device || unit > UNIT_BYTES_MAX {
        return Err(WalError::Options(format!(
            "--wal-sector-size={unit}: must be a power of two between {device} (what this disk needs) and \
             {UNIT_BYTES_MAX}"
        )));
    }
    Ok(unit)
}

/// Closes a segment that nobody else holds.
pub async fn close<F: File>(segment: Rc<Segment<F>>) -> Result<(), WalError> {
    let segment = Rc::into_inner(segment).expect("a segment is closed by its last owner");
    segment.file.close().await.map_err(|e| WalError::from_io("close", &segment.path, e))
}
