//! Free loopback ports, below the range the kernel takes ephemeral ports from: a server that is killed and
//! started again finds its port free, however many clients connect in between.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub client: u16,
    pub peer: u16,
}

pub fn free() -> std::io::Result<Ports> {
    Ok(Ports { client: next()?, peer: next()? })
}

fn next() -> std::io::Result<u16> {
    // Processes start at different places, so that they rarely try the same port at the same time.
    static STEP: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id().wrapping_mul(2_654_435_761) >> 8) % u32::from(COUNT);
    let start = u16::try_from(start).expect("below COUNT");
    for _ in 0..COUNT {
        let step = STEP.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (start + step) % COUNT;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_closed_again) => return Ok(port),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Err(std::io::ErrorKind::AddrNotAvailable.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_different_ports_and_skips_taken_ones() {
        let first = free().unwrap();
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first.client)).unwrap();
        let second = free().unwrap();
        let all = [first.client, first.peer, second.client, second.peer];
        let distinct = all.iter().collect::<std::collections::HashSet<_>>();
        assert_eq!(distinct.len(), 4, "{all:?}");
    }
}
