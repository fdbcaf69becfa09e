//! What the system forbids, limits and sends.

use std::{
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::Command,
};

use super::{READY, Server, free_port, output, serving, temp_dir};

const IO_URING: [libc::c_long; 3] =
    [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

/// Of `linux/capability.h`.
const CAP_IPC_LOCK: libc::c_ulong = 14;

/// Has the kernel refuse these system calls to the process, as the default profile of a container does.
fn forbid(command: &mut Command, calls: &[libc::c_long], errno: libc::c_int) {
    let instruction = |code: u32, k: u32, jt: u8| libc::sock_filter { code: code as u16, jt, jf: 0, k };
    // The number of the system call is the first field of what a filter sees.
    let mut program = vec![instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    for (at, call) in calls.iter().enumerate() {
        // To the last instruction: over the other calls and the one that allows.
        let over = u8::try_from(calls.len() - at).expect("a short program");
        program.push(instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, *call as u32, over));
    }
    program.push(instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0));
    program.push(instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32, 0));
    let install = move || {
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
        // SAFETY: the filter and its instructions live through the calls, which copy them.
        let installed = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) == 0
        };
        if installed { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec only system calls are made; the program was built before.
    unsafe { command.pre_exec(install) };
}

#[test]
fn a_container_that_forbids_rings_is_told_what_to_allow() {
    let dir = temp_dir();
    for (calls, errno, text) in [
        (&IO_URING[..], libc::EPERM, "io_uring_setup: Operation not permitted"),
        (&IO_URING[..], libc::ENOSYS, "io_uring_setup: Function not implemented"),
        (&IO_URING[1..2], libc::EPERM, "io_uring_enter: Operation not permitted"),
        (&IO_URING[2..], libc::EPERM, "io_uring_register: Operation not permitted"),
    ] {
        let mut command = serving(dir.path(), free_port());
        forbid(&mut command, calls, errno);
        let (refused, message) = output(&mut command);
        assert_eq!(refused.status.code(), Some(1), "{message}");
        let said = format!("cannot set up I/O rings: {text}");
        assert!(message.contains(&said) && message.contains("A seccomp filter forbids it"), "{message}");
        assert!(!message.contains("panic") && !message.contains("stacktrace"), "{message}");
    }
}

#[test]
fn little_locked_memory_costs_one_line() {
    let dir = temp_dir();
    let limited = |bytes: u64, port| {
        let mut command = serving(dir.path(), port);
        let limit = move || {
            let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
            // SAFETY: the limit lives through the call.
            let limited = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) == 0 };
            // Root may lock as much as it likes; whoever else runs the test has nothing to give up.
            // SAFETY: system calls without memory.
            let bound = unsafe {
                libc::geteuid() != 0 || libc::prctl(libc::PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0) == 0
            };
            if limited && bound { Ok(()) } else { Err(io::Error::last_os_error()) }
        };
        // SAFETY: between fork and exec only system calls are made.
        unsafe { command.pre_exec(limit) };
        command
    };
    let (refused, message) = output(&mut limited(64 * 1024, free_port()));
    assert_eq!(refused.status.code(), Some(1));
    assert!(message.contains("the locked memory limit is 65536 bytes, I/O rings need 524288"), "{message}");

    for (bytes, lines) in [(2 << 20, 1), (8 << 20, 0)] {
        let mut server = Server::start(&mut limited(bytes, free_port()));
        server.line(READY);
        let about: Vec<&String> = server.seen.iter().filter(|line| line.contains("egister")).collect();
        assert_eq!(about.len(), lines, "{about:?}");
        assert!(about.iter().all(|line| line.contains("I/O buffers stay unregistered")), "{about:?}");
        server.signal(libc::SIGTERM);
        server.line("closed etcd server");
    }
}

/// What the server finds SIGHUP set to; the tests themselves may run under nohup.
fn on_hangup(command: &mut Command, disposition: libc::sighandler_t) {
    let set = move || {
        // SAFETY: one system call.
        match unsafe { libc::signal(libc::SIGHUP, disposition) } {
            libc::SIG_ERR => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    // SAFETY: between fork and exec only a system call is made.
    unsafe { command.pre_exec(set) };
}

#[test]
fn signals_that_are_nothing_to_a_server_are_ignored() {
    let (dir, port) = (temp_dir(), free_port());
    let mut command = serving(dir.path(), port);
    on_hangup(&mut command, libc::SIG_DFL);
    let mut server = Server::start(&mut command);
    server.line(READY);
    for signal in [
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
        libc::SIGIO,
        libc::SIGPROF,
        libc::SIGVTALRM,
        libc::SIGXFSZ,
        libc::SIGXCPU,
        libc::SIGPIPE,
        libc::SIGPWR,
        libc::SIGRTMIN(),
        libc::SIGRTMAX(),
    ] {
        server.signal(signal);
    }
    // Whoever is dead hears nothing more.
    server.signal(libc::SIGHUP);
    server.line("\"signal\":\"hangup\"");
    server.line("closed etcd server");
    let status = server.process.wait().expect("a child can be waited for");
    assert_eq!(status.signal(), Some(libc::SIGHUP), "{status}");
}

#[test]
fn nohup_is_heeded() {
    let (dir, port) = (temp_dir(), free_port());
    let mut command = serving(dir.path(), port);
    on_hangup(&mut command, libc::SIG_IGN);
    let mut server = Server::start(&mut command);
    server.line(READY);
    server.signal(libc::SIGHUP);
    server.signal(libc::SIGTERM);
    server.line("\"signal\":\"terminated\"");
    assert!(server.seen.iter().all(|line| !line.contains("hangup")), "{:?}", server.seen);
}
