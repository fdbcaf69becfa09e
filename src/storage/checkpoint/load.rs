//! Reads the checkpoint when it is opened: verifies everything, notes what no manifest names.
//!
//! Runs once per shard before it serves. First the tables, which tell which image of a chunk counts; then the bodies,
//! segment by segment: each is verified beside the core, while the core takes what the one before it holds.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    path::{Path, PathBuf},
};

use super::{
    CheckpointError, CheckpointOptions, CheckpointStore, MappingOf, Restore, Segment, Summary,
    catalog::Catalog,
    files::{self, Pace},
    format::{self, ArchivedTable, FORMAT_VERSION, Fault, Manifest, SegmentRef},
};
use crate::{
    block::{Block, BlockId},
    env::{Begun, Disk, Env, Mapping},
    types::ShardId,
};

pub async fn open<E: Env>(
    env: E,
    options: CheckpointOptions,
    restore: &mut impl Restore,
) -> Result<(CheckpointStore<E>, Option<Summary>), CheckpointError> {
    let dir = &options.dir;
    let disk = env.disk();
    disk.create_dir(dir).await.map_err(|e| CheckpointError::from_io("create the directory", dir, e))?;
    let names = disk.list(dir).await.map_err(|e| CheckpointError::from_io("list", dir, e))?;
    check_names(dir, &names)?;
    let pace = Pace::new(options.write_bytes_per_second);
    let mut store = CheckpointStore {
        env: env.clone(),
        pace,
        catalog: Catalog::default(),
        segments: BTreeMap::new(),
        retired: Vec::new(),
        generation: 0,
        summary: None,
        manifest_bytes: 0,
        next_sequence: 1,
        last_released: 0,
        release_at: env.now(),
        unfinished: Vec::new(),
        in_doubt: false,
        options,
    };
    let dir = store.options.dir.clone();
    let (path, owner) = (dir.join(files::MANIFEST), store.options.owner);
    let Some(mapping) = map(&env, &path).await? else {
        if let Some(name) = names.iter().find(|name| files::segment_name(name).is_some()) {
            log::error!("{} is there, its manifest is not", dir.join(name).display());
            return Err(CheckpointError::Missing { path });
        }
        // Written at once, so that a missing manifest is never taken for a new directory.
        let manifest =
            Manifest { owner, generation: 0, summary: None, segments: Vec::new(), blocks: 0, body_bytes: 0 };
        store.manifest_bytes = store.write_manifest(&manifest).await?;
        return Ok((store, None));
    };
    let shard = store.options.shard;
    let manifest = Manifest::decode(mapping.bytes(), shard).map_err(|fault| refuse(&path, fault, shard))?;
    if manifest.owner != owner {
        return Err(CheckpointError::NotOurs { path, found: manifest.owner, expected: owner });
    }
    store.manifest_bytes = mapping.bytes().len() as u64;
    store.generation = manifest.generation;
    store.summary.clone_from(&manifest.summary);
    for reference in &manifest.segments {
        let segment = map_segment(&env, &dir, reference).await?;
        let table = table(&segment, shard)?;
        store.catalog.add(reference, table);
        store.next_sequence = reference.sequence + 1;
        store.segments.insert(reference.sequence, segment);
    }
    let whole = store.catalog.count() == manifest.blocks
        && store.catalog.body_bytes() == manifest.body_bytes
        && (manifest.summary.is_some() || manifest.segments.is_empty());
    if !whole {
        let what = "the segments do not give the blocks that the manifest counts";
        return Err(CheckpointError::Corrupt { path, offset: 0, what });
    }
    restore.expect(manifest.body_bytes);
    read(&store.segments, &store.catalog, shard, restore).await?;
    store.unfinished = leftovers(&dir, &names, &manifest);
    Ok((store, manifest.summary))
}

/// Says what a fault of a file means for the operator.
pub fn refuse(path: &Path, fault: Fault, expected: ShardId) -> CheckpointError {
    let path = path.to_path_buf();
    match fault {
        Fault::Corrupt { offset, what } => CheckpointError::Corrupt { path, offset, what },
        Fault::Version(version) => CheckpointError::Version { path, version, supported: FORMAT_VERSION },
        Fault::Shard(found) => CheckpointError::WrongShard { path, found, expected: expected.0 },
    }
}

/// A file of another name may be a segment that somebody renamed.
fn check_names(dir: &Path, names: &[String]) -> Result<(), CheckpointError> {
    let known = |name: &str| {
        name == files::MANIFEST || name == files::MANIFEST_UNFINISHED || files::segment_name(name).is_some()
    };
    match names.iter().find(|name| !known(name)) {
        None => Ok(()),
        Some(name) => Err(CheckpointError::Foreign { path: dir.join(name) }),
    }
}

async fn map<E: Env>(env: &E, path: &Path) -> Result<Option<MappingOf<E>>, CheckpointError> {
    match env.disk().map(path).await {
        Ok(mapping) => Ok(Some(mapping)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(CheckpointError::from_io("map", path, e)),
    }
}

pub async fn map_segment<E: Env>(
    env: &E,
    dir: &Path,
    reference: &SegmentRef,
) -> Result<Segment<E>, CheckpointError> {
    let path = files::segment_path(dir, reference.sequence, reference.epoch);
    match map(env, &path).await? {
        Some(mapping) => Ok(Segment { reference: *reference, path, mapping }),
        None => Err(CheckpointError::Missing { path }),
    }
}

/// Hands over every block that counts, once the segment it lies in is verified.
pub async fn read<E: Env>(
    segments: &BTreeMap<u64, Segment<E>>,
    catalog: &Catalog,
    shard: ShardId,
    restore: &mut impl Restore,
) -> Result<(), CheckpointError> {
    let mut segments = segments.values();
    let mut next = async || match segments.next() {
        Some(segment) => Some((segment, Begun::new(verify(segment, shard)).await)),
        None => None,
    };
    let mut ahead = next().await;
    while let Some((segment, verified)) = ahead {
        verified.finish().await?;
        ahead = next().await;
        for block in table(segment, shard)?.blocks.iter() {
            let id = BlockId::from(&block.id);
            let newest = catalog.find(id).filter(|stored| stored.segment == segment.reference.sequence);
            if let Some(stored) = newest {
                let start = stored.offset as usize;
                let body = segment.mapping.slice(start..start + stored.bytes as usize);
                restore.take(Block { id, meta: stored.meta.to_vec(), body }).map_err(|what| {
                    let (path, offset) = (segment.path.clone(), stored.offset);
                    CheckpointError::Corrupt { path, offset, what }
                })?;
            }
        }
    }
    Ok(())
}

/// The table of a segment, checked.
pub fn table<E: Env>(segment: &Segment<E>, shard: ShardId) -> Result<&ArchivedTable, CheckpointError> {
    format::decode_segment(segment.mapping.bytes(), shard, &segment.reference)
        .map_err(|fault| refuse(&segment.path, fault, shard))
}

/// Has every byte of a segment looked at, beside the core.
pub fn verify<E: Env>(
    segment: &Segment<E>,
    shard: ShardId,
) -> impl Future<Output = Result<(), CheckpointError>> + use<E> {
    let (reference, path) = (segment.reference, segment.path.clone());
    let examined = segment.mapping.examine(move |file| format::check_segment(file, shard, &reference));
    async move {
        let checked = examined.await.map_err(|e| CheckpointError::from_io("read", &path, e))?;
        checked.map_err(|fault| refuse(&path, fault, shard))
    }
}

/// Files of checkpoints that were cut off, and of merged segments that were not swept. They are removed by the next
/// sweep, not at once: until the log was found to fit, an older manifest may have been put back, and these be what the
/// newer one names.
fn leftovers(dir: &Path, names: &[String], manifest: &Manifest) -> Vec<PathBuf> {
    let named = |name| manifest.segments.iter().any(|segment| (segment.sequence, segment.epoch) == name);
    let is_left = |name: &&String| *name != files::MANIFEST && !files::segment_name(name).is_some_and(named);
    names.iter().filter(is_left).map(|name| dir.join(name)).collect()
}
