//! Versions in revision order, in append-only chunks.
//!
//! The newest chunk is open; the others are sealed and shared with the responses that quote them, so a value goes
//! from here to the wire without a copy. A sealed chunk changes only by being replaced as a whole (see `compaction`).

use bytes::Bytes;

use super::record::Record;

/// A chunk is sealed once it has this many bytes; a record starts below this offset and may end beyond it.
pub const CHUNK_BYTES: usize = 64 * 1024;
const OFFSET_BITS: u32 = 16;
const _: () = assert!(CHUNK_BYTES == 1 << OFFSET_BITS);

/// Where a record lies: chunk, offset, and whether it is a tombstone. Orders like the records' revisions.
///
/// The top bit stays free for the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos(pub(super) u64);

impl Pos {
    /// After every record.
    pub const END: Pos = Pos(u64::MAX >> 1);

    fn new(chunk: u64, offset: usize, tombstone: bool) -> Self {
        assert!(offset < CHUNK_BYTES && chunk < 1 << (62 - OFFSET_BITS), "a position fits its bits");
        Pos(chunk << (OFFSET_BITS + 1) | (offset as u64) << 1 | u64::from(tombstone))
    }

    fn chunk(self) -> u64 {
        self.0 >> (OFFSET_BITS + 1)
    }

    fn offset(self) -> usize {
        (self.0 >> 1) as usize & (CHUNK_BYTES - 1)
    }

    pub fn is_tombstone(self) -> bool {
        self.0 & 1 != 0
    }
}

enum Body {
    Open(Vec<u8>),
    Sealed(Bytes),
}

impl Body {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Open(bytes) => bytes,
            Self::Sealed(bytes) => bytes,
        }
    }
}

struct Chunk {
    /// At or below the main revision of its first record; records count from it.
    base: i64,
    /// Bytes of records that the index no longer names.
    dead: usize,
    body: Body,
}

/// All chunks, ascending by id.
#[derive(Default)]
pub struct Log {
    /// `ids[i]` is the id of `chunks[i]`; ids have gaps where chunks were freed or merged.
    ids: Vec<u64>,
    chunks: Vec<Chunk>,
    next_id: u64,
    bytes: usize,
    dead: usize,
}

impl Log {
    /// Bytes of all records, dead ones included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of records that are waiting to be freed.
    pub fn dead_bytes(&self) -> usize {
        self.dead
    }

    pub fn append(&mut self, record: &Record<'_>) -> Pos {
        let open = matches!(self.chunks.last(), Some(Chunk { body: Body::Open(_), .. }));
        if !open {
            self.ids.push(self.next_id);
            self.next_id += 1;
            let body = Body::Open(Vec::with_capacity(CHUNK_BYTES));
            self.chunks.push(Chunk { base: record.main, dead: 0, body });
        }
        let id = *self.ids.last().expect("a chunk is open");
        let chunk = self.chunks.last_mut().expect("a chunk is open");
        let Body::Open(body) = &mut chunk.body else { unreachable!("the last chunk is open") };
        let offset = body.len();
        if body.capacity() - offset < record.len_max() {
            body.reserve_exact(record.len_max());
        }
        record.encode(chunk.base, body);
        self.bytes += body.len() - offset;
        if body.len() >= CHUNK_BYTES {
            chunk.body = Body::Sealed(seal(std::mem::take(body)));
        }
        Pos::new(id, offset, record.tombstone)
    }

    #[inline]
    pub fn get(&self, pos: Pos) -> Record<'_> {
        let chunk = self.chunk(pos);
        Record::decode(&chunk.body.bytes()[pos.offset()..], chunk.base).0
    }

    /// `part` of the record at `pos`, shared where possible.
    pub fn share(&self, pos: Pos, part: &[u8]) -> Bytes {
        match &self.chunk(pos).body {
            Body::Sealed(bytes) => bytes.slice_ref(part),
            Body::Open(_) => Bytes::copy_from_slice(part),
        }
    }

    /// The position before which lies every record of main revision `main` and older, and none of a newer one.
    pub fn after(&self, main: i64) -> Pos {
        let next = self.chunks.partition_point(|chunk| chunk.base <= main);
        let Some(last) = next.checked_sub(1) else { return Pos(0) };
        let chunk = &self.chunks[last];
        let bytes = chunk.body.bytes();
        let mut offset = 0;
        while offset < bytes.len() {
            let (record, len) = Record::decode(&bytes[offset..], chunk.base);
            if record.main > main {
                return Pos::new(self.ids[last], offset, false);
            }
            offset += len;
        }
        Pos::new(self.ids[last] + 1, 0, false)
    }

    /// The first record at or after `pos`, with its position and the one to go on from. Dead records included.
    pub fn next(&self, pos: Pos) -> Option<(Pos, Record<'_>, Pos)> {
        let mut at = self.ids.partition_point(|id| *id < pos.chunk());
        let mut offset = if self.ids.get(at) == Some(&pos.chunk()) { pos.offset() } else { 0 };
        if self.chunks.get(at).is_some_and(|chunk| offset >= chunk.body.bytes().len()) {
            at += 1;
            offset = 0;
        }
        let chunk = self.chunks.get(at)?;
        let bytes = chunk.body.bytes();
        let (record, len) = Record::decode(bytes.get(offset..).filter(|rest| !rest.is_empty())?, chunk.base);
        let end = offset + len;
        let following = if end < bytes.len() {
            Pos::new(self.ids[at], end, false)
        } else {
            Pos::new(self.ids[at] + 1, 0, false)
        };
        Some((Pos::new(self.ids[at], offset, record.tombstone), record, following))
    }

    /// The index no longer names the record at `pos`.
    pub fn kill(&mut self, pos: Pos) {
        let at = self.slot(pos);
        let chunk = &mut self.chunks[at];
        let bytes = chunk.body.bytes();
        let (_, len) = Record::decode(&bytes[pos.offset()..], chunk.base);
        chunk.dead += len;
        self.dead += len;
        assert!(chunk.dead <= bytes.len(), "a record dies once");
    }

    #[inline]
    fn chunk(&self, pos: Pos) -> &Chunk {
        &self.chunks[self.slot(pos)]
    }

    #[inline]
    fn slot(&self, pos: Pos) -> usize {
        let id = pos.chunk();
        // Without gaps the id is the place; gaps only move chunks towards the front.
        let guess = (id - self.ids[0]) as usize;
        if self.ids.get(guess) == Some(&id) {
            return guess;
        }
        self.ids[..guess.min(self.ids.len())]
            .binary_search(&id)
            .expect("the index names only chunks that exist")
    }
}

fn seal(mut body: Vec<u8>) -> Bytes {
    // A few spare bytes are cheaper than a copy.
    if body.capacity() - body.len() > body.len() / 8 {
        body.shrink_to_fit();
    }
    Bytes::from(body)
}

/// Replacing sealed chunks that are mostly dead.
impl Log {
    /// The first sealed chunks from slot `at` on that are worth replacing by one: mostly dead ones and small
    /// neighbours. At most half a chunk survives of them: counting from an earlier base makes records longer.
    pub fn sparse_run(&self, mut at: usize) -> Option<std::ops::Range<usize>> {
        while at < self.chunks.len() {
            let mut end = at;
            let mut live = 0;
            let mut dead = 0;
            while let Some(Chunk { body: Body::Sealed(body), dead: chunk_dead, .. }) = self.chunks.get(end) {
                let chunk_live = body.len() - chunk_dead;
                if live + chunk_live > CHUNK_BYTES / 2 {
                    break;
                }
                live += chunk_live;
                dead += chunk_dead;
                end += 1;
            }
            if end > at && (dead >= live || end - at > 1) {
                return Some(at..end);
            }
            at = end.max(at + 1);
        }
        None
    }

    /// Writes the survivors of a run into one chunk and drops the others. `moved(record, old, new)` answers whether
    /// the record is alive, in which case it lies at `new` from now on. Returns the records looked at and the
    /// slot to go on from.
    pub fn rewrite(
        &mut self,
        run: std::ops::Range<usize>,
        mut moved: impl FnMut(&Record<'_>, Pos, Pos) -> bool,
    ) -> (usize, usize) {
        let id = self.ids[run.start];
        let base = self.chunks[run.start].base;
        let live: usize =
            self.chunks[run.clone()].iter().map(|chunk| chunk.body.bytes().len() - chunk.dead).sum();
        let mut body = Vec::with_capacity(live + live / 16);
        let mut seen = 0;
        for at in run.clone() {
            let chunk = &self.chunks[at];
            let bytes = chunk.body.bytes();
            let mut offset = 0;
            while offset < bytes.len() {
                let (record, len) = Record::decode(&bytes[offset..], chunk.base);
                let old = Pos::new(self.ids[at], offset, record.tombstone);
                let start = body.len();
                if moved(&record, old, Pos::new(id, start, record.tombstone)) {
                    record.encode(base, &mut body);
                }
                offset += len;
                seen += 1;
            }
            self.bytes -= bytes.len();
            self.dead -= chunk.dead;
        }
        self.bytes += body.len();
        let keep = usize::from(!body.is_empty());
        if keep == 1 {
            self.chunks[run.start] = Chunk { base, dead: 0, body: Body::Sealed(seal(body)) };
        }
        self.chunks.drain(run.start + keep..run.end);
        self.ids.drain(run.start + keep..run.end);
        (seen, run.start + keep)
    }
}
