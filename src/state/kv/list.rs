//! A range's answer on its way to the client: encoded piece by piece, straight from the store.
//!
//! Owned by the call that answers. Its range was measured before, so its length is known although nothing of it was
//! kept: memory is one piece, however long the answer. The pin keeps every version that was measured. Pairs that had to
//! be sorted were kept; they go as they are encoded.

use bytes::{BufMut, Bytes};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};

use super::{
    filter::Filter,
    pairs::{Leave, Pairs},
};
use crate::{
    pb::{etcdserverpb as pb, mvccpb::KeyValue},
    state::{
        Error, StateMachine,
        mvcc::{Pin, Record, Span},
    },
};

/// Values from this size on are handed out where they lie instead of being copied.
const SHARED_BYTES: usize = 16 * 1024;

/// A range's answer. `L` is a [`List`], or what its owner makes of it.
pub enum RangeAnswer<L> {
    Whole(pb::RangeResponse),
    /// Longer than was to be kept: to be encoded piece by piece, as the client takes it.
    Long(L),
}

impl<L> RangeAnswer<L> {
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
    stage: Stage,
    source: Source,
    /// Of the measure, pairs and bytes still to come.
    left: Measure,
}

enum Source {
    Store(Stored),
    Kept(Pairs),
}

struct Stored {
    keys_only: bool,
    filter: Filter,
    /// Where to go on, and the end of the span.
    key: Vec<u8>,
    range_end: Bytes,
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
        let stored = Stored {
            keys_only: request.keys_only,
            filter: Filter::new(request),
            key: request.key.to_vec(),
            range_end: request.range_end.clone(),
            pin,
        };
        Self {
            header: Some(header),
            measure,
            stage: Stage::Head,
            source: Source::Store(stored),
            left: measure,
        }
    }

    /// An answer with these pairs, which go as they are encoded.
    pub(super) fn of(header: pb::ResponseHeader, measure: Measure, pairs: Pairs) -> Self {
        Self { header: Some(header), measure, stage: Stage::Head, source: Source::Kept(pairs), left: measure }
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
    pub fn step(
        &mut self,
        state: &StateMachine,
        keys: usize,
        bytes: usize,
        pieces: &mut Vec<Bytes>,
    ) -> Result<bool, Error> {
        assert!(self.stage != Stage::Done, "a finished list is not stepped");
        let mut piece = Vec::with_capacity(bytes + bytes / 8);
        if self.stage == Stage::Head {
            self.head().encode(&mut piece).expect("a vector takes any message");
            self.stage = Stage::Pairs;
        }
        if self.left.pairs > 0 {
            let left = &mut self.left;
            let mut out = Output { piece: &mut piece, pieces, left, keys, bytes };
            match &mut self.source {
                Source::Store(stored) => stored.encode(state, &mut out)?,
                Source::Kept(kvs) => encode_kept(kvs, &mut out),
            }
        }
        if self.left.pairs == 0 {
            assert_eq!(self.left.bytes, 0, "it is as it was measured");
            self.tail().encode(&mut piece).expect("a vector takes any message");
            self.stage = Stage::Done;
        }
        if !piece.is_empty() {
            pieces.push(piece.into());
        }
        Ok(self.stage != Stage::Done)
    }

    fn head(&self) -> pb::RangeResponse {
        pb::RangeResponse { header: self.header, ..pb::RangeResponse::default() }
    }

    fn tail(&self) -> pb::RangeResponse {
        let Measure { more, count, .. } = self.measure;
        pb::RangeResponse { more, count, ..pb::RangeResponse::default() }
    }
}

impl Leave for List {
    fn leave(self) -> Pairs {
        match self.source {
            Source::Store(_) => Pairs::default(),
            Source::Kept(pairs) => pairs,
        }
    }
}

/// Where pairs are encoded to, and how many of them in this step.
struct Output<'a> {
    piece: &'a mut Vec<u8>,
    pieces: &'a mut Vec<Bytes>,
    left: &'a mut Measure,
    /// To be looked at and to be encoded before the step ends.
    keys: usize,
    bytes: usize,
}

impl Output<'_> {
    /// Whether the step goes on, which it does for one key at least.
    fn has_room(&self) -> bool {
        self.keys > 0 && self.bytes > 0
    }

    fn saw_key(&mut self) {
        self.keys = self.keys.saturating_sub(1);
    }

    fn pair(&mut self, record: &Record<'_>, share: impl FnOnce(&[u8]) -> Bytes) {
        let length = field_len(record);
        encode_field(record, self.piece, |value, piece| {
            if value.len() < SHARED_BYTES {
                piece.put_slice(value);
            } else {
                self.pieces.push(std::mem::take(piece).into());
                self.pieces.push(share(value));
            }
        });
        self.bytes = self.bytes.saturating_sub(length);
        self.left.bytes -= length;
        self.left.pairs -= 1;
    }
}

impl Stored {
    fn encode(&mut self, state: &StateMachine, out: &mut Output<'_>) -> Result<(), Error> {
        let view = state.history().at_pin(&self.pin)?;
        let mut last = None;
        for hit in view.scan(Span::new(&self.key, &self.range_end)) {
            if out.left.pairs == 0 {
                return Ok(());
            }
            if let Some(last) = last
                && !out.has_room()
            {
                self.key = view.record(last).key.to_vec();
                self.key.push(0);
                return Ok(());
            }
            last = Some(hit.pos);
            out.saw_key();
            if !hit.exists {
                continue;
            }
            let record = view.record(hit.pos);
            if self.filter.passes(&record) {
                out.pair(&shown(record, self.keys_only), |value| view.share(hit.pos, value));
            }
        }
        assert_eq!(out.left.pairs, 0, "a pinned revision stays as it was measured");
        Ok(())
    }
}

fn encode_kept(kvs: &mut Pairs, out: &mut Output<'_>) {
    for kv in kvs {
        out.saw_key();
        out.pair(&record(&kv), |_| kv.value.clone());
        if !out.has_room() {
            return;
        }
    }
}

/// The record as a list shows it; see `Range::build`.
pub(super) fn shown(record: Record<'_>, keys_only: bool) -> Record<'_> {
    if keys_only { Record { value: &[], lease: 0, ..record } } else { record }
}

/// The pair as a record.
fn record(kv: &KeyValue) -> Record<'_> {
    Record {
        main: kv.mod_revision,
        create: kv.create_revision,
        version: kv.version,
        lease: kv.lease,
        key: &kv.key,
        value: &kv.value,
        ..Record::default()
    }
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

/// The same of a pair.
pub(super) fn pair_field_len(kv: &KeyValue) -> usize {
    field_len(&record(kv))
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
