//! Word that the server is stopping, for whatever would otherwise go on.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Clones hear the same word.
#[derive(Clone, Default)]
pub struct Stopping(Rc<State>);

#[derive(Default)]
struct State {
    begun: Cell<bool>,
    next: Cell<u64>,
    /// One for each that waits.
    waiting: RefCell<BTreeMap<u64, Waker>>,
}

impl Stopping {
    pub fn has_begun(&self) -> bool {
        self.0.begun.get()
    }

    /// From now on.
    pub fn begin(&self) {
        self.0.begun.set(true);
        for waker in self.0.waiting.take().into_values() {
            waker.wake();
        }
    }

    /// Completes once it has begun.
    pub fn begun(&self) -> Begun {
        Begun { stopping: self.clone(), id: None }
    }
}

impl fmt::Debug for Stopping {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Stopping").field(&self.has_begun()).finish()
    }
}

/// See [`Stopping::begun`].
pub struct Begun {
    stopping: Stopping,
    id: Option<u64>,
}

impl Future for Begun {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let state = self.stopping.0.clone();
        if state.begun.get() {
            return Poll::Ready(());
        }
        let id = *self.id.get_or_insert_with(|| state.next.replace(state.next.get() + 1));
        let mut waiting = state.waiting.borrow_mut();
        if !waiting.get(&id).is_some_and(|waker| waker.will_wake(context.waker())) {
            waiting.insert(id, context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.stopping.0.waiting.borrow_mut().remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn everybody_hears_it_once_it_begins_and_later() {
        let stopping = Stopping::default();
        let (mut one, mut other) = (stopping.begun(), stopping.clone().begun());
        assert_eq!(block_on(poll_once(&mut one)), None);
        assert_eq!(block_on(poll_once(&mut other)), None);
        drop(other);
        assert_eq!(stopping.0.waiting.borrow().len(), 1, "who has left is forgotten");
        stopping.begin();
        block_on(one);
        block_on(stopping.begun());
        assert!(stopping.has_begun());
    }
}
