//! A learner gets a vote. Whether it has come far enough for that is known to the leader alone, and looked at before.

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
pub struct PromoteMember {
    #[prost(uint64, tag = "1")]
    pub id: u64,
}

impl Command for PromoteMember {
    /// All members there are then.
    type Answer = Vec<pb::Member>;
    type Progress = ();
    const KIND: Kind = Kind::first(42);

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
        outcome: &mut Outcome,
    ) -> Poll<Result<Self::Answer, Error>> {
        let cluster = state.cluster_mut();
        let learner = cluster.known(self.id)?;
        if !learner.is_learner {
            return Poll::Ready(Err(Error::MemberNotLearner));
        }
        cluster.set_member(pb::Member { is_learner: false, ..learner.clone() });
        outcome.changes.push(Change::Members);
        Poll::Ready(Ok(state.cluster().all()))
    }
}
