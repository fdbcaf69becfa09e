//! `v3electionpb.Election`: leaders that a lease keeps (etcd v3.7 `api/v3election`).

use std::collections::VecDeque;

use futures_util::{Stream, stream};
use prost::Message;

use super::{
    Api, Caller, Code, Error,
    line::{Line, revision, session, told},
};
use crate::{
    pb::{
        etcdserverpb::{self as pb, request_op::Request as Op},
        mvccpb::{Event, KeyValue, event::EventType},
        v3electionpb::{
            CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
            ProclaimResponse, ResignRequest, ResignResponse,
        },
    },
    shard::{Feed, Keys, Taste, Told, Wanted},
};

const NO_LEADER_KEY: Error = Error::Malformed {
    code: Code::Unknown,
    text: std::borrow::Cow::Borrowed("\"leader\" field must be provided"),
};
const NOT_LEADER: Error =
    Error::Malformed { code: Code::Unknown, text: std::borrow::Cow::Borrowed("election: not leader") };
const NO_LEADER: Error =
    Error::Malformed { code: Code::Unknown, text: std::borrow::Cow::Borrowed("election: no leader") };

/// Returns once the caller is elected. Who stands already may change what it stands for.
pub async fn campaign(
    api: &Api,
    caller: &Caller,
    request: CampaignRequest,
) -> Result<CampaignResponse, Error> {
    let CampaignRequest { name, lease, value } = request;
    let line = Line::new(api, caller, &name);
    let joined = line.join(lease, value.clone(), None).await.map_err(told)?;
    let place = joined.place;
    let hold = line.hold(&place);
    if joined.found.is_some_and(|found| found.value != value) {
        let key =
            LeaderKey { name: name.clone(), key: place.key.clone(), rev: place.created, lease: place.lease };
        announce(&line, &key, (value, place.lease)).await?;
    }
    line.turn_of(&place).await.map_err(told)?;
    hold.keep();
    let leader = LeaderKey { name, key: place.key, rev: place.created, lease: place.lease };
    Ok(CampaignResponse { header: joined.header, leader: Some(leader) })
}

/// The leader stands for something else from now on.
pub async fn proclaim(
    api: &Api,
    caller: &Caller,
    request: ProclaimRequest,
) -> Result<ProclaimResponse, Error> {
    let leader = request.leader.ok_or(NO_LEADER_KEY)?;
    let lease = session(api, caller, leader.lease).await.map_err(told)?;
    let line = Line::new(api, caller, &leader.name);
    Ok(ProclaimResponse { header: announce(&line, &leader, (request.value, lease)).await? })
}

async fn announce(
    line: &Line<'_>,
    leader: &LeaderKey,
    (value, lease): (bytes::Bytes, i64),
) -> Result<Option<pb::ResponseHeader>, Error> {
    let put = pb::PutRequest { key: leader.key.clone(), value, lease, ..Default::default() };
    let then = vec![Op::RequestPut(put)];
    let response = line.if_created((&leader.key, leader.rev), then, Vec::new()).await.map_err(told)?;
    if response.succeeded { Ok(response.header) } else { Err(NOT_LEADER) }
}

/// Who does not lead has nothing to resign from.
pub async fn resign(api: &Api, caller: &Caller, request: ResignRequest) -> Result<ResignResponse, Error> {
    let leader = request.leader.ok_or(NO_LEADER_KEY)?;
    session(api, caller, leader.lease).await.map_err(told)?;
    let line = Line::new(api, caller, &leader.name);
    let delete = pb::DeleteRangeRequest { key: leader.key.clone(), ..Default::default() };
    let then = vec![Op::RequestDeleteRange(delete)];
    let response = line.if_created((&leader.key, leader.rev), then, Vec::new()).await.map_err(told)?;
    Ok(ResignResponse { header: response.header })
}

pub async fn leader(api: &Api, caller: &Caller, request: LeaderRequest) -> Result<LeaderResponse, Error> {
    let line = Line::new(api, caller, &request.name);
    let mut response = line.range(line.first()).await.map_err(told)?;
    let kv = Some(response.kvs.pop().ok_or(NO_LEADER)?);
    Ok(LeaderResponse { header: response.header, kv })
}

/// The leader now, what it stands for from then on, and whoever follows it.
pub fn observe(
    api: &Api,
    caller: &Caller,
    request: LeaderRequest,
) -> Result<impl Stream<Item = Result<LeaderResponse, Error>> + 'static + use<>, Error> {
    let observer = Observer {
        api: api.clone(),
        caller: caller.clone(),
        name: request.name,
        feed: None,
        events: VecDeque::new(),
    };
    Ok(stream::try_unfold(observer, Observer::next))
}

struct Observer {
    api: Api,
    caller: Caller,
    name: bytes::Bytes,
    /// Of the leader's key.
    feed: Option<Feed>,
    /// What of it is not told yet, and the revisions there were then.
    events: VecDeque<(i64, Event)>,
}

impl Observer {
    async fn next(mut self) -> Result<Option<(LeaderResponse, Self)>, Error> {
        loop {
            let Some(feed) = &mut self.feed else {
                let (revision, kv) = self.find().await.map_err(told)?;
                self.feed =
                    Some(self.watch(Keys::One(kv.key[..].into()), (revision + 1, true)).map_err(told)?);
                return Ok(Some((self.response(revision, kv), self)));
            };
            match self.events.pop_front() {
                Some((revision, Event { r#type, kv: Some(kv), .. })) if r#type == EventType::Put as i32 => {
                    return Ok(Some((self.response(revision, kv), self)));
                }
                Some(_) => {
                    // It leads no more.
                    self.feed = None;
                    self.events.clear();
                }
                None => match events(feed).await.map_err(told)? {
                    Some(events) => self.events = events,
                    None => self.feed = None,
                },
            }
        }
    }

    fn response(&self, revision: i64, kv: KeyValue) -> LeaderResponse {
        let mut header = pb::ResponseHeader { revision, ..Default::default() };
        self.api.fill_without_revision(&mut header);
        LeaderResponse { header: Some(header), kv: Some(kv) }
    }

    fn watch(&self, keys: Keys, (start, deletes): (i64, bool)) -> Result<Feed, Error> {
        let mut feed = self.api.shard_of(&self.caller).feed();
        let taste = Taste { puts: true, deletes, prior: false };
        let wanted = Wanted { id: 0, keys, taste, start, notify: false, fragment: false };
        feed.create(wanted)?.expect("it is the first of its stream");
        Ok(feed)
    }

    /// The leader, once there is one, and the revision at which it was seen.
    async fn find(&self) -> Result<(i64, KeyValue), Error> {
        let line = Line::new(&self.api, &self.caller, &self.name);
        loop {
            let first = line.first();
            let keys = Keys::new(&first.key, &first.range_end).expect("a prefix is not empty");
            let mut response = line.range(first).await?;
            let seen = revision(response.header);
            if let Some(kv) = response.kvs.pop() {
                return Ok((seen, kv));
            }
            let mut feed = self.watch(keys, (seen, false))?;
            while let Some(mut events) = events(&mut feed).await? {
                if let Some((_, Event { kv: Some(kv), .. })) = events.pop_front() {
                    return Ok((kv.mod_revision, kv));
                }
            }
        }
    }
}

/// The next events, and the revision of each message; none if they are compacted, and it has to be looked again.
async fn events(feed: &mut Feed) -> Result<Option<VecDeque<(i64, Event)>>, Error> {
    let (mut encoded, mut revision, mut missing) = (Vec::new(), 0, 0);
    loop {
        match feed.next().await? {
            Told::Events { revision: seen, events, .. } => {
                revision = seen;
                encoded.extend(events.iter().flat_map(|event| event.iter().copied()));
            }
            Told::Begin { revision: seen, bytes, .. } => (revision, missing) = (seen, bytes),
            Told::Piece(pieces) => {
                missing -= pieces.iter().map(bytes::Bytes::len).sum::<usize>();
                encoded.extend(pieces.iter().flat_map(|piece| piece.iter().copied()));
            }
            Told::Progress { .. } => continue,
            Told::Compacted { .. } | Told::Broken => return Ok(None),
        }
        if missing == 0 {
            let message = pb::WatchResponse::decode(&encoded[..]).expect("events as they are sent");
            return Ok(Some(message.events.into_iter().map(|event| (revision, event)).collect()));
        }
    }
}
