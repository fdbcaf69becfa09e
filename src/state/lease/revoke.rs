//! `LeaseRevoke`: a lease goes, and its keys with it, in their order and in one revision (etcd v3.7
//! server/lease/lessor.go). One with very many keys goes step by step, as a write that pauses.

use std::task::Poll;

use crate::{
    pb::etcdserverpb as pb,
    state::{
        Error, StateMachine,
        auth::Access,
        command::{Command, Context, Kind, Needs, Principal},
        kv::{Work, header},
        mvcc::Writing,
        outcome::{Change, Outcome},
    },
};

impl Command for pb::LeaseRevokeRequest {
    type Answer = pb::LeaseRevokeResponse;
    type Progress = Revocation;
    const KIND: Kind = Kind::first(21);

    fn needs(&self) -> Needs {
        Needs::Integrity
    }

    /// Its keys go with it.
    fn permits(&self, state: &StateMachine, who: &Principal) -> Result<(), Error> {
        Ok(state.asking(who).lease(Access::Write, self.id)?)
    }

    fn apply(
        &self,
        revocation: &mut Revocation,
        state: &mut StateMachine,
        context: Context<'_>,
        outcome: &mut Outcome,
    ) -> Poll<Result<Self::Answer, Error>> {
        if !state.leases().contains(self.id) {
            outcome.visited += 1;
            return Poll::Ready(Err(Error::LeaseNotFound));
        }
        if !revocation.step(self.id, state, context.keys, outcome) {
            return Poll::Pending;
        }
        Poll::Ready(Ok(pb::LeaseRevokeResponse { header: Some(header(state.revision().0)) }))
    }
}

/// How far the end of one lease has come.
#[derive(Default)]
pub struct Revocation {
    /// Its keys are being deleted.
    writing: Option<Writing>,
    pub keys: u64,
}

impl Revocation {
    /// Goes on by about `keys` keys. True once the lease, which must be there, is gone.
    pub fn step(&mut self, id: i64, state: &mut StateMachine, keys: usize, outcome: &mut Outcome) -> bool {
        let (history, leases) = state.keys_mut();
        let mut work = Work::new(keys, &mut outcome.visited);
        if self.writing.is_some() || leases.key_count(id) > 0 {
            let mut write = match self.writing.take() {
                Some(writing) => history.resume(writing),
                None => history.write(),
            };
            while !work.is_over()
                && let Some(key) = leases.pop_key(id)
            {
                work.spend(1);
                self.keys += 1;
                outcome.operations.deletes += 1;
                write.delete_key(&key);
            }
            if leases.key_count(id) > 0 {
                self.writing = Some(write.pause());
                return false;
            }
            outcome.changes.extend(write.end().map(Change::Versions));
        }
        work.spend(1);
        let place = leases.remove(id).expect("it is revoked once");
        outcome.changes.push(Change::LeaseGone { place });
        true
    }
}
