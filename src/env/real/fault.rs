//! What a failing disk does to a mapped file: the kernel cannot bring the page in, and sends SIGBUS.

use std::io;

use signal_hook::{consts::SIGBUS, low_level};

/// A line of the log, written as it is: nothing can be formatted in a signal handler.
const WORDS: &[u8] =
    b"{\"level\":\"fatal\",\"msg\":\"a mapped checkpoint file cannot be read: the disk failed, or \
    the file was cut short. Check the disk (dmesg), then start again, which verifies every file\"}\n";

/// Lets such an end of the process say why. Call it once, before files are mapped.
pub fn explain_faults() -> io::Result<()> {
    let end = || {
        let said = rustix::io::write(rustix::stdio::stderr(), WORDS).is_ok();
        let ended = low_level::emulate_default_handler(SIGBUS).is_ok();
        if !said || !ended {
            low_level::abort();
        }
    };
    // SAFETY: one system call, and a function that is made for signal handlers. The signal is the core's or the helper
    // thread's own fault, so no other code of theirs goes on meanwhile.
    unsafe { low_level::register(SIGBUS, end) }.map(drop)
}
