//! Where the threads of a load run, so that what is measured is the server and not who gets a processor first.
//!
//! On a small machine the kernel likes to wake a client on the core that served it, where it waits up to some
//! milliseconds for the server to pause. The servers themselves run where they like: Pinion on the last core, upstream
//! on all.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Keeps this thread off the last core, if there is another.
pub fn leave_the_last() -> io::Result<()> {
    let mut cores = sched_getaffinity(None)?;
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| cores.is_set(*core)).collect();
    if let [_, .., last] = allowed[..] {
        cores.unset(last);
        sched_setaffinity(None, &cores)?;
    }
    Ok(())
}

/// Lets every other thread that wants to run go first.
pub fn step_back() -> io::Result<()> {
    // SAFETY: the parameters outlive the call, which keeps nothing of them.
    let outcome = unsafe {
        let parameters: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters)
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
