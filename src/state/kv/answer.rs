//! An answer on its way to the client: whole, or encoded piece by piece.
//!
//! A long one is owned by the call that answers. Everything in it was measured before, so its length is known although
//! most of it is not there yet: memory is one piece, however long the answer.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};

use super::{
    field,
    list::{List, Output, SHARED_BYTES},
    pairs::{Leave, Pairs},
};
use crate::{
    pb::{etcdserverpb as pb, mvccpb::KeyValue},
    state::{Error, StateMachine},
};

/// An answer.
pub enum Answer<M, L> {
    Whole(M),
    /// Longer than was to be kept: `L` is a [`Plan`](super::Plan), of which parts are still to be read, or the
    /// [`LongAnswer`] that came of it, or what its owner makes of that.
    Long(L),
}

impl<M, L> Answer<M, L> {
    /// An answer of which everything was to be kept.
    pub fn whole(self) -> M {
        match self {
            Self::Whole(response) => response,
            Self::Long(_) => unreachable!("however many pairs there are, they are kept"),
        }
    }
}

/// A read that goes step by step.
pub trait Evaluation: Leave {
    /// Goes on by about `budget` pairs, or many times as many keys that are only counted. True when nothing is left to
    /// do.
    fn step(&mut self, state: &StateMachine, budget: usize) -> Result<bool, Error>;

    /// Pairs in memory.
    fn held(&self) -> usize;

    /// Whether these may be many, as they have to be sorted.
    fn takes_many(&self) -> bool;
}

/// A long answer under way.
pub struct LongAnswer {
    header: Option<pb::ResponseHeader>,
    /// The header is encoded.
    begun: bool,
    /// What follows the header, which is the first field of every answer.
    body: VecDeque<Piece>,
    body_bytes: usize,
    /// Of the body, those that are not at their end.
    lists: usize,
}

enum Piece {
    Bytes(Bytes),
    List(List),
}

impl LongAnswer {
    /// One that is all there already, but for its header.
    pub fn of(pieces: Vec<Bytes>) -> Self {
        let body_bytes = pieces.iter().map(Bytes::len).sum();
        let body = pieces.into_iter().map(Piece::Bytes).collect();
        Self { header: None, begun: false, body, body_bytes, lists: 0 }
    }

    /// To be completed before the first piece.
    pub fn header_mut(&mut self) -> &mut Option<pb::ResponseHeader> {
        &mut self.header
    }

    /// Length of the answer: of all pieces together.
    pub fn encoded_len(&self) -> usize {
        head(self.header).encoded_len() + self.body_bytes
    }

    /// Pairs in memory: of its lists, the one at hand alone may have some.
    pub fn held(&self) -> usize {
        match self.body.front() {
            Some(Piece::List(list)) => list.held(),
            Some(Piece::Bytes(_)) | None => 0,
        }
    }

    /// Whether there is more to do than to hand out what there is.
    pub fn reads(&self) -> bool {
        self.lists > 0
    }

    /// Looks at up to `keys` keys and appends about `bytes` bytes of the answer to `pieces`. False when there is no more.
    pub fn step(
        &mut self,
        state: &StateMachine,
        keys: usize,
        bytes: usize,
        pieces: &mut Vec<Bytes>,
    ) -> Result<bool, Error> {
        assert!(!self.begun || !self.body.is_empty(), "a finished answer is not stepped");
        let mut piece = Vec::with_capacity(bytes.min(self.encoded_len()) + bytes / 8);
        if !self.begun {
            head(self.header).encode(&mut piece).expect("a vector takes any message");
            self.begun = true;
        }
        let mut out = Output { piece: &mut piece, pieces, keys, bytes };
        while let Some(next) = self.body.front_mut() {
            match next {
                Piece::Bytes(bytes) => out.put(std::mem::take(bytes)),
                Piece::List(list) => {
                    if !list.step(state, &mut out)? {
                        break;
                    }
                    self.lists -= 1;
                }
            }
            self.body.pop_front();
            if !out.has_room() {
                break;
            }
        }
        if !piece.is_empty() {
            pieces.push(piece.into());
        }
        Ok(!self.body.is_empty())
    }
}

impl Leave for LongAnswer {
    /// Of all its lists, the one at hand alone may have pairs.
    fn leave(self) -> Pairs {
        let lists = self.body.into_iter().filter_map(|piece| match piece {
            Piece::Bytes(_) => None,
            Piece::List(list) => Some(list.leave()),
        });
        lists.fold(Pairs::default(), |left, pairs| if pairs.len() > left.len() { pairs } else { left })
    }
}

/// Of every answer: its header is its first field.
fn head(header: Option<pb::ResponseHeader>) -> pb::CompactionResponse {
    pb::CompactionResponse { header }
}

/// Puts an answer together from its end to its beginning: what precedes something tells its length.
#[derive(Default)]
pub(super) struct Assembly {
    pieces: VecDeque<Piece>,
    /// What precedes them, last byte first.
    front: Vec<u8>,
    len: usize,
}

impl Assembly {
    /// Bytes put so far.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn header(&mut self, header: Option<pb::ResponseHeader>) {
        self.message(&head(header));
    }

    /// The fields of a message.
    pub(super) fn message(&mut self, message: &impl Message) {
        self.bytes(message.encode_to_vec());
    }

    /// Pairs as a field each.
    pub(super) fn pairs(&mut self, tag: u32, kvs: &[KeyValue]) {
        for kv in kvs.iter().rev() {
            let mut bytes = Vec::with_capacity(field::pair_field_len(kv));
            field::encode(tag, &field::record(kv), &mut bytes, |value, out| out.extend_from_slice(value));
            self.bytes(bytes);
        }
    }

    pub(super) fn list(&mut self, list: List) {
        self.end_front();
        self.len += list.bytes();
        self.pieces.push_front(Piece::List(list));
    }

    /// Makes a field of what was put since there were `len` bytes.
    pub(super) fn enclose(&mut self, tag: u32, len: usize) {
        let mut bytes = Vec::with_capacity(16);
        encode_key(tag, WireType::LengthDelimited, &mut bytes);
        encode_varint((self.len - len) as u64, &mut bytes);
        self.bytes(bytes);
    }

    fn bytes(&mut self, bytes: Vec<u8>) {
        self.len += bytes.len();
        if bytes.len() < SHARED_BYTES {
            self.front.extend(bytes.iter().rev());
        } else {
            self.end_front();
            self.pieces.push_front(Piece::Bytes(bytes.into()));
        }
        if self.front.len() >= SHARED_BYTES {
            self.end_front();
        }
    }

    fn end_front(&mut self) {
        if !self.front.is_empty() {
            let mut bytes = std::mem::take(&mut self.front);
            bytes.reverse();
            self.pieces.push_front(Piece::Bytes(bytes.into()));
        }
    }

    /// The answer that has this header and then what was put.
    pub(super) fn finish(mut self, header: Option<pb::ResponseHeader>) -> LongAnswer {
        self.end_front();
        let lists = self.pieces.iter().filter(|piece| matches!(piece, Piece::List(_))).count();
        LongAnswer { header, begun: false, body: self.pieces, body_bytes: self.len, lists }
    }
}
