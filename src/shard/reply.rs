//! The way back to a caller: one value, once, on the same core.

use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

enum State<T> {
    Empty(Option<Waker>),
    /// Not to be seen yet.
    Held(T, Option<Waker>),
    Value(T),
    /// The sender is gone without a word, or the value was taken.
    Closed,
}

/// Where the value is put and taken from.
pub struct Slot<T>(RefCell<State<T>>);

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(RefCell::new(State::Empty(None)))
    }
}

impl<T> Slot<T> {
    pub fn put(&self, value: T) {
        self.settle(State::Value(value));
    }

    /// Puts a value that is not to be seen before [`Slot::release`].
    pub fn hold(&self, value: T) {
        let mut state = self.0.borrow_mut();
        if let State::Empty(waker) = &mut *state {
            let waker = waker.take();
            *state = State::Held(value, waker);
        }
    }

    pub fn release(&self) {
        let before = self.0.replace(State::Closed);
        match before {
            State::Held(value, waker) => {
                self.0.replace(State::Value(value));
                waker.into_iter().for_each(Waker::wake);
            }
            other => drop(self.0.replace(other)),
        }
    }

    /// Nothing will be put any more; a value that can be seen stays.
    pub fn close(&self) {
        let unsent = matches!(*self.0.borrow(), State::Empty(_) | State::Held(..));
        if unsent {
            self.settle(State::Closed);
        }
    }

    fn settle(&self, with: State<T>) {
        let before = self.0.replace(with);
        if let State::Empty(Some(waker)) | State::Held(_, Some(waker)) = before {
            waker.wake();
        }
    }

    /// `None` if it was closed.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.0.borrow_mut();
        if let State::Empty(waker) | State::Held(_, waker) = &mut *state {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        match std::mem::replace(&mut *state, State::Closed) {
            State::Value(value) => Poll::Ready(Some(value)),
            State::Empty(_) | State::Held(..) | State::Closed => Poll::Ready(None),
        }
    }
}

/// The sending half. Dropped unsent, it tells the caller so.
pub struct Reply<T>(Rc<Slot<T>>);

/// The waiting half. Dropped early, the value is thrown away.
pub struct Answer<T>(Rc<Slot<T>>);

pub fn channel<T>() -> (Reply<T>, Answer<T>) {
    let slot = Rc::new(Slot::default());
    (Reply(slot.clone()), Answer(slot))
}

impl<T> Reply<T> {
    pub fn send(self, value: T) {
        self.0.put(value);
    }

    /// Whether somebody still waits for it.
    pub fn is_awaited(&self) -> bool {
        Rc::strong_count(&self.0) > 1
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<T> Future for Answer<T> {
    /// `None` if the sender went away.
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll(cx)
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
