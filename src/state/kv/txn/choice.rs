//! The comparisons of a transaction outside the log, slice by slice on a state that is pinned: to see how long they take
//! before it is proposed, or to read what they choose.

use super::{
    check::Checking,
    choose::Choosing,
    execute::{Executing, On},
    walk::Chosen,
};
use crate::{
    pb::etcdserverpb as pb,
    state::{
        Error, StateMachine,
        kv::{answer::Answer, plan::Plan, range::header, work::Work},
        mvcc::Pin,
        outcome::Operations,
    },
};

/// A choice under way.
pub struct Choice {
    choosing: Choosing,
    visited: u64,
    visited_max: u64,
    /// The newest state when it was begun, and its revision.
    now: Pin,
    revision: i64,
}

impl Choice {
    /// It is given up if it looks at more than `visited_max` keys.
    pub fn begin(state: &StateMachine, visited_max: u64) -> Self {
        let store = state.history();
        let (now, revision) = (store.pin(store.revision()), store.revision().0);
        Self { choosing: Choosing::default(), visited: 0, visited_max, now, revision }
    }

    /// Goes on by about `keys` keys. True when all comparisons are made; an error if they take too long.
    pub fn step(
        &mut self,
        request: &pb::TxnRequest,
        state: &StateMachine,
        keys: usize,
    ) -> Result<bool, Error> {
        let view = state.history().at_pin(&self.now)?;
        let is_done = self.choosing.step(request, &view, &mut Work::new(keys, &mut self.visited));
        if self.visited > self.visited_max { Err(Error::TooManyOps) } else { Ok(is_done) }
    }

    /// What a transaction of ranges reads, once [`Choice::step`] was true.
    pub fn read(
        self,
        request: &pb::TxnRequest,
        state: &StateMachine,
        operations: &mut Operations,
    ) -> Result<Answer<pb::TxnResponse, Box<Plan>>, Error> {
        let store = state.history();
        let chosen = Chosen { request, path: &self.choosing.path };
        let mut visited = 0;
        let mut work = Work::new(usize::MAX, &mut visited);
        let checked = Checking::new(self.revision).step(chosen, store, state.leases(), &mut work)?;
        let mut executing = Executing::new(true);
        let on = &mut On::Read { store, now: &self.now, revision: self.revision };
        let response = executing.step(chosen, on, operations, &mut work);
        let mut response = response.filter(|_| checked).expect("the work is boundless");
        response.header = Some(header(self.revision));
        Ok(executing.planning.txn(response))
    }
}
