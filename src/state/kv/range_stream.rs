//! RangeStream: one range answered in chunks of adapting size (`rangeStream` in etcd's etcdserver/v3_server.go).
//!
//! A long chunk is not kept: it is measured, and encoded as the client takes it.

use bytes::Bytes;
use prost::Message;

use super::{
    answer::{Answer, Assembly, Evaluation, LongAnswer},
    field,
    list::{List, Measure},
    range::{Evaluated, Range, header, tail},
};
use crate::{
    pb::{etcdserverpb as pb, mvccpb::KeyValue},
    state::{Error, StateMachine},
};

/// Tag of a chunk in its message (etcd v3.7 rpc.proto).
const RANGE_RESPONSE: u32 = 1;
/// Pairs of the first chunk.
const FIRST_CHUNK_PAIRS: i64 = 10;

/// A stream under way: the chunk being built, and what was delivered.
pub struct RangeStream {
    request: pb::RangeRequest,
    stage: Stage,
    /// Pairs the client wants in all.
    limit: i64,
    delivered: i64,
    /// The newest revision when the stream began; 0 before the first chunk.
    header_revision: i64,
    chunk_bytes: usize,
    /// Bytes of pairs of a chunk that are kept; none: however many there are.
    kept_max: Option<usize>,
}

enum Stage {
    Begin,
    Chunk(Range),
    /// The last chunk waits for the count of what the limit cut off.
    Remaining {
        last: Box<Chunk>,
        rest: Range,
    },
    Done,
}

/// What one step brought.
pub enum StreamStep {
    /// Step again, after others had their turn.
    Pending,
    /// Send it and step again.
    Chunk(Box<Chunk>),
    /// Send it and end the stream.
    Last(Box<Chunk>),
}

/// One message of a stream.
pub struct Chunk {
    pub header: Option<pb::ResponseHeader>,
    pub more: bool,
    pub count: i64,
    pairs: Pairs,
}

enum Pairs {
    Kept(Vec<KeyValue>),
    Long(Measure, List),
}

impl Chunk {
    fn of(evaluated: Evaluated, header_revision: i64) -> Self {
        match evaluated {
            Evaluated::Kept(pb::RangeResponse { header, kvs, more, count }) => {
                Self { header, more, count, pairs: Pairs::Kept(kvs) }
            }
            Evaluated::Long(measure, list) => Self {
                header: Some(header(header_revision)),
                more: measure.more,
                count: measure.count,
                pairs: Pairs::Long(measure, list),
            },
        }
    }

    /// Pairs in it.
    pub fn pair_count(&self) -> i64 {
        match &self.pairs {
            Pairs::Kept(kvs) => kvs.len() as i64,
            Pairs::Long(measure, _) => measure.pairs,
        }
    }

    fn encoded_len(&self) -> usize {
        let Self { header, more, count, .. } = *self;
        let pairs = match &self.pairs {
            Pairs::Kept(kvs) => kvs.iter().map(field::pair_field_len).sum(),
            Pairs::Long(measure, _) => measure.bytes,
        };
        pairs + pb::RangeResponse { header, more, count, ..Default::default() }.encoded_len()
    }

    /// As it is sent.
    pub fn answer(self) -> Answer<pb::RangeStreamResponse, LongAnswer> {
        let Self { header, more, count, pairs } = self;
        match pairs {
            Pairs::Kept(kvs) => {
                let range = pb::RangeResponse { header, kvs, more, count };
                Answer::Whole(pb::RangeStreamResponse { range_response: Some(range) })
            }
            Pairs::Long(_, list) => {
                let mut assembly = Assembly::default();
                assembly.message(&tail(more, count));
                assembly.list(list);
                assembly.header(header);
                assembly.enclose(RANGE_RESPONSE, 0);
                Answer::Long(assembly.finish(None))
            }
        }
    }
}

impl RangeStream {
    /// `chunk_bytes` is the size chunks grow towards: `--max-request-bytes` in etcd. The request has passed
    /// [`validate::range_stream`](super::validate::range_stream).
    pub fn new(request: &pb::RangeRequest, chunk_bytes: usize) -> Self {
        let limit = if request.limit == 0 { i64::MAX } else { request.limit };
        let mut request = request.clone();
        if !request.count_only {
            request.limit = FIRST_CHUNK_PAIRS.min(limit);
        }
        let stage = Stage::Begin;
        Self { request, stage, limit, delivered: 0, header_revision: 0, chunk_bytes, kept_max: None }
    }

    /// A chunk with more than `bytes` of pairs is long, and none of them are kept.
    pub fn keep_at_most(self, bytes: usize) -> Self {
        Self { kept_max: Some(bytes), ..self }
    }

    /// Goes on by about `budget` pairs. The revision is pinned at the first chunk, yet each chunk fails if that
    /// revision has been compacted by the time it begins, as in etcd.
    pub fn step(&mut self, state: &StateMachine, budget: usize) -> Result<StreamStep, Error> {
        if let Stage::Begin = self.stage {
            let range = Range::begin(state, &self.request, false)?;
            self.stage = Stage::Chunk(match self.kept_max {
                Some(bytes) => range.keep_at_most(bytes),
                None => range,
            });
        }
        match &mut self.stage {
            Stage::Chunk(range) | Stage::Remaining { rest: range, .. } => {
                if !range.step(state, budget)? {
                    return Ok(StreamStep::Pending);
                }
            }
            Stage::Begin | Stage::Done => unreachable!("a finished stream is not stepped"),
        }
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Chunk(range) => {
                let next = range.left_out().cloned();
                let revision = range.header_revision();
                let (evaluated, _) = range.finish_part();
                self.chunk_built(state, Chunk::of(evaluated, revision), next)
            }
            Stage::Remaining { mut last, rest } => {
                last.count += rest.finish().whole().count;
                Ok(StreamStep::Last(last))
            }
            Stage::Begin | Stage::Done => unreachable!("it was just stepped"),
        }
    }

    fn chunk_built(
        &mut self,
        state: &StateMachine,
        chunk: Chunk,
        next: Option<Bytes>,
    ) -> Result<StreamStep, Error> {
        let mut chunk = Box::new(chunk);
        if self.request.count_only {
            self.stage = Stage::Done;
            return Ok(StreamStep::Last(chunk));
        }
        let size = chunk.encoded_len();
        if self.header_revision == 0 {
            self.header_revision = chunk.header.as_ref().expect("a range has a header").revision;
            if self.request.revision == 0 {
                self.request.revision = self.header_revision;
            }
        }
        self.delivered += chunk.pair_count();
        chunk.count = 0;
        chunk.header = None;
        if !chunk.more || self.delivered == self.limit {
            chunk.header = Some(header(self.header_revision));
            chunk.count = self.delivered;
            if !chunk.more {
                self.stage = Stage::Done;
                return Ok(StreamStep::Last(chunk));
            }
            self.follow(&chunk, next);
            let rest = pb::RangeRequest {
                key: self.request.key.clone(),
                range_end: self.request.range_end.clone(),
                revision: self.request.revision,
                count_only: true,
                ..pb::RangeRequest::default()
            };
            self.stage = Stage::Remaining { last: chunk, rest: Range::begin(state, &rest, true)? };
            return Ok(StreamStep::Pending);
        }
        self.follow(&chunk, next);
        chunk.more = false;
        self.request.limit =
            next_limit(self.request.limit, size, self.chunk_bytes).min(self.limit - self.delivered);
        self.stage = Stage::Begin;
        Ok(StreamStep::Chunk(chunk))
    }

    /// The next chunk begins right after the last pair of this one.
    fn follow(&mut self, chunk: &Chunk, next: Option<Bytes>) {
        self.request.key = match &chunk.pairs {
            Pairs::Kept(kvs) => {
                let last = &kvs.last().expect("more implies a pair").key;
                let mut key = Vec::with_capacity(last.len() + 1);
                key.extend_from_slice(last);
                key.push(0);
                Bytes::from(key)
            }
            // Nothing lies between.
            Pairs::Long(..) => next.expect("more implies a key that was left out"),
        };
    }
}

/// Doubles or halves only outside half to twice the target, so that the size does not swing (`adjustChunkLimit`).
fn next_limit(limit: i64, bytes: usize, target: usize) -> i64 {
    if bytes < target / 2 {
        limit.saturating_mul(2)
    } else if bytes > target.saturating_mul(2) {
        (limit / 2).max(1)
    } else {
        limit
    }
}
