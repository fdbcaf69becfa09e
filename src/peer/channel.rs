//! One connection between members: records in, records out, and how it ends.
//!
//! Owned by the task that serves it. What is gathered to be sent is at most [`limits::PEER_GATHERED_BYTES`] and a record;
//! what is kept of what came is at most a record.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
    time::Duration,
};

use prometheus::IntCounter;

use super::{
    greeting::Refusal,
    wire::{self, HEADER_BYTES, Kind, Record, WireError},
};
use crate::{env::Socket, limits};

/// Why a connection between members ended, or did not come about.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the other end closed the connection")]
    Closed,
    #[error("nothing came for {0:?}")]
    Silent(Duration),
    #[error("the other end took nothing for {0:?}")]
    Stuck(Duration),
    #[error("no connection within {0:?}")]
    Unanswered(Duration),
    #[error("{0}")]
    Wire(#[from] WireError),
    #[error("a message that makes no sense: {0}")]
    Message(#[from] prost::DecodeError),
    #[error("{0:?} came out of turn")]
    OutOfTurn(Kind),
    #[error("frames of more than {} bytes", limits::PEER_FRAME_BYTES_MAX)]
    TooLong,
    #[error("{0}")]
    Refused(Refusal),
    #[error("a newer connection took its place")]
    Replaced,
    #[error("the member has another log than the one it told the cluster of: its data were lost")]
    OtherLog,
    #[error("the member is not to be reached any more")]
    Left,
    #[error("{0}")]
    Address(String),
    #[error(
        "the other end did not take the checkpoint: it has a newer one, or it could not be put in place there"
    )]
    NotTaken,
    #[error("a piece was asked for that the checkpoint does not have")]
    NoSuchPiece,
    #[error("a piece that is not the one that was asked for")]
    OtherPiece,
}

pub struct Channel<S> {
    socket: S,
    /// Of what went and of what came.
    counters: Option<(IntCounter, IntCounter)>,
    /// Bytes that came in all.
    received: u64,
    buffer: Vec<u8>,
    /// What has come and was not given out: from `start` to `end`.
    start: usize,
    end: usize,
    outgoing: Vec<u8>,
    /// How much of it went.
    gone: usize,
}

/// Of what has come, so much fits before a longer record makes room for itself.
const BUFFER_BYTES: usize = 16 * 1024;

impl<S: Socket> Channel<S> {
    pub fn new(socket: S) -> Self {
        Channel {
            socket,
            counters: None,
            received: 0,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            outgoing: Vec::new(),
            gone: 0,
        }
    }

    /// From now on what goes and what comes is counted.
    pub fn count(&mut self, counters: (IntCounter, IntCounter)) {
        self.counters = Some(counters);
    }

    /// To be sent before anything else.
    pub fn begin(&mut self) {
        assert!(self.outgoing.is_empty(), "it comes first");
        self.outgoing.extend_from_slice(wire::PREFACE);
    }

    /// The preface, of which nothing may be missing.
    pub async fn expect_preface(&mut self) -> Result<(), LinkError> {
        while self.end - self.start < wire::PREFACE.len() {
            poll_fn(|context| self.poll_read(context)).await?;
        }
        match self.buffer[self.start..self.end].starts_with(wire::PREFACE) {
            true => self.start += wire::PREFACE.len(),
            false => return Err(WireError::Kind(self.buffer[self.start]).into()),
        }
        Ok(())
    }

    pub fn push(&mut self, record: &Record) {
        record.encode_into(&mut self.outgoing);
    }

    /// Whether more should be gathered before some of it went.
    pub fn has_room(&self) -> bool {
        self.outgoing.len() - self.gone < limits::PEER_GATHERED_BYTES
    }

    /// Bytes that wait to go.
    pub fn gathered(&self) -> usize {
        self.outgoing.len() - self.gone
    }

    /// Bytes that came so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    pub fn is_flushed(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Sends what was gathered; bytes that went, whether or not that is all.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<usize, LinkError>> {
        let mut sent = 0;
        while self.gone < self.outgoing.len() {
            match self.socket.poll_write(context, &self.outgoing[self.gone..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(LinkError::Closed)),
                Poll::Ready(Ok(went)) => {
                    self.gone += went;
                    sent += went;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending if sent == 0 => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        if let Some((counter, _)) = &self.counters {
            counter.inc_by(sent as u64);
        }
        if self.gone == self.outgoing.len() {
            self.outgoing.clear();
            self.gone = 0;
        } else if self.gone >= limits::PEER_GATHERED_BYTES {
            self.outgoing.drain(..self.gone);
            self.gone = 0;
        }
        Poll::Ready(Ok(sent))
    }

    /// The next record there is.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Record, LinkError>> {
        loop {
            let came = &self.buffer[self.start..self.end];
            let needed = wire::needed(came)?;
            if came.len() >= needed.max(HEADER_BYTES) {
                let record = wire::decode(&came[..needed])?;
                self.start += needed;
                return Poll::Ready(Ok(record));
            }
            self.make_room(needed);
            ready!(self.poll_read(context))?;
        }
    }

    pub async fn next(&mut self) -> Result<Record, LinkError> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// Sends all that was gathered.
    pub async fn flush(&mut self) -> Result<(), LinkError> {
        while !self.is_flushed() {
            poll_fn(|context| self.poll_flush(context)).await?;
        }
        Ok(())
    }

    /// Nothing more will be sent.
    pub async fn close(&mut self) -> Result<(), LinkError> {
        Ok(poll_fn(|context| self.socket.poll_close(context)).await?)
    }

    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// For all of a record of so many bytes.
    fn make_room(&mut self, needed: usize) {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() < needed {
            self.buffer.resize(needed, 0);
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        let read = ready!(self.socket.poll_read(context, &mut self.buffer[self.end..]))?;
        if read == 0 {
            return Poll::Ready(Err(LinkError::Closed));
        }
        self.end += read;
        self.received += read as u64;
        if let Some((_, counter)) = &self.counters {
            counter.inc_by(read as u64);
        }
        Poll::Ready(Ok(()))
    }
}
