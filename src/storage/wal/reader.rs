//! Reads a segment from its first batch to its end, a few chunks ahead of who looks at them.

use std::{collections::VecDeque, future::Future, ops::Range, pin::Pin};

use super::{WalError, format::align_up, segment::Segment};
use crate::env::{Begun, File};

const CHUNK_BYTES: u64 = 512 * 1024;
const READS: usize = 3;

/// Some bytes of a segment.
pub struct Chunk<R> {
    read: R,
    wanted: Range<usize>,
}

impl<R: std::ops::Deref<Target = [u8]>> Chunk<R> {
    pub fn bytes(&self) -> &[u8] {
        &self.read[self.wanted.clone()]
    }
}

type Reading<'s, R> = Begun<Pin<Box<dyn Future<Output = Result<Chunk<R>, WalError>> + 's>>>;

pub struct Reader<'s, F: File> {
    segment: &'s Segment<F>,
    /// Where the next chunk that is handed out begins.
    pub offset: u64,
    /// Up to where reads were begun.
    begun: u64,
    readings: VecDeque<(u64, Reading<'s, F::Read>)>,
}

impl<'s, F: File> Reader<'s, F> {
    pub fn new(segment: &'s Segment<F>) -> Self {
        let first = u64::from(segment.header.unit);
        Self { segment, offset: first, begun: first, readings: VecDeque::new() }
    }

    /// The next bytes, of which there are some.
    pub async fn next(&mut self) -> Result<Chunk<F::Read>, WalError> {
        let end = self.segment.header.segment_bytes;
        while self.begun < end && self.readings.len() < READS {
            let bytes = CHUNK_BYTES.min(end - self.begun);
            let reading: Pin<Box<dyn Future<Output = _>>> =
                Box::pin(read(self.segment, self.begun, bytes as usize));
            self.begun += bytes;
            self.readings.push_back((bytes, Begun::new(reading).await));
        }
        let (bytes, reading) = self.readings.pop_front().expect("the segment goes on");
        self.offset += bytes;
        reading.finish().await
    }
}

/// Reads bytes that are aligned to the segment's unit, which may be less than the device's.
pub async fn read<F: File>(
    segment: &Segment<F>,
    offset: u64,
    bytes: usize,
) -> Result<Chunk<F::Read>, WalError> {
    let unit = segment.file.unit() as u64;
    let start = offset / unit * unit;
    let end = align_up(offset + bytes as u64, unit);
    let read = segment.file.read_at(start, (end - start) as usize).await;
    let read = read.map_err(|e| WalError::from_io("read", &segment.path, e))?;
    let from = (offset - start) as usize;
    let have = read.len().saturating_sub(from);
    if have < bytes {
        return Err(WalError::Corrupt {
            path: segment.path.clone(),
            offset: offset + have as u64,
            what: "the file ends here",
        });
    }
    Ok(Chunk { read, wanted: from..from + bytes })
}
