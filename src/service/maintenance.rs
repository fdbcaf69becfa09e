//! `etcdserverpb.Maintenance`.

mod downgrade;
mod snapshot;

pub use downgrade::downgrade;
pub use snapshot::snapshot;

use tracing::{info, warn};

use super::{Api, Caller, Error, version};
use crate::{
    pb::etcdserverpb::{self as pb, AlarmType, alarm_request::AlarmAction},
    state::cluster::Release,
    types::MemberId,
};

pub async fn status(api: &Api, caller: &Caller, _: pb::StatusRequest) -> Result<pb::StatusResponse, Error> {
    api.somebody(caller)?;
    let status = api.shard().status();
    let (size, in_use) = Api::sizes(&status);
    let mut header = None;
    api.fill(&mut header);
    let mut errors = Vec::new();
    if status.leader.0 == 0 {
        errors.push(Error::NoLeader.grpc().1.into_owned());
    }
    let alarms = api.shard().alarms().list(AlarmType::None as i32);
    errors.extend(alarms.iter().map(alarm_text));
    Ok(pb::StatusResponse {
        header,
        version: version::SERVER.into(),
        db_size: wire_size(size),
        leader: status.leader.0,
        raft_index: status.committed.0,
        raft_term: status.term.0,
        raft_applied_index: status.applied.0,
        errors,
        db_size_in_use: wire_size(in_use),
        is_learner: api.shard().is_learner(),
        storage_version: api.cluster_version().to_string(),
        db_size_quota: api.options().quota.bytes(),
        downgrade_info: Some(api.downgrade_info()),
    })
}

pub async fn alarm(
    api: &Api,
    caller: &Caller,
    request: pb::AlarmRequest,
) -> Result<pb::AlarmResponse, Error> {
    let mut response = match AlarmAction::try_from(request.action) {
        Ok(AlarmAction::Get) => {
            api.somebody(caller)?;
            api.shard().linearize().await?;
            pb::AlarmResponse { header: None, alarms: api.shard().alarms().list(request.alarm) }
        }
        Ok(AlarmAction::Activate | AlarmAction::Deactivate) => {
            let who = api.admin(caller)?;
            api.shard_of(caller).write(&who, request).await?
        }
        // etcd 3.7 ends with a panic.
        Err(_) => return Err(Error::Unimplemented("etcdserver: unknown alarm action")),
    };
    // etcd tells the revision at the time of the answer.
    response.header.get_or_insert_default().revision = 0;
    api.fill(&mut response.header);
    Ok(response)
}

pub async fn defragment(
    api: &Api,
    caller: &Caller,
    _: pb::DefragmentRequest,
) -> Result<pb::DefragmentResponse, Error> {
    api.admin(caller)?;
    info!("starting defragment");
    if let Err(error) = api.shard().defragment().await {
        warn!(%error, "failed to defragment");
        return Err(error.into());
    }
    info!("finished defragment");
    Ok(pb::DefragmentResponse { header: None })
}

pub async fn hash_kv(
    api: &Api,
    caller: &Caller,
    request: pb::HashKvRequest,
) -> Result<pb::HashKvResponse, Error> {
    api.admin(caller)?;
    let timer = api.shard().metrics().hash_rev_seconds.start_timer();
    let (hash, current) = api.shard_of(caller).hash_kv(request.revision).await?;
    timer.observe_duration();
    let mut header = Some(pb::ResponseHeader { revision: current.0, ..Default::default() });
    api.fill(&mut header);
    Ok(pb::HashKvResponse {
        header,
        hash: hash.hash,
        compact_revision: hash.compacted.0,
        hash_revision: hash.revision.0,
    })
}

/// Over the versions, how far they are compacted and the alarms. etcd hashes its database file, so hashes of
/// different servers do not compare.
pub async fn hash(api: &Api, caller: &Caller, _: pb::HashRequest) -> Result<pb::HashResponse, Error> {
    api.admin(caller)?;
    let timer = api.shard().metrics().hash_seconds.start_timer();
    let alarms = api.shard().alarms().list(AlarmType::None as i32);
    let (versions, current) = api.shard_of(caller).hash_kv(0).await?;
    let mut hash = crc32c::crc32c_append(versions.hash, &versions.compacted.0.to_be_bytes());
    for alarm in alarms {
        hash = crc32c::crc32c_append(hash, &alarm.alarm.to_be_bytes());
        hash = crc32c::crc32c_append(hash, &alarm.member_id.to_be_bytes());
    }
    timer.observe_duration();
    let mut header = Some(pb::ResponseHeader { revision: current.0, ..Default::default() });
    api.fill(&mut header);
    Ok(pb::HashResponse { header, hash })
}

/// Returns once the other member leads. To this member itself there is nothing to do.
pub async fn move_leader(
    api: &Api,
    caller: &Caller,
    request: pb::MoveLeaderRequest,
) -> Result<pb::MoveLeaderResponse, Error> {
    api.admin(caller)?;
    let (shard, target) = (api.shard(), MemberId(request.target_id));
    if shard.leader() != shard.member_id() {
        return Err(Error::NotLeader);
    }
    let votes =
        shard.with_state(|state| state.cluster().member(target).is_some_and(|member| !member.is_learner));
    if !votes {
        return Err(Error::BadTransferee);
    }
    shard.hand_over(Some(target)).await?;
    info!(
        "local-member-id" = format!("{:x}", shard.member_id().0),
        "current-leader-member-id" = format!("{:x}", target.0),
        "transferee-member-id" = format!("{:x}", target.0),
        "leadership transfer finished"
    );
    Ok(pb::MoveLeaderResponse { header: None })
}

impl Api {
    /// What the members agreed on; the storage's schema, as far as clients and backups see one, is the same.
    pub(in crate::service) fn cluster_version(&self) -> Release {
        self.shard().with_state(|state| state.cluster().version())
    }

    fn downgrade_info(&self) -> pb::DowngradeInfo {
        let target = self.shard().with_state(|state| state.cluster().downgrade());
        pb::DowngradeInfo {
            enabled: target.is_some(),
            target_version: target.map(|target| target.to_string()).unwrap_or_default(),
        }
    }
}

/// An alarm as protobuf's text form shows it, without its fields that are zero.
fn alarm_text(alarm: &pb::AlarmMember) -> String {
    let kind = alarm_name(alarm.alarm);
    if alarm.member_id == 0 {
        format!("alarm:{kind}")
    } else {
        format!("memberID:{} alarm:{kind}", alarm.member_id)
    }
}

/// A kind this version does not know shows as its number.
pub(super) fn alarm_name(kind: i32) -> String {
    AlarmType::try_from(kind).map_or_else(|_| kind.to_string(), |kind| kind.as_str_name().to_owned())
}

/// The wire has signed sizes.
fn wire_size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
