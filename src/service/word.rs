//! A word that is given once, for whatever waits for it or would otherwise go on: that the member is ready, or stopping.

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
pub struct Word(Rc<State>);

#[derive(Default)]
struct State {
    given: Cell<bool>,
    next: Cell<u64>,
    /// One for each that waits.
    waiting: RefCell<BTreeMap<u64, Waker>>,
}

impl Word {
    /// One that is given already.
    pub fn spoken() -> Self {
        let word = Self::default();
        word.give();
        word
    }

    pub fn is_given(&self) -> bool {
        self.0.given.get()
    }

    /// From now on.
    pub fn give(&self) {
        self.0.given.set(true);
        for waker in self.0.waiting.take().into_values() {
            waker.wake();
        }
    }

    /// Completes once it is given.
    pub fn given(&self) -> Given {
        Given { word: self.clone(), id: None }
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Word").field(&self.is_given()).finish()
    }
}

/// See [`Word::given`].
pub struct Given {
    word: Word,
    id: Option<u64>,
}

impl Future for Given {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let state = self.word.0.clone();
        if state.given.get() {
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

impl Drop for Given {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.word.0.waiting.borrow_mut().remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn everybody_hears_it_once_it_is_given_and_later() {
        let word = Word::default();
        let (mut one, mut other) = (word.given(), word.clone().given());
        assert_eq!(block_on(poll_once(&mut one)), None);
        assert_eq!(block_on(poll_once(&mut other)), None);
        drop(other);
        assert_eq!(word.0.waiting.borrow().len(), 1, "who has left is forgotten");
        word.give();
        block_on(one);
        block_on(word.given());
        assert!(word.is_given());
    }
}
