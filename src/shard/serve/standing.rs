//! Where the shard stands, as connections may know without asking the loop: set by the loop each turn.

use std::cell::{Cell, RefCell};

use crate::{
    env::Instant,
    pb::etcdserverpb as pb,
    shard::group,
    types::{LogIndex, MemberId, Term},
};

#[derive(Default)]
pub struct Standing {
    pub leader: Cell<MemberId>,
    /// Since when that is known.
    pub leader_since: Cell<Instant>,
    pub is_leader: Cell<bool>,
    /// Messages with entries, received and sent.
    pub appends: Cell<(u64, u64)>,
    /// A linearizable read would be served: this member leads and has committed in its term.
    pub can_read: Cell<bool>,
    pub term: Cell<Term>,
    pub committed: Cell<LogIndex>,
    /// Term of the last applied entry.
    pub applied_term: Cell<Term>,
    /// Bytes of the checkpoint's files.
    pub bytes_on_disk: Cell<u64>,
    members: RefCell<Vec<pb::Member>>,
    members_changed: Cell<bool>,
}

impl Standing {
    pub fn set_members<'a>(&self, members: impl Iterator<Item = &'a pb::Member>) {
        let members: Vec<_> = members.cloned().collect();
        group::say(&self.members.borrow(), &members);
        *self.members.borrow_mut() = members;
        self.members_changed.set(true);
    }

    /// Whether the members were set since the last call.
    pub fn take_members_changed(&self) -> bool {
        self.members_changed.take()
    }

    pub fn is_learner(&self, id: MemberId) -> bool {
        self.members.borrow().iter().any(|member| member.id == id.0 && member.is_learner)
    }

    pub fn members(&self) -> Vec<pb::Member> {
        self.members.borrow().clone()
    }
}
