//! `etcdserverpb.Cluster`.

use super::{Api, Caller, Error};
use crate::pb::etcdserverpb as pb;

const FIXED: Error = Error::Unimplemented("the cluster's membership cannot be changed yet");

pub async fn member_list(
    api: &Api,
    _: &Caller,
    request: pb::MemberListRequest,
) -> Result<pb::MemberListResponse, Error> {
    if request.linearizable {
        api.shard().linearize().await?;
    }
    // Headers of this service carry no revision.
    let mut header = pb::ResponseHeader::default();
    api.fill_without_revision(&mut header);
    Ok(pb::MemberListResponse { header: Some(header), members: api.shard().status().members })
}

pub async fn member_add(
    _: &Api,
    _: &Caller,
    _: pb::MemberAddRequest,
) -> Result<pb::MemberAddResponse, Error> {
    Err(FIXED)
}

pub async fn member_remove(
    _: &Api,
    _: &Caller,
    _: pb::MemberRemoveRequest,
) -> Result<pb::MemberRemoveResponse, Error> {
    Err(FIXED)
}

pub async fn member_update(
    _: &Api,
    _: &Caller,
    _: pb::MemberUpdateRequest,
) -> Result<pb::MemberUpdateResponse, Error> {
    Err(FIXED)
}

pub async fn member_promote(
    _: &Api,
    _: &Caller,
    _: pb::MemberPromoteRequest,
) -> Result<pb::MemberPromoteResponse, Error> {
    Err(FIXED)
}
