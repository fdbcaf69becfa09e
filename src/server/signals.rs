//! SIGTERM and SIGINT, from a thread of their own to the serving core.

use std::{
    future::poll_fn,
    io,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    task::Poll,
    thread,
};

use futures_util::task::AtomicWaker;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use tracing::{info, warn};

/// Tells when the member is asked to stop. Clones see the same signal.
#[derive(Clone, Debug)]
pub struct Stop(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// The signal that came, 0 before.
    signal: AtomicI32,
    waker: AtomicWaker,
}

impl Stop {
    /// Takes over both signals for the rest of the process's life. To be called before the thread is
    /// bound to a core, which the listening thread would inherit.
    pub fn listen() -> io::Result<Stop> {
        let stop = Stop(Arc::default());
        let state = stop.0.clone();
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        thread::Builder::new().name("pinion-signals".to_string()).spawn(move || {
            for signal in &mut signals {
                if state.signal.swap(signal, Ordering::AcqRel) == 0 {
                    info!(signal = name(signal), "received signal; shutting down");
                } else {
                    warn!(signal = name(signal), "received signal; shutting down already");
                }
                state.waker.wake();
            }
        })?;
        Ok(stop)
    }

    pub fn signal(&self) -> Option<i32> {
        match self.0.signal.load(Ordering::Acquire) {
            0 => None,
            signal => Some(signal),
        }
    }

    /// Completes when a signal came. One task at a time may wait.
    pub async fn requested(&self) -> i32 {
        poll_fn(|context| {
            self.0.waker.register(context.waker());
            self.signal().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// Go's words for the two signals.
fn name(signal: i32) -> &'static str {
    if signal == SIGINT { "interrupt" } else { "terminated" }
}
