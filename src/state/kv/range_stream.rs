//! RangeStream: one range answered in chunks of adapting size (`rangeStream` in etcd's etcdserver/v3_server.go).

use bytes::Bytes;
use prost::Message;

use super::{answer::Evaluation, range::Range};
use crate::{
    pb::etcdserverpb as pb,
    state::{Error, StateMachine},
};

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
}

enum Stage {
    Begin,
    Chunk(Range),
    /// The last chunk waits for the count of what the limit cut off.
    Remaining {
        last: pb::RangeResponse,
        rest: Range,
    },
    Done,
}

/// What one step brought.
#[derive(Debug, PartialEq)]
pub enum StreamStep {
    /// Step again, after others had their turn.
    Pending,
    /// Send it and step again.
    Chunk(pb::RangeResponse),
    /// Send it and end the stream.
    Last(pb::RangeResponse),
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
        Self { request, stage: Stage::Begin, limit, delivered: 0, header_revision: 0, chunk_bytes }
    }

    /// Goes on by about `budget` pairs. The revision is pinned at the first chunk, yet each chunk fails if that
    /// revision has been compacted by the time it begins, as in etcd.
    pub fn step(&mut self, state: &StateMachine, budget: usize) -> Result<StreamStep, Error> {
        if let Stage::Begin = self.stage {
            self.stage = Stage::Chunk(Range::begin(state, &self.request, false)?);
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
            Stage::Chunk(range) => self.chunk_built(state, range.finish().whole()),
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
        mut chunk: pb::RangeResponse,
    ) -> Result<StreamStep, Error> {
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
        self.delivered += chunk.kvs.len() as i64;
        chunk.count = 0;
        chunk.header = None;
        if !chunk.more || self.delivered == self.limit {
            chunk.header = Some(super::range::header(self.header_revision));
            chunk.count = self.delivered;
            if !chunk.more {
                self.stage = Stage::Done;
                return Ok(StreamStep::Last(chunk));
            }
            self.follow(&chunk);
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
        self.follow(&chunk);
        chunk.more = false;
        self.request.limit =
            next_limit(self.request.limit, size, self.chunk_bytes).min(self.limit - self.delivered);
        self.stage = Stage::Begin;
        Ok(StreamStep::Chunk(chunk))
    }

    /// The next chunk begins right after the last pair of this one.
    fn follow(&mut self, chunk: &pb::RangeResponse) {
        let last = &chunk.kvs.last().expect("more implies a pair").key;
        let mut key = Vec::with_capacity(last.len() + 1);
        key.extend_from_slice(last);
        key.push(0);
        self.request.key = Bytes::from(key);
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
