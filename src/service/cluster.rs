//! `etcdserverpb.Cluster` (etcd v3.7 `api/v3rpc/member.go` and the checks of `etcdserver/server.go`).
//!
//! A change of members is an entry of the log. What is wrong with it is found when it is applied; before that only what
//! would leave too few members to decide anything is refused, if flags want so: see `cluster/strict.rs`.

mod strict;

use std::time::Duration;

use sha1::{Digest, Sha1};
use tracing::{info, warn};

use super::{Api, Caller, Error, peers};
use crate::{
    limits,
    pb::etcdserverpb as pb,
    shard::Seat,
    state::{
        self, Principal,
        cluster::{JoinMember, PromoteMember, RemoveMember, UpdateMember},
    },
    types::{MemberId, url::Url},
};

/// What flags say of changes of members.
#[derive(Clone, Copy, Debug)]
pub struct Membership {
    /// `--strict-reconfig-check`.
    pub strict: bool,
    /// `--max-learners`.
    pub learners_max: u64,
    /// One election, and how long somebody waits for another member in all.
    pub election: Duration,
    pub patience: Duration,
}

impl Default for Membership {
    fn default() -> Self {
        let election = Duration::from_secs(1);
        Self { strict: true, learners_max: 1, election, patience: Duration::from_secs(5) + 2 * election }
    }
}

pub async fn member_list(
    api: &Api,
    caller: &Caller,
    request: pb::MemberListRequest,
) -> Result<pb::MemberListResponse, Error> {
    if request.linearizable {
        api.shard().linearize().await?;
    }
    api.somebody(caller)?;
    Ok(pb::MemberListResponse { header: header(api), members: api.shard().status().members })
}

pub async fn member_add(
    api: &Api,
    caller: &Caller,
    request: pb::MemberAddRequest,
) -> Result<pb::MemberAddResponse, Error> {
    let urls = peer_urls(&request.peer_ur_ls)?;
    let who = api.admin(caller)?;
    let id = member_id(&urls, api.shard().status().applied.0);
    let member = pb::Member { id, peer_ur_ls: urls, is_learner: request.is_learner, ..pb::Member::default() };
    api.may_add(&member)?;
    let learners_max = api.options().membership.learners_max;
    let command = JoinMember { member: Some(member.clone()), learners_max };
    let seat = if member.is_learner { Seat::Follow } else { Seat::Vote };
    let members = change(api, caller, &who, seat, member.id, command).await?;
    Ok(pb::MemberAddResponse { header: header(api), member: Some(member), members })
}

pub async fn member_remove(
    api: &Api,
    caller: &Caller,
    request: pb::MemberRemoveRequest,
) -> Result<pb::MemberRemoveResponse, Error> {
    let (who, id) = (api.admin(caller)?, request.id);
    api.may_remove(MemberId(id))?;
    let members = change(api, caller, &who, Seat::Leave, id, RemoveMember { id }).await?;
    Ok(pb::MemberRemoveResponse { header: header(api), members })
}

/// Nobody looks at the URLs, as in etcd, but at how long they are.
pub async fn member_update(
    api: &Api,
    caller: &Caller,
    request: pb::MemberUpdateRequest,
) -> Result<pb::MemberUpdateResponse, Error> {
    bound(&request.peer_ur_ls)?;
    let who = api.admin(caller)?;
    let (id, peer_urls) = (request.id, request.peer_ur_ls);
    let members = api.shard_of(caller).write(&who, UpdateMember { id, peer_urls }).await?;
    say_changed(api, "ConfChangeUpdateNode", id);
    Ok(pb::MemberUpdateResponse { header: header(api), members })
}

pub async fn member_promote(
    api: &Api,
    caller: &Caller,
    request: pb::MemberPromoteRequest,
) -> Result<pb::MemberPromoteResponse, Error> {
    // How far a learner has come is known to the leader alone, which counts it as well (`EtcdServer.PromoteMember`).
    let who = api.admin(caller);
    if who.is_ok() && !api.shard().is_leader() {
        let members = promote_there(api, caller, request.id).await?;
        return Ok(pb::MemberPromoteResponse { header: header(api), members });
    }
    let promoted = match who {
        Ok(who) => promote(api, caller, &who, request.id).await,
        Err(error) => Err(error),
    };
    let metrics = api.shard().metrics();
    match &promoted {
        Ok(_) => metrics.learners_promoted.inc(),
        Err(error) => metrics.learner_not_promoted(&error.grpc().1),
    }
    promoted
}

async fn promote(
    api: &Api,
    caller: &Caller,
    who: &Principal,
    id: u64,
) -> Result<pb::MemberPromoteResponse, Error> {
    if api.shard().with_state(|state| state.cluster().member(MemberId(id)).is_none()) {
        return Err(state::Error::MemberNotFound.into());
    }
    api.may_promote(MemberId(id))?;
    let members = change(api, caller, who, Seat::Vote, id, PromoteMember { id }).await?;
    Ok(pb::MemberPromoteResponse { header: header(api), members })
}

/// As long as somebody waits, whoever leads is asked, at each of its URLs.
async fn promote_there(api: &Api, caller: &Caller, id: u64) -> Result<Vec<pb::Member>, Error> {
    let Membership { election, patience, .. } = api.options().membership;
    let shard = api.shard();
    let began = shard.now();
    let left = || patience.saturating_sub(shard.now().since(began));
    loop {
        let leader = shard.leader();
        let member = shard.with_state(|state| state.cluster().member(leader).cloned());
        for url in member.into_iter().flat_map(|member| member.peer_ur_ls) {
            match (api.0.forward)(left(), url.clone(), id, caller.token.clone()).await {
                Ok(members) => return Ok(members),
                Err(error) => match peers::refusal(&error) {
                    Some(refusal) => return Err(refusal),
                    None => warn!(url, %error, "failed to forward the promotion to the leader"),
                },
            }
        }
        if left().is_zero() {
            return Err(if leader.0 == 0 { Error::NoLeader } else { Error::Timeout });
        }
        shard.sleep(election.min(left())).await;
    }
}

async fn change<C: state::Command>(
    api: &Api,
    caller: &Caller,
    who: &Principal,
    seat: Seat,
    id: u64,
    command: C,
) -> Result<C::Answer, Error> {
    // Nobody's id: an entry that says it could not be read again.
    if id == 0 {
        return Err(state::Error::MemberNotFound.into());
    }
    let answer = api.shard_of(caller).change(who, (seat, MemberId(id)), command).await?;
    say_changed(
        api,
        match seat {
            Seat::Vote => "ConfChangeAddNode",
            Seat::Follow => "ConfChangeAddLearnerNode",
            Seat::Leave => "ConfChangeRemoveNode",
        },
        id,
    );
    Ok(answer)
}

fn say_changed(api: &Api, kind: &'static str, id: u64) {
    info!(
        "local-member-id" = format!("{:x}", api.shard().member_id().0),
        "raft-conf-change" = kind,
        "raft-conf-change-node-id" = format!("{id:x}"),
        "applied a configuration change through raft"
    );
}

/// Headers of this service carry no revision.
fn header(api: &Api) -> Option<pb::ResponseHeader> {
    let mut header = pb::ResponseHeader::default();
    api.fill_without_revision(&mut header);
    Some(header)
}

/// As a new member is known by them: each a URL, in order.
fn peer_urls(urls: &[String]) -> Result<Vec<String>, Error> {
    bound(urls)?;
    let urls: Result<Vec<_>, _> = urls.iter().map(|url| Url::parse(url)).collect();
    let mut urls: Vec<_> = urls.map_err(|_| Error::BadMemberUrls)?.iter().map(Url::to_string).collect();
    urls.sort_unstable();
    if urls.is_empty() { Err(Error::BadMemberUrls) } else { Ok(urls) }
}

fn bound(urls: &[String]) -> Result<(), Error> {
    // A URL takes room however short it is.
    let bytes: usize = urls.iter().map(|url| url.len() + size_of::<String>()).sum();
    if bytes > limits::MEMBER_URLS_BYTES { Err(Error::BadMemberUrls) } else { Ok(()) }
}

/// etcd's, with the place in the log where it has the seconds of the clock: no two are asked for at the same one.
fn member_id(urls: &[String], applied: u64) -> u64 {
    let mut hash = Sha1::new();
    urls.iter().for_each(|url| hash.update(url));
    hash.update(applied.to_string());
    let digest = hash.finalize();
    u64::from_be_bytes(*digest.first_chunk().expect("a digest is longer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_in_etcd_and_are_few() {
        let read = |urls: &[&str]| peer_urls(&urls.iter().map(|url| url.to_string()).collect::<Vec<_>>());
        assert_eq!(read(&[" http://b:1", "http://a:1"]).expect("two"), ["http://a:1", "http://b:1"]);
        for refused in [&[][..], &["http://a:1/path"], &["ftp://a:1"], &["http://a"], &["http://a:1", ""]] {
            assert_eq!(read(refused), Err(Error::BadMemberUrls), "{refused:?}");
        }
        let many = vec!["http://a:1".to_owned(); limits::MEMBER_URLS_BYTES / size_of::<String>()];
        assert_eq!(peer_urls(&many), Err(Error::BadMemberUrls));
    }

    #[test]
    fn an_id_follows_from_urls_and_the_place_in_the_log() {
        let urls = ["http://a:1".to_owned()];
        assert_ne!(member_id(&urls, 1), member_id(&urls, 2));
        assert_eq!(member_id(&urls, 1), member_id(&urls, 1));
    }
}
