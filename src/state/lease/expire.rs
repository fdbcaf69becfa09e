//! The leases whose time is over, as their leader found: many in one command, each of them gone as if revoked by itself.
//!
//! Between two of them the state is whole, with some gone and some not; a single one is done or not, as any command is.

use std::task::Poll;

use prost::Message;

use super::revoke::{Revocation, Stepped};
use crate::state::{
    Error, StateMachine,
    command::{Command, Context, Kind, Needs, Principal},
    outcome::Outcome,
};

/// Of those that are gone already, nothing is left to do.
#[derive(Clone, PartialEq, Message)]
pub struct ExpireLeases {
    #[prost(sfixed64, repeated, tag = "1")]
    pub ids: Vec<i64>,
}

/// What was there to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    pub leases: u64,
    pub keys: u64,
}

/// How far a command has come.
#[derive(Default)]
pub struct Progress {
    /// Leases that are done.
    done: usize,
    /// The one after them.
    revocation: Revocation,
    expired: Expired,
}

impl Command for ExpireLeases {
    type Answer = Expired;
    type Progress = Progress;
    const KIND: Kind = Kind::first(23);

    fn needs(&self) -> Needs {
        Needs::Integrity
    }

    /// It is the member's own.
    fn permits(&self, _: &StateMachine, _: &Principal) -> Result<(), Error> {
        Ok(())
    }

    fn apply(
        &self,
        progress: &mut Progress,
        state: &mut StateMachine,
        context: Context<'_>,
        outcome: &mut Outcome,
    ) -> Poll<Result<Expired, Error>> {
        let until = outcome.visited.saturating_add(context.keys.max(1) as u64);
        while let Some(id) = self.ids.get(progress.done) {
            if outcome.visited >= until {
                return Poll::Pending;
            }
            let left = (until - outcome.visited) as usize;
            match progress.revocation.step(*id, state, left, outcome) {
                Stepped::Pending => return Poll::Pending,
                Stepped::NotThere => {}
                Stepped::Gone => {
                    progress.expired.leases += 1;
                    progress.expired.keys += std::mem::take(&mut progress.revocation).keys;
                }
            }
            progress.done += 1;
        }
        Poll::Ready(Ok(progress.expired))
    }
}
