//! What of the log the newest checkpoint does not have, and the way there and back.
//!
//! A checkpoint is a list of [`BlockChange`]s to the chunks of the one before it, taken in one go; it becomes durable
//! while the log goes on. Then [`Log::saved`] and [`Log::place`] give up the heap's copy of what is on disk, or
//! [`Log::not_saved`] makes the same changes due again.

use bytes::Bytes;

use super::{Body, Chunk, Log, meta};
use crate::{
    block::{Block, BlockChange, BlockId},
    state::mvcc::SPACE,
};

/// What the newest checkpoint, finished or under way, lacks of one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsaved {
    Nothing,
    Dead,
    Image,
}

/// Bookkeeping over all chunks.
#[derive(Debug, Default)]
pub struct Unsaveds {
    /// Every chunk that lacks something, and some that do not any more.
    ids: Vec<u64>,
    /// Chunks that are gone while a checkpoint has them.
    dropped: Vec<u64>,
    /// Bytes of the images that are missing.
    bytes: usize,
    taken: Option<Taken>,
}

/// What the checkpoint under way is to write.
#[derive(Debug, Default)]
struct Taken {
    images: Vec<u64>,
    dead: Vec<u64>,
    dropped: Vec<u64>,
}

impl Unsaveds {
    pub fn appended(&mut self, id: u64, unsaved: &mut Unsaved, bytes: usize) {
        self.due(id, unsaved, Unsaved::Image);
        self.bytes += bytes;
    }

    pub fn died(&mut self, id: u64, unsaved: &mut Unsaved) {
        if *unsaved == Unsaved::Nothing {
            self.due(id, unsaved, Unsaved::Dead);
        }
    }

    pub fn emptied(&mut self, id: u64, unsaved: Unsaved, bytes: usize, stored: bool) {
        if unsaved == Unsaved::Image {
            self.bytes -= bytes;
        }
        if stored {
            self.dropped.push(id);
        }
    }

    fn due(&mut self, id: u64, unsaved: &mut Unsaved, what: Unsaved) {
        if *unsaved == Unsaved::Nothing {
            self.ids.push(id);
        }
        *unsaved = what;
    }
}

impl Log {
    /// Above every chunk there ever was.
    pub fn next_chunk(&self) -> u64 {
        self.next_id
    }

    /// Bytes of chunks no checkpoint has the image of.
    pub fn unsaved_bytes(&self) -> usize {
        self.unsaved.bytes
    }

    /// Upper bound of the number of changes a checkpoint would have now.
    pub fn unsaved_chunks(&self) -> usize {
        self.unsaved.ids.len() + self.unsaved.dropped.len()
    }

    /// Everything that changed since the last call. One checkpoint is under way until it is
    /// [`saved`](Log::saved) or [`not saved`](Log::not_saved).
    pub fn changes(&mut self) -> Vec<BlockChange> {
        assert!(self.unsaved.taken.is_none(), "one checkpoint at a time");
        let mut taken = Taken::default();
        let mut changes = Vec::with_capacity(self.unsaved_chunks());
        for id in std::mem::take(&mut self.unsaved.ids) {
            let Ok(at) = self.ids.binary_search(&id) else { continue };
            let chunk = &mut self.chunks[at];
            let block = BlockId { space: SPACE, number: id };
            match chunk.unsaved {
                Unsaved::Nothing => {}
                Unsaved::Dead => {
                    chunk.unsaved = Unsaved::Nothing;
                    taken.dead.push(id);
                    changes
                        .push(BlockChange::Meta { id: block, meta: meta::encode(chunk.base, &chunk.dead) });
                }
                Unsaved::Image => {
                    let body = match &chunk.body {
                        Body::Sealed(bytes) => {
                            chunk.unsaved = Unsaved::Nothing;
                            self.unsaved.bytes -= bytes.len();
                            bytes.clone()
                        }
                        // It goes on growing, and is due again with the next checkpoint.
                        Body::Open(bytes) => {
                            self.unsaved.ids.push(id);
                            Bytes::copy_from_slice(bytes)
                        }
                    };
                    chunk.stored = true;
                    taken.images.push(id);
                    let meta = meta::encode(chunk.base, &chunk.dead);
                    changes.push(BlockChange::Write(Block { id: block, meta, body }));
                }
            }
        }
        let mut dropped = std::mem::take(&mut self.unsaved.dropped);
        dropped.sort_unstable();
        dropped.dedup();
        for id in dropped {
            // A chunk that took the place of a dropped one has just been written.
            if self.ids.binary_search(&id).is_err() || self.is_empty(id) {
                taken.dropped.push(id);
                changes.push(BlockChange::Drop { id: BlockId { space: SPACE, number: id } });
            }
        }
        self.unsaved.taken = Some(taken);
        changes
    }

    fn is_empty(&self, id: u64) -> bool {
        self.ids.binary_search(&id).is_ok_and(|at| self.chunks[at].len() == 0)
    }

    /// The last [`Log::changes`] are durable.
    pub fn saved(&mut self) {
        self.unsaved.taken = None;
    }

    /// The last [`Log::changes`] did not become durable: they are due again.
    pub fn not_saved(&mut self) {
        let taken = self.unsaved.taken.take().expect("a checkpoint was under way");
        for id in taken.images {
            let Ok(at) = self.ids.binary_search(&id) else { continue };
            let Chunk { unsaved, body, .. } = &mut self.chunks[at];
            if !body.bytes().is_empty() && *unsaved != Unsaved::Image {
                self.unsaved.appended(id, unsaved, body.bytes().len());
            }
        }
        for id in taken.dead {
            let Ok(at) = self.ids.binary_search(&id) else { continue };
            let Chunk { unsaved, body, .. } = &mut self.chunks[at];
            if !body.bytes().is_empty() {
                self.unsaved.died(id, unsaved);
            }
        }
        self.unsaved.dropped.extend(taken.dropped);
    }

    /// The chunk's image lies at `mapped` as well: the heap's copy is given up, unless the chunk has changed since.
    pub fn place(&mut self, id: u64, mapped: Bytes) {
        let Ok(at) = self.ids.binary_search(&id) else { return };
        let chunk = &mut self.chunks[at];
        if let Body::Sealed(bytes) = &mut chunk.body
            && chunk.unsaved != Unsaved::Image
            && !bytes.is_empty()
        {
            assert_eq!(bytes.len(), mapped.len(), "chunk {id} on disk is not the one that was written");
            *bytes = mapped;
        }
    }
}
