//! Whether the kernel lets this process have I/O rings: asked before the executor is made, which would panic, or print
//! its own mind.
//!
//! System calls as they are: what makes the rings that serve does not tell why it fails.

use std::{
    fs, io,
    mem::size_of,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
};

use memmap2::MmapMut;

use super::ExecutorError;
use crate::limits;

/// `struct io_uring_params`, all zero: nothing in particular is asked for.
#[repr(C)]
struct Params([u32; 30]);

/// `struct io_uring_probe` with its operations.
#[repr(C)]
struct Probe {
    last_op: u8,
    ops_len: u8,
    reserved: [u16; 7],
    ops: [[u32; 2]; OPS],
}

const OPS: usize = 256;
const REGISTER_BUFFERS: libc::c_uint = 0;
const UNREGISTER_BUFFERS: libc::c_uint = 1;
const REGISTER_PROBE: libc::c_uint = 8;
/// `IORING_OP_RECV`, the last one that is used.
const LAST_OP_USED: u8 = 27;
/// The executor registers its memory with so many rings, and each counts.
const RINGS: usize = 3;
/// Of the limit of locked memory, which counts what a user has registered in all.
pub const BYTES_LOCKED: usize = RINGS * limits::IO_BUFFER_BYTES_MIN;

const _: () = assert!(size_of::<Params>() == 120 && size_of::<Probe>() == 16 + 8 * OPS);

/// Makes a ring and uses each of its system calls once.
pub fn check() -> Result<(), ExecutorError> {
    let ring = Ring::new().map_err(|source| forbidden("io_uring_setup", source))?;
    ring.enter().map_err(|source| forbidden("io_uring_enter", source))?;
    match ring.last_op() {
        Ok(last) if last >= LAST_OP_USED => Ok(()),
        // What this asks is younger than the rings.
        Err(source) if source.raw_os_error() != Some(libc::EINVAL) => {
            Err(forbidden("io_uring_register", source))
        }
        _ => Err(ExecutorError::OldKernel),
    }
}

/// How much memory for I/O an executor may register with all of its rings: as much as is wanted, or a part of it. It works
/// without, too.
pub fn registrable() -> io::Result<usize> {
    let mut bytes = limits::IO_BUFFER_BYTES;
    loop {
        match register(bytes) {
            Ok(()) => return Ok(bytes),
            Err(_) if bytes > limits::IO_BUFFER_BYTES_MIN => bytes /= 2,
            Err(error) => return Err(error),
        }
    }
}

fn register(bytes: usize) -> io::Result<()> {
    let mut memory = MmapMut::map_anon(bytes)?;
    let ring = Ring::new()?;
    let part = libc::iovec { iov_base: memory.as_mut_ptr().cast(), iov_len: bytes };
    let parts = [part; RINGS];
    // SAFETY: `memory` outlives its registration, which ends below; nobody reads or writes it meanwhile.
    unsafe { ring.register(REGISTER_BUFFERS, parts.as_ptr().cast(), RINGS)? };
    // At once, and not when the kernel comes to it: the executor's own come next.
    // SAFETY: takes no argument.
    unsafe { ring.register(UNREGISTER_BUFFERS, ptr::null(), 0) }
}

struct Ring(OwnedFd);

impl Ring {
    fn new() -> io::Result<Self> {
        let mut params = Params([0; 30]);
        // SAFETY: the kernel fills in the parameters, which live through the call.
        let made = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, &raw mut params) };
        if made < 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = i32::try_from(made).expect("a descriptor is an int");
        // SAFETY: it was just made and has no other owner.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Submits nothing and waits for nothing.
    fn enter(&self) -> io::Result<()> {
        let none = ptr::null::<libc::c_void>();
        // SAFETY: no memory is passed.
        let entered =
            unsafe { libc::syscall(libc::SYS_io_uring_enter, self.0.as_raw_fd(), 0, 0, 0, none, 0) };
        if entered < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The youngest operation the kernel knows.
    fn last_op(&self) -> io::Result<u8> {
        let mut probe = Probe { last_op: 0, ops_len: 0, reserved: [0; 7], ops: [[0; 2]; OPS] };
        // SAFETY: the kernel fills in the probe, which has room for as many operations as is said and lives through
        // the call.
        unsafe { self.register(REGISTER_PROBE, (&raw mut probe).cast_const().cast(), OPS)? };
        Ok(probe.last_op)
    }

    /// # Safety
    /// `what` asks for such arguments, and what the kernel goes on using outlives its registration.
    unsafe fn register(
        &self,
        what: libc::c_uint,
        arguments: *const libc::c_void,
        count: usize,
    ) -> io::Result<()> {
        // SAFETY: as the caller promises.
        let done =
            unsafe { libc::syscall(libc::SYS_io_uring_register, self.0.as_raw_fd(), what, arguments, count) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Says who forbids it, as far as that can be seen.
fn forbidden(call: &'static str, source: io::Error) -> ExecutorError {
    let advice = match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) if is_switched_off() => {
            "kernel.io_uring_disabled forbids it: set it to 0 (sysctl -w kernel.io_uring_disabled=0; for a container, on \
             its host)"
        }
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS) if is_filtered() => {
            "A seccomp filter forbids it, as the default profiles of Docker and containerd do: allow the system calls \
             io_uring_setup, io_uring_enter and io_uring_register (docker run --security-opt seccomp=PROFILE, in \
             Kubernetes seccompProfile, with systemd SystemCallFilter=@aio)"
        }
        Some(libc::ENOSYS) => "Linux 5.8 or newer with io_uring is needed",
        Some(libc::EMFILE | libc::ENFILE) => "Raise the limit of open files with `ulimit -n` or LimitNOFILE=",
        Some(libc::ENOMEM) => {
            "Memory is short: free some, or raise the limit of locked memory with `ulimit -l`"
        }
        _ => "Allow io_uring to this process (security policy, capabilities)",
    };
    ExecutorError::Forbidden { call, source, advice }
}

/// `kernel.io_uring_disabled`, since Linux 6.6: 1 for all but a group, 2 for all.
fn is_switched_off() -> bool {
    fs::read_to_string("/proc/sys/kernel/io_uring_disabled").is_ok_and(|value| value.trim() != "0")
}

fn is_filtered() -> bool {
    let mode = |line: &str| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2");
    fs::read_to_string("/proc/self/status").is_ok_and(|status| status.lines().any(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_gives_is_found() {
        check().expect("tests need io_uring");
    }
}
