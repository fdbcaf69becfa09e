//! The calls of one connection: futures that its task polls, each with a waker of its own.
//!
//! Cheaper than a task per call: nothing is scheduled one by one, and what a seat needs besides the
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

/// Seats kept for the next calls once all are done.
const SEATS_KEPT: usize = 64;

pub(super) struct Calls {
    seats: Vec<Seat>,
    free: Vec<usize>,
    due: Rc<Due>,
    /// Empty between rounds; kept for its memory.
    round: Vec<usize>,
}

struct Seat {
    call: Option<Call>,
    button: Arc<Button>,
    waker: Waker,
}

/// Seats to be polled.
struct Due {
    seats: RefCell<Vec<usize>>,
    bell: Arc<Bell>,
}

/// Makes its seat due. One that outlives its call only causes a needless look.
struct Button(SendWrapper<Pressed>);

struct Pressed {
    seat: usize,
    /// Already due.
    pressed: Cell<bool>,
    due: Rc<Due>,
}

impl Wake for Button {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let Pressed { seat, pressed, due } = &*self.0;
        if !pressed.replace(true) {
            due.seats.borrow_mut().push(*seat);
            due.bell.ring();
        }
    }
}

impl Calls {
    pub(super) fn new(bell: Arc<Bell>) -> Self {
        let due = Rc::new(Due { seats: RefCell::default(), bell });
        Self { seats: Vec::new(), free: Vec::new(), due, round: Vec::new() }
    }

    /// Adds a call. It is polled in the next round.
    pub(super) fn add(&mut self, call: Call) {
        let at = self.free.pop().unwrap_or_else(|| {
            let seat = self.seats.len();
            let pressed = Pressed { seat, pressed: Cell::new(false), due: self.due.clone() };
            let button = Arc::new(Button(SendWrapper::new(pressed)));
            self.seats.push(Seat { call: None, waker: button.clone().into(), button });
            seat
        });
        let seat = &mut self.seats[at];
        assert!(seat.call.replace(call).is_none(), "a free seat holds no call");
        seat.button.wake_by_ref();
    }

    pub(super) fn open(&self) -> usize {
        self.seats.len() - self.free.len()
    }

    /// Gives up some of the calls for good; false once none is left.
    pub(super) fn give_up(&mut self, most: usize) -> bool {
        self.seats.truncate(self.seats.len().saturating_sub(most));
        !self.seats.is_empty()
    }

    pub(super) fn due(&self) -> bool {
        !self.due.seats.borrow().is_empty()
    }

    /// Polls every call that is due now, not those that become due meanwhile.
    pub(super) fn poll_due(&mut self) {
        std::mem::swap(&mut self.round, &mut *self.due.seats.borrow_mut());
        for at in self.round.drain(..) {
            // Seats may have been given up since somebody got hold of this one's waker.
            let Some(seat) = self.seats.get_mut(at) else { continue };
            seat.button.0.pressed.set(false);
            let Some(call) = &mut seat.call else { continue };
            if call.as_mut().poll(&mut Context::from_waker(&seat.waker)).is_ready() {
                seat.call = None;
                self.free.push(at);
            }
        }
        if self.free.len() == self.seats.len() && self.seats.len() > SEATS_KEPT {
            self.seats.clear();
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

    #[test]
    fn a_call_is_polled_when_it_is_due_and_its_seat_is_used_again() {
        let mut calls = calls();
        let polls = Rc::new(Cell::new(0));
        for round in 1..=3 {
            let polls = polls.clone();
            calls.add(Box::pin(async move {
                polls.set(polls.get() + 1);
                yield_now().await;
                polls.set(polls.get() + 1);
            }));
            assert_eq!(calls.open(), 1);
            calls.poll_due();
            calls.poll_due();
            assert_eq!((calls.open(), calls.seats.len()), (0, 1), "round {round}");
        }
        calls.poll_due();
        assert_eq!(polls.get(), 6);
    }

    #[test]
    fn calls_are_given_up_some_at_a_time() {
        let mut calls = calls();
        let held = Rc::new(());
        for _ in 0..10 {
            let held = held.clone();
            calls.add(Box::pin(async move {
                std::future::pending::<()>().await;
                drop(held);
            }));
        }
        for (left, more) in [(7, true), (4, true), (1, true), (0, false)] {
            assert_eq!(calls.give_up(3), more);
            assert_eq!(Rc::strong_count(&held), 1 + left);
        }
    }

    #[test]
    fn a_wait_costs_nothing_and_late_wakers_do_no_harm() {
        let mut calls = calls();
        let waker = Rc::new(RefCell::new(None::<Waker>));
        let polls = Rc::new(Cell::new(0));
        for _ in 0..2 * SEATS_KEPT {
            let (waker, polls) = (waker.clone(), polls.clone());
            calls.add(Box::pin(std::future::poll_fn(move |context| {
                polls.set(polls.get() + 1);
                *waker.borrow_mut() = Some(context.waker().clone());
                if polls.get() > 2 * SEATS_KEPT {
                    std::task::Poll::Ready(())
                } else {
                    std::task::Poll::Pending
                }
            })));
        }
        calls.poll_due();
        calls.poll_due();
        assert_eq!((polls.get(), calls.open()), (2 * SEATS_KEPT, 2 * SEATS_KEPT));
        let last = waker.borrow().clone().expect("polled");
        last.wake_by_ref();
        last.wake_by_ref();
        calls.poll_due();
        assert_eq!((polls.get(), calls.open()), (2 * SEATS_KEPT + 1, 2 * SEATS_KEPT - 1));
        for seat in &calls.seats {
            seat.waker.wake_by_ref();
        }
        calls.poll_due();
        assert!(calls.seats.is_empty(), "all done, so the seats are given up");
        last.wake();
        calls.poll_due();
    }
}
