//! `GET /metrics` over and over: a page that costs the server more than its request costs the client.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::Until;
use super::raw::{Heard, Raw, WINDOW_MAX};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_millis(100);
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
const PIPELINED: usize = 100;
const READ_BYTES: usize = 256 << 10;

#[derive(Clone, Copy, Debug)]
pub enum Scrape {
    /// So many streams at once on one HTTP/2 connection; a new one when all were answered.
    Streams(u64),
    /// So many HTTP/1.1 connections, on each of which the next requests do not wait for the answers.
    Pipelined { connections: usize },
}

impl Scrape {
    pub fn run(&self, addr: SocketAddr, until: &Until) -> io::Result<String> {
        match self {
            Self::Streams(streams) => {
                let (mut told, mut rounds) = (Heard::default(), 0);
                while !until.over() {
                    let outcome = round(addr, *streams, until);
                    // It was there before: now it takes no more, or is gone.
                    if outcome.is_err() && rounds > 0 {
                        until.pause(RECONNECT_PAUSE);
                        continue;
                    }
                    told.add(&outcome?);
                    rounds += 1;
                }
                Ok(format!("{rounds} rounds: {told}"))
            }
            Self::Pipelined { connections } => {
                let came = std::thread::scope(|scope| {
                    let threads =
                        (0..*connections).map(|_| scope.spawn(|| pipelined(addr, until))).collect::<Vec<_>>();
                    let join = |thread: std::thread::ScopedJoinHandle<'_, io::Result<u64>>| {
                        thread.join().expect("a scrape does not panic")
                    };
                    threads.into_iter().map(join).sum::<io::Result<u64>>()
                })?;
                Ok(format!("{:.1} MiB came", came as f64 / f64::from(1 << 20)))
            }
        }
    }
}

fn round(addr: SocketAddr, streams: u64, until: &Until) -> io::Result<Heard> {
    let mut raw = Raw::connect(addr, WINDOW_MAX)?;
    raw.wait_for_settings(until)?;
    for _ in 0..streams {
        raw.open("GET", "/metrics", &[], true);
    }
    raw.flush(until)?;
    raw.wait_for_ends(streams, until);
    Ok(raw.heard())
}

/// Bytes that came on one connection.
fn pipelined(addr: SocketAddr, until: &Until) -> io::Result<u64> {
    let mut stream = TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT)?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut reading = stream.try_clone()?;
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let (mut buffer, mut came) = (vec![0; READ_BYTES], 0);
            loop {
                match reading.read(&mut buffer) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Ok(0) | Err(_) => return came,
                    Ok(read) => came += read as u64,
                }
            }
        });
        let batch = format!("GET /metrics HTTP/1.1\r\nhost: {addr}\r\n\r\n").repeat(PIPELINED);
        let mut rest = batch.as_bytes();
        while !until.over() {
            match stream.write(rest) {
                Ok(sent) if sent < rest.len() => rest = &rest[sent..],
                Ok(_) => rest = batch.as_bytes(),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break, // the server has ended it
            }
        }
        // It may have been closed by the server.
        drop(stream.shutdown(Shutdown::Both));
        Ok(reader.join().expect("reading does not panic"))
    })
}
