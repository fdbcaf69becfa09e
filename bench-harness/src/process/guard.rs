//! Ends a server whose memory passes a bound, as the kernel would on a machine that is no larger, and remembers how much
//! it had.
//!
//! A thread that looks every few milliseconds. It counts what the process allocated: pages of files can be given back.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::usage;

const LOOK: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    rss_max: AtomicU64,
    /// Bytes it was ended with.
    ended: Mutex<Option<u64>>,
}

#[derive(Debug)]
pub struct Guard {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Guard {
    /// `pid`: of the server that is watched at any moment, 0 for none yet.
    pub fn new(pid: Arc<AtomicU32>, memory_max: u64) -> Self {
        let shared = Arc::<Shared>::default();
        let watching = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            while !watching.over.load(Ordering::Relaxed) {
                // No process, or one that has ended: nothing to watch.
                if let Some(pid) = Pid::from_raw(pid.load(Ordering::Relaxed).cast_signed()) {
                    watching.look(pid, memory_max);
                }
                std::thread::sleep(LOOK);
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// The resident memory at most, since the last time this was asked.
    pub fn rss_max(&self) -> u64 {
        self.shared.rss_max.swap(0, Ordering::Relaxed)
    }

    /// What it had when the guard ended it, once.
    pub fn ended(&self) -> Option<u64> {
        self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Shared {
    fn look(&self, pid: Pid, memory_max: u64) {
        // The descriptor first: a signal through it meets this process or none.
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        let Ok(usage) = usage::of(pid.as_raw_nonzero().get().cast_unsigned()) else { return };
        self.rss_max.fetch_max(usage.rss_bytes, Ordering::Relaxed);
        if usage.rss_anon_bytes > memory_max && pidfd_send_signal(process, Signal::KILL).is_ok() {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.get_or_insert(usage.rss_anon_bytes);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("watching does not panic");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_above_the_bound_is_ended_and_one_below_is_not() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Arc::new(AtomicU32::new(child.id()));
        let guard = Guard::new(Arc::clone(&pid), 1 << 40);
        while guard.rss_max() == 0 {
            std::thread::sleep(LOOK);
        }
        assert!(child.try_wait().unwrap().is_none() && guard.ended().is_none());
        drop(guard);
        let guard = Guard::new(pid, 1);
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        while guard.ended().is_none_or(|bytes| bytes <= 1) {
            std::thread::sleep(LOOK);
        }
    }
}
