//! What connections may know of the shard without asking the loop: set by the loop each turn.

use std::cell::{Cell, RefCell};

use crate::{
    consensus::Membership,
    pb::etcdserverpb as pb,
    types::{LogIndex, MemberId, Term},
};

#[derive(Default)]
pub struct View {
    pub leader: Cell<MemberId>,
    pub is_leader: Cell<bool>,
    /// A linearizable read would be served: this member leads and has committed in its term.
    pub can_read: Cell<bool>,
    pub term: Cell<Term>,
    pub committed: Cell<LogIndex>,
    /// Term of the last applied entry.
    pub applied_term: Cell<Term>,
    /// Bytes of the snapshot's files.
    pub bytes_on_disk: Cell<u64>,
    members: RefCell<Vec<pb::Member>>,
}

impl View {
    pub fn set_membership(&self, membership: &Membership) {
        let shown = membership.members().iter().map(|member| pb::Member {
            id: member.id,
            name: member.name.clone(),
            peer_ur_ls: member.peer_urls.clone(),
            client_ur_ls: member.client_urls.clone(),
            is_learner: member.is_learner,
        });
        *self.members.borrow_mut() = shown.collect();
    }

    pub fn is_learner(&self, id: MemberId) -> bool {
        self.members.borrow().iter().any(|member| member.id == id.0 && member.is_learner)
    }

    pub fn members(&self) -> Vec<pb::Member> {
        self.members.borrow().clone()
    }
}
