//! A member does not belong to the cluster any more, and its id never will again.

use std::task::Poll;

use prost::Message;

use crate::{
    pb::etcdserverpb as pb,
    state::{
        Error, StateMachine,
        command::{Command, Context, Kind, Needs, Principal},
        outcome::{Change, Outcome},
    },
};

#[derive(Clone, PartialEq, Message)]
pub struct RemoveMember {
    #[prost(uint64, tag = "1")]
    pub id: u64,
}

impl Command for RemoveMember {
    /// All members there are then.
    type Answer = Vec<pb::Member>;
    type Progress = ();
    const KIND: Kind = Kind::first(41);

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    /// The last one with a vote stays: without it nothing would ever be decided.
    /// Who may is seen where it is admitted.
    fn permits(&self, _: &StateMachine, _: &Principal) -> Result<(), Error> {
        Ok(())
    }

    fn apply(
        &self,
        (): &mut (),
        state: &mut StateMachine,
        _: Context<'_>,
        outcome: &mut Outcome,
    ) -> Poll<Result<Self::Answer, Error>> {
        let cluster = state.cluster_mut();
        cluster.known(self.id)?;
        if cluster.members().all(|member| member.is_learner || member.id == self.id) {
            return Poll::Ready(Err(Error::NotEnoughStarted));
        }
        cluster.members.remove(&self.id);
        cluster.removed.insert(self.id);
        cluster.unsaved = true;
        outcome.changes.push(Change::Members);
        Poll::Ready(Ok(state.cluster().all()))
    }
}
