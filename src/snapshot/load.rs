//! Reads the snapshot when it is opened: verifies everything, removes what no manifest names.
//!
//! Runs once per shard before it serves. What was verified stays resident until
//! [`SnapshotStore::release_pages`]: whoever opens the store looks at it again.

use std::{collections::BTreeMap, io, path::Path};

use futures_lite::future::poll_once;
use futures_util::future::OptionFuture;

use super::{
    Block, Loaded, MappingOf, Segment, SnapshotError, SnapshotOptions, SnapshotStore,
    catalog::Catalog,
    files::{self, Pace},
    format::{self, ArchivedTable, FORMAT_VERSION, Fault, Manifest, SegmentRef},
};
use crate::{
    env::{Disk, Env, Look, Mapping},
    types::ShardId,
};

pub async fn open<E: Env>(
    env: E,
    options: SnapshotOptions,
) -> Result<(SnapshotStore<E>, Option<Loaded>), SnapshotError> {
    let dir = &options.dir;
    let disk = env.disk();
    disk.create_dir(dir).await.map_err(|e| SnapshotError::from_io("create the directory", dir, e))?;
    let names = disk.list(dir).await.map_err(|e| SnapshotError::from_io("list", dir, e))?;
    check_names(dir, &names)?;
    let pace = Pace::new(options.write_bytes_per_second);
    let mut store = SnapshotStore {
        env: env.clone(),
        pace,
        catalog: Catalog::default(),
        segments: BTreeMap::new(),
        retired: Vec::new(),
        generation: 0,
        manifest_bytes: 0,
        next_sequence: 1,
        last_released: 0,
        unfinished: Vec::new(),
        in_doubt: false,
        options,
    };
    let dir = store.options.dir.clone();
    let path = dir.join(files::MANIFEST);
    let Some(mapping) = map(&env, &path).await? else {
        if let Some(name) = names.iter().find(|name| files::segment_sequence(name).is_some()) {
            log::error!("{} is there, its manifest is not", dir.join(name).display());
            return Err(SnapshotError::Missing { path });
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
    let mut ahead = None;
    for (at, reference) in manifest.segments.iter().enumerate() {
        let segment = match ahead.take() {
            Some(segment) => segment,
            None => map_segment(&env, &dir, reference).await?,
        };
        // While one segment is verified the next one is mapped.
        let next = manifest.segments.get(at + 1).map(|next| map_segment(&env, &dir, next));
        let mut next = Box::pin(OptionFuture::from(next));
        let begun = poll_once(&mut next).await;
        load_segment(&mut store, segment)?;
        let mapped = match begun {
            Some(mapped) => mapped,
            None => next.await,
        };
        ahead = mapped.transpose()?;
    }
    let whole = store.catalog.count() == manifest.chunks
        && store.catalog.body_bytes() == manifest.body_bytes
        && (manifest.facts.is_some() || manifest.segments.is_empty());
    if !whole {
        let what = "the segments do not give the chunks that the manifest counts";
        return Err(SnapshotError::Corrupt { path, offset: 0, what });
    }
    remove_leftovers(&env, &dir, &names, &manifest).await?;
    let loaded = manifest.facts.map(|facts| Loaded { facts, blocks: blocks(&store) });
    Ok((store, loaded))
}

/// Says what a fault of a file means for the operator.
pub fn refuse(path: &Path, fault: Fault, expected: ShardId) -> SnapshotError {
    let path = path.to_path_buf();
    match fault {
        Fault::Corrupt { offset, what } => SnapshotError::Corrupt { path, offset, what },
        Fault::Version(version) => SnapshotError::Version { path, version, supported: FORMAT_VERSION },
        Fault::Shard(found) => SnapshotError::WrongShard { path, found, expected: expected.0 },
    }
}

/// A file of another name may be a segment that somebody renamed.
fn check_names(dir: &Path, names: &[String]) -> Result<(), SnapshotError> {
    let known = |name: &str| {
        name == files::MANIFEST
            || name == files::MANIFEST_UNFINISHED
            || files::segment_sequence(name).is_some()
    };
    match names.iter().find(|name| !known(name)) {
        None => Ok(()),
        Some(name) => Err(SnapshotError::Foreign { path: dir.join(name) }),
    }
}

async fn map<E: Env>(env: &E, path: &Path) -> Result<Option<MappingOf<E>>, SnapshotError> {
    match env.disk().map(path, Look::AtAll).await {
        Ok(mapping) => Ok(Some(mapping)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(SnapshotError::from_io("map", path, e)),
    }
}

async fn map_segment<E: Env>(
    env: &E,
    dir: &Path,
    reference: &SegmentRef,
) -> Result<Segment<E>, SnapshotError> {
    let path = files::segment_path(dir, reference.sequence);
    match map(env, &path).await? {
        Some(mapping) => Ok(Segment { reference: *reference, path, mapping }),
        None => Err(SnapshotError::Missing { path }),
    }
}

fn load_segment<E: Env>(store: &mut SnapshotStore<E>, segment: Segment<E>) -> Result<(), SnapshotError> {
    let table = store.table(&segment)?;
    verify(&segment, table)?;
    store.catalog.add(&segment.reference, table);
    store.next_sequence = segment.reference.sequence + 1;
    store.segments.insert(segment.reference.sequence, segment);
    Ok(())
}

/// Reads every body once, those that no longer count too: a disk that damages files is not to be trusted.
fn verify<E: Env>(segment: &Segment<E>, table: &ArchivedTable) -> Result<(), SnapshotError> {
    let file = segment.mapping.bytes();
    let salt = format::salt(segment.reference.sequence, segment.reference.epoch);
    for block in table.blocks.iter() {
        let (offset, bytes) = (block.offset.to_native(), block.bytes.to_native());
        if !format::check_body(file, offset, bytes, block.checksum.to_native(), salt) {
            let what = "the checksum of a chunk does not match";
            return Err(SnapshotError::Corrupt { path: segment.path.clone(), offset, what });
        }
    }
    Ok(())
}

/// Files of checkpoints that were cut off, and of merged segments that were not swept.
async fn remove_leftovers<E: Env>(
    env: &E,
    dir: &Path,
    names: &[String],
    manifest: &Manifest,
) -> Result<(), SnapshotError> {
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

fn blocks<E: Env>(store: &SnapshotStore<E>) -> Vec<Block> {
    let block = |(chunk, place): (u64, &super::catalog::Place)| {
        let start = place.offset as usize;
        let body = store.segments[&place.segment].mapping.slice(start..start + place.bytes as usize);
        Block { chunk, base: place.base, body, dead: place.dead.to_vec() }
    };
    store.catalog.chunks().map(block).collect()
}
