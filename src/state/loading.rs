//! A state on its way from a checkpoint's blocks to one that can be used.

use prost::Message;

use super::{
    StateMachine, cluster,
    cluster::Cluster,
    mvcc::{self, Mark},
    space::Facts,
};
use crate::{
    block::{Block, SpaceId},
    types::LogIndex,
};

/// Facts that do not make a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("it cannot be decoded: {0}")]
    Malformed(#[from] prost::DecodeError),
    #[error("it says nothing of the history")]
    NoHistory,
    #[error(
        "it has a part {0}, which this release does not know: start the release that wrote it, or a newer one"
    )]
    Unknown(u32),
}

#[derive(Default)]
pub struct Loading {
    history: mvcc::Loading,
    cluster: Cluster,
}

impl Loading {
    /// `bytes`: of all bodies to come.
    pub fn expect(&mut self, bytes: usize) {
        self.history.expect(bytes);
    }

    /// Adds a block, in any order.
    pub fn take(&mut self, block: &Block) -> Result<(), &'static str> {
        match block.id.space {
            mvcc::SPACE => self.history.take(block),
            cluster::SPACE => {
                self.cluster = Cluster::load(block)?;
                Ok(())
            }
            SpaceId(_) => Err(
                "it is of a part that this release does not know: start the release that wrote it, or a newer one",
            ),
        }
    }

    /// The state that gave the blocks and the facts.
    pub fn finish(self, applied: LogIndex, facts: &[u8]) -> Result<StateMachine, LoadError> {
        let facts = Facts::decode(facts)?;
        let known = [mvcc::SPACE, cluster::SPACE].map(|space| u32::from(space.0));
        if let Some(unknown) = facts.spaces().find(|space| !known.contains(space)) {
            return Err(LoadError::Unknown(unknown));
        }
        let mark = facts.of(mvcc::SPACE).and_then(Mark::decode).ok_or(LoadError::NoHistory)?;
        Ok(StateMachine::load(applied, self.history.finish(mark), self.cluster))
    }
}
