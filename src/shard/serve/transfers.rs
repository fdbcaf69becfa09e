//! Checkpoints on their way to and from other members, as whoever carries them sees it.
//!
//! The loop says what is to be sent and takes in what came; how the bytes travel it does not know.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use crate::{
    limits,
    shard::reply::Reply,
    storage::checkpoint::{Export, HeldCheckpoint},
    types::MemberId,
};

/// A checkpoint that another member has for this one.
pub struct Arriving {
    pub sender: MemberId,
    pub frame: Bytes,
    pub export: Box<dyn Export>,
    /// Answered once it is in place, or not needed any more.
    pub reply: Reply<()>,
}

#[derive(Default)]
pub struct Transfers {
    outgoing: RefCell<VecDeque<(MemberId, Bytes, HeldCheckpoint)>>,
    carrier: Cell<Option<Waker>>,
    ended: RefCell<Vec<(MemberId, bool)>>,
    arriving: Cell<Option<Arriving>>,
}

impl Transfers {
    /// False if too many wait.
    pub fn offer(&self, to: MemberId, frame: Bytes, checkpoint: HeldCheckpoint) -> bool {
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

    pub(super) fn arrive(&self, arriving: Arriving) {
        self.arriving.set(Some(arriving));
    }

    /// The next to be carried; without one, whoever asks is woken when there is.
    pub(super) fn poll_next(&self, cx: &Context<'_>) -> Poll<(MemberId, Bytes, HeldCheckpoint)> {
        match self.outgoing.borrow_mut().pop_front() {
            Some(next) => Poll::Ready(next),
            None => {
                self.carrier.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
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
