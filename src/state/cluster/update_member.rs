//! Where the other members find one of them. Who votes stays as it is, so it is no change for Raft.

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
pub struct UpdateMember {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(string, repeated, tag = "2")]
    pub peer_urls: Vec<String>,
}

impl Command for UpdateMember {
    /// All members there are then.
    type Answer = Vec<pb::Member>;
    type Progress = ();
    const KIND: Kind = Kind::first(43);

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
        let known = cluster.known(self.id)?.clone();
        cluster.check_peer_urls(self.id, &self.peer_urls)?;
        cluster.set_member(pb::Member { peer_ur_ls: self.peer_urls.clone(), ..known });
        outcome.changes.push(Change::Members);
        Poll::Ready(Ok(state.cluster().all()))
    }
}
