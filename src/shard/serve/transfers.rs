//! Checkpoints on their way to and from other members, as whoever carries them sees it.
//!
//! The loop says what is to be sent and takes in what came; how the bytes travel it does not know.

use std::{
    cell::Cell, cell::RefCell, collections::VecDeque, future::poll_fn, rc::Rc, task::Poll, task::Waker,
};

use bytes::Bytes;

use super::{handle::Shard, inbox::Inbox};
use crate::{
    limits,
    shard::reply::{self, Reply},
    storage::checkpoint::{Export, Held},
    types::MemberId,
};

/// A checkpoint that a member must get because the log no longer has what it lacks.
pub struct Transfer {
    pub to: MemberId,
    /// For [`Shard::receive`] over there.
    pub frame: Bytes,
    pub checkpoint: Held,
    inbox: Rc<Inbox>,
    came: bool,
}

impl Transfer {
    /// The other member has it. Dropped without this, it counts as failed and will be offered again.
    pub fn came(mut self) {
        self.came = true;
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.inbox.end_transfer(self.to, self.came);
    }
}

/// A checkpoint that another member has for this one.
pub struct Arriving {
    pub frame: Bytes,
    pub export: Box<dyn Export>,
    /// Answered once it is in place, or not needed any more.
    pub reply: Reply<()>,
}

#[derive(Default)]
pub struct Transfers {
    outgoing: RefCell<VecDeque<(MemberId, Bytes, Held)>>,
    carrier: Cell<Option<Waker>>,
    ended: RefCell<Vec<(MemberId, bool)>>,
    arriving: Cell<Option<Arriving>>,
}

impl Transfers {
    /// False if too many wait.
    pub fn offer(&self, to: MemberId, frame: Bytes, checkpoint: Held) -> bool {
        let mut outgoing = self.outgoing.borrow_mut();
        if outgoing.len() >= limits::TRANSFERS_MAX {
            return false;
        }
        outgoing.push_back((to, frame, checkpoint));
        self.carrier.take().into_iter().for_each(Waker::wake);
        true
    }

    /// Who was to get a checkpoint, and whether it did.
    pub fn take_ended(&self) -> Vec<(MemberId, bool)> {
        self.ended.take()
    }

    pub fn take_arriving(&self) -> Option<Arriving> {
        self.arriving.take()
    }

    pub(super) fn end(&self, to: MemberId, came: bool) {
        self.ended.borrow_mut().push((to, came));
    }

    /// Nobody sends or takes any more.
    pub(super) fn close(&self) {
        drop((self.outgoing.take(), self.arriving.take()));
        self.carrier.take().into_iter().for_each(Waker::wake);
    }
}

impl Shard {
    /// The next checkpoint to be carried to another member; none once the shard has stopped. For one caller at a time.
    pub async fn next_transfer(&self) -> Option<Transfer> {
        let transfers = &self.inbox.transfers;
        poll_fn(|cx| {
            let next = transfers.outgoing.borrow_mut().pop_front();
            if let Some((to, frame, checkpoint)) = next {
                let inbox = self.inbox.clone();
                return Poll::Ready(Some(Transfer { to, frame, checkpoint, inbox, came: false }));
            }
            if self.inbox.stopping() {
                return Poll::Ready(None);
            }
            transfers.carrier.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await
    }

    /// Brings a checkpoint here and puts it in place of the whole state, if Raft wants it; `frame` came with it. True
    /// once that is done, false if it could not be brought or another one was offered meanwhile.
    pub async fn receive(&self, frame: Bytes, export: Box<dyn Export>) -> bool {
        if self.inbox.stopping() {
            return false;
        }
        let (reply, answer) = reply::channel();
        self.inbox.transfers.arriving.set(Some(Arriving { frame, export, reply }));
        self.inbox.wake();
        answer.await.is_some()
    }
}
