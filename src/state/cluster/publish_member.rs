//! What a member tells the others of itself: its name and where its clients find it. They follow its flags, so it says
//! so at a start if they are not what is known.

use std::task::Poll;

use prost::Message;

use crate::state::{
    Error, StateMachine,
    command::{Command, Context, Kind, Needs, Principal},
    outcome::{Change, Outcome},
};
use crate::{pb::etcdserverpb as pb, types::MemberId};

#[derive(Clone, PartialEq, Message)]
pub struct PublishMember {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, repeated, tag = "3")]
    pub client_urls: Vec<String>,
}

impl Command for PublishMember {
    type Answer = ();
    type Progress = ();
    const KIND: Kind = Kind::first(7);

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    /// A member that was removed meanwhile tells nothing any more.
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
        if let Some(known) = state.cluster().member(MemberId(self.id)) {
            let member = pb::Member {
                name: self.name.clone(),
                client_ur_ls: self.client_urls.clone(),
                ..known.clone()
            };
            state.cluster_mut().set_member(member);
            outcome.changes.push(Change::Members);
        }
        Poll::Ready(Ok(()))
    }
}
