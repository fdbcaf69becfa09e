//! Waiting in line: first come, first served, and whoever gives up holds up nobody.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

/// Who waits for something, in order. What it is, and whether it is free, is its owner's business.
#[derive(Debug, Default)]
pub struct Line {
    next: Cell<u64>,
    waiting: RefCell<VecDeque<(u64, Option<Waker>)>>,
}

impl Line {
    /// Waits to be the first in line and for `free`. Whoever then takes what was free has to do so before waiting for
    /// anything else.
    pub async fn pass(&self, free: impl Fn() -> bool) {
        if self.is_empty() && free() {
            return;
        }
        let number = self.next.replace(self.next.get() + 1);
        self.waiting.borrow_mut().push_back((number, None));
        let place = Place { line: self, number };
        poll_fn(|context| {
            let mut waiting = self.waiting.borrow_mut();
            if waiting.front().is_some_and(|(first, _)| *first == number) && free() {
                return Poll::Ready(());
            }
            let at = position(&waiting, number);
            waiting[at].1 = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        drop(place);
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Something may be free now: the first in line looks.
    pub fn move_up(&self) {
        let waker = self.waiting.borrow_mut().front_mut().and_then(|(_, waker)| waker.take());
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Numbers ascend along the line.
fn position(waiting: &VecDeque<(u64, Option<Waker>)>, number: u64) -> usize {
    waiting.binary_search_by_key(&number, |(number, _)| *number).expect("in line until it leaves")
}

struct Place<'a> {
    line: &'a Line,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.line.waiting.borrow_mut();
        let at = position(&waiting, self.number);
        waiting.remove(at);
        drop(waiting);
        if at == 0 {
            self.line.move_up();
        }
    }
}

/// Lets in so many at a time.
#[derive(Debug)]
pub struct Gate {
    max: usize,
    inside: Cell<usize>,
    line: Line,
}

impl Gate {
    pub fn new(max: usize) -> Rc<Self> {
        assert!(max > 0, "nobody would ever be let in");
        Rc::new(Self { max, inside: Cell::new(0), line: Line::default() })
    }

    /// How many wait to be let in.
    pub fn waiting(&self) -> usize {
        self.line.len()
    }

    pub async fn enter(self: &Rc<Self>) -> Permit {
        self.line.pass(|| self.inside.get() < self.max).await;
        self.inside.set(self.inside.get() + 1);
        Permit(self.clone())
    }
}

/// Inside until it is dropped.
#[derive(Debug)]
pub struct Permit(Rc<Gate>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.inside.set(self.0.inside.get() - 1);
        self.0.line.move_up();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin, task::Context};

    use super::*;

    fn noop() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn a_gate_lets_in_in_order_and_whoever_gives_up_holds_up_nobody() {
        let gate = Gate::new(2);
        let mut entering: Vec<_> = (0..5).map(|_| Box::pin(gate.enter())).collect();
        let mut enter = |at: usize| match entering[at].as_mut().poll(&mut noop()) {
            Poll::Ready(permit) => Some(permit),
            Poll::Pending => None,
        };
        let (first, second) = (enter(0).expect("room"), enter(1).expect("room"));
        assert!(enter(2).is_none() && enter(3).is_none() && enter(4).is_none());
        drop(first);
        assert!(enter(4).is_none() && enter(3).is_none(), "others are before them");
        let third = enter(2).expect("the first in line");
        drop(entering.remove(3));
        drop(second);
        assert!(entering[3].as_mut().poll(&mut noop()).is_ready());
        drop((third, entering));
        assert!(gate.line.is_empty());
        assert!(pin!(gate.enter()).poll(&mut noop()).is_ready());
    }
}
