//! Entries that other members need and that memory has no more: read back from the log beside all else, a piece at a time.
//!
//! Only what passes the log's checksums and is of the term that Raft knows is taken. A piece begins where another ended,
//! most often, so the places where reading ended are kept, a few of them.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;

use crate::{
    consensus::{Entry, EntryKind, Terms},
    env::Env,
    limits,
    storage::wal::{Lookback, Record, Wal, WalError},
    types::LogIndex,
};

/// What became of a piece.
pub struct Piece {
    pub from: LogIndex,
    pub entries: Vec<Entry>,
    /// Why it ends before it should.
    pub error: Option<WalError>,
    /// The log should have the first entry, and does not give it.
    pub is_lost: bool,
}

struct Read<E: Env> {
    piece: Piece,
    /// Where reading ended.
    at: Lookback<E>,
    /// What comes there is not what follows the piece.
    has_passed: bool,
}

pub struct ReadBack<E: Env> {
    under_way: Option<Pin<Box<dyn Future<Output = Read<E>>>>>,
    finished: Option<Read<E>>,
    /// Places in the log, and the entry that comes there.
    places: Vec<(LogIndex, Lookback<E>)>,
    /// The piece began at one of them.
    began_at_place: bool,
}

impl<E: Env> ReadBack<E> {
    pub fn new() -> Self {
        ReadBack { under_way: None, finished: None, places: Vec::new(), began_at_place: false }
    }

    /// Begins to read from this entry on.
    pub fn begin(&mut self, wal: &Wal<E>, from: LogIndex, terms: Terms) {
        assert!(self.under_way.is_none() && self.finished.is_none(), "one piece at a time");
        let known = self.places.iter().position(|(next, _)| *next == from);
        let known = known.map(|at| self.places.swap_remove(at).1);
        let known = known.and_then(|mut at| wal.may_go_on(&mut at).then_some(at));
        self.began_at_place = known.is_some();
        let at = known.unwrap_or_else(|| wal.look_back(from));
        self.under_way = Some(Box::pin(read(at, from, terms)));
    }

    /// Drives the piece under way. True when it has ended.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(reading) = &mut self.under_way else { return false };
        let Poll::Ready(read) = reading.as_mut().poll(cx) else { return false };
        self.under_way = None;
        self.finished = Some(read);
        true
    }

    /// The piece that has ended.
    pub fn take(&mut self, wal: &Wal<E>) -> Option<Piece> {
        let Read { mut piece, at, has_passed } = self.finished.take()?;
        // What is wrong with a segment that left the log meanwhile does not matter; and what is with a place of before may
        // not be with the log.
        piece.is_lost = piece.entries.is_empty() && wal.has(&at) && !self.began_at_place;
        if piece.error.is_none() && !has_passed && !piece.entries.is_empty() {
            if self.places.len() == limits::READ_BACK_PLACES {
                self.places.remove(0);
            }
            self.places.push((LogIndex(piece.from.0 + piece.entries.len() as u64), at));
        }
        Some(piece)
    }

    /// Nobody needs more: files are let go.
    pub fn rest(&mut self) {
        self.places.clear();
    }
}

/// Reads until there is enough, or memory has what comes next.
async fn read<E: Env>(mut at: Lookback<E>, from: LogIndex, terms: Terms) -> Read<E> {
    let (mut next, mut bytes, mut entries) = (from, 0, Vec::new());
    let (mut has_passed, mut error) = (false, None);
    while bytes < limits::READ_BACK_PIECE_BYTES && !has_passed && terms.of(next).is_some() {
        let batch = at.batch(|record| {
            let Record::Entry { term, index, kind, data } = record else { return };
            if index == next && terms.of(next).is_none() {
                has_passed = true;
            }
            if index == next
                && terms.of(next) == Some(term)
                && let Some(kind) = EntryKind::from_byte(kind)
            {
                entries.push(Entry { index, term, kind, data: Bytes::copy_from_slice(data) });
                bytes += data.len();
                next = LogIndex(next.0 + 1);
            }
        });
        match batch.await {
            Ok(true) => {}
            Ok(false) => break,
            Err(failed) => {
                error = Some(failed);
                break;
            }
        }
    }
    Read { piece: Piece { from, entries, error, is_lost: false }, at, has_passed }
}
