//! Calls that took long, a line each: `request stats` for any with one answer, `apply request took too long` for reads
//! (etcd v3.7 `v3rpc/interceptor.go`, `etcdserver/txn/util.go`).
//!
//! A call pays for it with two looks at a clock that is right to a few milliseconds, and a copy of its message's first
//! bytes: what it was decoded from is given back long before it is answered.

use std::{any::Any, time::Duration};

use bytes::Bytes;
use prost::{Message, encoding};
use tracing::{debug, warn};

use super::{Api, Caller, Error, Method};
use crate::{
    logging,
    pb::{etcdserverpb as pb, loggable},
    state::kv::validate,
};

/// Bytes of a message that are kept.
const EXCERPT_BYTES: usize = 192;

/// How long is too long.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// `--warning-unary-request-duration`.
    pub unary: Duration,
    /// `--warning-apply-duration`.
    pub apply: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { unary: Duration::from_millis(300), apply: Duration::from_millis(100) }
    }
}

impl Patience {
    /// Whether a call that took so long is worth a line.
    pub fn is_over(&self, took: Duration) -> bool {
        took > self.unary.min(self.apply) || tracing::enabled!(tracing::Level::DEBUG)
    }
}

/// The beginning of a message, as it came.
pub struct Excerpt {
    len: usize,
    bytes: [u8; EXCERPT_BYTES],
}

impl Default for Excerpt {
    fn default() -> Self {
        Self { len: 0, bytes: [0; EXCERPT_BYTES] }
    }
}

impl Excerpt {
    /// In place: it is large to be moved with each call.
    pub fn take(&mut self, message: &[u8]) {
        let kept = message.len().min(EXCERPT_BYTES);
        self.bytes[..kept].copy_from_slice(&message[..kept]);
        self.len = message.len();
    }

    /// Its fields that are there as a whole, and number and length of the one that is cut off.
    fn fields(&self) -> (Bytes, Option<(u32, usize)>) {
        let kept = &self.bytes[..self.len.min(EXCERPT_BYTES)];
        let mut rest = kept;
        while !rest.is_empty() {
            let whole = kept.len() - rest.len();
            if let Err(cut) = skip(&mut rest) {
                return (Bytes::copy_from_slice(&kept[..whole]), Some(cut));
            }
        }
        (Bytes::copy_from_slice(kept), None)
    }

    fn decode<M: Message + Default>(&self) -> (M, Option<(u32, usize)>) {
        let (fields, cut) = self.fields();
        // The message was decoded before; what is left of it may lack a part, and then nothing is shown.
        (M::decode(fields).unwrap_or_default(), cut)
    }
}

/// Goes past a field, or says which one is cut off.
fn skip(rest: &mut &[u8]) -> Result<(), (u32, usize)> {
    let (tag, kind) = encoding::decode_key(rest).map_err(|_| (0, 0))?;
    let len = match kind {
        encoding::WireType::Varint => {
            encoding::decode_varint(rest).map_err(|_| (tag, 0))?;
            0
        }
        encoding::WireType::LengthDelimited => encoding::decode_varint(rest).map_err(|_| (tag, 0))? as usize,
        encoding::WireType::SixtyFourBit => 8,
        encoding::WireType::ThirtyTwoBit => 4,
        encoding::WireType::StartGroup | encoding::WireType::EndGroup => return Err((tag, 0)),
    };
    *rest = rest.get(len..).ok_or((tag, len))?;
    Ok(())
}

/// What a line says of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    count: i64,
    size: i64,
    /// Pairs of each range, of what the answer to a read is made.
    pairs: Vec<usize>,
    /// Of a transaction: which branch was taken.
    succeeded: bool,
}

impl Measured {
    /// One that is encoded as it is taken.
    pub fn long(encoded_len: usize) -> Self {
        Self { count: -1, size: signed(encoded_len), ..Self::default() }
    }

    pub fn of(answer: &(impl Message + 'static)) -> Self {
        let (size, answer) = (signed(answer.encoded_len()), answer as &dyn Any);
        let txn = answer.downcast_ref::<pb::TxnResponse>();
        let (count, pairs) = if let Some(range) = answer.downcast_ref::<pb::RangeResponse>() {
            (range.count, vec![range.kvs.len()])
        } else if let Some(delete) = answer.downcast_ref::<pb::DeleteRangeResponse>() {
            (delete.deleted, Vec::new())
        } else if let Some(txn) = txn {
            (0, txn.responses.iter().filter_map(pairs).collect())
        } else {
            (0, Vec::new())
        };
        Self { count, size, pairs, succeeded: txn.is_some_and(|txn| txn.succeeded) }
    }
}

fn pairs(response: &pb::ResponseOp) -> Option<usize> {
    match &response.response {
        Some(pb::response_op::Response::ResponseRange(range)) => Some(range.kvs.len()),
        _ => None,
    }
}

/// What a line says of a request.
struct Asked {
    count: i64,
    size: i64,
    content: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Range,
    Txn,
}

/// A call that has been answered.
pub struct Answered<'a> {
    /// When it began, since 1970.
    pub began: Duration,
    pub took: Duration,
    pub request: &'a Excerpt,
    pub answer: Result<Measured, &'a Error>,
}

/// The lines that are to be written of a call.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    stats: bool,
    read: Option<Read>,
}

impl Due {
    /// Most calls for which [`Patience::is_over`] are no reads, and many of them not slow enough for a line: these must
    /// cost next to nothing, as there are many where all are slow.
    fn of(method: &Method, answered: &Answered<'_>, patience: Patience, is_debug: bool) -> Option<Self> {
        let stats = is_debug || answered.took > patience.unary;
        let read = if answered.took > patience.apply { read(method, answered) } else { None };
        (stats || read.is_some()).then_some(Self { stats, read })
    }
}

impl Api {
    /// Says what is to be said of a call for which [`Patience::is_over`].
    #[cold]
    pub fn tell_of(&self, method: &Method, caller: &Caller, answered: Answered<'_>) {
        let is_debug = tracing::enabled!(tracing::Level::DEBUG);
        let Some(due) = Due::of(method, &answered, self.options().patience, is_debug) else { return };
        let Answered { began, took, request, ref answer } = answered;
        let failed = Measured::default();
        let measured = answer.as_ref().unwrap_or(&failed);
        let asked = asked(method, request, measured, answer.is_ok());
        if let Some(read) = due.read {
            self.tell_of_read(read, took, &asked.content, answer);
        }
        if !due.stats {
            return;
        }
        let start = logging::time(began);
        let remote = caller.connection.peer.map(|peer| peer.to_string());
        let remote = remote.as_deref().unwrap_or("No remote client info.");
        let path = format!("/{}/{}", method.service, method.name);
        // Only of keys and values there is more to say.
        let (count, size) = if asked.size < 0 { (-1, -1) } else { (measured.count, measured.size) };
        macro_rules! line {
            ($level:ident) => {
                $level!(
                    "start time" = start,
                    "time spent" = ?took,
                    remote,
                    "response type" = path,
                    "request count" = asked.count,
                    "request size" = asked.size,
                    "response count" = count,
                    "response size" = size,
                    "request content" = asked.content,
                    "request stats"
                )
            };
        }
        if is_debug {
            line!(debug);
        } else {
            line!(warn);
        }
    }

    fn tell_of_read(&self, read: Read, took: Duration, request: &str, answer: &Result<Measured, &Error>) {
        let expected = self.options().patience.apply;
        let prefix = if read == Read::Range { "read-only range " } else { "read-only txn " };
        let response = answer.as_ref().map(|Measured { size, pairs, .. }| {
            let pairs: Vec<_> = pairs.iter().map(|pairs| format!("range_response_count:{pairs}")).collect();
            match read {
                Read::Range => [pairs, vec![format!("size:{size}")]].concat().join(" "),
                Read::Txn => format!("responses:<{}> size:{size}", pairs.join(" ")),
            }
        });
        self.shard().metrics().slow_apply.inc();
        const TEXT: &str = "apply request took too long";
        match response {
            Ok(response) => {
                warn!(?took, "expected-duration" = ?expected, prefix, request, response, "{TEXT}");
            }
            Err(error) => {
                let error = error.grpc().1;
                warn!(?took, "expected-duration" = ?expected, prefix, request, response = "", %error, "{TEXT}");
            }
        }
    }
}

/// The kind of read that it was.
fn read(method: &Method, answered: &Answered<'_>) -> Option<Read> {
    match (method.service, method.name) {
        ("etcdserverpb.KV", "Range") => Some(Read::Range),
        ("etcdserverpb.KV", "Txn") if answered.answer.is_ok() => {
            let (txn, cut) = answered.request.decode::<pb::TxnRequest>();
            (cut.is_none() && validate::is_read_only(&txn)).then_some(Read::Txn)
        }
        _ => None,
    }
}

fn asked(method: &Method, request: &Excerpt, measured: &Measured, is_answered: bool) -> Asked {
    let cut_off = |content: String, cut| match cut {
        Some(_) => format!("{content} ..."),
        None => content,
    };
    let size = signed(request.len);
    match (method.service, method.name) {
        ("etcdserverpb.KV", "Range") => {
            let (range, cut) = request.decode::<pb::RangeRequest>();
            let content = cut_off(loggable::range(&range), cut);
            Asked { count: 0, size, content }
        }
        ("etcdserverpb.KV", "Put") => {
            let (put, cut) = request.decode::<pb::PutRequest>();
            let content = match cut {
                // The value comes after the key, and what comes after it is not known.
                Some((2, value)) => loggable::put_of_size(&put, value),
                _ => loggable::put(&put),
            };
            Asked { count: 1, size, content: cut_off(content, cut) }
        }
        ("etcdserverpb.KV", "DeleteRange") => {
            let (delete, cut) = request.decode::<pb::DeleteRangeRequest>();
            let content = cut_off(loggable::delete_range(&delete), cut);
            Asked { count: 0, size, content }
        }
        ("etcdserverpb.KV", "Txn") if !is_answered => Asked { count: 0, size: 0, content: String::new() },
        ("etcdserverpb.KV", "Txn") => {
            let (txn, cut) = request.decode::<pb::TxnRequest>();
            let taken = if measured.succeeded { &txn.success } else { &txn.failure };
            let content = cut_off(loggable::txn(&txn), cut);
            let size = signed(taken.iter().map(Message::encoded_len).sum());
            Asked { count: signed(taken.len()), size, content }
        }
        _ => Asked { count: -1, size: -1, content: String::new() },
    }
}

fn signed(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_made_of_a_call_without_a_line() {
        const KV: &str = "etcdserverpb.KV";
        let op = |request| vec![pb::RequestOp { request: Some(request) }];
        let range =
            pb::request_op::Request::RequestRange(pb::RangeRequest { key: "a".into(), ..Default::default() });
        let put =
            pb::request_op::Request::RequestPut(pb::PutRequest { key: "a".into(), ..Default::default() });
        let reads = pb::TxnRequest { success: op(range), ..Default::default() }.encode_to_vec();
        let writes = pb::TxnRequest { success: op(put), ..Default::default() }.encode_to_vec();
        let line = |stats, read| Some(Due { stats, read });
        for (method, request, read) in [
            (Method::read(KV, "Range"), &[][..], Some(Read::Range)),
            (Method::write(KV, "Txn"), &reads, Some(Read::Txn)),
            (Method::write(KV, "Txn"), &writes, None),
            (Method::write(KV, "Put"), &[], None),
            (Method::read("etcdserverpb.Cluster", "MemberList"), &[], None),
        ] {
            let due = |took, is_debug| {
                let (began, took) = (Duration::ZERO, Duration::from_millis(took));
                let mut excerpt = Excerpt::default();
                excerpt.take(request);
                let answered = Answered { began, took, request: &excerpt, answer: Ok(Measured::default()) };
                Due::of(&method, &answered, Patience::default(), is_debug)
            };
            let name = method.name;
            assert_eq!((due(100, false), due(100, true)), (None, line(true, None)), "{name}");
            assert_eq!(due(200, false), read.and_then(|read| line(false, Some(read))), "{name}");
            assert_eq!((due(200, true), due(301, false)), (line(true, read), line(true, read)), "{name}");
        }
    }
}
