//! Many calls at once that each hold memory of the server: while they run, while nobody takes their answers, or while
//! they are not whole.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::Until;
use super::raw::{Heard, Raw, WINDOW_MAX};
use super::requests;

const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

const GZIP: [(&str, &str); 4] = [
    ("content-type", "application/grpc"),
    ("te", "trailers"),
    // A server compresses what it sends if the request says it is compressed; that no message is, is allowed.
    ("grpc-encoding", "gzip"),
    ("grpc-accept-encoding", "gzip"),
];

#[derive(Clone, Copy, Debug)]
pub enum What {
    /// Range with limit 1, sorted by value.
    Sorted,
    RangeStream,
    /// A Txn of so many whole ranges.
    Txn {
        ranges: usize,
    },
    /// A whole range, compressed.
    Zipped,
    /// A Put of so many bytes but the last.
    UnfinishedPut {
        bytes: usize,
    },
}

#[derive(Clone, Copy, Debug)]
pub struct Streams {
    pub what: What,
    /// All of them.
    pub count: usize,
    pub connections: usize,
    /// Whether answers are taken; then new calls follow those that are answered.
    pub read: bool,
}

impl Streams {
    pub fn run(&self, addr: SocketAddr, until: &Until) -> io::Result<String> {
        let mut told = Heard::default();
        let mut rounds = 0;
        while !until.over() {
            let round = match self.round(addr, until) {
                Ok(round) => round,
                // It was there before: now it takes no more, or is gone.
                Err(_) if rounds > 0 => {
                    until.pause(RECONNECT_PAUSE);
                    continue;
                }
                Err(error) => return Err(error),
            };
            told.add(&round);
            rounds += 1;
            if round.closed {
                until.pause(RECONNECT_PAUSE);
            }
        }
        Ok(format!("{rounds} rounds: {told}"))
    }

    /// All calls once, on new connections.
    fn round(&self, addr: SocketAddr, until: &Until) -> io::Result<Heard> {
        let window = if self.read { WINDOW_MAX } else { 0 };
        let mut raws = Vec::new();
        for _ in 0..self.connections {
            raws.push(Raw::connect(addr, window)?);
        }
        let each = self.count / self.connections;
        let mut outcome = Ok(());
        for raw in &mut raws {
            outcome = outcome.and(self.start(raw, each, until));
        }
        let mut going = true;
        while going && outcome.is_ok() {
            let ended =
                raws.iter().map(|raw| raw.heard()).all(|heard| heard.closed || heard.ended() >= each as u64);
            going = !ended && until.pause(super::LOOK);
        }
        let mut told = Heard::default();
        raws.iter().for_each(|raw| told.add(&raw.heard()));
        match outcome {
            // The server closed it, or it ended while the server took no more: what came says so.
            Err(error) if !told.closed && !until.over() => Err(error),
            _ => Ok(told),
        }
    }

    fn start(&self, raw: &mut Raw, count: usize, until: &Until) -> io::Result<()> {
        raw.wait_for_settings(until)?;
        let (path, request) = match self.what {
            What::Sorted => (requests::RANGE, requests::framed(&requests::sorted())),
            What::RangeStream => (requests::RANGE_STREAM, requests::framed(&requests::whole())),
            What::Zipped => (requests::RANGE, requests::framed(&requests::whole())),
            What::Txn { ranges } => (requests::TXN, requests::framed(&requests::ranges(ranges, false))),
            What::UnfinishedPut { bytes } => {
                (requests::PUT, requests::framed(&requests::put("hostile", bytes)))
            }
        };
        if matches!(self.what, What::UnfinishedPut { .. }) {
            let streams = (0..count).map(|_| raw.open_call(path)).collect::<Vec<_>>();
            for stream in streams {
                raw.body(stream, &request[..request.len() - 1], false, until)?;
            }
        } else {
            let zipped = matches!(self.what, What::Zipped);
            for _ in 0..count {
                let stream = if zipped { raw.open("POST", path, &GZIP, false) } else { raw.open_call(path) };
                raw.body(stream, &request, true, until)?;
            }
        }
        raw.flush(until)
    }
}
