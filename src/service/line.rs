//! Keys of one prefix in the order they were created, each with its owner's lease: what locks and elections are made of
//! (etcd v3.7 `client/v3/concurrency`).
//!
//! Whoever waits looks at the key before its own alone, and at nothing until that is gone. All requests go the way of any
//! client's, on behalf of whoever calls.

use std::iter;

use bytes::Bytes;
use futures_lite::future::or;
use prost::Message;

use super::{Api, Caller, Code, Error, kv, lease};
use crate::{
    pb::{
        etcdserverpb::{
            self as pb,
            compare::{CompareTarget, TargetUnion},
            range_request::{SortOrder, SortTarget},
            request_op::Request as Op,
            response_op::Response,
        },
        mvccpb::KeyValue,
    },
    shard::AnswerReader,
    state::kv::Answer,
    types::Revision,
};

/// Of the lease of those who bring none, in seconds.
const SESSION_TTL: i64 = 60;
/// Bytes of an answer taken at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// A line, as one caller sees it.
pub struct Line<'a> {
    api: &'a Api,
    caller: &'a Caller,
    /// Ends with a slash.
    prefix: Vec<u8>,
}

/// A place in a line.
#[derive(Clone, Debug)]
pub struct Place {
    pub key: Bytes,
    pub lease: i64,
    /// Revision at which the key was created: nobody's else.
    pub created: i64,
}

impl<'a> Line<'a> {
    pub fn new(api: &'a Api, caller: &'a Caller, name: &[u8]) -> Self {
        Self { api, caller, prefix: [name, b"/"].concat() }
    }

    /// The key of whoever has this lease. Go writes the number's sign before its hexadecimal digits.
    pub fn key(&self, lease: i64) -> Bytes {
        let sign = if lease < 0 { "-" } else { "" };
        [&self.prefix[..], format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat().into()
    }

    fn all(&self) -> pb::RangeRequest {
        let mut end = self.prefix.clone();
        *end.last_mut().expect("it ends with a slash") += 1;
        let (key, range_end) = (self.prefix.clone().into(), end.into());
        pb::RangeRequest {
            key,
            range_end,
            limit: 1,
            sort_target: SortTarget::Create as i32,
            ..Default::default()
        }
    }

    /// The oldest key.
    pub fn first(&self) -> pb::RangeRequest {
        pb::RangeRequest { sort_order: SortOrder::Ascend as i32, ..self.all() }
    }

    /// The newest key that was created before this revision.
    fn last_before(&self, created: i64) -> pb::RangeRequest {
        let (sort_order, max_create_revision) = (SortOrder::Descend as i32, created - 1);
        pb::RangeRequest { sort_order, max_create_revision, ..self.all() }
    }

    /// Returns once no key is there any more that was created before the place's.
    pub async fn turn_of(&self, place: &Place) -> Result<(), Error> {
        let waiting = async {
            loop {
                let response = self.range(self.last_before(place.created)).await?;
                let Some(before) = response.kvs.first() else { return Ok(()) };
                let seen = Revision(revision(response.header));
                let shard = self.api.shard_of(self.caller);
                shard.until_deleted(&before.key, seen).await?;
            }
        };
        let stopping = async {
            self.caller.stopping().given().await;
            Err(Error::Stopped)
        };
        or(waiting, stopping).await
    }

    pub async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        whole(kv::range(self.api, self.caller, request).await?).await
    }

    pub async fn get(&self, key: &Bytes) -> Result<(Option<pb::ResponseHeader>, Option<KeyValue>), Error> {
        let request = pb::RangeRequest { key: key.clone(), ..Default::default() };
        let mut response = self.range(request).await?;
        Ok((response.header, response.kvs.pop()))
    }

    /// Does `then` if the key was created at that revision, 0 for "is not there", and else `otherwise`.
    pub async fn if_created(
        &self,
        (key, created): (&Bytes, i64),
        then: Vec<Op>,
        otherwise: Vec<Op>,
    ) -> Result<pb::TxnResponse, Error> {
        let request = if_created((key, created), then, otherwise);
        whole(kv::txn(self.api, self.caller, request).await?).await
    }

    /// Takes the place of whoever has this lease, which a new one gets, or finds that it is taken already.
    pub async fn join(
        &self,
        lease: i64,
        value: Bytes,
        and: Option<pb::RangeRequest>,
    ) -> Result<Joined, Error> {
        let lease = session(self.api, self.caller, lease).await?;
        let key = self.key(lease);
        let put = Op::RequestPut(pb::PutRequest { key: key.clone(), value, lease, ..Default::default() });
        let get = Op::RequestRange(pb::RangeRequest { key: key.clone(), ..Default::default() });
        let with = |first| iter::once(first).chain(and.clone().map(Op::RequestRange)).collect();
        let pb::TxnResponse { header, responses, .. } =
            self.if_created((&key, 0), with(put), with(get)).await?;
        let mut answers =
            responses.into_iter().map(|op| op.response.expect("an answer of an operation is of some kind"));
        let found = match answers.next().expect("an operation has its answer") {
            Response::ResponseRange(mut range) => range.kvs.pop(),
            _ => None,
        };
        let created = found.as_ref().map_or_else(|| revision(header), |kv| kv.create_revision);
        let also = answers.next().map(|answer| match answer {
            Response::ResponseRange(range) => range.kvs,
            other => panic!("a range is not answered by {other:?}"),
        });
        Ok(Joined { header, place: Place { key, lease, created }, found, also })
    }

    /// Gives the place up if it is not kept.
    pub fn hold(&self, place: &Place) -> Hold<'a> {
        Hold { api: self.api, caller: self.caller, place: Some(place.clone()) }
    }
}

/// What came of joining.
pub struct Joined {
    pub header: Option<pb::ResponseHeader>,
    pub place: Place,
    /// What was there before.
    pub found: Option<KeyValue>,
    /// What was asked for beside, if it was.
    pub also: Option<Vec<KeyValue>>,
}

/// A place whose owner may leave in the middle of waiting: then its key goes, too.
pub struct Hold<'a> {
    api: &'a Api,
    caller: &'a Caller,
    place: Option<Place>,
}

impl Hold<'_> {
    pub fn keep(mut self) {
        self.place = None;
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let Some(Place { key, created, .. }) = self.place.take() else { return };
        let (api, caller) = (self.api.clone(), self.caller.clone());
        self.api.shard().begin(async move {
            let delete =
                Op::RequestDeleteRange(pb::DeleteRangeRequest { key: key.clone(), ..Default::default() });
            let request = if_created((&key, created), vec![delete], Vec::new());
            if let Err(error) = kv::txn(&api, &caller, request).await {
                // Its lease ends some time.
                tracing::warn!(text = %error.grpc().1, "failed to give up a place in a line");
            }
        });
    }
}

fn if_created((key, created): (&Bytes, i64), then: Vec<Op>, otherwise: Vec<Op>) -> pb::TxnRequest {
    let ops = |ops: Vec<Op>| ops.into_iter().map(|op| pb::RequestOp { request: Some(op) }).collect();
    let compare = pb::Compare {
        target: CompareTarget::Create as i32,
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(created)),
        ..Default::default()
    };
    pb::TxnRequest { compare: vec![compare], success: ops(then), failure: ops(otherwise) }
}

/// The lease, or a new one for 0.
pub async fn session(api: &Api, caller: &Caller, lease: i64) -> Result<i64, Error> {
    if lease != 0 {
        return Ok(lease);
    }
    let request = pb::LeaseGrantRequest { id: 0, ttl: SESSION_TTL };
    Ok(lease::lease_grant(api, caller, request).await?.id)
}

/// Of an answer that this member made.
pub fn revision(header: Option<pb::ResponseHeader>) -> i64 {
    header.expect("each answer gets its header before it is given").revision
}

/// The answer of a request for a few keys.
pub async fn whole<M: Message + Default>(answer: Answer<M, AnswerReader>) -> Result<M, Error> {
    let mut long = match answer {
        Answer::Whole(answer) => return Ok(answer),
        Answer::Long(long) => long,
    };
    let mut pieces = Vec::new();
    while long.next(PIECE_BYTES, &mut pieces).await? {}
    Ok(M::decode(&pieces.concat()[..]).expect("an answer is what it was encoded from"))
}

/// As callers hear of it: upstream asks its own server as a client does, and the code of what it hears is lost on the way.
pub fn told(error: Error) -> Error {
    match error {
        Error::Stopped => error,
        error => Error::Malformed { code: Code::Unknown, text: error.grpc().1 },
    }
}
