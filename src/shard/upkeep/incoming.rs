//! A checkpoint of another member on its way in place of the state.
//!
//! It waits for the store, is brought here and loaded beside what counts, is offered to Raft, and if that wants it, is
//! made the one that counts. What fails before the last step changes nothing.

use bytes::Bytes;

use crate::{
    consensus::{Baseline, LogPosition},
    env::Env,
    shard::{group, reply::Reply, serve::Arriving},
    state::{Commands, LoadError, StateMachine},
    storage::checkpoint::{CheckpointError, CheckpointStore, Export, Received},
};

use super::loader::Loader;

/// Why a checkpoint was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    #[error(transparent)]
    Files(#[from] CheckpointError),
    #[error("what it says of the state: {0}")]
    State(#[from] LoadError),
}

/// Whole and loaded, and nothing counts yet.
pub struct Arrived<E: Env> {
    pub baseline: Baseline,
    pub received: Received<E>,
    pub state: StateMachine,
}

#[derive(Default)]
pub enum Incoming<E: Env> {
    #[default]
    None,
    Waiting(Arriving),
    /// The task has the store.
    Receiving(Bytes, Reply<()>),
    /// Raft is to be asked.
    Arrived(Bytes, Box<Arrived<E>>, Reply<()>),
    /// Raft was asked.
    Offered(Box<Arrived<E>>, Reply<()>),
    /// The task has the store.
    Installing(Box<StateMachine>, Reply<()>),
}

/// Brings it here, to a member that knows these commands.
pub async fn receive<E: Env>(
    store: &mut CheckpointStore<E>,
    export: &mut dyn Export,
    commands: Commands,
) -> Result<Box<Arrived<E>>, ReceiveError> {
    let received = store.receive(export).await?;
    let mut loader = Loader::new(commands);
    received.read(&mut loader).await?;
    let summary = received.summary();
    let state = loader.finish(summary)?;
    let position = LogPosition { index: summary.applied, term: summary.term };
    let baseline = Baseline { position, config: group::config(state.cluster()) };
    Ok(Box::new(Arrived { baseline, received, state }))
}
