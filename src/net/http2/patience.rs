//! Gives up a client that leaves unfinished what it has begun: the opening of its connection, headers, a frame.
//!
//! Between frames a client may be silent for as long as it likes. A timer runs only while something is unfinished at the
//! end of a turn, and is looked at when it is over, not set again by every byte.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use crate::env::{Env, Instant};

pub(super) struct Patience<E: Env> {
    env: E,
    /// Time for any of them.
    wait: Duration,
    timer: Option<E::Sleep>,
}

impl<E: Env> Patience<E> {
    pub(super) fn new(env: &E, wait: Duration) -> Self {
        Self { env: env.clone(), wait, timer: None }
    }

    /// Ready when it is at an end. `unfinished` is since when something is.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, unfinished: Option<Instant>) -> Poll<()> {
        loop {
            let timer = match (&mut self.timer, unfinished) {
                (None, None) => return Poll::Pending,
                (Some(timer), _) => timer,
                (None, Some(since)) => {
                    let left = self.wait.saturating_sub(self.env.now().since(since));
                    if left.is_zero() {
                        return Poll::Ready(());
                    }
                    self.timer.insert(self.env.sleep(left))
                }
            };
            if Pin::new(timer).poll(context).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
        }
    }
}
