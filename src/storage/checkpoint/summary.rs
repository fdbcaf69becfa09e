//! What goes into a checkpoint and what comes out besides blocks: plain values, the same whatever the format on disk.

use bytes::Bytes;

use crate::{
    block::{Block, BlockChange, BlockId},
    types::{LogIndex, Term},
};

/// What a checkpoint says besides blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Last entry of the log that is in the state, and its term.
    pub applied: LogIndex,
    pub term: Term,
    /// What the state needs to know besides its blocks; a few hundred bytes.
    pub facts: Vec<u8>,
    /// It was received from another member: this one's log may end before it.
    pub received: bool,
}

/// A state of the shard, as a difference to the one before.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    pub summary: Summary,
    pub changes: Vec<BlockChange>,
}

/// Takes the blocks of a checkpoint while they are read.
pub trait Restore {
    /// The bytes of all bodies to come.
    fn expect(&mut self, body_bytes: u64);
    /// The next block, in no order. Its checksum was right; if it makes no sense all the same, says why.
    fn take(&mut self, block: Block) -> Result<(), &'static str>;
}

impl Restore for Vec<Block> {
    fn expect(&mut self, _body_bytes: u64) {}

    fn take(&mut self, block: Block) -> Result<(), &'static str> {
        self.push(block);
        Ok(())
    }
}

/// What writing a checkpoint did.
#[derive(Clone, Debug)]
pub struct Saved {
    /// Where each block that was written, or moved by a merge, is now: its body in the new mapping.
    pub placed: Vec<(BlockId, Bytes)>,
    /// As [`CheckpointStore::bytes_on_disk`](super::CheckpointStore::bytes_on_disk).
    pub bytes_on_disk: u64,
    /// Bytes this checkpoint wrote, the manifest included.
    pub written_bytes: u64,
    /// The part of them that only moved from older segments.
    pub carried_bytes: u64,
}
