//! The way back to a caller: one value, once, on the same core.

use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

enum Slot<T> {
    Empty(Option<Waker>),
    Value(T),
    /// The sender is gone without a word, or the value was taken.
    Closed,
}

/// The sending half. Dropped unsent, it tells the caller so.
pub struct Reply<T>(Rc<RefCell<Slot<T>>>);

/// The waiting half. Dropped early, the value is thrown away.
pub struct Answer<T>(Rc<RefCell<Slot<T>>>);

pub fn channel<T>() -> (Reply<T>, Answer<T>) {
    let slot = Rc::new(RefCell::new(Slot::Empty(None)));
    (Reply(slot.clone()), Answer(slot))
}

impl<T> Reply<T> {
    pub fn send(self, value: T) {
        self.settle(Slot::Value(value));
    }

    fn settle(&self, with: Slot<T>) {
        let before = self.0.replace(with);
        if let Slot::Empty(Some(waker)) = before {
            waker.wake();
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        let unsent = matches!(*self.0.borrow(), Slot::Empty(_));
        if unsent {
            self.settle(Slot::Closed);
        }
    }
}

impl<T> Future for Answer<T> {
    /// `None` if the sender went away.
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut slot = self.0.borrow_mut();
        if let Slot::Empty(waker) = &mut *slot {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        match std::mem::replace(&mut *slot, Slot::Closed) {
            Slot::Value(value) => Poll::Ready(Some(value)),
            Slot::Empty(_) | Slot::Closed => Poll::Ready(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn a_value_arrives_before_or_after_the_wait_begins() {
        let (reply, answer) = channel();
        reply.send(1);
        assert_eq!(block_on(answer), Some(1));
        let (reply, mut answer) = channel();
        assert_eq!(block_on(poll_once(&mut answer)), None);
        reply.send(2);
        assert_eq!(block_on(answer), Some(2));
    }

    #[test]
    fn a_dropped_sender_is_noticed() {
        let (reply, answer) = channel::<u8>();
        drop(reply);
        assert_eq!(block_on(answer), None);
    }
}
