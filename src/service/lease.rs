//! `etcdserverpb.Lease`.

use std::{
    collections::VecDeque,
    future::poll_fn,
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt, stream};

use super::{Api, Caller, Error, Requests};
use crate::{
    limits,
    pb::etcdserverpb as pb,
    shard::{self, AnswerReader, Shard},
    state::{
        auth::Access,
        kv::{Answer, cost},
    },
};

pub async fn lease_grant(
    api: &Api,
    caller: &Caller,
    mut request: pb::LeaseGrantRequest,
) -> Result<pb::LeaseGrantResponse, Error> {
    api.check_space(cost::LEASE_BYTES).await?;
    let who = api.somebody(caller)?;
    while request.id == 0 {
        // Never a negative one, which its client would have to ask for.
        request.id = (api.shard().random_u64() >> 1) as i64;
    }
    request.ttl = request.ttl.max(api.options().lease_ttl_min);
    let mut response = api.shard_of(caller).write(&who, request).await?;
    api.fill(&mut response.header);
    Ok(response)
}

pub async fn lease_revoke(
    api: &Api,
    caller: &Caller,
    request: pb::LeaseRevokeRequest,
) -> Result<pb::LeaseRevokeResponse, Error> {
    let who = api.somebody(caller)?;
    let mut response = api.shard_of(caller).write(&who, request).await?;
    api.fill(&mut response.header);
    Ok(response)
}

/// Each request is answered in its turn, with the revision there was before it. All that have come together are certain
/// of their leader by one question to the others.
pub fn lease_keep_alive(
    api: &Api,
    caller: &Caller,
    requests: Requests<pb::LeaseKeepAliveRequest>,
) -> Result<impl Stream<Item = Result<pb::LeaseKeepAliveResponse, Error>> + 'static + use<>, Error> {
    let keeping = KeepAlive {
        api: api.clone(),
        caller: caller.clone(),
        shard: api.shard_of(caller),
        requests,
        header: None,
        ids: VecDeque::new(),
        failed: None,
        renewed: VecDeque::new(),
    };
    Ok(stream::try_unfold(keeping, KeepAlive::next))
}

pub async fn lease_time_to_live(
    api: &Api,
    caller: &Caller,
    request: pb::LeaseTimeToLiveRequest,
) -> Result<Answer<pb::LeaseTimeToLiveResponse, AnswerReader>, Error> {
    let who = api.somebody(caller)?;
    let mut answer = api.shard_of(caller).time_to_live(&who, (request.id, request.keys)).await?;
    api.fill_answer(&mut answer, |response| &mut response.header);
    Ok(answer)
}

/// As this member knows them, without a question to the others.
pub async fn lease_leases(
    api: &Api,
    caller: &Caller,
    _: pb::LeaseLeasesRequest,
) -> Result<Answer<pb::LeaseLeasesResponse, AnswerReader>, Error> {
    let who = api.somebody(caller)?;
    let mut answer = api.shard_of(caller).leases(&who).await?;
    api.fill_answer(&mut answer, |response| &mut response.header);
    Ok(answer)
}

impl Api {
    /// Refuses who could not write all keys of a lease.
    fn may_renew(&self, caller: &Caller, id: i64) -> Result<(), Error> {
        let who = self.somebody(caller)?;
        Ok(self.shard().with_state(|state| state.asking(&who).lease(Access::Write, id))?)
    }
}

/// A stream of renewals.
struct KeepAlive {
    api: Api,
    caller: Caller,
    shard: Shard,
    requests: Requests<pb::LeaseKeepAliveRequest>,
    /// Of the requests that came together, and those of them that are not answered.
    header: Option<pb::ResponseHeader>,
    ids: VecDeque<i64>,
    /// What the requests ended with, until those before it are answered.
    failed: Option<Error>,
    /// What another member, which leads, made of the first of them.
    renewed: VecDeque<Option<i64>>,
}

impl KeepAlive {
    async fn next(mut self) -> Result<Option<(pb::LeaseKeepAliveResponse, Self)>, Error> {
        if self.ids.is_empty() {
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            let Some(first) = self.requests.next().await else { return Ok(None) };
            self.ids.push_back(first?.id);
            poll_fn(|context| self.take_more(context)).await;
            self.header = None;
            self.api.fill(&mut self.header);
            self.renew_elsewhere().await?;
            if self.renewed.is_empty() {
                self.shard.linearize().await?;
            }
        }
        let id = self.ids.pop_front().expect("a request has come");
        self.api.may_renew(&self.caller, id)?;
        let ttl = match self.renewed.pop_front() {
            Some(ttl) => ttl,
            None => match self.shard.renew(id).await {
                Err(shard::Error::NoLeader) => self.shard.renew_anywhere(id).await?,
                renewed => renewed?,
            },
        };
        let ttl = ttl.unwrap_or(0);
        Ok(Some((pb::LeaseKeepAliveResponse { header: self.header, id, ttl }, self)))
    }

    /// Where another member leads, has it renew what may be renewed; the first that may not ends the stream.
    async fn renew_elsewhere(&mut self) -> Result<(), Error> {
        if self.shard.is_leader() {
            return Ok(());
        }
        let may = |id: &&i64| self.api.may_renew(&self.caller, **id).is_ok();
        let ids: Vec<_> = self.ids.iter().take_while(may).copied().collect();
        if !ids.is_empty()
            && let Some(renewed) = self.shard.renew_elsewhere(ids).await?
        {
            self.renewed = renewed.into();
        }
        Ok(())
    }

    /// What has come, too. The end of the requests is met again when these are answered.
    fn take_more(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.ids.len() < limits::KEEP_ALIVES_TOGETHER
            && self.failed.is_none()
            && let Poll::Ready(Some(request)) = self.requests.poll_next_unpin(context)
        {
            match request {
                Ok(request) => self.ids.push_back(request.id),
                Err(error) => self.failed = Some(error),
            }
        }
        Poll::Ready(())
    }
}
