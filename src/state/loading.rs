//! A state on its way from a checkpoint's blocks to one that can be used.

use prost::Message;

use super::{
    StateMachine,
    auth::{self, Auth},
    cluster,
    cluster::Cluster,
    commands::Commands,
    lease::{self, Leases},
    mvcc::{self, Mark},
    space::Facts,
    v2,
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
    #[error(transparent)]
    Auth(#[from] auth::Senseless),
    #[error("it says nothing of the history")]
    NoHistory,
    #[error("what it says of leases makes no sense")]
    Leases,
    #[error("what it says of the v2 tree makes no sense")]
    V2,
    #[error(
        "it has a part {0}, which this release does not know: start the release that wrote it, or a newer one"
    )]
    Unknown(u32),
}

#[derive(Default)]
pub struct Loading {
    commands: Commands,
    history: mvcc::Loading,
    leases: Leases,
    auth: Auth,
    cluster: Cluster,
    v2: v2::Tree,
}

impl Loading {
    /// For a release that knows these commands.
    pub fn of(commands: Commands) -> Self {
        Self { commands, ..Self::default() }
    }

    /// `bytes`: of all bodies to come.
    pub fn expect(&mut self, bytes: usize) {
        self.history.expect(bytes);
    }

    /// Adds a block, in any order.
    pub fn take(&mut self, block: &Block) -> Result<(), &'static str> {
        match block.id.space {
            mvcc::SPACE => self.history.take(block),
            lease::SPACE => self.leases.load(block),
            auth::SPACE => self.auth.take(block),
            v2::SPACE => self.v2.load(block),
            cluster::SPACE => {
                self.cluster = Cluster::load(block, self.commands.newest())?;
                Ok(())
            }
            SpaceId(_) => Err(
                "it is of a part that this release does not know: start the release that wrote it, or a newer one",
            ),
        }
    }

    /// The state that gave the blocks and the facts.
    pub fn finish(mut self, applied: LogIndex, facts: &[u8]) -> Result<StateMachine, LoadError> {
        let facts = Facts::decode(facts)?;
        let known = [mvcc::SPACE, lease::SPACE, auth::SPACE, cluster::SPACE, v2::SPACE];
        let known = known.map(|space| u32::from(space.0));
        if let Some(unknown) = facts.spaces().find(|space| !known.contains(space)) {
            return Err(LoadError::Unknown(unknown));
        }
        let mark = facts.of(mvcc::SPACE).and_then(Mark::decode).ok_or(LoadError::NoHistory)?;
        // A checkpoint from before there were leases says nothing of them.
        if facts.of(lease::SPACE).is_some_and(|facts| !self.leases.take_facts(facts)) {
            return Err(LoadError::Leases);
        }
        let leased = self.history.take_leased();
        let history = self.history.finish(mark);
        for (lease, key) in leased.into_iter().filter_map(|pos| history.attachment(pos)) {
            self.leases.attach(0, lease, key);
        }
        match facts.of(auth::SPACE) {
            Some(facts) => self.auth.set_facts(facts)?,
            // Of a release without users, or a backup's.
            None if self.auth.is_empty() => {}
            None => return Err(auth::Senseless.into()),
        }
        match facts.of(v2::SPACE) {
            Some(facts) if self.v2.finish(facts) => {}
            // Nobody has used it.
            None if self.v2.is_empty() => {}
            _ => return Err(LoadError::V2),
        }
        let state = StateMachine::of(self.commands);
        Ok(state.load(applied, (history, self.leases), self.auth, self.cluster).with_v2(self.v2))
    }
}
