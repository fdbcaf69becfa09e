//! What goes into a snapshot and what comes out: plain values, the same whatever the format on disk.

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

use crate::types::{LogIndex, Term};

/// What a checkpoint says besides chunks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Last entry of the log that is in the state, and its term.
    pub applied: LogIndex,
    pub term: Term,
    /// Current revision of the keyspace.
    pub revision: i64,
    /// Reads below this revision are refused.
    pub compacted: i64,
    /// Everything below this revision has been freed.
    pub freed: i64,
    /// Id of the next chunk.
    pub next_chunk: u64,
    pub members: Vec<MemberFact>,
    pub conf: Conf,
    pub alarms: Vec<AlarmFact>,
}

/// What every member knows of another.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberFact {
    pub id: u64,
    pub name: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
    pub is_learner: bool,
}

/// Raft's configuration at the applied index (`ConfState` in raft-rs).
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Conf {
    pub voters: Vec<u64>,
    pub learners: Vec<u64>,
    pub voters_outgoing: Vec<u64>,
    pub learners_next: Vec<u64>,
    pub auto_leave: bool,
}

/// An alarm that is raised; `alarm` is etcd's number for its kind.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlarmFact {
    pub member: u64,
    pub alarm: i32,
}

/// One change of the chunks since the last checkpoint that succeeded. Of several for one chunk the
/// later ones count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The chunk is new or has a new body.
    Write { chunk: u64, base: i64, body: Bytes, dead: Vec<u16> },
    /// The list of dead records of a chunk is now this one; its body stays.
    Dead { chunk: u64, dead: Vec<u16> },
    /// The chunk is gone. Naming one that was never in a checkpoint is fine.
    Drop { chunk: u64 },
}

/// A state of the shard, as a difference to the one before.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    pub facts: Facts,
    pub changes: Vec<Change>,
}

/// One chunk as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub chunk: u64,
    pub base: i64,
    /// A slice of the mapped segment.
    pub body: Bytes,
    /// Offsets of dead records, ascending.
    pub dead: Vec<u16>,
}

/// Takes the chunks of the last checkpoint while they are read.
pub trait Restore {
    /// The bytes of all bodies to come.
    fn expect(&mut self, body_bytes: u64);
    /// The next chunk, in no order. Its checksum was right.
    fn take(&mut self, block: Block);
}

impl Restore for Vec<Block> {
    fn expect(&mut self, _body_bytes: u64) {}

    fn take(&mut self, block: Block) {
        self.push(block);
    }
}

/// What a checkpoint did.
#[derive(Clone, Debug)]
pub struct Saved {
    /// Where each chunk that was written, or moved by a merge, is now: its body in the new mapping.
    pub placed: Vec<(u64, Bytes)>,
    /// As [`CheckpointStore::bytes_on_disk`](super::CheckpointStore::bytes_on_disk).
    pub bytes_on_disk: u64,
    /// Bytes this checkpoint wrote, the manifest included.
    pub written_bytes: u64,
    /// The part of them that only moved from older segments.
    pub carried_bytes: u64,
}
