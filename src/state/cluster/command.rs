//! Commands that change what is known of the cluster, and nothing else: one step each, which needs nothing.

use std::task::Poll;

use prost::Message;

use super::Cluster;
use crate::state::{
    Error, StateMachine,
    command::{Command, Context, Kind, Needs, Principal},
    outcome::{Change, Outcome},
};

/// A [`Command`] of the members themselves, or of whom a member has let in.
pub trait ClusterCommand: Message + Default + 'static {
    type Answer: 'static;
    const KIND: Kind;

    /// What is refused changes nothing.
    fn change(&self, cluster: &mut Cluster, changes: &mut Vec<Change>) -> Result<Self::Answer, Error>;
}

impl<C: ClusterCommand> Command for C {
    type Answer = <C as ClusterCommand>::Answer;
    type Progress = ();
    const KIND: Kind = <C as ClusterCommand>::KIND;

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    /// It is a member's own, or who may was seen where it was admitted.
    fn permits(&self, _: &StateMachine, _: &Principal) -> Result<(), Error> {
        Ok(())
    }

    fn apply(
        &self,
        (): &mut (),
        state: &mut StateMachine,
        _: Context<'_>,
        outcome: &mut Outcome,
    ) -> Poll<Result<<C as ClusterCommand>::Answer, Error>> {
        let before = outcome.changes.len();
        let changed = self.change(state.cluster_mut(), &mut outcome.changes);
        let of_members = |change: &&Change| **change == Change::Members;
        state.raise_v2(outcome.changes[before..].iter().filter(of_members).count() as u64);
        Poll::Ready(changed)
    }
}
