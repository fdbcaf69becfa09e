//! A member of the cluster, as the log's configuration changes bring it: the change says to Raft who votes, this to
//! everybody else who it is.

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
pub struct AddMember {
    #[prost(message, optional, tag = "1")]
    pub member: Option<pb::Member>,
}

impl Command for AddMember {
    type Answer = ();
    type Progress = ();
    const KIND: Kind = Kind::first(6);

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    /// It is the member's own.
    fn permits(&self, _: &StateMachine, _: &Principal) -> Result<(), Error> {
        Ok(())
    }

    fn apply(
        &self,
        (): &mut (),
        state: &mut StateMachine,
        _: Context<'_>,
        outcome: &mut Outcome,
    ) -> Poll<Result<(), Error>> {
        if let Some(member) = &self.member {
            state.cluster_mut().set_member(member.clone());
            outcome.changes.push(Change::Members);
        }
        Poll::Ready(Ok(()))
    }
}
