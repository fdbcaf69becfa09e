//! The blocks of a checkpoint on their way back into a state.

use crate::{
    block::Block,
    state::{Commands, LoadError, Loading, StateMachine},
    storage::checkpoint::{Restore, Summary},
};

pub struct Loader(Loading);

impl Restore for Loader {
    fn expect(&mut self, body_bytes: u64) {
        self.0.expect(body_bytes as usize);
    }

    fn take(&mut self, block: Block) -> Result<(), &'static str> {
        self.0.take(&block)
    }
}

impl Loader {
    /// For a member that knows these commands.
    pub fn new(commands: Commands) -> Self {
        Self(Loading::of(commands))
    }

    /// The state the checkpoint was taken of.
    pub fn finish(self, summary: &Summary) -> Result<StateMachine, LoadError> {
        self.0.finish(summary.applied, &summary.facts)
    }
}
