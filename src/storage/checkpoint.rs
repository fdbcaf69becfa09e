//! A shard's replicated state on disk: blocks in segments, and a manifest that says which segments count.
//!
//! Owned by one shard on one core. A checkpoint writes what changed into new segments, together with
//! what is still needed of old ones that hold mostly garbage, and then replaces the manifest. Segments
//! are never changed: bodies are read where they lie, through a mapping, for as long as somebody holds
//! them.
//!
//! Invariants:
//! - the manifest on disk always names whole, durable segments; what it says is the last checkpoint
//!   whose write succeeded, or one whose success could not be seen
//! - a damaged or missing file refuses the start: the log behind it is gone, so nothing can be skipped
//! - files take at most twice the live bytes and a constant; the number of segments is bounded
//! - a file is truncated only after the last reference into its mapping is gone
//!
//! A finished checkpoint can be [held](CheckpointStore::hold) while newer ones are made, read by another member, and
//! [put in place](CheckpointStore::install) of all that one had.
//!
//! It does not know what is in a block, decides nothing about when to write, and has no index: what a space needs, it
//! rebuilds from its blocks.

mod catalog;
pub mod error;
mod files;
pub mod format;
mod load;
mod summary;
#[cfg(test)]
mod tests;
mod transfer;

use std::{collections::BTreeMap, path::PathBuf};

use bytes::Bytes;
use prometheus::{Histogram, HistogramOpts};

use self::{
    catalog::{Catalog, Image, Layout, Source},
    files::{Pace, Writer},
    format::{ArchivedTable, BlockEntry, HEADER_BYTES, Manifest, SegmentRef, TRAILER_BYTES, Table, padded},
};
pub use self::{
    error::CheckpointError,
    summary::{Checkpoint, Restore, Saved, Summary},
    transfer::{Export, HeldCheckpoint, Piece, Received},
};
use crate::{
    block::{BlockChange, BlockId},
    env::{Disk, Env, Instant, Mapping, remove_in_steps},
    limits,
    types::{Owner, ShardId},
};

#[derive(Clone, Debug)]
pub struct CheckpointOptions {
    /// Holds nothing but this shard's checkpoint; locked by the caller, created if it is missing.
    pub dir: PathBuf,
    pub shard: ShardId,
    /// Whose checkpoint this is.
    pub owner: Owner,
    /// `--snapshot-write-mbps`; 0 is as fast as possible.
    pub write_bytes_per_second: u64,
    pub metrics: CheckpointMetrics,
    pub shape: Shape,
}

impl CheckpointOptions {
    /// The defaults, without a limit of speed and with metrics nobody reads.
    pub fn new(dir: PathBuf, shard: ShardId) -> Self {
        Self {
            dir,
            shard,
            owner: Owner::default(),
            write_bytes_per_second: 0,
            metrics: CheckpointMetrics::unregistered(),
            shape: Shape::default(),
        }
    }
}

/// When segments are closed and merged. Tests make everything small.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub segment_bytes: u64,
    pub slack_bytes: u64,
    pub small_segments_max: usize,
    pub carry_bytes: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            segment_bytes: limits::CHECKPOINT_SEGMENT_BYTES,
            slack_bytes: limits::CHECKPOINT_SLACK_BYTES,
            small_segments_max: limits::CHECKPOINT_SMALL_SEGMENTS_MAX,
            carry_bytes: limits::CHECKPOINT_CARRY_BYTES,
        }
    }
}

#[derive(Clone, Debug)]
pub struct CheckpointMetrics {
    /// One durable step of a checkpoint: about a MiB, written and synced; pauses not counted.
    pub commit_seconds: Histogram,
}

impl CheckpointMetrics {
    pub fn unregistered() -> Self {
        let opts = HistogramOpts::new("snapshot_commit_seconds", "snapshot_commit_seconds");
        Self { commit_seconds: Histogram::with_opts(opts).expect("the name is valid") }
    }
}

type MappingOf<E> = <<E as Env>::Disk as Disk>::Mapping;

struct Segment<E: Env> {
    reference: SegmentRef,
    path: PathBuf,
    mapping: MappingOf<E>,
}

/// A segment no manifest names any more.
struct Retired<E: Env> {
    path: PathBuf,
    bytes: u64,
    /// None once it is known that nobody reads it.
    mapping: Option<MappingOf<E>>,
}

/// The checkpoint of one shard.
pub struct CheckpointStore<E: Env> {
    env: E,
    options: CheckpointOptions,
    pace: Pace,
    catalog: Catalog,
    segments: BTreeMap<u64, Segment<E>>,
    retired: Vec<Retired<E>>,
    generation: u64,
    /// Of the newest checkpoint.
    summary: Option<Summary>,
    manifest_bytes: u64,
    next_sequence: u64,
    /// The segment whose pages were given back last.
    last_released: u64,
    /// When the next one's turn is.
    release_at: Instant,
    /// Files of writes that did not come to their end, and what else no manifest names.
    unfinished: Vec<PathBuf>,
    /// Whether a manifest that names them may have become durable.
    in_doubt: bool,
}

impl<E: Env> CheckpointStore<E> {
    /// Opens the checkpoint, or creates it in an empty directory. `restore` gets the state of the last checkpoint, whose
    /// summary is returned; there are none before the first one. Every byte is verified. Belongs to start-up: the core
    /// does not serve meanwhile. What was verified stays resident until [`CheckpointStore::release`].
    pub async fn open(
        env: E,
        options: CheckpointOptions,
        restore: &mut impl Restore,
    ) -> Result<(Self, Option<Summary>), CheckpointError> {
        load::open(env, options, restore).await
    }

    /// Writes one checkpoint to its end: segments, merge of old ones, manifest. All changes since the
    /// last success must be in it. `compact_all` rewrites every segment with anything unneeded in it.
    ///
    /// May be awaited while the core serves. After an error, and when the future was dropped, the last
    /// checkpoint counts, and a later write with all changes since then is fine.
    pub async fn write(
        &mut self,
        checkpoint: Checkpoint,
        compact_all: bool,
    ) -> Result<Saved, CheckpointError> {
        self.discard_unfinished().await?;
        let layout = self.lay_out(checkpoint.changes, compact_all)?;
        let summary = checkpoint.summary.clone();
        let written = match self.write_all(&layout, checkpoint.summary).await {
            Ok(written) => written,
            Err(error) => {
                // What is left stays on the list and is removed by the next write.
                match self.discard_unfinished().await {
                    Ok(()) => {}
                    Err(second) => log::warn!("after a failed checkpoint: {second}"),
                }
                return Err(error);
            }
        };
        self.summary = Some(summary);
        Ok(self.adopt(layout, written))
    }

    /// Removes files nobody refers to any more, bit by bit. Call it after the references into merged
    /// segments were replaced by those of [`Saved::placed`]; what is still held stays for the next call.
    pub async fn sweep(&mut self) -> Result<(), CheckpointError> {
        self.discard_unfinished().await?;
        let mut at = 0;
        while let Some(retired) = self.retired.get_mut(at) {
            if retired.mapping.as_ref().is_some_and(|mapping| !mapping.is_unique()) {
                at += 1;
                continue;
            }
            // Unmapped before the file shrinks.
            if let Some(mapping) = retired.mapping.take() {
                mapping.unmap().await;
            }
            remove_in_steps(&self.env, &retired.path, || false).await?;
            self.retired.swap_remove(at);
        }
        Ok(())
    }

    /// Bytes of all files: the manifest, the segments it names, and old ones not yet swept.
    pub fn bytes_on_disk(&self) -> u64 {
        let segments = self.segments.values().map(|segment| segment.reference.bytes);
        let retired = self.retired.iter().map(|retired| retired.bytes);
        self.manifest_bytes + segments.sum::<u64>() + retired.sum::<u64>()
    }

    /// Whether it is time for [`CheckpointStore::release`].
    pub fn release_is_due(&self) -> bool {
        self.env.now() >= self.release_at && !self.segments.is_empty()
    }

    /// Takes mapped pages out of the resident set: those of one segment, all in turn, each once in a while. So what
    /// a start and reads bring in is bounded, and for the rest the page cache's business.
    pub async fn release(&mut self) -> Result<(), CheckpointError> {
        let later = self.segments.range(self.last_released + 1..).next();
        let Some((sequence, segment)) = later.or_else(|| self.segments.first_key_value()) else {
            return Ok(());
        };
        self.last_released = *sequence;
        let pause = limits::CHECKPOINT_RELEASE_ROUND / self.segments.len() as u32;
        self.release_at = Instant(self.env.now().0 + pause.as_nanos() as u64);
        release(segment).await
    }

    async fn discard_unfinished(&mut self) -> Result<(), CheckpointError> {
        if self.in_doubt {
            return Ok(());
        }
        while let Some(path) = self.unfinished.last() {
            remove_in_steps(&self.env, path, || false).await?;
            self.unfinished.pop();
        }
        Ok(())
    }

    fn lay_out(&self, changes: Vec<BlockChange>, compact_all: bool) -> Result<Layout, CheckpointError> {
        self.catalog.lay_out(changes, &self.options.shape, compact_all, |sequence| {
            self.table(&self.segments[&sequence])
        })
    }

    fn table<'a>(&self, segment: &'a Segment<E>) -> Result<&'a ArchivedTable, CheckpointError> {
        load::table(segment, self.options.shard)
    }

    /// Everything up to and with the switch of the manifest.
    async fn write_all(&mut self, layout: &Layout, summary: Summary) -> Result<Written<E>, CheckpointError> {
        let mut written = Written { segments: Vec::new(), manifest_bytes: 0, body_bytes: 0 };
        for group in self.groups(layout) {
            let segment = self.write_segment(group).await?;
            written.segments.push(segment);
        }
        if !written.segments.is_empty() {
            files::sync_dir(&self.env, &self.options.dir).await?;
        }
        let kept = self.segments.values().filter(|s| !layout.victims.contains(&s.reference.sequence));
        let segments = kept.chain(&written.segments).map(|segment| segment.reference).collect();
        let (blocks, body_bytes) = self.catalog.totals_after(layout);
        let generation = self.generation + 1;
        let (owner, summary) = (self.options.owner, Some(summary));
        let manifest = Manifest { owner, generation, summary, segments, blocks, body_bytes };
        written.manifest_bytes = self.write_manifest(&manifest).await?;
        written.body_bytes = body_bytes;
        Ok(written)
    }

    /// Cuts a layout into segments.
    fn groups<'p>(&self, layout: &'p Layout) -> Vec<Group<'p>> {
        let mut groups = Vec::new();
        let mut rest = &layout.images[..];
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|image| {
                bytes += image.bytes();
                bytes <= self.options.shape.segment_bytes
            });
            let (images, after) = rest.split_at(fits.count().max(1));
            groups.push(Group { images, updates: &[], drops: &[] });
            rest = after;
        }
        if !layout.updates.is_empty() || !layout.drops.is_empty() {
            if groups.is_empty() {
                groups.push(Group { images: &[], updates: &[], drops: &[] });
            }
            let last = groups.last_mut().expect("there is one");
            (last.updates, last.drops) = (&layout.updates, &layout.drops);
        }
        groups
    }

    async fn write_segment(&mut self, group: Group<'_>) -> Result<Segment<E>, CheckpointError> {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let epoch = self.env.random_u64();
        let path = files::segment_path(&self.options.dir, sequence, epoch);
        self.unfinished.push(path.clone());
        let metrics = &self.options.metrics;
        let mut writer = Writer::create(&self.env, path.clone(), &self.pace, &metrics.commit_seconds).await?;

        let mut table = group.table();
        let table_offset = table
            .blocks
            .last()
            .map_or(HEADER_BYTES as u64, |last| last.offset + padded(u64::from(last.bytes)));
        let table_bytes = format::encode_table(&table).len();
        let file_bytes =
            (table_offset + (table_bytes + TRAILER_BYTES) as u64).next_multiple_of(writer.unit() as u64);
        writer.allocate(file_bytes).await?;

        writer.append(&format::encode_header(self.options.shard, sequence, epoch)).await?;
        let salt = format::salt(sequence, epoch);
        let mut warm = Warm::default();
        for (image, entry) in group.images.iter().zip(&mut table.blocks) {
            let body = match &image.source {
                Source::New(body) => body.clone(),
                Source::Carried { .. } => self.carried(&image.source, &mut warm).await?,
            };
            let padding =
                &[0; format::BODY_ALIGN as usize][..(padded(body.len() as u64) - body.len() as u64) as usize];
            entry.checksum = crc32c::crc32c_append(crc32c::crc32c_append(salt, &body), padding);
            writer.append(&body).await?;
            writer.append(padding).await?;
        }
        let encoded = format::encode_table(&table);
        assert_eq!(encoded.len(), table_bytes, "checksums do not change the table's length");
        let (end, table_checksum) = format::encode_end(&encoded, table_offset, file_bytes, sequence, epoch);
        writer.append(&end).await?;
        writer.finish().await?;

        let reference = SegmentRef { sequence, epoch, bytes: file_bytes, table_checksum };
        let mapping =
            self.env.disk().map(&path).await.map_err(|e| CheckpointError::from_io("map", &path, e))?;
        let segment = Segment { reference, path, mapping };
        self.table(&segment)?;
        release(&segment).await?;
        Ok(segment)
    }

    /// A body from a segment that is being merged, verified.
    async fn carried(&self, source: &Source, warm: &mut Warm) -> Result<Bytes, CheckpointError> {
        let Source::Carried { segment, offset, bytes, checksum } = *source else {
            unreachable!("only called for what is carried")
        };
        let segment = &self.segments[&segment];
        let end = offset + u64::from(bytes);
        let until = warm.0.entry(segment.reference.sequence).or_default();
        if *until < end {
            let step = limits::CHECKPOINT_PREFETCH_BYTES.max(u64::from(bytes));
            files::prefetch(&self.env, &segment.path, offset, step).await?;
            *until = offset + step;
        }
        let file = segment.mapping.bytes();
        let salt = format::salt(segment.reference.sequence, segment.reference.epoch);
        if !format::check_body(file, offset, bytes, checksum, salt) {
            let what = "the checksum of a block does not match any more";
            return Err(CheckpointError::Corrupt { path: segment.path.clone(), offset, what });
        }
        Ok(segment.mapping.slice(offset as usize..end as usize))
    }

    /// Replaces the manifest. After an error nobody knows which one a restart finds.
    async fn write_manifest(&mut self, manifest: &Manifest) -> Result<u64, CheckpointError> {
        let dir = &self.options.dir;
        let unfinished = dir.join(files::MANIFEST_UNFINISHED);
        files::remove(&self.env, &unfinished).await?;
        let metrics = &self.options.metrics;
        let mut writer =
            Writer::create(&self.env, unfinished.clone(), &self.pace, &metrics.commit_seconds).await?;
        let bytes = manifest.encode(self.options.shard, writer.unit());
        writer.append(&bytes).await?;
        writer.finish().await?;
        self.in_doubt = true;
        let disk = self.env.disk();
        let path = dir.join(files::MANIFEST);
        disk.rename(&unfinished, &path)
            .await
            .map_err(|e| CheckpointError::from_io("rename", &unfinished, e))?;
        files::sync_dir(&self.env, dir).await?;
        self.in_doubt = false;
        Ok(bytes.len() as u64)
    }

    /// The new manifest is durable: memory follows.
    fn adopt(&mut self, layout: Layout, written: Written<E>) -> Saved {
        self.generation += 1;
        self.manifest_bytes = written.manifest_bytes;
        let mut placed = Vec::with_capacity(layout.images.len());
        let mut written_bytes = written.manifest_bytes;
        for segment in written.segments {
            let table = self.table(&segment).expect("it was read before the manifest named it");
            self.catalog.add(&segment.reference, table);
            placed.extend(table.blocks.iter().map(|block| {
                let start = block.offset.to_native() as usize;
                let body = segment.mapping.slice(start..start + block.bytes.to_native() as usize);
                (BlockId::from(&block.id), body)
            }));
            written_bytes += segment.reference.bytes;
            self.unfinished.retain(|path| *path != segment.path);
            self.segments.insert(segment.reference.sequence, segment);
        }
        for sequence in &layout.victims {
            let segment = self.segments.remove(sequence).expect("a victim is there");
            let table = self.table(&segment).expect("it was read when it was chosen");
            self.catalog.remove(*sequence, table);
            let Segment { reference, path, mapping } = segment;
            self.retired.push(Retired { path, bytes: reference.bytes, mapping: Some(mapping) });
        }
        assert_eq!(self.catalog.body_bytes(), written.body_bytes, "memory agrees with the manifest");
        let carried = layout.images.iter().filter(|image| matches!(image.source, Source::Carried { .. }));
        Saved {
            placed,
            bytes_on_disk: self.bytes_on_disk(),
            written_bytes,
            carried_bytes: carried.map(Image::body_bytes).sum(),
        }
    }
}

async fn release<E: Env>(segment: &Segment<E>) -> Result<(), CheckpointError> {
    let released = segment.mapping.release().await;
    released.map_err(|e| CheckpointError::from_io("release the pages of", &segment.path, e))
}

/// What a checkpoint put on disk.
struct Written<E: Env> {
    segments: Vec<Segment<E>>,
    manifest_bytes: u64,
    body_bytes: u64,
}

/// Up to where the segments that are being merged were brought into memory.
#[derive(Default)]
struct Warm(BTreeMap<u64, u64>);

/// What goes into one segment.
#[derive(Clone, Copy)]
struct Group<'p> {
    images: &'p [Image],
    updates: &'p [format::UpdateEntry],
    drops: &'p [BlockId],
}

impl Group<'_> {
    /// The table without checksums.
    fn table(&self) -> Table {
        let mut offset = HEADER_BYTES as u64;
        let blocks = self.images.iter().map(|image| {
            let entry = BlockEntry {
                id: image.id,
                offset,
                bytes: u32::try_from(image.body_bytes()).expect("a block is far below 4 GiB"),
                checksum: 0,
                meta: image.meta.clone(),
            };
            offset += padded(image.body_bytes());
            entry
        });
        Table { blocks: blocks.collect(), updates: self.updates.to_vec(), drops: self.drops.to_vec() }
    }
}
