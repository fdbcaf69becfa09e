//! A log made of a checkpoint's chunks.

use super::{Body, Chunk, Log, Pos, Record, meta};
use crate::block::Block;

/// Bytes that are brought near at a time: few enough to stay there until they are looked at.
const FETCHED_BYTES: usize = 4096;
const LINE_BYTES: usize = 64;

/// Where a record begins is known only when the one before it was read: one wait for memory after the other. Lines
/// that are known beforehand come side by side.
fn fetch(bytes: &[u8]) {
    let sum = bytes.iter().step_by(LINE_BYTES).map(|byte| u32::from(*byte)).sum::<u32>();
    std::hint::black_box(sum);
}

/// Chunks on their way into a log.
#[derive(Default)]
pub struct Loading {
    chunks: Vec<(u64, Chunk)>,
}

impl Loading {
    /// Adds a chunk, in any order, and hands over its records that are not dead, with their positions. Says what is wrong
    /// with a block that is none; of the records, which a checksum protects, nothing is checked.
    pub fn take<'b>(
        &mut self,
        block: &'b Block,
        mut live: impl FnMut(Pos, &Record<'b>),
    ) -> Result<(), &'static str> {
        let Block { id, meta, body } = block;
        let (id, (base, dead)) =
            (id.number, meta::decode(meta).ok_or("what it says of a chunk makes no sense")?);
        if dead.last().is_some_and(|last| usize::from(*last) >= body.len()) {
            return Err("a chunk has fewer bytes than it says");
        }
        let mut chunk = Chunk::new(base, Body::Sealed(body.clone()));
        let mut next_dead = dead.iter().copied().peekable();
        let (mut offset, mut fetched) = (0, 0);
        while offset < body.len() {
            if fetched <= offset {
                // Not what lies between: a long value is not looked at.
                let from = offset - offset % FETCHED_BYTES;
                fetched = from + FETCHED_BYTES;
                fetch(&body[from..body.len().min(fetched)]);
            }
            let at = offset;
            let (record, len) = Record::decode(&body[at..], base);
            offset += len;
            if next_dead.next_if(|dead| usize::from(*dead) == at).is_some() {
                chunk.dead_bytes += len;
            } else {
                live(Pos::new(id, at, record.tombstone), &record);
            }
        }
        assert!(next_dead.next().is_none(), "dead offsets ascend and are those of records");
        chunk.dead = dead;
        chunk.stored = true;
        self.chunks.push((id, chunk));
        Ok(())
    }

    /// The log; `next_chunk` is above every chunk there ever was.
    pub fn finish(mut self, next_chunk: u64) -> Log {
        self.chunks.sort_unstable_by_key(|(id, _)| *id);
        assert!(self.chunks.is_sorted_by(|(a, _), (b, _)| a < b), "a chunk comes once");
        assert!(self.chunks.last().is_none_or(|(id, _)| *id < next_chunk));
        let bytes = self.chunks.iter().map(|(_, chunk)| chunk.len()).sum();
        let dead = self.chunks.iter().map(|(_, chunk)| chunk.dead_bytes).sum();
        let (ids, chunks) = self.chunks.into_iter().unzip();
        Log { ids, chunks, next_id: next_chunk, bytes, dead, ..Log::default() }
    }
}
