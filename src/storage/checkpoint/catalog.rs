//! Which image of a chunk counts, what of each segment is still needed, and what to merge.
//!
//! Pure. The catalog is only ever changed by segments coming in ascending order and by merged ones
//! leaving, in the same way at the start and after a checkpoint, so what is in memory is what the
//! files say.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{
    Shape,
    facts::Change,
    format::{ArchivedBlockEntry, ArchivedTable, ArchivedUpdateEntry, SegmentRef, UpdateEntry, padded},
};

const BLOCK_ENTRY_BYTES: u64 = size_of::<ArchivedBlockEntry>() as u64;
const UPDATE_ENTRY_BYTES: u64 = size_of::<ArchivedUpdateEntry>() as u64;
const DROP_BYTES: u64 = size_of::<u64>() as u64;

/// Where a chunk is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub segment: u64,
    pub base: i64,
    pub offset: u64,
    pub bytes: u32,
    pub dead: Box<[u16]>,
    /// The segment that has the list of dead records.
    pub dead_at: u64,
}

impl Place {
    fn image_bytes(&self) -> u64 {
        padded(u64::from(self.bytes)) + BLOCK_ENTRY_BYTES
    }

    fn dead_bytes(&self) -> u64 {
        let entry = if self.dead_at == self.segment { 0 } else { UPDATE_ENTRY_BYTES };
        entry + dead_list_bytes(&self.dead)
    }
}

fn dead_list_bytes(dead: &[u16]) -> u64 {
    size_of_val(dead) as u64
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
    chunks: BTreeMap<u64, Place>,
    usage: BTreeMap<u64, Usage>,
    /// In how many segments each chunk has an image, whether it counts or not.
    images: BTreeMap<u64, u32>,
    body_bytes: u64,
}

impl Catalog {
    pub fn place(&self, chunk: u64) -> Option<&Place> {
        self.chunks.get(&chunk)
    }

    pub fn count(&self) -> u64 {
        self.chunks.len() as u64
    }

    /// Bytes of the bodies that count.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Chunks, and bytes of their bodies, once a plan is carried out.
    pub fn totals_after(&self, plan: &Plan) -> (u64, u64) {
        let (mut chunks, mut body_bytes) = (self.count(), self.body_bytes);
        let added = plan.blocks.iter().map(|block| (block.chunk, 1, block.body_bytes()));
        let dropped = plan.gone.iter().map(|chunk| (*chunk, 0, 0));
        for (chunk, count, bytes) in added.chain(dropped) {
            if let Some(place) = self.chunks.get(&chunk) {
                chunks -= 1;
                body_bytes -= u64::from(place.bytes);
            }
            chunks += count;
            body_bytes += bytes;
        }
        (chunks, body_bytes)
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
            let chunk = block.chunk.to_native();
            self.forget(chunk);
            *self.images.entry(chunk).or_default() += 1;
            let place = Place {
                segment: sequence,
                base: block.base.to_native(),
                offset: block.offset.to_native(),
                bytes: block.bytes.to_native(),
                dead: block.dead.iter().map(|offset| offset.to_native()).collect(),
                dead_at: sequence,
            };
            self.body_bytes += u64::from(place.bytes);
            let usage = self.usage_of(sequence);
            usage.live_images += 1;
            usage.live_bytes += place.image_bytes() + place.dead_bytes();
            self.chunks.insert(chunk, place);
        }
        for update in table.updates.iter() {
            let chunk = update.chunk.to_native();
            // Its image may have moved to a newer segment, or be gone.
            let Some(mut place) = self.chunks.remove(&chunk) else { continue };
            self.forget_dead(&place);
            place.dead = update.dead.iter().map(|offset| offset.to_native()).collect();
            place.dead_at = sequence;
            let usage = self.usage_of(sequence);
            usage.live_updates += 1;
            usage.live_bytes += place.dead_bytes();
            self.chunks.insert(chunk, place);
        }
        for chunk in table.drops.iter() {
            self.forget(chunk.to_native());
        }
    }

    /// Lets go of a merged segment. What it had and newer ones do not name is gone.
    pub fn remove(&mut self, sequence: u64, table: &ArchivedTable) {
        for block in table.blocks.iter() {
            let chunk = block.chunk.to_native();
            let images = self.images.get_mut(&chunk).expect("every image is counted");
            *images -= 1;
            if *images == 0 {
                self.images.remove(&chunk);
            }
            if self.chunks.get(&chunk).is_some_and(|place| place.segment == sequence) {
                self.forget(chunk);
            }
        }
        let usage = self.usage.remove(&sequence).expect("the segment was added");
        assert_eq!(
            (usage.live_bytes, usage.live_images, usage.live_updates),
            (0, 0, 0),
            "segment {sequence} is needed"
        );
    }

    fn forget(&mut self, chunk: u64) {
        let Some(place) = self.chunks.remove(&chunk) else { return };
        self.forget_dead(&place);
        self.body_bytes -= u64::from(place.bytes);
        let usage = self.usage_of(place.segment);
        usage.live_images -= 1;
        usage.live_bytes -= place.image_bytes();
    }

    fn forget_dead(&mut self, place: &Place) {
        let usage = self.usage_of(place.dead_at);
        usage.live_bytes -= place.dead_bytes();
        if place.dead_at != place.segment {
            usage.live_updates -= 1;
        }
    }

    fn usage_of(&mut self, sequence: u64) -> &mut Usage {
        self.usage.get_mut(&sequence).expect("a place names a segment that is there")
    }
}

/// The changes of a checkpoint, one per chunk.
#[derive(Debug, Default)]
struct Delta {
    writes: BTreeMap<u64, (i64, Bytes, Vec<u16>)>,
    dead: BTreeMap<u64, Vec<u16>>,
    drops: BTreeSet<u64>,
}

impl Delta {
    fn new(changes: Vec<Change>) -> Self {
        let mut delta = Self::default();
        for change in changes {
            match change {
                Change::Write { chunk, base, body, dead } => {
                    delta.dead.remove(&chunk);
                    delta.drops.remove(&chunk);
                    delta.writes.insert(chunk, (base, body, sorted(dead)));
                }
                Change::Dead { chunk, dead } => {
                    assert!(!delta.drops.contains(&chunk), "chunk {chunk} was dropped before");
                    let dead = sorted(dead);
                    match delta.writes.get_mut(&chunk) {
                        Some(write) => write.2 = dead,
                        None => drop(delta.dead.insert(chunk, dead)),
                    }
                }
                Change::Drop { chunk } => {
                    delta.writes.remove(&chunk);
                    delta.dead.remove(&chunk);
                    delta.drops.insert(chunk);
                }
            }
        }
        delta
    }

    fn touches(&self, chunk: u64) -> bool {
        self.writes.contains_key(&chunk) || self.drops.contains(&chunk)
    }
}

fn sorted(mut dead: Vec<u16>) -> Vec<u16> {
    dead.sort_unstable();
    assert!(dead.is_sorted_by(|a, b| a < b), "a record dies once");
    dead
}

/// A body to write.
#[derive(Clone, Debug)]
pub struct Planned {
    pub chunk: u64,
    pub base: i64,
    pub dead: Vec<u16>,
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

impl Planned {
    pub fn body_bytes(&self) -> u64 {
        match &self.source {
            Source::New(body) => body.len() as u64,
            Source::Carried { bytes, .. } => u64::from(*bytes),
        }
    }

    /// What it takes in a segment.
    pub fn image_bytes(&self) -> u64 {
        padded(self.body_bytes()) + BLOCK_ENTRY_BYTES + dead_list_bytes(&self.dead)
    }
}

/// What a checkpoint writes.
#[derive(Debug, Default)]
pub struct Plan {
    /// Ascending by chunk, as the other two.
    pub blocks: Vec<Planned>,
    pub updates: Vec<UpdateEntry>,
    pub drops: Vec<u64>,
    /// Every chunk that the changes drop, whether that has to be written or not.
    pub gone: Vec<u64>,
    /// Segments that are not needed after it.
    pub victims: Vec<u64>,
}

impl Catalog {
    /// `table` gives the table of a segment; it is asked for those that are merged.
    pub fn plan<'t, E>(
        &self,
        changes: Vec<Change>,
        shape: &Shape,
        compact_all: bool,
        table: impl Fn(u64) -> Result<&'t ArchivedTable, E>,
    ) -> Result<Plan, E> {
        let mut delta = Delta::new(changes);
        delta.dead.retain(|chunk, dead| {
            let place = self.chunks.get(chunk).unwrap_or_else(|| panic!("chunk {chunk} is not stored"));
            *place.dead != **dead
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
            change(usage.get_mut(&sequence).expect("a place names a segment that is there"));
        };
        let mut added = 0;
        let unlist = |place: &Place, usage: &mut Usage| {
            usage.live_bytes -= place.dead_bytes();
            usage.live_updates -= u64::from(place.dead_at != place.segment);
        };
        for chunk in delta.writes.keys().chain(&delta.drops) {
            let Some(place) = self.chunks.get(chunk) else { continue };
            expect(place.dead_at, &|usage| unlist(place, usage));
            expect(place.segment, &|usage| {
                usage.live_bytes -= place.image_bytes();
                usage.live_images -= 1;
            });
        }
        for (_, body, dead) in delta.writes.values() {
            added += padded(body.len() as u64) + BLOCK_ENTRY_BYTES + dead_list_bytes(dead);
        }
        for (chunk, dead) in &delta.dead {
            let place = &self.chunks[chunk];
            expect(place.dead_at, &|usage| unlist(place, usage));
            added += UPDATE_ENTRY_BYTES + dead_list_bytes(dead);
        }
        added + delta.drops.len() as u64 * DROP_BYTES
    }

    /// Puts together what is new and what of the victims is still needed.
    fn merge(&self, mut delta: Delta, victims: &[(u64, &ArchivedTable)]) -> Plan {
        let merged: BTreeSet<u64> = victims.iter().map(|(sequence, _)| *sequence).collect();
        let mut blocks = BTreeMap::new();
        let mut updates = BTreeMap::new();
        let mut unneeded_images: BTreeMap<u64, u32> = BTreeMap::new();
        for (sequence, table) in victims {
            for block in table.blocks.iter() {
                let chunk = block.chunk.to_native();
                *unneeded_images.entry(chunk).or_default() += 1;
                let Some(place) = self.chunks.get(&chunk).filter(|place| place.segment == *sequence) else {
                    continue;
                };
                if delta.touches(chunk) {
                    continue;
                }
                let dead = delta.dead.remove(&chunk).unwrap_or_else(|| place.dead.to_vec());
                let source = Source::Carried {
                    segment: *sequence,
                    offset: place.offset,
                    bytes: place.bytes,
                    checksum: block.checksum.to_native(),
                };
                blocks.insert(chunk, Planned { chunk, base: place.base, dead, source });
            }
            for update in table.updates.iter() {
                let chunk = update.chunk.to_native();
                let Some(place) = self.chunks.get(&chunk) else { continue };
                let current = place.dead_at == *sequence && !merged.contains(&place.segment);
                if current && !delta.touches(chunk) && !delta.dead.contains_key(&chunk) {
                    updates.insert(chunk, place.dead.to_vec());
                }
            }
        }
        updates.append(&mut delta.dead);

        let older = victims.iter().flat_map(|(_, table)| table.drops.iter().map(|chunk| chunk.to_native()));
        let mut drops: BTreeSet<u64> = older.filter(|chunk| !self.chunks.contains_key(chunk)).collect();
        let gone = delta.drops.iter().copied().collect();
        drops.append(&mut delta.drops);
        drops.retain(|chunk| {
            let images = self.images.get(chunk).copied().unwrap_or(0);
            !delta.writes.contains_key(chunk) && images > unneeded_images.get(chunk).copied().unwrap_or(0)
        });

        blocks.extend(delta.writes.into_iter().map(|(chunk, (base, body, dead))| {
            (chunk, Planned { chunk, base, dead, source: Source::New(body) })
        }));
        Plan {
            blocks: blocks.into_values().collect(),
            updates: updates.into_iter().map(|(chunk, dead)| UpdateEntry { chunk, dead }).collect(),
            drops: drops.into_iter().collect(),
            gone,
            victims: merged.into_iter().collect(),
        }
    }
}
