//! `LeaseRevoke`: a lease goes, and its keys with it, in their order and in one revision (etcd v3.7
//! server/lease/lessor.go). One with very many keys goes step by step, as a write that pauses.

use std::task::Poll;

use super::leases::Removed;
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
        match revocation.step(self.id, state, context.keys, outcome) {
            Stepped::Pending => Poll::Pending,
            Stepped::NotThere => Poll::Ready(Err(Error::LeaseNotFound)),
            Stepped::Gone => {
                Poll::Ready(Ok(pb::LeaseRevokeResponse { header: Some(header(state.revision().0)) }))
            }
        }
    }
}

/// How far the end of one lease has come.
#[derive(Default)]
pub struct Revocation {
    /// Its keys are being deleted.
    writing: Option<Writing>,
    pub keys: u64,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepped {
    Pending,
    /// The lease has ended.
    Gone,
    /// There was none.
    NotThere,
}

impl Revocation {
    /// Goes on by about `keys` keys.
    pub fn step(&mut self, id: i64, state: &mut StateMachine, keys: usize, outcome: &mut Outcome) -> Stepped {
        let (history, leases) = state.keys_mut();
        let mut work = Work::new(keys, &mut outcome.visited);
        let mut removed = match self.writing {
            Some(_) => Removed::HasKeys,
            None => leases.remove(id),
        };
        if let Removed::HasKeys = removed {
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
            removed = leases.remove(id);
            if let Removed::HasKeys = removed {
                self.writing = Some(write.pause());
                return Stepped::Pending;
            }
            outcome.changes.extend(write.end().map(Change::Versions));
        }
        work.spend(1);
        match removed {
            Removed::Gone(place) => {
                outcome.changes.push(Change::LeaseGone { place });
                Stepped::Gone
            }
            Removed::NotThere => Stepped::NotThere,
            Removed::HasKeys => unreachable!("it was without keys just now"),
        }
    }
}
