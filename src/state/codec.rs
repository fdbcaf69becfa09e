//! A request's form in a log entry: one kind byte, then the protobuf message.

use bytes::{Buf, BufMut, Bytes};
use prost::Message;

use super::Request;
use crate::pb::etcdserverpb as pb;

const PUT: u8 = 1;
const DELETE_RANGE: u8 = 2;
const TXN: u8 = 3;
const COMPACT: u8 = 4;
const ALARM: u8 = 5;

/// The entry was written by a newer version or is not a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("a request in the log is empty")]
    Empty,
    #[error("a request in the log has kind {0}, which this version does not know")]
    UnknownKind(u8),
    #[error("a request in the log cannot be decoded: {0}")]
    Malformed(#[from] prost::DecodeError),
}

impl Request {
    /// Bytes that [`Request::encode`] appends.
    pub fn encoded_len(&self) -> usize {
        1 + match self {
            Self::Put(put) => put.encoded_len(),
            Self::DeleteRange(delete) => delete.encoded_len(),
            Self::Txn(txn) => txn.encoded_len(),
            Self::Compact(compact) => compact.encoded_len(),
            Self::Alarm(alarm) => alarm.encoded_len(),
        }
    }

    /// Appends the request. The length is the caller's to keep.
    pub fn encode(&self, into: &mut impl BufMut) {
        let (kind, result) = match self {
            Self::Put(put) => (PUT, encode(PUT, put, into)),
            Self::DeleteRange(delete) => (DELETE_RANGE, encode(DELETE_RANGE, delete, into)),
            Self::Txn(txn) => (TXN, encode(TXN, txn, into)),
            Self::Compact(compact) => (COMPACT, encode(COMPACT, compact, into)),
            Self::Alarm(alarm) => (ALARM, encode(ALARM, alarm, into)),
        };
        assert!(result.is_ok(), "the buffer has no room for a request of kind {kind}");
    }

    /// Decodes exactly `bytes`; keys and values share their memory. The nesting of transactions is bounded by
    /// protobuf's limit of 100 nested messages.
    pub fn decode(mut bytes: Bytes) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            return Err(DecodeError::Empty);
        }
        Ok(match bytes.get_u8() {
            PUT => Self::Put(pb::PutRequest::decode(bytes)?),
            DELETE_RANGE => Self::DeleteRange(pb::DeleteRangeRequest::decode(bytes)?),
            TXN => Self::Txn(pb::TxnRequest::decode(bytes)?),
            COMPACT => Self::Compact(pb::CompactionRequest::decode(bytes)?),
            ALARM => Self::Alarm(pb::AlarmRequest::decode(bytes)?),
            kind => return Err(DecodeError::UnknownKind(kind)),
        })
    }
}

fn encode(kind: u8, message: &impl Message, into: &mut impl BufMut) -> Result<(), prost::EncodeError> {
    into.put_u8(kind);
    message.encode(into)
}
