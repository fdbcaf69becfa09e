//! `etcdserverpb.KV`.

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, stream};
use prost::{Message, encoding::encoded_len_varint};

use crate::{
    api::{Api, Error, Keyspace},
    apply::{self, Request, Response},
    pb::etcdserverpb::{self as pb, range_request::SortOrder, range_request::SortTarget, request_op},
};

/// Keys in the first chunk of a range stream (etcd v3.7 `initialStreamChunkLimit`).
const FIRST_CHUNK_KEYS: i64 = 10;

/// The chunks of a range, in key order; the last one carries header, count and more.
pub trait RangeStream: Stream<Item = Result<pb::RangeStreamResponse, Error>> + 'static {}

impl<S: Stream<Item = Result<pb::RangeStreamResponse, Error>> + 'static> RangeStream for S {}

impl<K: Keyspace> Api<K> {
    pub async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        let mut response = self.keyspace().range(request).await?;
        self.fill(&mut response.header);
        Ok(response)
    }

    pub async fn put(&self, request: pb::PutRequest) -> Result<pb::PutResponse, Error> {
        self.check_size(request.encoded_len())?;
        match self.keyspace().write(Request::Put(request)).await? {
            Response::Put(mut response) => {
                self.fill(&mut response.header);
                Ok(response)
            }
            other => panic!("a put was answered with {other:?}"),
        }
    }

    pub async fn delete_range(
        &self,
        request: pb::DeleteRangeRequest,
    ) -> Result<pb::DeleteRangeResponse, Error> {
        self.check_size(request.encoded_len())?;
        match self.keyspace().write(Request::DeleteRange(request)).await? {
            Response::DeleteRange(mut response) => {
                self.fill(&mut response.header);
                Ok(response)
            }
            other => panic!("a delete was answered with {other:?}"),
        }
    }

    pub async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        let mut response = if reads_only(&request) {
            self.keyspace().read_txn(request).await?
        } else {
            self.check_size(request.encoded_len())?;
            match self.keyspace().write(Request::Txn(request)).await? {
                Response::Txn(response) => response,
                other => panic!("a txn was answered with {other:?}"),
            }
        };
        self.fill(&mut response.header);
        Ok(response)
    }

    pub async fn compact(&self, request: pb::CompactionRequest) -> Result<pb::CompactionResponse, Error> {
        match self.keyspace().write(Request::Compact(request)).await? {
            Response::Compact(mut response) => {
                // etcd tells the revision at the time of the answer, not that of the entry.
                response.header.get_or_insert_default().revision = 0;
                self.fill(&mut response.header);
                Ok(response)
            }
            other => panic!("a compaction was answered with {other:?}"),
        }
    }

    /// A range in chunks at one revision, pinned by the first chunk.
    pub fn range_stream(&self, request: pb::RangeRequest) -> Result<impl RangeStream + use<K>, Error> {
        check_stream(&request)?;
        let progress = Progress {
            api: self.clone(),
            left: if request.limit == 0 { i64::MAX } else { request.limit },
            chunk_keys: FIRST_CHUNK_KEYS,
            header_revision: 0,
            delivered: 0,
            request,
        };
        Ok(stream::try_unfold(Some(progress), |progress| async {
            match progress {
                Some(progress) => progress.next().await.map(Some),
                None => Ok(None),
            }
        }))
    }

    /// Refuses what etcd could not propose: it measures the request with its envelope.
    fn check_size(&self, encoded_len: usize) -> Result<(), Error> {
        // The envelope: the request's field, and a header with a request id whose upper 16 bits are the
        // member's lower ones and never small.
        let id_len = if self.keyspace().member_id().0 & 0x8000 == 0 { 9 } else { 10 };
        let header_len = 2 + 1 + 1 + id_len;
        let enveloped = 1 + encoded_len_varint(encoded_len as u64) + encoded_len + header_len;
        if enveloped > self.options().max_request_bytes {
            return Err(apply::Error::RequestTooLarge.into());
        }
        Ok(())
    }
}

/// Whether a transaction can be answered off the log. A nested one cannot, whatever it holds (etcd
/// v3.7 `txn.IsTxnReadonly`).
fn reads_only(request: &pb::TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .all(|op| matches!(op.request, Some(request_op::Request::RequestRange(_))))
}

fn check_stream(request: &pb::RangeRequest) -> Result<(), Error> {
    let by_key_ascending =
        request.sort_target == SortTarget::Key as i32 && request.sort_order == SortOrder::Ascend as i32;
    if request.sort_order != SortOrder::None as i32 && !by_key_ascending {
        return Err(Error::StreamOrder);
    }
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if filters.iter().any(|revision| *revision != 0) {
        return Err(Error::StreamFilter);
    }
    Ok(())
}

/// Where a range stream stands.
struct Progress<K> {
    api: Api<K>,
    /// What is still to be read.
    request: pb::RangeRequest,
    /// Keys the caller still wants.
    left: i64,
    chunk_keys: i64,
    /// The keyspace's revision when the stream began; 0 before the first chunk.
    header_revision: i64,
    delivered: i64,
}

impl<K: Keyspace> Progress<K> {
    /// The next chunk, and the rest unless it was the last.
    async fn next(mut self) -> Result<(pb::RangeStreamResponse, Option<Self>), Error> {
        let counting = self.request.count_only;
        if !counting {
            self.request.limit = self.chunk_keys.min(self.left);
        }
        let read = self.api.keyspace().range(self.request.clone()).await?;
        if self.header_revision == 0 {
            self.header_revision = read.header.as_ref().map_or(0, |header| header.revision);
            if self.request.revision == 0 {
                self.request.revision = self.header_revision;
            }
            // What follows is of a revision that is applied here by now.
            self.request.serializable = true;
        }
        let keys = read.kvs.len() as i64;
        let size = read.encoded_len();
        self.delivered += keys;
        self.left -= keys;
        let last = counting || !read.more || self.left == 0;
        let mut chunk = pb::RangeResponse { kvs: read.kvs, ..Default::default() };
        if last {
            let mut header = pb::ResponseHeader { revision: self.header_revision, ..Default::default() };
            self.api.fill_without_revision(&mut header);
            chunk.header = Some(header);
            chunk.more = !counting && read.more;
            // A range counts everything from its start key on, so this is delivered plus remaining.
            chunk.count = self.delivered - keys + read.count;
            return Ok((pb::RangeStreamResponse { range_response: Some(chunk) }, None));
        }
        let last_key = &chunk.kvs.last().expect("there is more, so there was some").key;
        self.request.key = after(last_key);
        self.chunk_keys = next_chunk_keys(self.request.limit, size, self.api.options().max_request_bytes);
        Ok((pb::RangeStreamResponse { range_response: Some(chunk) }, Some(self)))
    }
}

/// The smallest key greater than `key`.
fn after(key: &Bytes) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}

/// Doubles or halves towards chunks of `target` bytes, and leaves what is within a factor of two.
fn next_chunk_keys(keys: i64, size: usize, target: usize) -> i64 {
    if size < target / 2 {
        keys.saturating_mul(2)
    } else if size > target.saturating_mul(2) {
        (keys / 2).max(1)
    } else {
        keys
    }
}
