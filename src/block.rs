//! What the replicated state is made of on disk: blocks, each named by its space and a number.
//!
//! The one form in which a space gives its content to a checkpoint and takes it back. Storage knows neither what is in a
//! block nor what a space is; a space knows nothing of files.

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

/// A part of the replicated state. The number is on disk and never used for anything else.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceId(pub u8);

/// Name of a block. A number that was given up is not used again within its space.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId {
    pub space: SpaceId,
    pub number: u64,
}

impl From<&ArchivedBlockId> for BlockId {
    fn from(archived: &ArchivedBlockId) -> Self {
        Self { space: SpaceId(archived.space.0), number: archived.number.to_native() }
    }
}

/// A block as a checkpoint has it. What `meta` and `body` say is its space's business; a body is long and seldom
/// written, meta is short and may be replaced alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub id: BlockId,
    pub meta: Vec<u8>,
    /// May lie in a mapped file.
    pub body: Bytes,
}

/// A difference to the checkpoint before. Of several for one block the later ones count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockChange {
    /// The block is new, or has this content now.
    Write(Block),
    /// The body stays, with this meta in place of the one before.
    Meta { id: BlockId, meta: Vec<u8> },
    /// The block is gone. Naming one that was never in a checkpoint is fine.
    Drop { id: BlockId },
}
