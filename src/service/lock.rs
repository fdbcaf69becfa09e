//! `v3lockpb.Lock`: locks that a lease holds (etcd v3.7 `api/v3lock`).

use super::{
    Api, Caller, Code, Error, kv,
    line::{Line, told, whole},
};
use crate::pb::{
    etcdserverpb as pb,
    v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse},
};

/// Returns once the lock is the caller's. Who has it already has it again.
pub async fn lock(api: &Api, caller: &Caller, request: LockRequest) -> Result<LockResponse, Error> {
    locked(api, caller, request).await.map_err(told)
}

async fn locked(api: &Api, caller: &Caller, request: LockRequest) -> Result<LockResponse, Error> {
    let line = Line::new(api, caller, &request.name);
    let joined = line.join(request.lease, Default::default(), Some(line.first())).await?;
    let place = joined.place;
    let owners = joined.also.expect("it was asked for");
    if owners.first().is_none_or(|owner| owner.create_revision == place.created) {
        return Ok(LockResponse { header: joined.header, key: place.key });
    }
    let hold = line.hold(&place);
    line.turn_of(&place).await?;
    let (header, kv) = line.get(&place.key).await?;
    hold.keep();
    match kv {
        Some(_) => Ok(LockResponse { header, key: place.key }),
        None => Err(Error::Malformed { code: Code::Unknown, text: "mutex: session is expired".into() }),
    }
}

pub async fn unlock(api: &Api, caller: &Caller, request: UnlockRequest) -> Result<UnlockResponse, Error> {
    let request = pb::DeleteRangeRequest { key: request.key, ..Default::default() };
    let answer = kv::delete_range(api, caller, request).await.map_err(told)?;
    let response = whole(answer).await.map_err(told)?;
    Ok(UnlockResponse { header: response.header })
}
