//! One other member: where it is, what waits for it, and whether there is a link to it.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::Waker,
};

use bytes::Bytes;

use super::queue::Queue;
use crate::{
    env::{Instant, Lane},
    limits,
    types::{MemberId, ShardId},
};

pub struct Remote {
    pub id: MemberId,
    pub queue: Queue,
    /// Of frames that were dropped.
    pub complaint: Complaint,
    /// What came from it found no room.
    pub overrun: Complaint,
    urls: RefCell<Vec<String>>,
    /// Which of them is tried next.
    next_url: Cell<usize>,
    /// It called, and the cluster as this member has it does not know it.
    is_guest: Cell<bool>,
    active_since: Cell<Option<Instant>>,
    /// Since when it does not belong to the cluster any more.
    left_at: Cell<Option<Instant>>,
    /// The link is to be made anew, or at once: something has changed.
    hurry: Cell<bool>,
    link: Cell<Option<Waker>>,
    /// Connections that it has to this member, and since when none was seen.
    present: Cell<usize>,
    seen_at: Cell<Option<Instant>>,
    /// Numbers its connections to this member; the newest counts.
    calls: Cell<u64>,
    called: Cell<Option<Waker>>,
}

impl Remote {
    pub fn new(id: MemberId, urls: &[String], is_guest: bool) -> Self {
        Remote {
            id,
            queue: Queue::default(),
            complaint: Complaint::default(),
            overrun: Complaint::default(),
            urls: RefCell::new(urls.to_vec()),
            next_url: Cell::new(0),
            is_guest: Cell::new(is_guest),
            active_since: Cell::default(),
            left_at: Cell::default(),
            hurry: Cell::default(),
            link: Cell::default(),
            present: Cell::default(),
            seen_at: Cell::default(),
            calls: Cell::default(),
            called: Cell::default(),
        }
    }

    /// False if the frame was dropped. While there is no link the newest signals wait for one, and nothing else does.
    pub fn send(&self, lane: Lane, shard: ShardId, frame: Bytes) -> bool {
        if self.is_active() {
            return self.queue.push(lane, shard, frame);
        }
        match lane {
            Lane::Entries => false,
            Lane::Signals => {
                self.queue.forget_signals_beyond(limits::PEER_SIGNALS_KEPT);
                self.queue.push(lane, shard, frame)
            }
        }
    }

    pub fn is_active(&self) -> bool {
        self.active_since.get().is_some()
    }

    pub fn active_since(&self) -> Option<Instant> {
        self.active_since.get()
    }

    pub fn set_active(&self, since: Option<Instant>) {
        self.active_since.set(since);
    }

    pub fn is_guest(&self) -> bool {
        self.is_guest.get()
    }

    pub fn set_guest(&self, is_guest: bool) {
        self.is_guest.set(is_guest);
    }

    /// It has one more connection to this member, for as long as this is kept.
    pub fn present(self: &Rc<Self>) -> Present {
        self.present.set(self.present.get() + 1);
        Present(self.clone())
    }

    /// Whether nothing more is to be expected of a guest: it is not there, and was not for long.
    pub fn is_forgotten(&self, now: Instant) -> bool {
        if self.present.get() > 0 || self.is_active() || !self.is_guest() {
            self.seen_at.set(None);
            return false;
        }
        let since = self.seen_at.get().unwrap_or(now);
        self.seen_at.set(Some(since));
        now.since(since) > limits::PEER_GUEST_PATIENCE
    }

    /// True if it is to be found elsewhere from now on.
    pub fn set_urls(&self, urls: &[String]) -> bool {
        if *self.urls.borrow() == urls {
            return false;
        }
        *self.urls.borrow_mut() = urls.to_vec();
        self.hurry();
        true
    }

    /// Where to try next; none if it has no URL.
    pub fn next_url(&self) -> Option<String> {
        let urls = self.urls.borrow();
        let at = self.next_url.get();
        self.next_url.set(at.wrapping_add(1));
        urls.get(at.checked_rem(urls.len())?).cloned()
    }

    /// The link is to be made at once, or anew if its URLs have changed.
    pub fn hurry(&self) {
        self.hurry.set(true);
        self.wake_link();
    }

    pub fn take_hurry(&self) -> bool {
        self.hurry.take()
    }

    pub fn leave(&self, now: Instant) {
        self.left_at.set(Some(now));
        self.wake_link();
        self.called.take().into_iter().for_each(Waker::wake);
    }

    pub fn has_left(&self) -> bool {
        self.left_at.get().is_some()
    }

    /// Whether the link should end: what was sent to it last has had its time.
    pub fn should_part(&self, now: Instant) -> bool {
        self.left_at.get().is_some_and(|at| self.queue.is_empty() || now.since(at) > limits::PEER_FAREWELL)
    }

    /// The link's task while there is no link: woken when there is something to do.
    pub fn wait_for_change(&self, waker: &Waker) {
        self.link.set(Some(waker.clone()));
    }

    /// The link's task, which is woken when there is something to send or to do.
    pub fn wait(&self, waker: &Waker) {
        self.link.set(Some(waker.clone()));
        self.queue.wake_when_filled(waker);
    }

    fn wake_link(&self) {
        self.link.take().into_iter().for_each(Waker::wake);
    }

    /// A new connection of its came, which is this one's number; the one before ends.
    pub fn call(&self) -> u64 {
        self.calls.set(self.calls.get() + 1);
        self.called.take().into_iter().for_each(Waker::wake);
        self.calls.get()
    }

    /// Whether this connection is still the newest; whoever serves it is woken when it is not.
    pub fn is_newest(&self, call: u64, waker: &Waker) -> bool {
        let is_newest = self.calls.get() == call && !self.has_left();
        if is_newest {
            self.called.set(Some(waker.clone()));
        }
        is_newest
    }
}

/// A connection of the member.
pub struct Present(Rc<Remote>);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.present.set(self.0.present.get() - 1);
    }
}

/// What would be said all the time is said now and then.
#[derive(Default)]
pub struct Complaint(Cell<Option<Instant>>);

impl Complaint {
    pub fn is_due(&self, now: Instant) -> bool {
        let is_due = self.0.get().is_none_or(|last| now.since(last) >= limits::PEER_COMPLAINT);
        if is_due {
            self.0.set(Some(now));
        }
        is_due
    }

    /// What is said next is new.
    pub fn reset(&self) {
        self.0.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_urls_are_tried_in_turn() {
        let urls = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let remote = Remote::new(MemberId(2), &urls(&["a", "b"]), false);
        let tried: Vec<_> = (0..5).filter_map(|_| remote.next_url()).collect();
        assert_eq!(tried, ["a", "b", "a", "b", "a"]);
        assert!(!remote.set_urls(&urls(&["a", "b"])) && !remote.take_hurry());
        assert!(remote.set_urls(&urls(&["c"])) && remote.take_hurry());
        assert_eq!(remote.next_url().as_deref(), Some("c"));
        assert!(Remote::new(MemberId(2), &[], false).next_url().is_none());
    }

    #[test]
    fn without_a_link_only_the_newest_signals_are_kept() {
        let remote = Remote::new(MemberId(2), &[], false);
        let frame = |number: usize| Bytes::from(number.to_string());
        assert!(!remote.send(Lane::Entries, ShardId(0), frame(0)));
        for number in 0..100 {
            assert!(remote.send(Lane::Signals, ShardId(0), frame(number)));
        }
        let kept: Vec<_> = std::iter::from_fn(|| remote.queue.pop()).map(|record| record.payload).collect();
        assert_eq!(kept.len(), limits::PEER_SIGNALS_KEPT);
        assert_eq!(kept.last(), Some(&frame(99)));
        remote.set_active(Some(Instant(1)));
        assert!(remote.send(Lane::Entries, ShardId(0), frame(0)));
    }
}
