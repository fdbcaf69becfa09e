//! Which image of a block counts, what of each segment is still needed, and what to merge.
//!
//! Pure. The catalog is only ever changed by segments coming in ascending order and by merged ones
//! leaving, in the same way at the start and after a checkpoint, so what is in memory is what the
//! files say.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{
    Shape,
    format::{ArchivedBlockEntry, ArchivedTable, ArchivedUpdateEntry, SegmentRef, UpdateEntry, padded},
};
use crate::block::{ArchivedBlockId, Block, BlockChange, BlockId};

const BLOCK_ENTRY_BYTES: u64 = size_of::<ArchivedBlockEntry>() as u64;
const UPDATE_ENTRY_BYTES: u64 = size_of::<ArchivedUpdateEntry>() as u64;
const DROP_BYTES: u64 = size_of::<ArchivedBlockId>() as u64;

/// Where a block is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub segment: u64,
    pub offset: u64,
    pub bytes: u32,
    pub meta: Box<[u8]>,
    /// The segment that has the meta.
    pub meta_at: u64,
}

impl Stored {
    fn image_bytes(&self) -> u64 {
        padded(u64::from(self.bytes)) + BLOCK_ENTRY_BYTES
    }

    fn meta_bytes(&self) -> u64 {
        let entry = if self.meta_at == self.segment { 0 } else { UPDATE_ENTRY_BYTES };
        entry + self.meta.len() as u64
    }
}

/// How much of a segment is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub file_bytes: u64,
    pub live_bytes: u64,
    images: u64,
    live_images: u64,
    updates: u64,
    live_updates: u64,
    drops: u64,
}

impl Usage {
    fn garbage(&self) -> u64 {
        self.file_bytes.saturating_sub(self.live_bytes)
    }

    fn is_stale(&self) -> bool {
        self.images > self.live_images || self.updates > self.live_updates || self.drops > 0
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    blocks: BTreeMap<BlockId, Stored>,
    usage: BTreeMap<u64, Usage>,
    /// In how many segments each block has an image, whether it counts or not.
    images: BTreeMap<BlockId, u32>,
    body_bytes: u64,
}

impl Catalog {
    pub fn find(&self, id: BlockId) -> Option<&Stored> {
        self.blocks.get(&id)
    }

    pub fn count(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// Bytes of the bodies that count.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Blocks, and bytes of their bodies, once a layout is written.
    pub fn totals_after(&self, layout: &Layout) -> (u64, u64) {
        let (mut blocks, mut body_bytes) = (self.count(), self.body_bytes);
        let added = layout.images.iter().map(|image| (image.id, 1, image.body_bytes()));
        let dropped = layout.gone.iter().map(|id| (*id, 0, 0));
        for (id, count, bytes) in added.chain(dropped) {
            if let Some(stored) = self.blocks.get(&id) {
                blocks -= 1;
                body_bytes -= u64::from(stored.bytes);
            }
            blocks += count;
            body_bytes += bytes;
        }
        (blocks, body_bytes)
    }

    /// Takes in a segment that is newer than all before.
    pub fn add(&mut self, reference: &SegmentRef, table: &ArchivedTable) {
        let sequence = reference.sequence;
        assert!(self.usage.keys().all(|older| *older < sequence), "segments come in order");
        let usage = Usage {
            file_bytes: reference.bytes,
            images: table.blocks.len() as u64,
            updates: table.updates.len() as u64,
            drops: table.drops.len() as u64,
            ..Usage::default()
        };
        self.usage.insert(sequence, usage);
        for block in table.blocks.iter() {
            let id = BlockId::from(&block.id);
            self.forget(id);
            *self.images.entry(id).or_default() += 1;
            let stored = Stored {
                segment: sequence,
                offset: block.offset.to_native(),
                bytes: block.bytes.to_native(),
                meta: block.meta.as_slice().into(),
                meta_at: sequence,
            };
            self.body_bytes += u64::from(stored.bytes);
            let usage = self.usage_of(sequence);
            usage.live_images += 1;
            usage.live_bytes += stored.image_bytes() + stored.meta_bytes();
            self.blocks.insert(id, stored);
        }
        for update in table.updates.iter() {
            let id = BlockId::from(&update.id);
            // Its image may have moved to a newer segment, or be gone.
            let Some(mut stored) = self.blocks.remove(&id) else { continue };
            self.forget_meta(&stored);
            stored.meta = update.meta.as_slice().into();
            stored.meta_at = sequence;
            let usage = self.usage_of(sequence);
            usage.live_updates += 1;
            usage.live_bytes += stored.meta_bytes();
            self.blocks.insert(id, stored);
        }
        for id in table.drops.iter() {
            self.forget(id.into());
        }
    }

    /// Lets go of a merged segment. What it had and newer ones do not name is gone.
    pub fn remove(&mut self, sequence: u64, table: &ArchivedTable) {
        for block in table.blocks.iter() {
            let id = BlockId::from(&block.id);
            let images = self.images.get_mut(&id).expect("every image is counted");
            *images -= 1;
            if *images == 0 {
                self.images.remove(&id);
            }
            if self.blocks.get(&id).is_some_and(|stored| stored.segment == sequence) {
                self.forget(id);
            }
        }
        let usage = self.usage.remove(&sequence).expect("the segment was added");
        assert_eq!(
            (usage.live_bytes, usage.live_images, usage.live_updates),
            (0, 0, 0),
            "segment {sequence} is needed"
        );
    }

    fn forget(&mut self, id: BlockId) {
        let Some(stored) = self.blocks.remove(&id) else { return };
        self.forget_meta(&stored);
        self.body_bytes -= u64::from(stored.bytes);
        let usage = self.usage_of(stored.segment);
        usage.live_images -= 1;
        usage.live_bytes -= stored.image_bytes();
    }

    fn forget_meta(&mut self, stored: &Stored) {
        let usage = self.usage_of(stored.meta_at);
        usage.live_bytes -= stored.meta_bytes();
        if stored.meta_at != stored.segment {
            usage.live_updates -= 1;
        }
    }

    fn usage_of(&mut self, sequence: u64) -> &mut Usage {
        self.usage.get_mut(&sequence).expect("what is stored names a segment that is there")
    }
}

/// The changes of a checkpoint, one per block.
#[derive(Debug, Default)]
struct Delta {
    writes: BTreeMap<BlockId, (Bytes, Vec<u8>)>,
    metas: BTreeMap<BlockId, Vec<u8>>,
    drops: BTreeSet<BlockId>,
}

impl Delta {
    fn new(changes: Vec<BlockChange>) -> Self {
        let mut delta = Self::default();
        for change in changes {
            match change {
                BlockChange::Write(Block { id, meta, body }) => {
                    delta.metas.remove(&id);
                    delta.drops.remove(&id);
                    delta.writes.insert(id, (body, meta));
                }
                BlockChange::Meta { id, meta } => {
                    assert!(!delta.drops.contains(&id), "{id:?} was dropped before");
                    match delta.writes.get_mut(&id) {
                        Some(write) => write.1 = meta,
                        None => drop(delta.metas.insert(id, meta)),
                    }
                }
                BlockChange::Drop { id } => {
                    delta.writes.remove(&id);
                    delta.metas.remove(&id);
                    delta.drops.insert(id);
                }
            }
        }
        delta
    }

    fn touches(&self, id: BlockId) -> bool {
        self.writes.contains_key(&id) || self.drops.contains(&id)
    }
}

/// A body to write.
#[derive(Clone, Debug)]
pub struct Image {
    pub id: BlockId,
    pub meta: Vec<u8>,
    pub source: Source,
}

#[derive(Clone, Debug)]
pub enum Source {
    New(Bytes),
    /// From a segment that is being merged.
    Carried {
        segment: u64,
        offset: u64,
        bytes: u32,
        checksum: u32,
    },
}

impl Image {
    pub fn body_bytes(&self) -> u64 {
        match &self.source {
            Source::New(body) => body.len() as u64,
            Source::Carried { bytes, .. } => u64::from(*bytes),
        }
    }

    /// What it takes in a segment.
    pub fn bytes(&self) -> u64 {
        padded(self.body_bytes()) + BLOCK_ENTRY_BYTES + self.meta.len() as u64
    }
}

/// What a checkpoint writes.
#[derive(Debug, Default)]
pub struct Layout {
    /// Ascending by block, as the other two.
    pub images: Vec<Image>,
    pub updates: Vec<UpdateEntry>,
    pub drops: Vec<BlockId>,
    /// Every block that the changes drop, whether that has to be written or not.
    pub gone: Vec<BlockId>,
    /// Segments that are not needed after it.
    pub victims: Vec<u64>,
}

impl Catalog {
    /// `table` gives the table of a segment; it is asked for those that are merged.
    pub fn lay_out<'t, E>(
        &self,
        changes: Vec<BlockChange>,
        shape: &Shape,
        compact_all: bool,
        table: impl Fn(u64) -> Result<&'t ArchivedTable, E>,
    ) -> Result<Layout, E> {
        let mut delta = Delta::new(changes);
        delta.metas.retain(|id, meta| {
            let stored = self.blocks.get(id).unwrap_or_else(|| panic!("{id:?} is not stored"));
            *stored.meta != **meta
        });
        let mut victims = Vec::new();
        for sequence in self.victims(&delta, shape, compact_all) {
            victims.push((sequence, table(sequence)?));
        }
        Ok(self.merge(delta, &victims))
    }

    /// Chooses segments to merge: those nothing of which is needed, those with the most garbage until the files are
    /// in bounds, and the smallest ones when there are too many.
    fn victims(&self, delta: &Delta, shape: &Shape, compact_all: bool) -> BTreeSet<u64> {
        let mut usage = self.usage.clone();
        let mut total: u64 = usage.values().map(|usage| usage.file_bytes).sum();
        let added = self.expect_changes(delta, &mut usage);
        total += added;
        let live = added + usage.values().map(|usage| usage.live_bytes).sum::<u64>();
        if compact_all {
            return usage
                .iter()
                .filter(|(_, usage)| usage.is_stale())
                .map(|(sequence, _)| *sequence)
                .collect();
        }
        let mut victims = BTreeSet::new();
        let mut by_garbage: Vec<_> =
            usage.iter().map(|(sequence, usage)| (usage.garbage(), usage.file_bytes, *sequence)).collect();
        // Largest share first: a/b > c/d as a*d > c*b.
        by_garbage
            .sort_by(|a, b| (u128::from(b.0) * u128::from(a.1)).cmp(&(u128::from(a.0) * u128::from(b.1))));
        for (garbage, _, sequence) in by_garbage {
            let unneeded = usage[&sequence].live_bytes == 0 && usage[&sequence].images > 0;
            if garbage > 0 && (unneeded || total > 2 * live + shape.slack_bytes) {
                total -= garbage;
                victims.insert(sequence);
            }
        }

        let mut small: Vec<_> = usage
            .iter()
            .filter(|(sequence, _)| !victims.contains(sequence))
            .filter(|(_, usage)| usage.file_bytes < shape.segment_bytes / 2)
            .map(|(sequence, usage)| (usage.live_bytes, *sequence))
            .collect();
        small.sort_unstable();
        // The one that is about to be written counts.
        let mut count = small.len() + 1;
        if count > shape.small_segments_max {
            let mut carried = 0;
            for (bytes, sequence) in small {
                let cheap = carried + bytes <= shape.carry_bytes && count > shape.small_segments_max / 2;
                if count > shape.small_segments_max || cheap {
                    carried += bytes;
                    count -= 1;
                    victims.insert(sequence);
                }
            }
        }
        victims
    }

    /// Takes what the changes make garbage out of `usage`; gives the bytes they add.
    fn expect_changes(&self, delta: &Delta, usage: &mut BTreeMap<u64, Usage>) -> u64 {
        let mut expect = |sequence: u64, change: &dyn Fn(&mut Usage)| {
            change(usage.get_mut(&sequence).expect("what is stored names a segment that is there"));
        };
        let mut added = 0;
        let unlist = |stored: &Stored, usage: &mut Usage| {
            usage.live_bytes -= stored.meta_bytes();
            usage.live_updates -= u64::from(stored.meta_at != stored.segment);
        };
        for id in delta.writes.keys().chain(&delta.drops) {
            let Some(stored) = self.blocks.get(id) else { continue };
            expect(stored.meta_at, &|usage| unlist(stored, usage));
            expect(stored.segment, &|usage| {
                usage.live_bytes -= stored.image_bytes();
                usage.live_images -= 1;
            });
        }
        for (body, meta) in delta.writes.values() {
            added += padded(body.len() as u64) + BLOCK_ENTRY_BYTES + meta.len() as u64;
        }
        for (id, meta) in &delta.metas {
            let stored = &self.blocks[id];
            expect(stored.meta_at, &|usage| unlist(stored, usage));
            added += UPDATE_ENTRY_BYTES + meta.len() as u64;
        }
        added + delta.drops.len() as u64 * DROP_BYTES
    }

    /// Puts together what is new and what of the victims is still needed.
    fn merge(&self, mut delta: Delta, victims: &[(u64, &ArchivedTable)]) -> Layout {
        let merged: BTreeSet<u64> = victims.iter().map(|(sequence, _)| *sequence).collect();
        let mut images = BTreeMap::new();
        let mut updates = BTreeMap::new();
        let mut unneeded_images: BTreeMap<BlockId, u32> = BTreeMap::new();
        for (sequence, table) in victims {
            for block in table.blocks.iter() {
                let id = BlockId::from(&block.id);
                *unneeded_images.entry(id).or_default() += 1;
                let Some(stored) = self.blocks.get(&id).filter(|stored| stored.segment == *sequence) else {
                    continue;
                };
                if delta.touches(id) {
                    continue;
                }
                let meta = delta.metas.remove(&id).unwrap_or_else(|| stored.meta.to_vec());
                let source = Source::Carried {
                    segment: *sequence,
                    offset: stored.offset,
                    bytes: stored.bytes,
                    checksum: block.checksum.to_native(),
                };
                images.insert(id, Image { id, meta, source });
            }
            for update in table.updates.iter() {
                let id = BlockId::from(&update.id);
                let Some(stored) = self.blocks.get(&id) else { continue };
                let current = stored.meta_at == *sequence && !merged.contains(&stored.segment);
                if current && !delta.touches(id) && !delta.metas.contains_key(&id) {
                    updates.insert(id, stored.meta.to_vec());
                }
            }
        }
        updates.append(&mut delta.metas);

        let older = victims.iter().flat_map(|(_, table)| table.drops.iter().map(BlockId::from));
        let mut drops: BTreeSet<BlockId> = older.filter(|id| !self.blocks.contains_key(id)).collect();
        let gone = delta.drops.iter().copied().collect();
        drops.append(&mut delta.drops);
        drops.retain(|id| {
            let images = self.images.get(id).copied().unwrap_or(0);
            !delta.writes.contains_key(id) && images > unneeded_images.get(id).copied().unwrap_or(0)
        });

        images.extend(
            delta
                .writes
                .into_iter()
                .map(|(id, (body, meta))| (id, Image { id, meta, source: Source::New(body) })),
        );
        Layout {
            images: images.into_values().collect(),
            updates: updates.into_iter().map(|(id, meta)| UpdateEntry { id, meta }).collect(),
            drops: drops.into_iter().collect(),
            gone,
            victims: merged.into_iter().collect(),
        }
    }
}
