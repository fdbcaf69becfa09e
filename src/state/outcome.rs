//! What applying changed, in order: the one stream that watches, leases, metrics and whoever else wants to know live off.

use std::rc::Rc;

use super::{
    lease::{Lease, Place},
    mvcc::Written,
    v2::Event,
};
use crate::types::Revision;

/// A change of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A revision with its versions; see [`StateMachine::versions`](super::StateMachine::versions).
    Versions(Written),
    /// Revisions below cannot be read any more.
    Compacted(Revision),
    /// An alarm was raised or lifted.
    Alarms,
    /// Users or roles, or whether anybody has to say who they are.
    Auth,
    /// A member was added or removed, or what is known of one changed.
    Members,
    LeaseGranted {
        place: Place,
        lease: Lease,
    },
    /// A lease is gone, and its keys with it.
    LeaseGone {
        place: Place,
    },
}

/// What a number of commands came to, besides their answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub changes: Vec<Change>,
    /// Of the tree of the v2 API, in order.
    pub events: Vec<Rc<Event>>,
    pub operations: Operations,
    /// Keys that were looked at or written.
    pub visited: u64,
}

impl Outcome {
    /// For use with the next commands.
    pub fn clear(&mut self) {
        self.changes.clear();
        self.events.clear();
        self.operations = Operations::default();
        self.visited = 0;
    }
}

/// Operations of commands that were not refused, nested ones included (`etcd_mvcc_*_total`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    pub ranges: u64,
    pub puts: u64,
    /// Of keys and values.
    pub put_bytes: u64,
    pub deletes: u64,
    /// Commands of more than one operation.
    pub txns: u64,
}

impl Operations {
    /// All but `txns`.
    pub fn count(&self) -> u64 {
        self.ranges + self.puts + self.deletes
    }
}
