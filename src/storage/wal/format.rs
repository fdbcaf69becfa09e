//! The bytes of the log: segment header, batch header, records. `docs/log-format.md` draws them.
//!
//! Pure encoding and decoding, little-endian, no I/O. Every checksum is salted with the epoch of the
//! segment, and a record's also with the number of its batch, so that nothing left over from an
//! earlier use of the same sectors is ever taken for part of the log.

use crate::{
    limits,
    types::{ClusterId, LogId, LogIndex, MemberId, Owner, ShardId, Term},
};

/// Version of everything in this file; a reader refuses any other.
pub const FORMAT_VERSION: u32 = 3;
/// Meaningful bytes at the start of a segment; the rest of its first unit is zero.
pub const SEGMENT_HEADER_BYTES: usize = 96;
/// Bytes before the records of a batch.
pub const BATCH_HEADER_BYTES: usize = 48;
/// Bytes before the payload of a record.
pub const RECORD_HEADER_BYTES: usize = 32;
/// Smallest and largest unit a segment may be padded to.
pub const UNIT_BYTES_MIN: usize = 512;
pub const UNIT_BYTES_MAX: usize = 65_536;

const SEGMENT_MAGIC: [u8; 8] = *b"PINIONWL";
const BATCH_MAGIC: [u8; 4] = *b"PBAT";
/// Where the checksum of a segment header is: at its end.
const HEADER_CHECKSUM_AT: usize = SEGMENT_HEADER_BYTES - 4;
const KIND_ENTRY: u8 = 1;
const KIND_HARD_STATE: u8 = 2;
const KIND_BASELINE: u8 = 3;
const VOTE_BYTES: usize = 8;

const _: () = assert!(SEGMENT_HEADER_BYTES <= UNIT_BYTES_MIN);
const _: () = assert!(BATCH_HEADER_BYTES + RECORD_HEADER_BYTES + VOTE_BYTES <= UNIT_BYTES_MIN);
const _: () = assert!(BATCH_HEADER_BYTES.is_multiple_of(8) && RECORD_HEADER_BYTES.is_multiple_of(8));

/// One thing the log remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A Raft entry. `kind` is Raft's entry type as a number; the log does not look at it.
    Entry { term: Term, index: LogIndex, kind: u8, data: &'a [u8] },
    /// Raft's hard state; the latest one counts. `vote` 0 means none.
    HardState { term: Term, vote: MemberId, commit: LogIndex },
    /// A received checkpoint took the place of everything up to this entry, and of what followed it: entries before this
    /// record count no more, those after it follow the checkpoint.
    Baseline { term: Term, index: LogIndex },
}

impl Record<'_> {
    /// Bytes the record takes in a batch.
    pub fn encoded_bytes(&self) -> usize {
        RECORD_HEADER_BYTES
            + match self {
                Record::Entry { data, .. } => data.len(),
                Record::HardState { .. } => VOTE_BYTES,
                Record::Baseline { .. } => 0,
            }
    }
}

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub shard: ShardId,
    /// Whose log it is a part of.
    pub owner: Owner,
    /// Position of the segment in the log; also its file name.
    pub sequence: u64,
    /// Random per use of the file.
    pub epoch: u64,
    /// Batches start at multiples of this.
    pub unit: u32,
    pub segment_bytes: u64,
}

/// Why bytes are no segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFault {
    Magic,
    Checksum,
    /// Not our version, so nothing else is looked at: the layout may differ too.
    Version(u32),
    Field,
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.shard.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.unit.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.segment_bytes.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.owner.cluster.0.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.owner.member.0.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.owner.log.0.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..HEADER_CHECKSUM_AT]);
        bytes[HEADER_CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let Some(bytes) = bytes.first_chunk::<SEGMENT_HEADER_BYTES>() else {
            return Err(HeaderFault::Magic);
        };
        if bytes[0..8] != SEGMENT_MAGIC {
            return Err(HeaderFault::Magic);
        }
        let version = u32_at(bytes, 8);
        if version != FORMAT_VERSION {
            return Err(HeaderFault::Version(version));
        }
        if crc32c::crc32c(&bytes[..HEADER_CHECKSUM_AT]) != u32_at(bytes, HEADER_CHECKSUM_AT) {
            return Err(HeaderFault::Checksum);
        }
        let header = Self {
            shard: ShardId(u32_at(bytes, 12)),
            owner: Owner {
                cluster: ClusterId(u64_at(bytes, 48)),
                member: MemberId(u64_at(bytes, 56)),
                log: LogId(u64_at(bytes, 64)),
            },
            sequence: u64_at(bytes, 16),
            epoch: u64_at(bytes, 24),
            unit: u32_at(bytes, 32),
            segment_bytes: u64_at(bytes, 40),
        };
        let unit = header.unit as usize;
        let sound = unit.is_power_of_two()
            && (UNIT_BYTES_MIN..=UNIT_BYTES_MAX).contains(&unit)
            && header.segment_bytes.is_multiple_of(u64::from(header.unit))
            && header.segment_bytes >= 2 * u64::from(header.unit)
            && header.segment_bytes <= i64::MAX as u64
            && bytes[36..40] == [0; 4]
            && bytes[72..HEADER_CHECKSUM_AT] == [0; 20];
        if sound { Ok(header) } else { Err(HeaderFault::Field) }
    }
}

/// What one write says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Counts the batches of the log from 1, across segments.
    pub sequence: u64,
    /// Highest batch known durable when this one was submitted. A batch that carries N proves that
    /// all batches up to N may have been acknowledged.
    pub durable: u64,
    /// Bytes of records after the header; padding not counted.
    pub bytes: u32,
    pub records: u32,
}

impl BatchHeader {
    pub fn encode(&self, epoch: u64) -> [u8; BATCH_HEADER_BYTES] {
        assert!(self.durable < self.sequence, "batch {} follows {}", self.sequence, self.durable);
        let mut bytes = [0; BATCH_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&BATCH_MAGIC);
        bytes[4..8].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&epoch.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.durable.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.records.to_le_bytes());
        let checksum = crc32c::crc32c_append(salt(epoch, self.sequence), &bytes[..44]);
        bytes[44..48].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// `None` unless the bytes are a header written with this epoch.
    pub fn decode(bytes: &[u8], epoch: u64) -> Option<Self> {
        let bytes = bytes.first_chunk::<BATCH_HEADER_BYTES>()?;
        if bytes[0..4] != BATCH_MAGIC || u64_at(bytes, 8) != epoch {
            return None;
        }
        let header = Self {
            sequence: u64_at(bytes, 16),
            durable: u64_at(bytes, 24),
            bytes: u32_at(bytes, 4),
            records: u32_at(bytes, 32),
        };
        let checksum = crc32c::crc32c_append(salt(epoch, header.sequence), &bytes[..44]);
        let whole =
            checksum == u32_at(bytes, 44) && header.durable < header.sequence && bytes[36..44] == [0; 8];
        whole.then_some(header)
    }
}

/// Largest write in a segment of this size, header and padding included. A reader needs no more
/// memory than this, and a segment holds at least three.
pub fn batch_bytes_max(segment_bytes: u64) -> u64 {
    segment_bytes / limits::WAL_SEGMENT_BATCHES
}

/// Start value of every checksum in a batch.
pub fn salt(epoch: u64, batch: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&epoch.to_le_bytes()), &batch.to_le_bytes())
}

/// Appends a record without its checksum: only [`seal_records`] knows the segment it ends up in.
pub fn encode_record(record: Record<'_>, to: &mut Vec<u8>) {
    let mut header = [0; RECORD_HEADER_BYTES];
    let (kind, entry_kind, term, index) = match record {
        Record::Entry { term, index, kind, .. } => (KIND_ENTRY, kind, term, index),
        Record::HardState { term, commit, .. } => (KIND_HARD_STATE, 0, term, commit),
        Record::Baseline { term, index } => (KIND_BASELINE, 0, term, index),
    };
    let payload_bytes = record.encoded_bytes() - RECORD_HEADER_BYTES;
    let payload_bytes = u32::try_from(payload_bytes).expect("a record is bounded far below 4 GiB");
    header[4..8].copy_from_slice(&payload_bytes.to_le_bytes());
    header[8] = kind;
    header[9] = entry_kind;
    header[16..24].copy_from_slice(&term.0.to_le_bytes());
    header[24..32].copy_from_slice(&index.0.to_le_bytes());
    to.extend_from_slice(&header);
    match record {
        Record::Entry { data, .. } => to.extend_from_slice(data),
        Record::HardState { vote, .. } => to.extend_from_slice(&vote.0.to_le_bytes()),
        Record::Baseline { .. } => {}
    }
}

/// Fills in the checksums of records encoded one after another; returns their number.
pub fn seal_records(mut records: &mut [u8], salt: u32) -> u32 {
    let mut count = 0;
    while !records.is_empty() {
        let bytes = RECORD_HEADER_BYTES + u32_at(records, 4) as usize;
        let (record, rest) = records.split_at_mut(bytes);
        let checksum = crc32c::crc32c_append(salt, &record[4..]);
        record[0..4].copy_from_slice(&checksum.to_le_bytes());
        records = rest;
        count += 1;
    }
    count
}

/// The record at the start of `bytes` and what follows it; `None` if it is damaged.
pub fn decode_record(bytes: &[u8], salt: u32) -> Option<(Record<'_>, &[u8])> {
    let header = bytes.first_chunk::<RECORD_HEADER_BYTES>()?;
    let payload_bytes = usize::try_from(u32_at(header, 4)).ok()?;
    let end = RECORD_HEADER_BYTES.checked_add(payload_bytes)?;
    let payload = bytes.get(RECORD_HEADER_BYTES..end)?;
    if crc32c::crc32c_append(salt, &bytes[4..end]) != u32_at(header, 0) || header[10..16] != [0; 6] {
        return None;
    }
    let term = Term(u64_at(header, 16));
    let index = LogIndex(u64_at(header, 24));
    let record = match header[8] {
        KIND_ENTRY => Record::Entry { term, index, kind: header[9], data: payload },
        KIND_HARD_STATE if header[9] == 0 => {
            let vote = u64::from_le_bytes(payload.try_into().ok()?);
            Record::HardState { term, vote: MemberId(vote), commit: index }
        }
        KIND_BASELINE if header[9] == 0 && payload.is_empty() => Record::Baseline { term, index },
        _ => return None,
    };
    Some((record, &bytes[end..]))
}

/// The next multiple of `unit`, a power of two.
pub fn align_up(bytes: u64, unit: u64) -> u64 {
    debug_assert!(unit.is_power_of_two());
    (bytes + (unit - 1)) & !(unit - 1)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("a header is longer than its fields"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("a header is longer than its fields"))
}
