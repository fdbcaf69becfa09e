//! The bytes of a checkpoint: manifest, segment header, table, trailer. `docs/checkpoint-format.md` draws them.
//!
//! Pure encoding and decoding, no I/O. Headers are little-endian; the manifest's content and the tables
//! are rkyv archives without alignment, checked by their checksum and by rkyv before the first access
//! and then read where they lie. Every byte of a file is under a checksum or must be zero. Checksums
//! within a segment are salted with its sequence and epoch, so that nothing left over from another
//! file is ever taken for part of it.

use rkyv::{Archive, Deserialize, Serialize, rancor, util::AlignedVec};

use super::summary::Summary;
use crate::{
    block::{ArchivedBlockId, BlockId},
    types::{ClusterId, LogId, LogIndex, MemberId, Owner, ShardId, Term},
};

/// Version of everything in this file, the archived types included; a reader refuses any other.
pub const FORMAT_VERSION: u32 = 3;
/// Bytes before the first body of a segment, and before the archive of a manifest.
pub const HEADER_BYTES: usize = 64;
/// Bytes at the end of a segment.
pub const TRAILER_BYTES: usize = 64;
/// Bodies start at its multiples.
pub const BODY_ALIGN: u64 = 16;

const SEGMENT_MAGIC: [u8; 8] = *b"PINIONSG";
const TRAILER_MAGIC: [u8; 8] = *b"PINIONST";
const MANIFEST_MAGIC: [u8; 8] = *b"PINIONSM";

const _: () = assert!((HEADER_BYTES as u64).is_multiple_of(BODY_ALIGN));

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Corrupt {
        offset: u64,
        what: &'static str,
    },
    /// Not our version, so nothing else is looked at: the layout may differ too.
    Version(u32),
    Shard(u32),
}

fn corrupt(offset: usize, what: &'static str) -> Fault {
    Fault::Corrupt { offset: offset as u64, what }
}

const NUMBER_MAX: u64 = u64::MAX >> 1;

/// What identifies a segment, beside the shard.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentRef {
    /// Part of its file name, with the epoch; later images of a block override earlier ones.
    pub sequence: u64,
    /// Random per file.
    pub epoch: u64,
    /// Size of the file.
    pub bytes: u64,
    /// Of the table, which has those of the bodies.
    pub table_checksum: u32,
}

/// Start value of every checksum in a segment but the header's.
pub fn salt(sequence: u64, epoch: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&sequence.to_le_bytes()), &epoch.to_le_bytes())
}

/// What a segment holds besides bodies.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// In the order of their bodies, ascending by block.
    pub blocks: Vec<BlockEntry>,
    /// Ascending by block.
    pub updates: Vec<UpdateEntry>,
    /// Blocks whose images in older segments no longer count, ascending.
    pub drops: Vec<BlockId>,
}

/// An image of a block.
#[derive(Archive, Serialize, Clone, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    pub id: BlockId,
    /// Where the body starts in the file, and its bytes without padding.
    pub offset: u64,
    pub bytes: u32,
    /// Of the body and the zeros up to the next one.
    pub checksum: u32,
    pub meta: Vec<u8>,
}

/// New meta for a block whose image is in an older segment.
#[derive(Archive, Serialize, Clone, Debug, PartialEq, Eq)]
pub struct UpdateEntry {
    pub id: BlockId,
    pub meta: Vec<u8>,
}

/// Bytes a body takes in a segment.
pub fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(BODY_ALIGN)
}

pub fn encode_header(shard: ShardId, sequence: u64, epoch: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[0..8].copy_from_slice(&SEGMENT_MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&shard.0.to_le_bytes());
    bytes[16..24].copy_from_slice(&sequence.to_le_bytes());
    bytes[24..32].copy_from_slice(&epoch.to_le_bytes());
    seal(&mut bytes, 0);
    bytes
}

/// The archive of a table. Its length does not depend on checksums, so it is known before the bodies are read.
pub fn encode_table(table: &Table) -> AlignedVec {
    rkyv::to_bytes::<rancor::Failure>(table).expect("a table in memory can be archived")
}

/// What follows the bodies of a segment: table, zeros, trailer, up to `file_bytes`. Gives the table's checksum too.
pub fn encode_end(
    table: &[u8],
    table_offset: u64,
    file_bytes: u64,
    sequence: u64,
    epoch: u64,
) -> (Vec<u8>, u32) {
    let salt = salt(sequence, epoch);
    let len = usize::try_from(file_bytes - table_offset).expect("a table fits memory");
    assert!(table.len() + TRAILER_BYTES <= len, "a table of {} bytes in {len}", table.len());
    let mut bytes = vec![0; len];
    bytes[..table.len()].copy_from_slice(table);
    let (region, end) = bytes.split_at_mut(len - TRAILER_BYTES);
    let checksum = crc32c::crc32c_append(salt, region);
    end[0..8].copy_from_slice(&TRAILER_MAGIC);
    end[8..16].copy_from_slice(&table_offset.to_le_bytes());
    end[16..24].copy_from_slice(&(table.len() as u64).to_le_bytes());
    end[24..28].copy_from_slice(&checksum.to_le_bytes());
    end[32..40].copy_from_slice(&file_bytes.to_le_bytes());
    seal(end, salt);
    (bytes, checksum)
}

/// The table of a whole segment, checked: everything but the bodies is as it was written. With `reference` it is the
/// segment a manifest means; without, only in itself consistent.
pub fn decode_segment<'a>(
    bytes: &'a [u8],
    shard: ShardId,
    reference: &SegmentRef,
) -> Result<&'a ArchivedTable, Fault> {
    check_header(bytes, SEGMENT_MAGIC, shard, "this is no segment of a checkpoint")?;
    if u64_at(bytes, 16) != reference.sequence || u64_at(bytes, 24) != reference.epoch {
        return Err(corrupt(16, "the header names another segment: the file was renamed or is an old one"));
    }
    zero(bytes, 32..60)?;
    if bytes.len() as u64 != reference.bytes {
        return Err(corrupt(bytes.len(), "the file does not have the size the manifest names"));
    }
    let salt = salt(reference.sequence, reference.epoch);
    let at = bytes.len().checked_sub(TRAILER_BYTES).filter(|at| *at >= HEADER_BYTES);
    let at = at.ok_or(corrupt(bytes.len(), "the segment ends too early"))?;
    let trailer = &bytes[at..];
    if trailer[0..8] != TRAILER_MAGIC {
        return Err(corrupt(at, "the segment does not end with a trailer"));
    }
    if !is_sealed(trailer, salt) {
        return Err(corrupt(at, "the checksum of the trailer does not match"));
    }
    zero(bytes, at + 28..at + 32)?;
    zero(bytes, at + 40..at + 60)?;
    let table_offset = u64_at(trailer, 8);
    let (start, table_bytes) = (table_offset as usize, u64_at(trailer, 16));
    let sound = table_offset >= HEADER_BYTES as u64
        && table_offset.is_multiple_of(BODY_ALIGN)
        && table_offset.checked_add(table_bytes).is_some_and(|end| end <= at as u64)
        && u64_at(trailer, 32) == reference.bytes;
    if !sound {
        return Err(corrupt(at, "the trailer makes no sense"));
    }
    let checksum = u32_at(trailer, 24);
    if crc32c::crc32c_append(salt, &bytes[start..at]) != checksum {
        return Err(corrupt(start, "the checksum of the table does not match"));
    }
    if checksum != reference.table_checksum {
        return Err(corrupt(at, "the table is not the one the manifest names"));
    }
    zero(bytes, start + table_bytes as usize..at)?;
    let table = &bytes[start..start + table_bytes as usize];
    let table = rkyv::access::<ArchivedTable, rancor::Failure>(table)
        .map_err(|_| corrupt(start, "the table cannot be read"))?;
    if check_table(table, table_offset) { Ok(table) } else { Err(corrupt(start, "the table makes no sense")) }
}

/// The bodies lie one after another from the header to the table, and every list ascends.
fn check_table(table: &ArchivedTable, table_offset: u64) -> bool {
    let mut end = HEADER_BYTES as u64;
    let tiled = table.blocks.iter().all(|block| {
        let starts = block.offset.to_native() == end;
        end = end.saturating_add(padded(u64::from(block.bytes.to_native())));
        starts
    });
    tiled
        && end == table_offset
        && ascend(table.blocks.iter().map(|block| &block.id))
        && ascend(table.updates.iter().map(|update| &update.id))
        && ascend(table.drops.iter())
}

fn ascend<'a>(ids: impl Iterator<Item = &'a ArchivedBlockId>) -> bool {
    ids.map(BlockId::from).is_sorted_by(|a, b| a < b)
}

/// Reads every byte of a segment once, bodies that no longer count too: a disk that damages files is not to be trusted.
pub fn check_segment(file: &[u8], shard: ShardId, reference: &SegmentRef) -> Result<(), Fault> {
    let salt = salt(reference.sequence, reference.epoch);
    for block in decode_segment(file, shard, reference)?.blocks.iter() {
        let (offset, bytes) = (block.offset.to_native(), block.bytes.to_native());
        if !check_body(file, offset, bytes, block.checksum.to_native(), salt) {
            return Err(Fault::Corrupt { offset, what: "the checksum of a block does not match" });
        }
    }
    Ok(())
}

/// Whether the body of a block, in the file's bytes, is as it was written.
pub fn check_body(file: &[u8], offset: u64, bytes: u32, checksum: u32, salt: u32) -> bool {
    let start = offset as usize;
    let end = start + padded(u64::from(bytes)) as usize;
    crc32c::crc32c_append(salt, &file[start..end]) == checksum
        && file[start + bytes as usize..end].iter().all(|byte| *byte == 0)
}

/// Names the segments that are the state, and holds everything that is not a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Whose checkpoint it is: that of this log. Segments need not say so, the manifest names them by their epochs.
    pub owner: Owner,
    /// Counts the manifests of the directory.
    pub generation: u64,
    /// None until the first checkpoint.
    pub summary: Option<Summary>,
    /// Ascending by sequence.
    pub segments: Vec<SegmentRef>,
    /// Blocks that the segments together must give, and the bytes of their bodies.
    pub blocks: u64,
    pub body_bytes: u64,
}

#[derive(Archive, Serialize, Deserialize)]
struct ManifestRecord {
    generation: u64,
    summary: Option<SummaryRecord>,
    segments: Vec<SegmentRef>,
    blocks: u64,
    body_bytes: u64,
}

#[derive(Archive, Serialize, Deserialize)]
struct SummaryRecord {
    applied: u64,
    term: u64,
    facts: Vec<u8>,
    received: bool,
}

impl Manifest {
    /// The whole file, a multiple of `unit`.
    pub fn encode(&self, shard: ShardId, unit: usize) -> Vec<u8> {
        let summary = self.summary.clone().map(|summary| SummaryRecord {
            applied: summary.applied.0,
            term: summary.term.0,
            facts: summary.facts,
            received: summary.received,
        });
        let record = ManifestRecord {
            generation: self.generation,
            summary,
            segments: self.segments.clone(),
            blocks: self.blocks,
            body_bytes: self.body_bytes,
        };
        let archive =
            rkyv::to_bytes::<rancor::Failure>(&record).expect("a manifest in memory can be archived");
        let mut bytes = vec![0; (HEADER_BYTES + archive.len()).next_multiple_of(unit)];
        bytes[HEADER_BYTES..][..archive.len()].copy_from_slice(&archive);
        let checksum = crc32c::crc32c(&bytes[HEADER_BYTES..]);
        let file_bytes = bytes.len() as u64;
        let header = &mut bytes[..HEADER_BYTES];
        header[0..8].copy_from_slice(&MANIFEST_MAGIC);
        header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        header[12..16].copy_from_slice(&shard.0.to_le_bytes());
        header[16..24].copy_from_slice(&self.owner.cluster.0.to_le_bytes());
        header[24..32].copy_from_slice(&self.owner.member.0.to_le_bytes());
        header[32..40].copy_from_slice(&self.owner.log.0.to_le_bytes());
        header[40..48].copy_from_slice(&(archive.len() as u64).to_le_bytes());
        header[48..56].copy_from_slice(&file_bytes.to_le_bytes());
        header[56..60].copy_from_slice(&checksum.to_le_bytes());
        seal(header, 0);
        bytes
    }

    pub fn decode(bytes: &[u8], shard: ShardId) -> Result<Self, Fault> {
        check_header(bytes, MANIFEST_MAGIC, shard, "this is no manifest of a checkpoint")?;
        if u64_at(bytes, 48) != bytes.len() as u64 {
            return Err(corrupt(bytes.len(), "the file does not have the size its header names"));
        }
        let content = &bytes[HEADER_BYTES..];
        if crc32c::crc32c(content) != u32_at(bytes, 56) {
            return Err(corrupt(HEADER_BYTES, "the checksum of the manifest does not match"));
        }
        let archive = usize::try_from(u64_at(bytes, 40)).ok().and_then(|len| content.get(..len));
        let archive = archive.ok_or(corrupt(40, "the manifest is longer than its file"))?;
        zero(bytes, HEADER_BYTES + archive.len()..bytes.len())?;
        let record = rkyv::from_bytes::<ManifestRecord, rancor::Failure>(archive)
            .map_err(|_| corrupt(HEADER_BYTES, "the manifest cannot be read"))?;
        // It may be another member's. Nobody counts so far, and adding to what is counted cannot overflow.
        let counted = record.segments.iter().flat_map(|segment| [segment.sequence, segment.bytes]);
        let is_beyond = counted.chain([record.generation]).any(|number| number > NUMBER_MAX);
        if is_beyond || !record.segments.iter().is_sorted_by(|a, b| a.sequence < b.sequence) {
            return Err(corrupt(HEADER_BYTES, "the manifest makes no sense"));
        }
        let summary = record.summary.map(|summary| Summary {
            applied: LogIndex(summary.applied),
            term: Term(summary.term),
            facts: summary.facts,
            received: summary.received,
        });
        let owner = Owner {
            cluster: ClusterId(u64_at(bytes, 16)),
            member: MemberId(u64_at(bytes, 24)),
            log: LogId(u64_at(bytes, 32)),
        };
        Ok(Self {
            owner,
            generation: record.generation,
            summary,
            segments: record.segments,
            blocks: record.blocks,
            body_bytes: record.body_bytes,
        })
    }
}

/// Magic, version, checksum and shard, which manifests and segments have in the same places.
fn check_header(bytes: &[u8], magic: [u8; 8], shard: ShardId, what: &'static str) -> Result<(), Fault> {
    let header = bytes.get(..HEADER_BYTES).ok_or(corrupt(bytes.len(), "the file ends too early"))?;
    if header[0..8] != magic {
        return Err(corrupt(0, what));
    }
    let version = u32_at(header, 8);
    if version != FORMAT_VERSION {
        return Err(Fault::Version(version));
    }
    if !is_sealed(header, 0) {
        return Err(corrupt(0, "the checksum of the header does not match"));
    }
    match u32_at(header, 12) {
        found if found == shard.0 => Ok(()),
        found => Err(Fault::Shard(found)),
    }
}

fn zero(bytes: &[u8], range: std::ops::Range<usize>) -> Result<(), Fault> {
    match bytes[range.clone()].iter().position(|byte| *byte != 0) {
        None => Ok(()),
        Some(at) => Err(corrupt(range.start + at, "there is something where nothing should be")),
    }
}

/// Puts the checksum of 64 bytes into their last four.
fn seal(bytes: &mut [u8], salt: u32) {
    let checksum = crc32c::crc32c_append(salt, &bytes[..60]);
    bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
}

fn is_sealed(bytes: &[u8], salt: u32) -> bool {
    crc32c::crc32c_append(salt, &bytes[..60]) == u32_at(bytes, 60)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("a header is longer than its fields"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("a header is longer than its fields"))
}
