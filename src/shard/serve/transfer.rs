//! One checkpoint in the hands of whoever carries it.

use std::{future::poll_fn, rc::Rc, task::Poll};

use bytes::Bytes;

use super::inbox::Inbox;
use crate::{storage::checkpoint::HeldCheckpoint, types::MemberId};

/// A checkpoint that a member must get because the log no longer has what it lacks.
pub struct Transfer {
    pub to: MemberId,
    /// For [`Shard::receive`](super::Shard::receive) over there.
    pub frame: Bytes,
    pub checkpoint: HeldCheckpoint,
    inbox: Rc<Inbox>,
    came: bool,
}

impl Transfer {
    /// The next there is; none once the shard has stopped.
    pub(super) async fn next(inbox: &Rc<Inbox>) -> Option<Self> {
        let (to, frame, checkpoint) = poll_fn(|cx| match inbox.transfers.poll_next(cx) {
            Poll::Pending if inbox.stopping() => Poll::Ready(None),
            next => next.map(Some),
        })
        .await?;
        Some(Transfer { to, frame, checkpoint, inbox: inbox.clone(), came: false })
    }

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
