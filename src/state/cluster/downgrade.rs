//! The cluster is to go down to the release before, or is not any more (`membership.DowngradeInfo` in etcd v3.7).

use std::task::Poll;

use prost::Message;

use super::Release;
use crate::state::{
    Error, StateMachine,
    command::{Command, Context, Kind, Needs, Principal},
    outcome::Outcome,
};

#[derive(Clone, PartialEq, Message)]
pub struct SetDowngrade {
    /// None ends it.
    #[prost(message, optional, tag = "1")]
    pub target: Option<Release>,
}

impl Command for SetDowngrade {
    type Answer = ();
    type Progress = ();
    const KIND: Kind = Kind::first(44);

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    /// Who may is seen where it is admitted.
    fn permits(&self, _: &StateMachine, _: &Principal) -> Result<(), Error> {
        Ok(())
    }

    fn apply(
        &self,
        (): &mut (),
        state: &mut StateMachine,
        _: Context<'_>,
        _: &mut Outcome,
    ) -> Poll<Result<(), Error>> {
        let cluster = state.cluster_mut();
        cluster.unsaved |= cluster.downgrade != self.target;
        cluster.downgrade = self.target;
        Poll::Ready(Ok(()))
    }
}
