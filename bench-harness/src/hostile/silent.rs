//! Connections that do not come to their point: each costs the server a descriptor and some memory for as long as it
//! lets them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::Until;
use super::raw::{Raw, WINDOW_MAX};
use super::requests;
use crate::load::http2::frame;

/// A server that takes a connection no sooner takes no more.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const ROUND: Duration = Duration::from_millis(200);
/// Of the puts that make a server open its next log segment.
const PUT_BYTES: usize = 64 << 10;
const PUTS: u64 = 1_500;

/// Where it stops.
#[derive(Clone, Copy, Debug)]
pub enum At {
    Nothing,
    /// A part of the preface.
    Preface,
    /// The whole of it.
    Settings,
    /// HEADERS that are not ended.
    Headers,
    /// A body whose end does not come.
    Body,
}

#[derive(Clone, Copy, Debug)]
pub struct Silent {
    pub at: At,
    pub connections: usize,
    /// Meanwhile another connection, older than these, puts more than a log segment holds.
    pub puts: bool,
}

impl Silent {
    pub fn run(&self, addr: SocketAddr, until: &Until) -> io::Result<String> {
        allow_descriptors(self.connections)?;
        let mut writing = self.puts.then(|| Raw::connect(addr, WINDOW_MAX)).transpose()?;
        if let Some(raw) = &mut writing {
            raw.wait_for_settings(until)?;
        }
        let said = self.at.bytes(addr);
        let mut open = Vec::new();
        let (mut refused, mut closed, mut most, mut put) = (0_u64, 0_u64, 0, 0);
        while !until.over() {
            while open.len() < self.connections && !until.over() {
                match connect(addr, &said) {
                    Ok(stream) => open.push(stream),
                    Err(_) => {
                        refused += 1;
                        break;
                    }
                }
            }
            most = most.max(open.len());
            if let Some(raw) = &mut writing
                && put < PUTS
            {
                let request = requests::framed(&requests::put("hostile", PUT_BYTES));
                for _ in 0..100 {
                    raw.call(requests::PUT, &request, until)?;
                    put += 1;
                }
                raw.flush(until)?;
            }
            until.pause(ROUND);
            let before = open.len();
            open.retain_mut(still_open);
            closed += (before - open.len()) as u64;
        }
        let mut told = format!("{most} held at most, {closed} closed by the server, {refused} refused");
        if let Some(raw) = writing {
            told = format!("{told}; of {put} puts: {}", raw.heard());
        }
        Ok(told)
    }
}

impl At {
    fn bytes(self, addr: SocketAddr) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Nothing => {}
            Self::Preface => out.extend_from_slice(&frame::PREFACE[..10]),
            Self::Settings => preface(&mut out),
            Self::Headers => {
                preface(&mut out);
                let block = super::raw::block("POST", requests::PUT, &addr.to_string(), &[]);
                frame::head(&mut out, block.len(), frame::HEADERS, 0, 1);
                out.extend_from_slice(&block);
            }
            Self::Body => {
                preface(&mut out);
                let block = super::raw::block("POST", requests::PUT, &addr.to_string(), &super::raw::GRPC);
                frame::head(&mut out, block.len(), frame::HEADERS, frame::END_HEADERS, 1);
                out.extend_from_slice(&block);
                let request = requests::framed(&requests::put("hostile", 1_000));
                let half = &request[..request.len() / 2];
                frame::head(&mut out, half.len(), frame::DATA, 0, 1);
                out.extend_from_slice(half);
            }
        }
        out
    }
}

fn preface(out: &mut Vec<u8>) {
    out.extend_from_slice(frame::PREFACE);
    frame::settings(out, &[]);
}

fn connect(addr: SocketAddr, said: &[u8]) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT)?;
    stream.write_all(said)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// What the server says is read and forgotten.
fn still_open(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// So many more than a process usually may have.
fn allow_descriptors(count: usize) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = count as u64 + 1_000;
    if current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    if maximum.is_some_and(|maximum| maximum < wanted) {
        return Err(io::Error::other(format!(
            "{count} connections need a hard limit of {wanted} open files"
        )));
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stops_later_than_the_one_before() {
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        let sizes =
            [At::Nothing, At::Preface, At::Settings, At::Headers, At::Body].map(|at| at.bytes(addr).len());
        assert!(sizes.windows(2).all(|pair| pair[0] < pair[1]), "{sizes:?}");
    }

    #[test]
    fn what_the_server_closes_is_seen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = connect(listener.local_addr().unwrap(), b"").unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        assert!(still_open(&mut stream));
        accepted.write_all(b"words").unwrap();
        drop(accepted);
        while still_open(&mut stream) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
