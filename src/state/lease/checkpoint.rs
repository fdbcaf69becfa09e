//! How long leases still had to live at some time, so that a new leader does not grant them all of it again (etcd v3.7
//! server/lease/lessor.go).

use std::task::Poll;

use crate::{
    pb::etcdserverpb as pb,
    state::{
        Error, StateMachine,
        command::{Command, Context, Kind, Needs, Principal},
        kv::header,
        outcome::Outcome,
    },
};

impl Command for pb::LeaseCheckpointRequest {
    type Answer = pb::LeaseCheckpointResponse;
    type Progress = ();
    const KIND: Kind = Kind::first(22);

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    /// A lease that is gone has nothing to note. The leader bounds how many there are.
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
    ) -> Poll<Result<Self::Answer, Error>> {
        let leases = state.leases_mut();
        for pb::LeaseCheckpoint { id, remaining_ttl } in &self.checkpoints {
            outcome.visited += 1;
            leases.set_remaining(*id, *remaining_ttl);
        }
        Poll::Ready(Ok(pb::LeaseCheckpointResponse { header: Some(header(state.revision().0)) }))
    }
}
