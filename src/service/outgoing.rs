//! Messages on their way out of which parts are encoded already, because others are sent the same.

use bytes::Bytes;

use crate::shard::Pieces;

/// What a stream says next.
#[derive(Clone, Debug, PartialEq)]
pub enum Outgoing<R> {
    /// A message, and more fields of it.
    Message(R, Pieces),
    /// A message begins whose further fields have so many bytes in all. They follow in pieces, with nothing between.
    Begin(R, usize),
    Piece(Vec<Bytes>),
}

impl<R> From<R> for Outgoing<R> {
    fn from(message: R) -> Self {
        Outgoing::Message(message, Pieces::new())
    }
}
