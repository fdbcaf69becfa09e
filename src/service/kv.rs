//! `etcdserverpb.KV`.

use futures_util::{Stream, stream};
use prost::{Message, encoding::encoded_len_varint};

use super::{Api, Caller, Error};
use crate::{
    limits,
    pb::{
        etcdserverpb::{self as pb, AlarmType, alarm_request::AlarmAction},
        txn_request::nests_deeper_than,
    },
    shard::{AnswerReader, Chunks},
    state::{
        self, Principal,
        kv::{Answer, cost, validate},
    },
};

pub async fn range(
    api: &Api,
    caller: &Caller,
    request: pb::RangeRequest,
) -> Result<Answer<pb::RangeResponse, AnswerReader>, Error> {
    if !request.serializable && api.shard().is_learner() {
        return Err(Error::NotForLearners);
    }
    validate::range(&request)?;
    let shard = api.shard_of(caller);
    if !request.serializable {
        shard.linearize().await?;
    }
    let who = api.who(caller)?;
    let mut answer = shard.range(&who, request).await?;
    api.shard().metrics().range_total.inc();
    api.fill_answer(&mut answer, |response| &mut response.header);
    Ok(answer)
}

pub async fn put(api: &Api, caller: &Caller, request: pb::PutRequest) -> Result<pb::PutResponse, Error> {
    api.check_space(cost::put(&request)).await?;
    validate::put(&request)?;
    let who = api.who(caller)?;
    api.check_size(request.encoded_len())?;
    let mut response = api.shard_of(caller).write(&who, request).await?;
    api.fill(&mut response.header);
    Ok(response)
}

pub async fn delete_range(
    api: &Api,
    caller: &Caller,
    request: pb::DeleteRangeRequest,
) -> Result<Answer<pb::DeleteRangeResponse, AnswerReader>, Error> {
    validate::delete_range(&request)?;
    let who = api.who(caller)?;
    api.check_size(request.encoded_len())?;
    let mut answer = api.shard_of(caller).write_long(&who, request).await?;
    api.fill_answer(&mut answer, |response| &mut response.header);
    Ok(answer)
}

pub async fn txn(
    api: &Api,
    caller: &Caller,
    request: pb::TxnRequest,
) -> Result<Answer<pb::TxnResponse, AnswerReader>, Error> {
    api.check_space(cost::txn(&request)).await?;
    let ops_max = api.options().max_txn_ops;
    if validate::operations(&request) > limits::TXN_TOTAL_OPS.max(4 * ops_max) {
        return Err(state::Error::TooManyOps.into());
    }
    validate::txn(&request, ops_max)?;
    let mut answer = if validate::is_read_only(&request) {
        let shard = api.shard_of(caller);
        if !validate::is_serializable(&request) {
            shard.linearize().await?;
        }
        let who = api.who(caller)?;
        let (answer, operations) = shard.read_txn(&who, request).await?;
        api.shard().metrics().range_total.inc_by(operations.ranges);
        api.shard().metrics().txn_total.inc_by(u64::from(operations.ranges > 1));
        answer
    } else {
        let who = api.who(caller)?;
        api.check_size(request.encoded_len())?;
        let shard = api.shard_of(caller);
        if validate::compares_ranges(&request) {
            shard.weigh(&who, &request, limits::TXN_COMPARED_KEYS).await?;
        }
        shard.write_long(&who, request).await?
    };
    api.fill_answer(&mut answer, |response| &mut response.header);
    Ok(answer)
}

/// What is wrong with a transaction that cannot be decoded, if it is that others are nested in it too deep. Each level
/// has an operation at least, so that they are too many with etcd's default.
pub fn undecodable_txn(bytes: &[u8]) -> Option<Error> {
    let too_deep = nests_deeper_than(limits::TXN_NESTING_MAX, bytes);
    too_deep.then_some(Error::Apply(state::Error::TooManyOps))
}

pub async fn compact(
    api: &Api,
    caller: &Caller,
    request: pb::CompactionRequest,
) -> Result<pb::CompactionResponse, Error> {
    let who = api.admin(caller)?;
    let mut response = api.shard_of(caller).write(&who, request).await?;
    // etcd tells the revision at the time of the answer, not that of the entry.
    response.header.get_or_insert_default().revision = 0;
    api.fill(&mut response.header);
    Ok(response)
}

/// A range in chunks of one revision, in key order; the last one carries header, count and more.
pub fn range_stream(
    api: &Api,
    caller: &Caller,
    request: pb::RangeRequest,
) -> Result<
    impl Stream<Item = Result<Answer<pb::RangeStreamResponse, AnswerReader>, Error>> + 'static + use<>,
    Error,
> {
    validate::range_stream(&request)?;
    let begin = Progress::Begin(api.clone(), caller.clone(), request);
    Ok(stream::try_unfold(begin, Progress::next))
}

impl Api {
    /// Refuses what the quota has no room for, and has all members know that this one is full.
    pub(super) async fn check_space(&self, cost: u64) -> Result<(), Error> {
        let shard = self.shard();
        if self.options().quota.admits(shard.size_bytes(), cost) {
            return Ok(());
        }
        let member_id = shard.member_id().0;
        if !shard.alarms().is_on_for(AlarmType::Nospace, member_id) {
            let raise = pb::AlarmRequest {
                action: AlarmAction::Activate as i32,
                member_id,
                alarm: AlarmType::Nospace as i32,
            };
            if let Err(error) = shard.write(&Principal::default(), raise).await {
                tracing::warn!(%error, "failed to raise the alarm for the exceeded space quota");
            }
        }
        Err(state::Error::NoSpace.into())
    }

    /// Refuses what etcd could not propose: it measures the request with its envelope.
    pub(super) fn check_size(&self, encoded_len: usize) -> Result<(), Error> {
        // The envelope: the request's field, and a header with a request id whose upper 16 bits are the
        // member's lower ones and never small.
        let id_len = if self.shard().member_id().0 & 0x8000 == 0 { 9 } else { 10 };
        let header_len = 2 + 1 + 1 + id_len;
        let enveloped = 1 + encoded_len_varint(encoded_len as u64) + encoded_len + header_len;
        if enveloped > self.options().max_request_bytes {
            return Err(state::Error::RequestTooLarge.into());
        }
        Ok(())
    }
}

/// Where a range stream stands.
enum Progress {
    Begin(Api, Caller, pb::RangeRequest),
    Under(Api, Box<Chunks>),
}

impl Progress {
    async fn next(self) -> Result<Option<(Answer<pb::RangeStreamResponse, AnswerReader>, Self)>, Error> {
        let (api, mut chunks) = match self {
            Progress::Under(api, chunks) => (api, chunks),
            Progress::Begin(api, caller, request) => {
                let shard = api.shard_of(&caller);
                if !request.serializable {
                    shard.linearize().await?;
                }
                let who = api.who(&caller)?;
                // etcd has chunks grow towards this size, too.
                let chunk_bytes = api.options().max_request_bytes;
                let chunks = shard.range_stream(who, request, chunk_bytes)?;
                (api, Box::new(chunks))
            }
        };
        let Some(chunk) = chunks.next().await else { return Ok(None) };
        let mut chunk = chunk?;
        api.shard().metrics().range_total.inc();
        if let Some(header) = &mut chunk.header {
            api.fill_without_revision(header);
        }
        Ok(Some((chunks.answer(*chunk), Progress::Under(api, chunks))))
    }
}
