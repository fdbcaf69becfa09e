//! Changes of the group that wait for their turn. Each is an entry of its own, and Raft has one at a time.
//!
//! Their numbers are apart from those of other writes, which may overtake them.

use std::{cell::Cell, cell::RefCell, collections::VecDeque, time::Duration};

use super::inbox::Waiting;
use crate::{
    env::Instant,
    limits,
    shard::{
        Error,
        group::{Change, Seat},
    },
    state::{Builder, Command, Origin, Principal},
    types::MemberId,
};

/// Numbers from here on are those of changes.
const FIRST: u64 = 1 << 63;

pub fn is_change(sequence: u64) -> bool {
    sequence >= FIRST
}

#[derive(Default)]
pub struct Changes {
    next: Cell<u64>,
    waiting: RefCell<VecDeque<(Change, Waiting)>>,
}

impl Changes {
    /// `command` is what the state is told when the change is committed; `caller` makes its caller of a number.
    pub fn push<C: Command>(
        &self,
        origin: Origin,
        principal: &Principal,
        (seat, member): (Seat, MemberId),
        command: &C,
        caller: impl FnOnce(u64) -> Waiting,
    ) -> Result<(), Error> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= limits::CHANGES_WAITING_MAX {
            return Err(Error::TooManyRequests);
        }
        let sequence = FIRST | self.next.replace(self.next.get() + 1);
        let mut builder = Builder::new(origin, sequence, Builder::cost(principal, command));
        builder.push(principal, command);
        waiting.push_back((Change { seat, member, command: builder.finish() }, caller(sequence)));
        Ok(())
    }

    /// The oldest one.
    pub fn take(&self) -> Option<(Change, Waiting)> {
        self.waiting.borrow_mut().pop_front()
    }

    /// Those whose callers have waited longer than `patience`.
    pub fn take_expired(&self, now: Instant, patience: Duration) -> Vec<Waiting> {
        let mut waiting = self.waiting.borrow_mut();
        let count = waiting.iter().take_while(|(_, caller)| now.since(caller.arrived) > patience).count();
        waiting.drain(..count).map(|(_, caller)| caller).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }
}
