//! Changes of the group that wait for their turn. Each is an entry of its own, and Raft has one at a time.
//!
//! Their numbers are apart from those of other writes, which may overtake them.

use std::{cell::Cell, cell::RefCell, collections::VecDeque};

use super::inbox::Waiting;
use crate::{
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

    /// It is the oldest one again.
    pub fn put_back(&self, change: Change, caller: Waiting) {
        self.waiting.borrow_mut().push_front((change, caller));
    }

    /// Those that nobody waits for any more. One that is not proposed waits for as long as its caller does.
    pub fn take_abandoned(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.borrow_mut();
        let (awaited, abandoned) =
            waiting.drain(..).partition(|(_, caller): &(_, Waiting)| caller.proposal.is_awaited());
        *waiting = awaited;
        abandoned.into_iter().map(|(_, caller)| caller).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }
}
