//! A range's answer on its way to the client: encoded piece by piece, straight from the store.
//!
//! Owned by the call that answers. Its range was measured before, so its length is known although nothing of it was
//! kept: memory is one piece, however long the answer. The pin keeps every version that was measured.

use bytes::{BufMut, Bytes};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};

use super::StateMachine;
use crate::{
    mvcc::{Pin, Record, Span},
    pb::etcdserverpb as pb,
};

/// Values from this size on are handed out where they lie instead of being copied.
const SHARED_BYTES: usize = 16 * 1024;

/// A range's answer: what [`RangeCursor::finish`](super::RangeCursor::finish) made of it.
pub enum Ranged {
    Whole(pb::RangeResponse),
    /// Longer than was to be kept.
    Long(List),
}

impl Ranged {
    /// An answer of which everything was to be kept.
    pub fn whole(self) -> pb::RangeResponse {
        match self {
            Self::Whole(response) => response,
            Self::Long(_) => unreachable!("however many pairs there are, they are kept"),
        }
    }
}

/// What a range came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measure {
    pub(super) pairs: i64,
    /// Of the pairs as fields of a response.
    pub(super) bytes: usize,
    pub(super) more: bool,
    pub(super) count: i64,
}

impl Measure {
    /// One more pair; past the limit (0 and below: none) it only shows that there are more.
    pub(super) fn add(&mut self, bytes: usize, limit: i64) {
        if limit > 0 && self.pairs == limit {
            self.more = true;
        } else {
            self.pairs += 1;
            self.bytes += bytes;
        }
    }
}

/// A long answer under way.
pub struct List {
    header: Option<pb::ResponseHeader>,
    measure: Measure,
    keys_only: bool,
    stage: Stage,
    /// Where to go on, and the end of the span.
    key: Vec<u8>,
    range_end: Bytes,
    /// Of the measure, still to come.
    pairs: i64,
    bytes: usize,
    pin: Pin,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Pairs,
    Done,
}

impl List {
    pub(super) fn new(
        request: &pb::RangeRequest,
        header: pb::ResponseHeader,
        measure: Measure,
        pin: Pin,
    ) -> Self {
        Self {
            header: Some(header),
            measure,
            keys_only: request.keys_only,
            stage: Stage::Head,
            key: request.key.to_vec(),
            range_end: request.range_end.clone(),
            pairs: measure.pairs,
            bytes: measure.bytes,
            pin,
        }
    }

    /// To be completed before the first piece.
    pub fn header_mut(&mut self) -> &mut Option<pb::ResponseHeader> {
        &mut self.header
    }

    /// Length of the answer: of all pieces together.
    pub fn encoded_len(&self) -> usize {
        self.head().encoded_len() + self.measure.bytes + self.tail().encoded_len()
    }

    /// Looks at up to `keys` keys and appends about `bytes` bytes of the answer to `pieces`. False when there is no more.
    pub fn step(&mut self, state: &StateMachine, keys: usize, bytes: usize, pieces: &mut Vec<Bytes>) -> bool {
        assert!(self.stage != Stage::Done, "a finished list is not stepped");
        let mut piece = Vec::with_capacity(bytes + bytes / 8);
        if self.stage == Stage::Head {
            self.head().encode(&mut piece).expect("a vector takes any message");
            self.stage = Stage::Pairs;
        }
        self.encode_pairs(state, keys, bytes, &mut piece, pieces);
        if self.pairs == 0 {
            assert_eq!(self.bytes, 0, "a pinned revision stays as it was measured");
            self.tail().encode(&mut piece).expect("a vector takes any message");
            self.stage = Stage::Done;
        }
        if !piece.is_empty() {
            pieces.push(piece.into());
        }
        self.stage != Stage::Done
    }

    fn encode_pairs(
        &mut self,
        state: &StateMachine,
        keys: usize,
        bytes: usize,
        piece: &mut Vec<u8>,
        pieces: &mut Vec<Bytes>,
    ) {
        if self.pairs == 0 {
            return;
        }
        let snapshot = state.store().at_pin(&self.pin);
        let (mut last, mut seen, mut encoded) = (None, 0, 0);
        for hit in snapshot.scan(Span::new(&self.key, &self.range_end)) {
            if self.pairs == 0 {
                return;
            }
            if let Some(last) = last
                && (seen >= keys || encoded >= bytes)
            {
                self.key = snapshot.record(last).key.to_vec();
                self.key.push(0);
                return;
            }
            last = Some(hit.pos);
            seen += 1;
            if !hit.exists {
                continue;
            }
            let record = shown(snapshot.record(hit.pos), self.keys_only);
            let length = field_len(&record);
            encode_field(&record, piece, |value, piece| {
                if value.len() < SHARED_BYTES {
                    piece.put_slice(value);
                } else {
                    pieces.push(std::mem::take(piece).into());
                    pieces.push(snapshot.share(hit.pos, value));
                }
            });
            encoded += length;
            self.bytes -= length;
            self.pairs -= 1;
        }
        assert_eq!(self.pairs, 0, "a pinned revision stays as it was measured");
    }

    fn head(&self) -> pb::RangeResponse {
        pb::RangeResponse { header: self.header, ..pb::RangeResponse::default() }
    }

    fn tail(&self) -> pb::RangeResponse {
        let Measure { more, count, .. } = self.measure;
        pb::RangeResponse { more, count, ..pb::RangeResponse::default() }
    }
}

/// The record as a list shows it; see `Evaluation::build`.
pub(super) fn shown(record: Record<'_>, keys_only: bool) -> Record<'_> {
    if keys_only { Record { value: &[], lease: 0, ..record } } else { record }
}

/// Tags in a response and in a pair (etcd v3.7 rpc.proto, kv.proto).
const KVS: u32 = 2;
const KEY: u32 = 1;
const VALUE: u32 = 5;

fn numbers(record: &Record<'_>) -> [(u32, i64); 3] {
    [(2, record.create), (3, record.main), (4, record.version)]
}

/// Length of the record as a field of a response. All tags take one byte.
pub(super) fn field_len(record: &Record<'_>) -> usize {
    let len = pair_len(record);
    1 + encoded_len_varint(len as u64) + len
}

fn pair_len(record: &Record<'_>) -> usize {
    let bytes = |part: &[u8]| {
        if part.is_empty() { 0 } else { 1 + encoded_len_varint(part.len() as u64) + part.len() }
    };
    let number = |number: i64| if number == 0 { 0 } else { 1 + encoded_len_varint(number as u64) };
    bytes(record.key)
        + numbers(record).iter().map(|(_, value)| number(*value)).sum::<usize>()
        + bytes(record.value)
        + number(record.lease)
}

fn encode_field(record: &Record<'_>, out: &mut Vec<u8>, put_value: impl FnOnce(&[u8], &mut Vec<u8>)) {
    encode_key(KVS, WireType::LengthDelimited, out);
    encode_varint(pair_len(record) as u64, out);
    let number = |tag: u32, number: i64, out: &mut Vec<u8>| {
        if number != 0 {
            encode_key(tag, WireType::Varint, out);
            encode_varint(number as u64, out);
        }
    };
    if !record.key.is_empty() {
        encode_key(KEY, WireType::LengthDelimited, out);
        encode_varint(record.key.len() as u64, out);
        out.put_slice(record.key);
    }
    for (tag, value) in numbers(record) {
        number(tag, value, out);
    }
    if !record.value.is_empty() {
        encode_key(VALUE, WireType::LengthDelimited, out);
        encode_varint(record.value.len() as u64, out);
        put_value(record.value, out);
    }
    number(6, record.lease, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::mvccpb::KeyValue;

    #[test]
    fn a_pair_is_encoded_as_by_the_library() {
        for (key, value, lease) in
            [(&b"k"[..], &b"v"[..], 0), (&[1; 200], &[2; 20_000], i64::MAX), (b"k", b"", -1)]
        {
            let record =
                Record { main: 300, sub: 0, create: 7, version: 1, lease, tombstone: false, key, value };
            let mut bytes = Vec::new();
            encode_field(&record, &mut bytes, |value, bytes| bytes.put_slice(value));
            assert_eq!(bytes.len(), field_len(&record));
            let kv = KeyValue {
                key: key.to_vec().into(),
                create_revision: 7,
                mod_revision: 300,
                version: 1,
                value: value.to_vec().into(),
                lease,
            };
            assert_eq!(bytes, pb::RangeResponse { kvs: vec![kv], ..Default::default() }.encode_to_vec());
        }
    }
}
