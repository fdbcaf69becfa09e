//! The tree as a space of the state.

use bytes::Bytes;
use prost::Message;

use super::{Counts, SPACE, Tree, history::is_run};
use crate::{
    block::{Block, BlockChange, SpaceId},
    state::space::{Space, Unsaved},
};

#[derive(Clone, PartialEq, Message)]
struct Facts {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    history_start: u64,
    #[prost(uint64, tag = "3")]
    next_page: u64,
    #[prost(uint64, repeated, tag = "4")]
    counts: Vec<u64>,
}

impl Space for Tree {
    fn id(&self) -> SpaceId {
        SPACE
    }

    fn unsaved(&self) -> Unsaved {
        let (nodes, history) = (self.nodes.unsaved(), self.history.unsaved());
        Unsaved { bytes: nodes.bytes + history.bytes, blocks: nodes.blocks + history.blocks }
    }

    fn changes(&mut self) -> Vec<BlockChange> {
        let mut changes = self.nodes.changes();
        changes.append(&mut self.history.changes(self.index));
        changes
    }

    fn saved(&mut self) {
        self.nodes.saved();
        self.history.saved();
    }

    fn not_saved(&mut self) {
        self.nodes.not_saved();
        self.history.not_saved();
    }

    /// Values stay where they are.
    fn place(&mut self, _: u64, _: Bytes) {}

    fn facts(&self) -> Vec<u8> {
        let Self { index, nodes, history, counts, .. } = self;
        let (history_start, next_page, counts) = (history.start(), nodes.next_page(), counts.list());
        Facts { index: *index, history_start, next_page, counts }.encode_to_vec()
    }
}

impl Tree {
    /// Adds a block, in any order; [`Tree::finish`] follows.
    pub fn load(&mut self, block: &Block) -> Result<(), &'static str> {
        match is_run(block.id.number) {
            true => self.history.load(block),
            false => self.nodes.load(block),
        }
    }

    /// All blocks have come. False if they make no tree.
    pub fn finish(&mut self, facts: &[u8]) -> bool {
        let Ok(Facts { index, history_start, next_page, counts }) = Facts::decode(facts) else {
            return false;
        };
        let Some(counts) = Counts::of(&counts) else { return false };
        self.counts = counts;
        let Self { nodes, ending, history, .. } = self;
        self.index = index;
        history.finish(history_start, index);
        let link = |expires, id| {
            ending.insert((expires, id));
        };
        index > 0 && nodes.link(index, next_page, link)
    }
}
