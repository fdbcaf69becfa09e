//! Reads one segment in order and finds where it ends.
//!
//! A machine without I/O: it asks for bytes in sequence and hands out records. Owned by recovery for
//! one pass. It holds at most one batch and one chunk in memory.
//!
//! The law it decides by: batch N may have been acknowledged if and only if some later batch says so
//! in its `durable` field. A damaged batch without such evidence is a torn tail; with it, the log is
//! corrupt.

use super::{
    WalError,
    format::{
        BATCH_HEADER_BYTES, BatchHeader, Record, SegmentHeader, align_up, batch_bytes_max, decode_record,
        salt,
    },
};

/// Bytes asked for at a time.
const CHUNK_BYTES: u64 = 1024 * 1024;

/// What the machine wants or has found.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Supply these bytes of the file.
    Read {
        offset: u64,
        bytes: usize,
    },
    /// One batch was whole and its records were handed out.
    Batch,
    End(End),
}

/// Where the segment's batches end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Offset of the first unit that holds no whole batch in sequence.
    pub tail: u64,
    /// Number the next batch must have.
    pub next_batch: u64,
    pub batches: u64,
    /// Offset of a later batch that proves the one at `tail` was durable.
    pub evidence: Option<u64>,
    /// A batch was begun at `tail` but is not whole.
    pub torn: bool,
}

#[derive(Debug)]
pub struct Scan {
    header: SegmentHeader,
    batch_bytes_max: u64,
    position: u64,
    end: End,
    /// The batches are over; what is left is searched for evidence.
    after_tail: bool,
    window: Vec<u8>,
    window_offset: u64,
}

impl Scan {
    /// `next_batch`: the number the first batch must have; `None` takes the number it has, which must
    /// then be there. `batch_bytes_max`: the largest write, padding included.
    pub fn new(header: SegmentHeader, next_batch: Option<u64>, batch_bytes_max: u64) -> Self {
        let first = u64::from(header.unit);
        Self {
            header,
            batch_bytes_max,
            position: first,
            end: End {
                tail: first,
                next_batch: next_batch.unwrap_or(0),
                batches: 0,
                evidence: None,
                torn: false,
            },
            after_tail: false,
            window: Vec::new(),
            window_offset: first,
        }
    }

    /// The same for a segment whose batches are known to end at this offset: so they must.
    pub fn up_to(end: u64, header: SegmentHeader, next_batch: Option<u64>) -> Self {
        let bytes_max = batch_bytes_max(header.segment_bytes);
        Self::new(SegmentHeader { segment_bytes: end, ..header }, next_batch, bytes_max)
    }

    /// More batches were written meanwhile.
    pub fn extend(&mut self, end: u64) {
        self.header.segment_bytes = end;
    }

    /// Number of the batch that comes next.
    pub fn next_batch(&self) -> u64 {
        self.end.next_batch
    }

    /// Adds the bytes asked for last, or the first of them.
    pub fn supply(&mut self, bytes: &[u8]) {
        self.window.extend_from_slice(bytes);
    }

    /// Goes on until bytes are missing, a batch was handed out or the segment is over.
    pub fn step(
        &mut self,
        mut replay: impl FnMut(Record<'_>) -> Result<(), WalError>,
    ) -> Result<Step, WalError> {
        let unit = u64::from(self.header.unit);
        if !self.after_tail {
            if self.position + unit > self.header.segment_bytes {
                self.end.tail = self.position;
                return Ok(Step::End(self.end));
            }
            if let Some(read) = self.missing(unit) {
                return Ok(read);
            }
            if let Some(batch) = self.batch_here() {
                let payload_end = BATCH_HEADER_BYTES as u64 + u64::from(batch.bytes);
                if let Some(read) = self.missing(align_up(payload_end, unit)) {
                    return Ok(read);
                }
                let records = &self.window()[BATCH_HEADER_BYTES..payload_end as usize];
                let salt = salt(self.header.epoch, batch.sequence);
                if whole(records, batch.records, salt) {
                    replay_all(records, salt, &mut replay)?;
                    self.position += align_up(payload_end, unit);
                    self.end.next_batch = batch.sequence + 1;
                    self.end.batches += 1;
                    return Ok(Step::Batch);
                }
                self.end.torn = true;
            }
            self.after_tail = true;
            self.end.tail = self.position;
        }
        while self.position < self.header.segment_bytes {
            if let Some(read) = self.missing(unit) {
                return Ok(read);
            }
            self.look_for_evidence(unit);
            self.position += unit;
        }
        Ok(Step::End(self.end))
    }

    /// The header at the position, if it can be the next batch.
    fn batch_here(&self) -> Option<BatchHeader> {
        let batch = BatchHeader::decode(self.window(), self.header.epoch)?;
        let expected = batch.sequence == self.end.next_batch || self.end.next_batch == 0;
        let bytes = align_up(BATCH_HEADER_BYTES as u64 + u64::from(batch.bytes), u64::from(self.header.unit));
        let fits = bytes <= self.batch_bytes_max && self.position + bytes <= self.header.segment_bytes;
        (expected && fits).then_some(batch)
    }

    fn look_for_evidence(&mut self, unit: u64) {
        let here = &self.window()[..unit as usize];
        if let Some(batch) = BatchHeader::decode(here, self.header.epoch)
            && batch.durable >= self.end.next_batch
            && self.end.evidence.is_none()
        {
            self.end.evidence = Some(self.position);
        }
    }

    fn window(&self) -> &[u8] {
        &self.window[(self.position - self.window_offset) as usize..]
    }

    /// The read that brings `bytes` from the position on into the window, if they are not there.
    fn missing(&mut self, bytes: u64) -> Option<Step> {
        let have = self.window.len() as u64 - (self.position - self.window_offset);
        if have >= bytes {
            return None;
        }
        self.window.drain(..(self.position - self.window_offset) as usize);
        self.window_offset = self.position;
        let offset = self.position + have;
        let wanted = align_up((bytes - have).max(CHUNK_BYTES), u64::from(self.header.unit));
        let bytes = wanted.min(self.header.segment_bytes - offset);
        Some(Step::Read { offset, bytes: bytes as usize })
    }
}

fn whole(mut records: &[u8], count: u32, salt: u32) -> bool {
    let mut found = 0;
    while !records.is_empty() {
        let Some((_, rest)) = decode_record(records, salt) else {
            return false;
        };
        records = rest;
        found += 1;
    }
    found == count
}

fn replay_all(
    mut records: &[u8],
    salt: u32,
    replay: &mut impl FnMut(Record<'_>) -> Result<(), WalError>,
) -> Result<(), WalError> {
    while !records.is_empty() {
        let (record, rest) = decode_record(records, salt).expect("the batch was found whole");
        replay(record)?;
        records = rest;
    }
    Ok(())
}
