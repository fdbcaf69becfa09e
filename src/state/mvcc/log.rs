//! Versions in revision order, in append-only chunks.
//!
//! The newest chunk is open; the others are sealed and shared with the responses that quote them, so a value goes
//! from here to the wire without a copy. A sealed chunk changes only by being replaced as a whole (see `compaction`).
//!
//! A chunk is also the unit of a checkpoint (see `unsaved`): once its image is on disk, its bytes are given up for
//! the mapped ones.

mod loading;
mod meta;
mod unsaved;

use std::ops::Range;

use bytes::Bytes;

use self::unsaved::{Unsaved, Unsaveds};
use crate::row::Record;

pub use loading::Loading;

/// Bytes of a chunk; one with a single longer record has as many as that needs.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks replaced by one at a time: the work of a slice of compaction stays small.
const RUN_CHUNKS_MAX: usize = 8;
/// Chunks that are dropped at a time.
const DROPPED_CHUNKS_MAX: usize = 64;
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

    fn seal(&mut self) {
        if let Self::Open(bytes) = self {
            *self = Self::Sealed(seal(std::mem::take(bytes)));
        }
    }
}

struct Chunk {
    /// At or below the main revision of its first record; records count from it.
    base: i64,
    /// Offsets of records that the index no longer names, in the order they died, and their bytes.
    dead: Vec<u16>,
    dead_bytes: usize,
    body: Body,
    /// What of it the newest checkpoint does not have.
    unsaved: Unsaved,
    /// Some checkpoint, finished or under way, has an image of it.
    stored: bool,
}

impl Chunk {
    fn new(base: i64, body: Body) -> Self {
        Chunk { base, dead: Vec::new(), dead_bytes: 0, body, unsaved: Unsaved::Nothing, stored: false }
    }

    fn len(&self) -> usize {
        self.body.bytes().len()
    }
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
    killed: u64,
    unsaved: Unsaveds,
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
        let room = record.len_max();
        match self.chunks.last_mut() {
            Some(Chunk { body: Body::Open(body), .. }) if body.capacity() - body.len() >= room => {}
            last => {
                // Never grown: a chunk is exactly one of the allocator's sizes, or as long as its one long record.
                if let Some(Chunk { body, .. }) = last {
                    body.seal();
                }
                self.ids.push(self.next_id);
                self.next_id += 1;
                let body = Body::Open(Vec::with_capacity(room.max(CHUNK_BYTES)));
                self.chunks.push(Chunk::new(record.main, body));
            }
        }
        let id = *self.ids.last().expect("a chunk is open");
        let chunk = self.chunks.last_mut().expect("a chunk is open");
        let Body::Open(body) = &mut chunk.body else { unreachable!("the last chunk is open") };
        let offset = body.len();
        record.encode(chunk.base, body);
        let grown = body.len() - offset;
        self.bytes += grown;
        if body.len() >= CHUNK_BYTES {
            chunk.body.seal();
        }
        self.unsaved.appended(id, &mut chunk.unsaved, grown);
        Pos::new(id, offset, record.tombstone)
    }

    #[inline]
    pub fn get(&self, pos: Pos) -> Record<'_> {
        let chunk = self.chunk(pos);
        Record::decode(&chunk.body.bytes()[pos.offset()..], chunk.base).0
    }

    /// The key of the record at `pos`.
    #[inline]
    pub fn key(&self, pos: Pos) -> &[u8] {
        Record::key_at(&self.chunk(pos).body.bytes()[pos.offset()..])
    }

    /// The lease that the record at `pos` names.
    #[inline]
    pub fn lease(&self, pos: Pos) -> Option<i64> {
        let chunk = self.chunk(pos);
        let bytes = &chunk.body.bytes()[pos.offset()..];
        Record::is_leased(bytes).then(|| Record::decode(bytes, chunk.base).0.lease)
    }

    /// Some byte of the record at `pos`: fetches it from memory.
    #[inline]
    pub fn touch(&self, pos: Pos) -> u8 {
        self.chunk(pos).body.bytes()[pos.offset()]
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
        // A chunk that was merged into an earlier one is empty until it is purged.
        let Some(last) = (0..next).rev().find(|at| !self.chunks[*at].body.bytes().is_empty()) else {
            return Pos(0);
        };
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

    /// Where to go on from for the first record of this revision or a later one.
    pub fn seek(&self, main: i64, sub: i64) -> Pos {
        let first = |chunk: &Chunk| {
            let bytes = chunk.body.bytes();
            let record = (!bytes.is_empty()).then(|| Record::decode(bytes, chunk.base).0)?;
            Some((record.main, record.sub))
        };
        let begins_before = |chunk: &Chunk| {
            chunk.base < main || chunk.base == main && first(chunk).is_none_or(|first| first <= (main, sub))
        };
        // Empty chunks only tell their base, so a few of those before may begin too late as well.
        let until = self.chunks.partition_point(begins_before);
        let at =
            (0..until).rev().find(|at| first(&self.chunks[*at]).is_some_and(|first| first <= (main, sub)));
        let Some(at) = at else { return Pos(0) };
        let chunk = &self.chunks[at];
        let bytes = chunk.body.bytes();
        let mut offset = 0;
        while offset < bytes.len() {
            let (record, len) = Record::decode(&bytes[offset..], chunk.base);
            if (record.main, record.sub) >= (main, sub) {
                return Pos::new(self.ids[at], offset, false);
            }
            offset += len;
        }
        Pos::new(self.ids[at] + 1, 0, false)
    }

    /// The first record at or after `pos`, with its position and the one to go on from. Dead records included.
    pub fn next(&self, pos: Pos) -> Option<(Pos, Record<'_>, Pos)> {
        let mut at = self.ids.partition_point(|id| *id < pos.chunk());
        let mut offset = if self.ids.get(at) == Some(&pos.chunk()) { pos.offset() } else { 0 };
        while self.chunks.get(at)?.body.bytes().len() <= offset {
            at += 1;
            offset = 0;
        }
        let chunk = &self.chunks[at];
        let bytes = chunk.body.bytes();
        let (record, len) = Record::decode(&bytes[offset..], chunk.base);
        let end = offset + len;
        let following = if end < bytes.len() {
            Pos::new(self.ids[at], end, false)
        } else {
            Pos::new(self.ids[at] + 1, 0, false)
        };
        Some((Pos::new(self.ids[at], offset, record.tombstone), record, following))
    }

    /// The records from `pos` on, in order. Dead records included.
    pub fn records(&self, pos: Pos) -> Records<'_> {
        // Mostly it is about what was written last.
        let slot = match self.ids.last() {
            Some(last) if *last == pos.chunk() => self.ids.len() - 1,
            _ => self.ids.partition_point(|id| *id < pos.chunk()),
        };
        let offset = if self.ids.get(slot) == Some(&pos.chunk()) { pos.offset() } else { 0 };
        Records { log: self, slot, offset }
    }

    /// Records that died so far.
    pub fn killed(&self) -> u64 {
        self.killed
    }

    /// The index no longer names the record at `pos`.
    pub fn kill(&mut self, pos: Pos) {
        self.killed += 1;
        let at = self.slot(pos);
        let chunk = &mut self.chunks[at];
        let bytes = chunk.body.bytes();
        let (_, len) = Record::decode(&bytes[pos.offset()..], chunk.base);
        chunk.dead.push(pos.offset() as u16);
        chunk.dead_bytes += len;
        self.dead += len;
        assert!(chunk.dead_bytes <= bytes.len(), "a record dies once");
        self.unsaved.died(pos.chunk(), &mut chunk.unsaved);
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
        // Few gaps are the rule: look near the guess first.
        let (mut high, mut step) = (guess.min(self.ids.len()), 1);
        while high > step && self.ids[high - step] > id {
            high -= step;
            step *= 2;
        }
        let low = high.saturating_sub(step);
        let at = self.ids[low..high].binary_search(&id).expect("the index names only chunks that exist");
        low + at
    }
}

fn seal(mut body: Vec<u8>) -> Bytes {
    // A few spare bytes are cheaper than a copy.
    if body.capacity() - body.len() > body.len() / 8 {
        body.shrink_to_fit();
    }
    Bytes::from(body)
}

/// Iterator over [`Log::records`].
pub struct Records<'a> {
    log: &'a Log,
    slot: usize,
    offset: usize,
}

impl<'a> Iterator for Records<'a> {
    type Item = (Pos, Record<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (chunk, bytes) = loop {
            let chunk = self.log.chunks.get(self.slot)?;
            let bytes = chunk.body.bytes();
            if self.offset < bytes.len() {
                break (chunk, bytes);
            }
            self.slot += 1;
            self.offset = 0;
        };
        let (record, len) = Record::decode(&bytes[self.offset..], chunk.base);
        let pos = Pos::new(self.log.ids[self.slot], self.offset, record.tombstone);
        self.offset += len;
        Some((pos, record))
    }
}

/// Replacing sealed chunks that are mostly dead.
impl Log {
    /// Seals the open chunk if it is mostly dead, so that it can be replaced like the others; if `thorough`, as soon
    /// as anything in it is dead.
    pub fn seal_sparse(&mut self, thorough: bool) {
        if let Some(last) = self.chunks.last_mut()
            && (2 * last.dead_bytes >= last.len() || thorough && last.dead_bytes > 0)
        {
            last.body.seal();
        }
    }

    /// The next sealed chunks from slot `at` on with nothing alive in them.
    pub fn dead_run(&self, at: usize) -> Option<Range<usize>> {
        let is_dead = |chunk: &Chunk| {
            matches!(chunk.body, Body::Sealed(_)) && chunk.len() > 0 && chunk.dead_bytes == chunk.len()
        };
        let start = at + self.chunks[at..].iter().position(is_dead)?;
        let more = self.chunks[start..].iter().take(DROPPED_CHUNKS_MAX).take_while(|chunk| is_dead(chunk));
        Some(start..start + more.count())
    }

    /// The first sealed chunks from slot `at` on that are worth replacing by one: mostly dead ones and small
    /// neighbours. At most half a chunk survives of them: counting from an earlier base makes records longer. If
    /// `thorough`, single chunks with anything dead as well.
    pub fn sparse_run(&self, mut at: usize, thorough: bool) -> Option<Range<usize>> {
        while at < self.chunks.len() {
            let mut end = at;
            let mut live = 0;
            let mut dead = 0;
            while let Some(Chunk { body: Body::Sealed(body), dead_bytes: chunk_dead, .. }) =
                self.chunks.get(end)
            {
                let chunk_live = body.len() - chunk_dead;
                if live + chunk_live > CHUNK_BYTES / 2 || end - at == RUN_CHUNKS_MAX {
                    break;
                }
                live += chunk_live;
                dead += chunk_dead;
                end += 1;
            }
            if end > at && (dead >= live || end - at > 1) {
                return Some(at..end);
            }
            let sealed = |chunk: &Chunk| matches!(chunk.body, Body::Sealed(_));
            if thorough && self.chunks[at].dead_bytes > 0 && sealed(&self.chunks[at]) {
                return Some(at..at + 1);
            }
            at = end.max(at + 1);
        }
        None
    }

    /// Copies the survivors of a run into one new chunk. `alive(record, position)` answers for a record that the index
    /// still names; what it gives comes back with the old and the new position. The log is as it was until
    /// [`Log::install`], and the index has to follow before it.
    pub fn gather<T>(
        &self,
        run: Range<usize>,
        mut alive: impl FnMut(&Record<'_>, Pos) -> Option<T>,
    ) -> Gathered<T> {
        let id = self.ids[run.start];
        let base = self.chunks[run.start].base;
        let live: usize = self.chunks[run.clone()].iter().map(|chunk| chunk.len() - chunk.dead_bytes).sum();
        let mut body = Vec::with_capacity(live + live / 16);
        let mut moved = Vec::new();
        let mut seen = 0;
        for at in run.clone() {
            let chunk = &self.chunks[at];
            let bytes = chunk.body.bytes();
            let mut offset = if chunk.dead_bytes == bytes.len() { bytes.len() } else { 0 };
            while offset < bytes.len() {
                let (record, len) = Record::decode(&bytes[offset..], chunk.base);
                let old = Pos::new(self.ids[at], offset, record.tombstone);
                if let Some(place) = alive(&record, old) {
                    moved.push((place, old, Pos::new(id, body.len(), record.tombstone)));
                    record.encode(base, &mut body);
                }
                offset += len;
                seen += 1;
            }
        }
        Gathered { run, base, body, moved, seen }
    }

    /// Puts a gathered chunk in the place of the first of the run it comes from; the others are left empty for
    /// [`Log::purge`].
    pub fn install(&mut self, run: Range<usize>, base: i64, body: Vec<u8>) {
        for at in run.clone() {
            let (id, chunk) = (self.ids[at], &mut self.chunks[at]);
            self.bytes -= chunk.len();
            self.dead -= chunk.dead_bytes;
            self.unsaved.emptied(id, chunk.unsaved, chunk.len(), chunk.stored);
            *chunk = Chunk { stored: chunk.stored, ..Chunk::new(chunk.base, Body::Sealed(Bytes::new())) };
        }
        if body.is_empty() {
            return;
        }
        self.bytes += body.len();
        let chunk = &mut self.chunks[run.start];
        *chunk = Chunk { stored: chunk.stored, ..Chunk::new(base, Body::Sealed(seal(body))) };
        let len = chunk.len();
        self.unsaved.appended(self.ids[run.start], &mut chunk.unsaved, len);
    }

    /// Drops empty chunks. Moves all others in memory, so once for many.
    pub fn purge(&mut self) {
        let mut kept = self.chunks.iter().map(|chunk| !chunk.body.bytes().is_empty());
        self.ids.retain(|_| kept.next().expect("each chunk has an id"));
        self.chunks.retain(|chunk| !chunk.body.bytes().is_empty());
    }
}

/// The survivors of a run of chunks.
pub struct Gathered<T> {
    pub run: Range<usize>,
    pub base: i64,
    pub body: Vec<u8>,
    /// Old and new position of each survivor.
    pub moved: Vec<(T, Pos, Pos)>,
    /// Records looked at.
    pub seen: usize,
}
