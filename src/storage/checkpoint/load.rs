//! Reads the snapshot when it is opened: verifies everything, removes what no manifest names.
//!
//! Runs once per shard before it serves. First the tables, which tell which image of a chunk counts; then the bodies,
//! segment by segment: each is verified beside the core, while the core takes what the one before it holds.

use std::{collections::BTreeMap, future::Future, io, path::Path};

use super::{
    Block, CheckpointError, CheckpointOptions, CheckpointStore, Facts, MappingOf, Restore, Segment,
    catalog::Catalog,
    files::{self, Pace},
    format::{self, FORMAT_VERSION, Fault, Manifest, SegmentRef},
};
use crate::{
    env::{Begun, Disk, Env, Mapping},
    types::ShardId,
};

pub async fn open<E: Env>(
    env: E,
    options: CheckpointOptions,
    restore: &mut impl Restore,
) -> Result<(CheckpointStore<E>, Option<Facts>), CheckpointError> {
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
        manifest_bytes: 0,
        next_sequence: 1,
        last_released: 0,
        release_at: env.now(),
        unfinished: Vec::new(),
        in_doubt: false,
        options,
    };
    let dir = store.options.dir.clone();
    let path = dir.join(files::MANIFEST);
    let Some(mapping) = map(&env, &path).await? else {
        if let Some(name) = names.iter().find(|name| files::segment_sequence(name).is_some()) {
            log::error!("{} is there, its manifest is not", dir.join(name).display());
            return Err(CheckpointError::Missing { path });
        }
        // Written at once, so that a missing manifest is never taken for a new directory.
        let manifest =
            Manifest { generation: 0, facts: None, segments: Vec::new(), chunks: 0, body_bytes: 0 };
        store.manifest_bytes = store.write_manifest(&manifest).await?;
        return Ok((store, None));
    };
    let shard = store.options.shard;
    let manifest = Manifest::decode(mapping.bytes(), shard).map_err(|fault| refuse(&path, fault, shard))?;
    store.manifest_bytes = mapping.bytes().len() as u64;
    store.generation = manifest.generation;
    for reference in &manifest.segments {
        let segment = map_segment(&env, &dir, reference).await?;
        let table = store.table(&segment)?;
        store.catalog.add(reference, table);
        store.next_sequence = reference.sequence + 1;
        store.segments.insert(reference.sequence, segment);
    }
    let whole = store.catalog.count() == manifest.chunks
        && store.catalog.body_bytes() == manifest.body_bytes
        && (manifest.facts.is_some() || manifest.segments.is_empty());
    if !whole {
        let what = "the segments do not give the chunks that the manifest counts";
        return Err(CheckpointError::Corrupt { path, offset: 0, what });
    }
    restore.expect(manifest.body_bytes);
    read(&store, restore).await?;
    remove_leftovers(&env, &dir, &names, &manifest).await?;
    Ok((store, manifest.facts))
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
        name == files::MANIFEST
            || name == files::MANIFEST_UNFINISHED
            || files::segment_sequence(name).is_some()
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

async fn map_segment<E: Env>(
    env: &E,
    dir: &Path,
    reference: &SegmentRef,
) -> Result<Segment<E>, CheckpointError> {
    let path = files::segment_path(dir, reference.sequence);
    match map(env, &path).await? {
        Some(mapping) => Ok(Segment { reference: *reference, path, mapping }),
        None => Err(CheckpointError::Missing { path }),
    }
}

/// Hands over every chunk that counts, once the segment it lies in is verified.
async fn read<E: Env>(store: &CheckpointStore<E>, restore: &mut impl Restore) -> Result<(), CheckpointError> {
    let shard = store.options.shard;
    let mut segments = store.segments.values();
    let mut next = async || match segments.next() {
        Some(segment) => Some((segment, Begun::new(verify(segment, shard)).await)),
        None => None,
    };
    let mut ahead = next().await;
    while let Some((segment, verified)) = ahead {
        verified.finish().await?;
        ahead = next().await;
        for block in store.table(segment)?.blocks.iter() {
            let chunk = block.chunk.to_native();
            let newest =
                store.catalog.place(chunk).filter(|place| place.segment == segment.reference.sequence);
            if let Some(place) = newest {
                let start = place.offset as usize;
                let body = segment.mapping.slice(start..start + place.bytes as usize);
                restore.take(Block { chunk, base: place.base, body, dead: place.dead.to_vec() });
            }
        }
    }
    Ok(())
}

/// Has every byte of a segment looked at, beside the core.
fn verify<E: Env>(
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

/// Files of checkpoints that were cut off, and of merged segments that were not swept.
async fn remove_leftovers<E: Env>(
    env: &E,
    dir: &Path,
    names: &[String],
    manifest: &Manifest,
) -> Result<(), CheckpointError> {
    let mut removed = false;
    for name in names {
        let named = |sequence| manifest.segments.iter().any(|segment| segment.sequence == sequence);
        if name != files::MANIFEST && !files::segment_sequence(name).is_some_and(named) {
            files::remove(env, &dir.join(name)).await?;
            removed = true;
        }
    }
    if removed { files::sync_dir(env, dir).await } else { Ok(()) }
}
