//! The pairs of a long answer, encoded a few at a time, straight from the store.
//!
//! They were measured before, so their length is known although nothing of them was kept. The pin keeps every version
//! that was measured. Pairs that had to be sorted were kept, and go as they are encoded, or are sorted once more when
//! their turn has come.

use bytes::{BufMut, Bytes};

use super::{
    answer::Evaluation,
    field,
    filter::Filter,
    pairs::{Leave, Pairs},
    range::{BEGIN_PAIRS, Range},
};
use crate::{
    pb::etcdserverpb as pb,
    state::{
        Error, StateMachine,
        mvcc::{Pin, Record, Span},
    },
};

/// Bytes from this length on are handed out where they lie instead of being copied.
pub(super) const SHARED_BYTES: usize = 16 * 1024;

/// What a range came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measure {
    pub(super) pairs: i64,
    /// Of the pairs as fields of an answer.
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

/// Pairs under way.
pub(super) struct List {
    /// Which field of the answer they are.
    tag: u32,
    source: Source,
    /// Pairs and bytes still to come.
    pairs: i64,
    bytes: usize,
}

enum Source {
    Store(Stored),
    Kept(Pairs),
    /// To be sorted first.
    Unsorted(Box<Range>),
}

struct Stored {
    keys_only: bool,
    filter: Filter,
    /// Where to go on, and the end of the span.
    key: Vec<u8>,
    range_end: Bytes,
    pin: Pin,
}

impl List {
    pub(super) fn stored(request: &pb::RangeRequest, measure: Measure, pin: Pin) -> Self {
        let stored = Stored {
            keys_only: request.keys_only,
            filter: Filter::new(request),
            key: request.key.to_vec(),
            range_end: request.range_end.clone(),
            pin,
        };
        Self::of(Source::Store(stored), measure)
    }

    /// These pairs, which go as they are encoded.
    pub(super) fn kept(pairs: Pairs, measure: Measure) -> Self {
        Self::of(Source::Kept(pairs), measure)
    }

    /// The pairs of a range that is to be evaluated for it.
    pub(super) fn unsorted(range: Range, measure: Measure) -> Self {
        Self::of(Source::Unsorted(Box::new(range)), measure)
    }

    fn of(source: Source, measure: Measure) -> Self {
        Self { tag: field::KVS, source, pairs: measure.pairs, bytes: measure.bytes }
    }

    /// As this field of the answer.
    pub(super) fn tagged(self, tag: u32) -> Self {
        Self { tag, ..self }
    }

    /// Of what is still to come.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Pairs in memory.
    pub(super) fn held(&self) -> usize {
        match &self.source {
            Source::Store(_) => 0,
            Source::Kept(pairs) => pairs.len(),
            Source::Unsorted(range) => range.held(),
        }
    }

    /// Encodes as many pairs as there is room for. True when there are no more.
    pub(super) fn step(&mut self, state: &StateMachine, out: &mut Output<'_>) -> Result<bool, Error> {
        if let Source::Unsorted(range) = &mut self.source {
            if !range.step(state, out.keys)? {
                out.keys = 0;
                return Ok(false);
            }
            let Source::Unsorted(range) = std::mem::replace(&mut self.source, Source::Kept(Pairs::default()))
            else {
                unreachable!("it was just looked at")
            };
            self.source = Source::Kept(range.into_sorted());
        }
        if self.pairs > 0 {
            let mut fields = Fields { tag: self.tag, pairs: &mut self.pairs, bytes: &mut self.bytes, out };
            match &mut self.source {
                Source::Store(stored) => stored.encode(state, &mut fields)?,
                Source::Kept(kvs) => encode_kept(kvs, &mut fields),
                Source::Unsorted(_) => unreachable!("it was sorted"),
            }
        }
        let done = self.pairs == 0;
        assert!(!done || self.bytes == 0, "it is as it was measured");
        Ok(done)
    }
}

impl Leave for List {
    fn leave(self) -> Pairs {
        match self.source {
            Source::Store(_) => Pairs::default(),
            Source::Kept(pairs) => pairs,
            Source::Unsorted(range) => range.leave(),
        }
    }
}

/// Where an answer is encoded to, and how much of it in this step.
pub(super) struct Output<'a> {
    pub(super) piece: &'a mut Vec<u8>,
    pub(super) pieces: &'a mut Vec<Bytes>,
    /// To be looked at and to be encoded before the step ends.
    pub(super) keys: usize,
    pub(super) bytes: usize,
}

impl Output<'_> {
    /// Whether the step goes on, which it does for one key at least.
    pub(super) fn has_room(&self) -> bool {
        self.keys > 0 && self.bytes > 0
    }

    pub(super) fn put(&mut self, bytes: Bytes) {
        self.bytes = self.bytes.saturating_sub(bytes.len());
        if bytes.len() < SHARED_BYTES {
            self.piece.put_slice(&bytes);
        } else {
            self.end_piece();
            self.pieces.push(bytes);
        }
    }

    fn end_piece(&mut self) {
        self.pieces.push(std::mem::take(self.piece).into());
    }
}

/// The same for pairs, which are counted down.
struct Fields<'a, 'b> {
    tag: u32,
    pairs: &'a mut i64,
    bytes: &'a mut usize,
    out: &'a mut Output<'b>,
}

impl Fields<'_, '_> {
    fn saw_key(&mut self) {
        self.out.keys = self.out.keys.saturating_sub(1);
    }

    fn pair(&mut self, record: &Record<'_>, share: impl FnOnce(&[u8]) -> Bytes) {
        let length = field::field_len(record);
        let Output { piece, pieces, .. } = &mut *self.out;
        field::encode(self.tag, record, piece, |value, piece| {
            if value.len() < SHARED_BYTES {
                piece.put_slice(value);
            } else {
                pieces.push(std::mem::take(piece).into());
                pieces.push(share(value));
            }
        });
        self.out.bytes = self.out.bytes.saturating_sub(length);
        *self.bytes -= length;
        *self.pairs -= 1;
    }
}

impl Stored {
    fn encode(&mut self, state: &StateMachine, fields: &mut Fields<'_, '_>) -> Result<(), Error> {
        let view = state.history().at_pin(&self.pin)?;
        fields.out.keys = fields.out.keys.saturating_sub(BEGIN_PAIRS);
        let mut last = None;
        for hit in view.scan(Span::new(&self.key, &self.range_end)) {
            if *fields.pairs == 0 {
                return Ok(());
            }
            if let Some(last) = last
                && !fields.out.has_room()
            {
                self.key = view.record(last).key.to_vec();
                self.key.push(0);
                return Ok(());
            }
            last = Some(hit.pos);
            fields.saw_key();
            if !hit.exists {
                continue;
            }
            let record = view.record(hit.pos);
            if self.filter.passes(&record) {
                fields.pair(&field::shown(record, self.keys_only), |value| view.share(hit.pos, value));
            }
        }
        assert_eq!(*fields.pairs, 0, "a pinned state stays as it was measured");
        Ok(())
    }
}

fn encode_kept(kvs: &mut Pairs, fields: &mut Fields<'_, '_>) {
    for kv in kvs {
        fields.saw_key();
        fields.pair(&field::record(&kv), |_| kv.value.clone());
        if !fields.out.has_room() {
            return;
        }
    }
}
