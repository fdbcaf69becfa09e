//! Starts child processes that die with this process.
//!
//! The kernel sends a child its parent-death signal when the thread that forked it ends, so one thread that
//! lives as long as the process does all forking: a test's own thread may end before the server it shares.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};

type Order = (Command, SyncSender<io::Result<Child>>);

pub fn spawn(mut command: Command) -> io::Result<Child> {
    static ORDERS: OnceLock<Sender<Order>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (orders, incoming) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in incoming {
                answer.send(command.spawn()).expect("the caller waits for its child");
            }
        });
        orders
    });

    let parent = std::process::id();
    // SAFETY: between fork and exec only prctl and getppid run, both async-signal-safe, and no memory is
    // allocated.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the signal was armed.
            if libc::getppid() as u32 != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
    let (answer, child) = sync_channel(1);
    orders.send((command, answer)).expect("the spawning thread never ends");
    child.recv().expect("the spawning thread answers every order")
}
