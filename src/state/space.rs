//! The parts of the replicated state, as a checkpoint sees them: each gives what changed in it as blocks and takes them
//! back, and none knows of another.
//!
//! A checkpoint is incremental for each: it is handed what changed since the one before, in one go, and becomes durable
//! while the state goes on. Then the heap's copies may be given up for what is mapped, or the same changes are due again.

use bytes::Bytes;
use prost::Message;

use crate::block::{BlockChange, SpaceId};

/// What no checkpoint has yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsaved {
    /// Of bodies.
    pub bytes: usize,
    /// Upper bound of the number of changes a checkpoint would have now.
    pub blocks: usize,
}

pub trait Space {
    fn id(&self) -> SpaceId;

    fn unsaved(&self) -> Unsaved;

    /// Everything that changed since the last call. One checkpoint is under way until it is [`saved`](Space::saved) or
    /// [`not saved`](Space::not_saved).
    fn changes(&mut self) -> Vec<BlockChange>;

    /// The last changes are durable.
    fn saved(&mut self);

    /// The last changes did not become durable: they are due again.
    fn not_saved(&mut self);

    /// The block's body lies at `mapped` as well: the heap's copy may be given up, unless it has changed since.
    fn place(&mut self, number: u64, mapped: Bytes);

    /// What it needs to know of itself besides blocks; short, and of the moment of the last changes.
    fn facts(&self) -> Vec<u8>;
}

/// The facts of all spaces.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Facts {
    #[prost(message, repeated, tag = "1")]
    spaces: Vec<SpaceFacts>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct SpaceFacts {
    #[prost(uint32, tag = "1")]
    space: u32,
    #[prost(bytes = "vec", tag = "2")]
    facts: Vec<u8>,
}

impl Facts {
    pub fn add(&mut self, space: SpaceId, facts: Vec<u8>) {
        self.spaces.push(SpaceFacts { space: space.0.into(), facts });
    }

    pub fn of(&self, space: SpaceId) -> Option<&[u8]> {
        let found = self.spaces.iter().find(|facts| facts.space == u32::from(space.0))?;
        Some(&found.facts)
    }

    /// The spaces it tells of.
    pub fn spaces(&self) -> impl Iterator<Item = u32> {
        self.spaces.iter().map(|facts| facts.space)
    }
}
