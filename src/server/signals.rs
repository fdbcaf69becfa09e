//! What the signals a process gets mean here: which of them stop it, and that the others do not.
//!
//! SIGTERM, SIGINT and SIGHUP ask to stop; a thread of their own tells the serving core. What a Go program takes without
//! a word, and would end this one by default, is ignored.

use std::{
    future::poll_fn,
    io, mem, ptr,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    task::Poll,
    thread,
};

use futures_util::task::AtomicWaker;
use libc::{SIGALRM, SIGIO, SIGPIPE, SIGPROF, SIGPWR, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ, c_int};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use tracing::{info, warn};

/// Not for us: timers and limits nobody has set, and whatever a cron job or an agent sends to all it finds.
const IGNORED: [c_int; 10] =
    [SIGALRM, SIGIO, SIGPIPE, SIGPROF, SIGPWR, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ];

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
    /// Takes over the signals for the rest of the process's life. To be called before the thread is
    /// bound to a core, which the listening thread would inherit.
    pub fn listen() -> io::Result<Stop> {
        for signal in IGNORED.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
            ignore(signal)?;
        }
        let stop = Stop(Arc::default());
        let state = stop.0.clone();
        let mut asks = vec![SIGTERM, SIGINT];
        // `nohup` asks not to hear of it.
        if !is_ignored(SIGHUP)? {
            asks.push(SIGHUP);
        }
        let mut signals = Signals::new(asks)?;
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

fn ignore(signal: c_int) -> io::Result<()> {
    // SAFETY: no code of ours runs for a signal that is ignored, and nobody else handles these.
    match unsafe { libc::signal(signal, libc::SIG_IGN) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// As the process was started with.
fn is_ignored(signal: c_int) -> io::Result<bool> {
    // SAFETY: `sigaction` is plain data for which zero bytes are valid.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: asks only; the pointer refers to a local that lives through the call.
    match unsafe { libc::sigaction(signal, ptr::null(), &mut action) } {
        0 => Ok(action.sa_sigaction == libc::SIG_IGN),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Go's words for the signals that stop.
fn name(signal: i32) -> &'static str {
    match signal {
        SIGINT => "interrupt",
        SIGHUP => "hangup",
        _ => "terminated",
    }
}
