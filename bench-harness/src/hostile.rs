//! Clients that mean harm, or act as if they did: what one of them can send to a server, as data.
//!
//! | module     | what lives there                                                           |
//! |------------|----------------------------------------------------------------------------|
//! | `table`    | the attacks: name, what is sent, what must be stored before                |
//! | `silent`   | connections that do not come to their point                                |
//! | `calls`    | one gRPC call that costs much                                              |
//! | `streams`  | many calls at once that each hold memory                                   |
//! | `floods`   | frames that cost the sender little                                         |
//! | `scrapes`  | `GET /metrics` over and over                                               |
//! | `requests` | the messages of these calls                                                |
//! | `raw`      | an HTTP/2 connection that keeps no rules                                   |
//!
//! An attack runs on the caller's thread against a server it knows by address only, until it is told to end. What the
//! server answered comes back as words; what it did to others is for the caller to see. Nothing here checks a server.

mod calls;
mod floods;
mod raw;
pub mod requests;
mod scrapes;
mod silent;
mod streams;
mod table;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use crate::load::http2::frame;
pub use raw::{GRPC, block};
pub use table::{ATTACKS, attack};

const LOOK: Duration = Duration::from_millis(5);

/// What must be stored before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Little.
    Few,
    /// Keys by the hundred thousand.
    Many,
    /// Keys by the million.
    More,
    /// Some hundred MB.
    Long,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasts {
    /// Over when it was answered.
    Once,
    /// Goes on until it is ended.
    Held,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Silent(silent::Silent),
    Call(calls::Call),
    Streams(streams::Streams),
    Flood(floods::Flood),
    Scrape(scrapes::Scrape),
}

#[derive(Clone, Copy, Debug)]
pub struct Attack {
    pub name: &'static str,
    /// In words.
    pub sends: &'static str,
    pub stored: Stored,
    /// What is stored is not the same afterwards, or costs a restart more.
    pub spoils: bool,
    pub lasts: Lasts,
    /// Open files the server is allowed, where that matters.
    pub descriptors: Option<u64>,
    /// Belongs to the set that runs in a few minutes.
    pub usual: bool,
    how: How,
}

impl Attack {
    /// Goes on until it is over, or `until` says so. What came back is told.
    pub fn run(&self, addr: SocketAddr, until: &Until) -> std::io::Result<String> {
        match &self.how {
            How::Silent(silent) => silent.run(addr, until),
            How::Call(call) => call.run(addr, until),
            How::Streams(streams) => streams.run(addr, until),
            How::Flood(flood) => flood.run(addr, until),
            How::Scrape(scrape) => scrape.run(addr, until),
        }
    }
}

/// How an attack is ended from outside.
#[derive(Debug, Default)]
pub struct Until(AtomicBool);

impl Until {
    pub fn end(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits, at most so long; whether it goes on.
    fn pause(&self, most: Duration) -> bool {
        let since = Instant::now();
        while !self.over() && since.elapsed() < most {
            std::thread::sleep(LOOK.min(most));
        }
        !self.over()
    }
}
