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
    WalError, WalOptions,
    format::{FORMAT_VERSION, HeaderFault, SEGMENT_HEADER_BYTES, SegmentHeader, UNIT_BYTES_MAX},
};
use crate::{
    env::{Disk, DiskError, Env, File, OpenOptions, write_all},
    types::{Owner, ShardId},
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
    pub owner: Owner,
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

/// What a log's directory holds.
#[derive(Debug, Default)]
pub struct Listing {
    /// Sequence numbers of the segments, ascending.
    pub sequences: Vec<u64>,
    /// Names of unfinished preparations and of what left the log.
    pub unfinished: Vec<String>,
}

impl Listing {
    /// The newest segment whose preparation was begun, if that was not finished or is not here any more.
    pub fn begun(&self) -> Option<u64> {
        let numbers = self.unfinished.iter().filter_map(|name| number(name, UNFINISHED_SUFFIX));
        numbers.filter(|sequence| self.sequences.last().is_none_or(|last| sequence > last)).max()
    }
}

/// A name that is neither is refused, because it may be a segment someone renamed.
pub async fn list<E: Env>(env: &E, dir: &Path) -> Result<Listing, WalError> {
    let names = env.disk().list(dir).await.map_err(|e| WalError::from_io("list", dir, e))?;
    let mut listing = Listing::default();
    for name in names {
        if name.ends_with(UNFINISHED_SUFFIX) {
            listing.unfinished.push(name);
        } else if let Some(sequence) = number(&name, SUFFIX) {
            listing.sequences.push(sequence);
        } else {
            return Err(WalError::Options(format!(
                "{} is no file of the log. Move it elsewhere, then start again",
                dir.join(name).display()
            )));
        }
    }
    listing.sequences.sort_unstable();
    Ok(listing)
}

fn number(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix).filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

pub async fn remove_unfinished<E: Env>(env: &E, dir: &Path, listing: &Listing) -> Result<(), WalError> {
    for name in &listing.unfinished {
        let path = dir.join(name);
        env.disk().remove(&path).await.map_err(|e| WalError::from_io("remove", &path, e))?;
    }
    Ok(())
}

/// Opens an existing segment and checks that it is what its name says.
pub async fn open<E: Env>(
    env: &E,
    options: &WalOptions,
    sequence: u64,
) -> Result<Segment<FileOf<E>>, WalError> {
    let spec = options.spec(sequence, 0);
    open_as(env, &spec).await
}

/// The same with all that is known of the segment; its epoch and size are what its header says.
async fn open_as<E: Env>(env: &E, spec: &SegmentSpec) -> Result<Segment<FileOf<E>>, WalError> {
    let SegmentSpec { shard, owner, sequence, data_sync, .. } = *spec;
    let path = path(&spec.dir, sequence);
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
    if header.owner != owner {
        return Err(WalError::NotOurs { path, found: header.owner, expected: owner });
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
        owner: spec.owner,
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
    open_as(env, spec).await
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
