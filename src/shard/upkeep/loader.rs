//! The blocks of a checkpoint on their way back into a state.

use crate::{
    block::Block,
    state::{LoadError, Loading, StateMachine},
    storage::checkpoint::{Restore, Summary},
};

#[derive(Default)]
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
    /// The state the checkpoint was taken of.
    pub fn finish(self, summary: &Summary) -> Result<StateMachine, LoadError> {
        self.0.finish(summary.applied, &summary.facts)
    }
}
