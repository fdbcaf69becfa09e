//! What wakes a connection's task: one schedule per turn, however many things happen meanwhile.

use std::{cell::Cell, sync::Arc, task::Wake};

use send_wrapper::SendWrapper;
use std::task::Waker;

/// Rung by the socket, by h2 and by calls. Wakers must be `Send`, though these never leave their core.
pub(super) struct Bell(SendWrapper<Inner>);

struct Inner {
    task: Waker,
    state: Cell<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The next ring schedules the task.
    Idle,
    Scheduled,
    /// The task runs and will look again before it waits.
    Running,
    RungWhileRunning,
}

impl Bell {
    /// For a task whose waker stays the same.
    pub(super) fn new(task: Waker) -> Arc<Self> {
        Arc::new(Self(SendWrapper::new(Inner { task, state: Cell::new(State::Idle) })))
    }

    pub(super) fn ring(&self) {
        let Inner { task, state } = &*self.0;
        match state.get() {
            State::Idle => {
                state.set(State::Scheduled);
                task.wake_by_ref();
            }
            State::Running => state.set(State::RungWhileRunning),
            State::Scheduled | State::RungWhileRunning => {}
        }
    }

    /// A turn, or a further round of it, begins: whatever has rung so far will be seen to.
    pub(super) fn attend(&self) {
        self.0.state.set(State::Running);
    }

    /// Ends the turn, unless it rang since [`Bell::attend`]: then another round is due.
    pub(super) fn leave(&self) -> bool {
        let quiet = self.0.state.get() == State::Running;
        if quiet {
            self.0.state.set(State::Idle);
        }
        quiet
    }

    /// Ends the turn and asks for another, after everybody else had theirs.
    pub(super) fn yield_turn(&self) {
        self.0.state.set(State::Idle);
        self.ring();
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
