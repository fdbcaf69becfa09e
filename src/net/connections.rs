//! Which connections are open, how many may be, and how they are told to stop.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use crate::limits;

/// How far the member has got with stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Serving,
    /// No new connections or requests; those in flight finish.
    Draining,
    /// Who has nothing in flight has had the time to say goodbye.
    Parting,
    /// Whatever is left is dropped.
    Closing,
}

/// The connections of one core.
pub(super) struct Connections {
    max: usize,
    phase: Cell<Phase>,
    next: Cell<u64>,
    /// The task of each open connection, once it has run.
    open: RefCell<HashMap<u64, Option<Waker>>>,
    /// Listeners that wait for a permit, and whoever waits for the end.
    waiting: RefCell<Vec<Waker>>,
}

impl Connections {
    pub(super) fn new(max: usize) -> Self {
        assert!(max > 0, "no connection could ever be served");
        Self {
            max,
            phase: Cell::new(Phase::Serving),
            next: Cell::new(0),
            open: RefCell::new(HashMap::new()),
            waiting: RefCell::new(Vec::new()),
        }
    }

    pub(super) fn open(&self) -> usize {
        self.open.borrow().len()
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Whether there is no permit left, nor any of those `beyond` the bound.
    pub(super) fn is_full(&self, beyond: usize) -> bool {
        self.open() >= self.max + beyond
    }

    /// Takes a permit. To be called right after [`Connections::vacant`] only.
    pub(super) fn enter(self: &Rc<Self>) -> Permit {
        assert!(!self.is_full(limits::METRICS_CONNECTIONS), "more connections than the bound");
        let id = self.next.get();
        self.next.set(id + 1);
        self.open.borrow_mut().insert(id, None);
        Permit { connections: self.clone(), id, registered: Cell::new(false) }
    }

    /// Waits for a permit; false if the member is stopping.
    pub(super) async fn vacant(&self, beyond: usize) -> bool {
        self.wait(|| !self.is_full(beyond) || self.phase() != Phase::Serving).await;
        self.phase() == Phase::Serving
    }

    pub(super) async fn stopping(&self) {
        self.wait(|| self.phase() != Phase::Serving).await;
    }

    pub(super) async fn closed(&self) {
        self.wait(|| self.open() == 0).await;
    }

    pub(super) fn drain(&self) {
        self.enter_phase(Phase::Draining);
    }

    pub(super) fn part(&self) {
        self.enter_phase(Phase::Parting);
    }

    pub(super) fn close(&self) {
        self.enter_phase(Phase::Closing);
    }

    fn enter_phase(&self, phase: Phase) {
        assert!(phase > self.phase(), "stopping never goes back");
        self.phase.set(phase);
        for waker in self.open.borrow().values().flatten() {
            waker.wake_by_ref();
        }
        self.wake_waiting();
    }

    fn wake_waiting(&self) {
        for waker in self.waiting.take() {
            waker.wake();
        }
    }

    async fn wait(&self, condition: impl Fn() -> bool) {
        poll_fn(|context| {
            if condition() {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

/// What lets a connection be open; given back when dropped.
pub(super) struct Permit {
    connections: Rc<Connections>,
    id: u64,
    registered: Cell<bool>,
}

impl Permit {
    /// The phase; the task that polls is woken when it changes.
    pub(super) fn poll_phase(&self, context: &Context<'_>) -> Phase {
        // A task's waker stays the same, so once is enough.
        if !self.registered.replace(true) {
            self.connections.open.borrow_mut().insert(self.id, Some(context.waker().clone()));
        }
        self.connections.phase()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.connections.open.borrow_mut().remove(&self.id);
        self.connections.wake_waiting();
    }
}
