//! The calls of one connection: futures that its task polls, each with a waker of its own.
//!
//! Cheaper than a task per call: nothing is scheduled one by one, and what a place needs besides the
//! future is used again by the next call.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    task::{Context, Wake, Waker},
};

use send_wrapper::SendWrapper;

use super::bell::Bell;
use crate::protocol::exchange::Call;

/// Places kept for the next calls once all are done.
const PLACES_KEPT: usize = 64;

pub(super) struct Calls {
    places: Vec<Place>,
    free: Vec<usize>,
    due: Rc<Due>,
    /// Empty between rounds; kept for its memory.
    round: Vec<usize>,
}

struct Place {
    call: Option<Call>,
    button: Arc<Button>,
    waker: Waker,
}

/// Places to be polled.
struct Due {
    places: RefCell<Vec<usize>>,
    bell: Arc<Bell>,
}

/// Makes its place due. One that outlives its call only causes a needless look.
struct Button(SendWrapper<Pressed>);

struct Pressed {
    place: usize,
    /// Already due.
    pressed: Cell<bool>,
    due: Rc<Due>,
}

impl Wake for Button {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let Pressed { place, pressed, due } = &*self.0;
        if !pressed.replace(true) {
            due.places.borrow_mut().push(*place);
            due.bell.ring();
        }
    }
}

impl Calls {
    pub(super) fn new(bell: Arc<Bell>) -> Self {
        let due = Rc::new(Due { places: RefCell::default(), bell });
        Self { places: Vec::new(), free: Vec::new(), due, round: Vec::new() }
    }

    /// Adds a call. It is polled in the next round.
    pub(super) fn add(&mut self, call: Call) {
        let at = self.free.pop().unwrap_or_else(|| {
            let place = self.places.len();
            let pressed = Pressed { place, pressed: Cell::new(false), due: self.due.clone() };
            let button = Arc::new(Button(SendWrapper::new(pressed)));
            self.places.push(Place { call: None, waker: button.clone().into(), button });
            place
        });
        let place = &mut self.places[at];
        assert!(place.call.replace(call).is_none(), "a free place holds no call");
        place.button.wake_by_ref();
    }

    pub(super) fn due(&self) -> bool {
        !self.due.places.borrow().is_empty()
    }

    /// Polls every call that is due now, not those that become due meanwhile.
    pub(super) fn poll_due(&mut self) {
        std::mem::swap(&mut self.round, &mut *self.due.places.borrow_mut());
        for at in self.round.drain(..) {
            // Places may have been given up since somebody got hold of this one's waker.
            let Some(place) = self.places.get_mut(at) else { continue };
            place.button.0.pressed.set(false);
            let Some(call) = &mut place.call else { continue };
            if call.as_mut().poll(&mut Context::from_waker(&place.waker)).is_ready() {
                place.call = None;
                self.free.push(at);
            }
        }
        if self.free.len() == self.places.len() && self.places.len() > PLACES_KEPT {
            self.places.clear();
            self.free.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::yield_now;

    fn calls() -> Calls {
        Calls::new(Bell::new(Waker::noop().clone()))
    }

    fn open(calls: &Calls) -> usize {
        calls.places.len() - calls.free.len()
    }

    #[test]
    fn a_call_is_polled_when_it_is_due_and_its_place_is_used_again() {
        let mut calls = calls();
        let polls = Rc::new(Cell::new(0));
        for round in 1..=3 {
            let polls = polls.clone();
            calls.add(Box::pin(async move {
                polls.set(polls.get() + 1);
                yield_now().await;
                polls.set(polls.get() + 1);
            }));
            assert_eq!(open(&calls), 1);
            calls.poll_due();
            calls.poll_due();
            assert_eq!((open(&calls), calls.places.len()), (0, 1), "round {round}");
        }
        calls.poll_due();
        assert_eq!(polls.get(), 6);
    }

    #[test]
    fn a_wait_costs_nothing_and_late_wakers_do_no_harm() {
        let mut calls = calls();
        let waker = Rc::new(RefCell::new(None::<Waker>));
        let polls = Rc::new(Cell::new(0));
        for _ in 0..2 * PLACES_KEPT {
            let (waker, polls) = (waker.clone(), polls.clone());
            calls.add(Box::pin(std::future::poll_fn(move |context| {
                polls.set(polls.get() + 1);
                *waker.borrow_mut() = Some(context.waker().clone());
                if polls.get() > 2 * PLACES_KEPT {
                    std::task::Poll::Ready(())
                } else {
                    std::task::Poll::Pending
                }
            })));
        }
        calls.poll_due();
        calls.poll_due();
        assert_eq!((polls.get(), open(&calls)), (2 * PLACES_KEPT, 2 * PLACES_KEPT));
        let last = waker.borrow().clone().expect("polled");
        last.wake_by_ref();
        last.wake_by_ref();
        calls.poll_due();
        assert_eq!((polls.get(), open(&calls)), (2 * PLACES_KEPT + 1, 2 * PLACES_KEPT - 1));
        for place in &calls.places {
            place.waker.wake_by_ref();
        }
        calls.poll_due();
        assert!(calls.places.is_empty(), "all done, so the places are given up");
        last.wake();
        calls.poll_due();
    }
}
