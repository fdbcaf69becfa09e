//! `LeaseGrant` (etcd v3.7 server/lease/lessor.go). The shortest time there is depends on a flag: whoever proposes a grant
//! has seen to it.

use std::task::Poll;

use super::pages::Lease;
use crate::{
    limits,
    pb::etcdserverpb as pb,
    state::{
        Error, StateMachine,
        command::{Command, Context, Kind, Needs, Principal},
        kv::header,
        outcome::{Change, Outcome},
    },
};

impl Command for pb::LeaseGrantRequest {
    type Answer = pb::LeaseGrantResponse;
    type Progress = ();
    const KIND: Kind = Kind::first(20);

    fn needs(&self) -> Needs {
        Needs::Space
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
        let &Self { id, ttl } = self;
        outcome.visited += 1;
        if id == 0 {
            return Poll::Ready(Err(Error::LeaseNotFound));
        }
        if ttl > limits::LEASE_TTL_MAX {
            return Poll::Ready(Err(Error::LeaseTtlTooLarge));
        }
        let header = Some(header(state.revision().0));
        let leases = state.leases_mut();
        if leases.contains(id) {
            return Poll::Ready(Err(Error::LeaseExists));
        }
        let lease = Lease { id, ttl, remaining: 0 };
        let place = leases.add(lease);
        outcome.changes.push(Change::LeaseGranted { place, lease });
        Poll::Ready(Ok(pb::LeaseGrantResponse { header, id, ttl, error: String::new() }))
    }
}
