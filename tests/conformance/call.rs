//! One KV call, the way to send it, and what came back.

use std::fmt;

use bench_harness::pb::{
    etcdserverpb::{self as pb, kv_client::KvClient, maintenance_client::MaintenanceClient},
    mvccpb::KeyValue,
};
use tonic::{Code, Status, transport::Channel};

/// Debug text of a request or an answer is cut to this many characters: values of a megabyte are generated too.
const SHOWN_CHARS_MAX: usize = 6_000;
/// Answers carry whole key spaces with large values.
const ANSWER_BYTES_MAX: usize = 512 * 1024 * 1024;

#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    Range(pb::RangeRequest),
    RangeStream(pb::RangeRequest),
    Put(pb::PutRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact(pb::CompactionRequest),
    HashKv(pb::HashKvRequest),
}

/// What a server said, without what may differ between two servers (see [`crate::conformance::identity`]).
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Range(pb::RangeResponse),
    /// The chunks put together: how a server cuts them is its own business.
    RangeStream(pb::RangeResponse),
    Put(pb::PutResponse),
    DeleteRange(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    Compact(pb::CompactionResponse),
    HashKv(pb::HashKvResponse),
    Refused {
        code: Code,
        message: String,
    },
    /// The answer breaks a rule by itself, whatever the other server says.
    Malformed(String),
}

impl Call {
    pub fn name(&self) -> &'static str {
        match self {
            Call::Range(_) => "Range",
            Call::RangeStream(_) => "RangeStream",
            Call::Put(_) => "Put",
            Call::DeleteRange(_) => "DeleteRange",
            Call::Txn(_) => "Txn",
            Call::Compact(_) => "Compact",
            Call::HashKv(_) => "HashKV",
        }
    }

    /// A call that cannot change the state: reads between two writes may be sent at the same time.
    pub fn is_read(&self) -> bool {
        match self {
            Call::Range(_) | Call::RangeStream(_) | Call::HashKv(_) => true,
            Call::Put(_) | Call::DeleteRange(_) | Call::Compact(_) => false,
            Call::Txn(txn) => txn
                .success
                .iter()
                .chain(&txn.failure)
                .all(|op| matches!(op.request, Some(pb::request_op::Request::RequestRange(_)))),
        }
    }
}

impl Answer {
    pub fn header_mut(&mut self) -> Option<&mut pb::ResponseHeader> {
        match self {
            Answer::Range(r) | Answer::RangeStream(r) => r.header.as_mut(),
            Answer::Put(r) => r.header.as_mut(),
            Answer::DeleteRange(r) => r.header.as_mut(),
            Answer::Txn(r) => r.header.as_mut(),
            Answer::Compact(r) => r.header.as_mut(),
            Answer::HashKv(r) => r.header.as_mut(),
            Answer::Refused { .. } | Answer::Malformed(_) => None,
        }
    }

    pub fn revision(&self) -> Option<i64> {
        self.clone().header_mut().map(|header| header.revision)
    }

    /// A success that carries no header at all is never right.
    pub fn lacks_header(&self) -> bool {
        !matches!(self, Answer::Refused { .. } | Answer::Malformed(_)) && self.clone().header_mut().is_none()
    }
}

/// The client of one server, cheap to clone: calls of clones share one connection.
#[derive(Clone)]
pub struct Client {
    kv: KvClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
}

impl Client {
    pub fn new(channel: Channel) -> Self {
        let kv = KvClient::new(channel.clone());
        let kv = kv.max_decoding_message_size(ANSWER_BYTES_MAX).max_encoding_message_size(ANSWER_BYTES_MAX);
        Self { kv, maintenance: MaintenanceClient::new(channel) }
    }

    pub async fn send(&self, call: Call) -> Answer {
        let Self { mut kv, mut maintenance } = self.clone();
        let outcome = match call {
            Call::Range(r) => kv.range(r).await.map(|r| Answer::Range(r.into_inner())),
            Call::RangeStream(r) => match kv.range_stream(r).await {
                Ok(stream) => collect(stream.into_inner()).await,
                Err(status) => Err(status),
            },
            Call::Put(r) => kv.put(r).await.map(|r| Answer::Put(r.into_inner())),
            Call::DeleteRange(r) => kv.delete_range(r).await.map(|r| Answer::DeleteRange(r.into_inner())),
            Call::Txn(r) => kv.txn(r).await.map(|r| Answer::Txn(r.into_inner())),
            Call::Compact(r) => kv.compact(r).await.map(|r| Answer::Compact(r.into_inner())),
            Call::HashKv(r) => maintenance.hash_kv(r).await.map(|r| Answer::HashKv(r.into_inner())),
        };
        outcome.unwrap_or_else(|status| refused(&status))
    }
}

fn refused(status: &Status) -> Answer {
    Answer::Refused { code: status.code(), message: status.message().to_owned() }
}

/// Only the last chunk may carry a header, `more` and `count`.
async fn collect(mut stream: tonic::Streaming<pb::RangeStreamResponse>) -> Result<Answer, Status> {
    let mut kvs: Vec<KeyValue> = Vec::new();
    let mut last: Option<pb::RangeResponse> = None;
    while let Some(chunk) = stream.message().await? {
        if let Some(earlier) = last.take()
            && (earlier.header.is_some() || earlier.more || earlier.count != 0)
        {
            return Ok(Answer::Malformed("a chunk before the last carries header, more or count".to_owned()));
        }
        let Some(mut part) = chunk.range_response else {
            return Ok(Answer::Malformed("a chunk without a range response".to_owned()));
        };
        kvs.append(&mut part.kvs);
        last = Some(part);
    }
    Ok(match last {
        Some(end) => Answer::RangeStream(pb::RangeResponse { kvs, ..end }),
        None => Answer::Malformed("a stream that ended well without a chunk".to_owned()),
    })
}

/// Debug text of bounded length.
pub fn shown(what: &impl fmt::Debug) -> String {
    let text = format!("{what:?}");
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((cut, _)) => format!("{}... ({} bytes of text)", &text[..cut], text.len()),
        None => text,
    }
}
