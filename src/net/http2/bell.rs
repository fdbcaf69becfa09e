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
    /// The task will run without a ring.
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

    /// Ends the turn; the next one comes whether it rings or not.
    pub(super) fn pause(&self) {
        self.0.state.set(State::Scheduled);
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Scheduled(AtomicUsize);

    impl Wake for Scheduled {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn it_schedules_once_and_not_at_all_while_the_next_turn_comes_anyway() {
        let scheduled = Arc::new(Scheduled::default());
        let bell = Bell::new(scheduled.clone().into());
        let times = || scheduled.0.load(Ordering::Relaxed);
        bell.ring();
        bell.ring();
        assert_eq!(times(), 1);
        bell.attend();
        bell.ring();
        assert!(!bell.leave(), "another round is due");
        bell.pause();
        bell.ring();
        assert_eq!(times(), 1);
        bell.attend();
        assert!(bell.leave());
        bell.ring();
        assert_eq!(times(), 2);
    }
}
