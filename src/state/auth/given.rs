//! A token that a member gave to somebody with a password: the others hear of it through the log, so that it counts at each of
//! them, however clients go from one to the other.
//!
//! How long a token lives each member sees by itself, so tokens are no part of the state that is kept: whoever keeps them
//! takes them from here ([`Auth::take_given`]). Nothing else depends on what is or is not here.

use std::{collections::VecDeque, task::Poll};

use bytes::Bytes;
use prost::Message;

use super::Auth;
use crate::{
    limits,
    state::{
        Error, StateMachine,
        command::{Command, Context, Kind, Needs, Principal},
        outcome::Outcome,
    },
};

#[derive(Clone, PartialEq, Message)]
pub struct GiveToken {
    /// SHA-256 of the token: whoever reads a log or a backup of it cannot log in with that.
    #[prost(bytes = "bytes", tag = "1")]
    pub digest: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub user: Bytes,
    /// Revision of the store when the password was compared.
    #[prost(uint64, tag = "3")]
    pub given_at: u64,
    /// By the clock of whoever gave it: an entry may be applied again much later, at a start.
    #[prost(uint64, tag = "4")]
    pub unix_ms: u64,
}

impl Command for GiveToken {
    /// Whether the password is still the user's.
    type Answer = bool;
    type Progress = ();
    const KIND: Kind = Kind::first(75);

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
        _: &mut Outcome,
    ) -> Poll<Result<bool, Error>> {
        let holds = state.auth().holds(&self.user, self.given_at);
        if holds {
            state.auth_mut().give(self.clone());
        }
        Poll::Ready(Ok(holds))
    }
}

impl Auth {
    /// For whoever takes it. Of too many, the newest are there.
    pub(crate) fn give(&mut self, token: GiveToken) {
        let given = self.given.get_mut();
        if given.len() >= limits::TOKENS_GIVEN_MAX {
            given.pop_front();
        }
        given.push_back(token);
    }

    /// Whether there is something to take.
    pub fn has_given(&self) -> bool {
        !self.given.borrow().is_empty()
    }

    /// The newest tokens that were given, at whichever member, since they were last taken; the oldest first.
    pub fn take_given(&self) -> VecDeque<GiveToken> {
        self.given.take()
    }
}
