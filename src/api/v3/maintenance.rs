//! `etcdserverpb.Maintenance`.

use crate::{
    api::{Api, Error, Keyspace, SERVER_VERSION, STORAGE_VERSION},
    apply::{Request, Response},
    pb::etcdserverpb::{self as pb, AlarmType, alarm_request::AlarmAction},
};

impl<K: Keyspace> Api<K> {
    pub async fn status(&self, _request: pb::StatusRequest) -> Result<pb::StatusResponse, Error> {
        let status = self.keyspace().status();
        let (size, in_use) = Self::sizes(&status);
        let mut header = None;
        self.fill(&mut header);
        let is_learner =
            status.members.iter().any(|member| member.id == status.member_id.0 && member.is_learner);
        let mut errors = Vec::new();
        if status.leader.0 == 0 {
            errors.push(Error::NoLeader.grpc().1.into_owned());
        }
        let alarms = self.keyspace().alarms().list(AlarmType::None as i32);
        errors.extend(alarms.iter().map(alarm_text));
        Ok(pb::StatusResponse {
            header,
            version: SERVER_VERSION.into(),
            db_size: wire_size(size),
            leader: status.leader.0,
            raft_index: status.committed.0,
            raft_term: status.term.0,
            raft_applied_index: status.applied.0,
            errors,
            db_size_in_use: wire_size(in_use),
            is_learner,
            storage_version: STORAGE_VERSION.into(),
            db_size_quota: self.options().quota.bytes(),
            downgrade_info: Some(pb::DowngradeInfo::default()),
        })
    }

    pub async fn alarm(&self, request: pb::AlarmRequest) -> Result<pb::AlarmResponse, Error> {
        let mut response = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => {
                self.keyspace().linearize().await?;
                pb::AlarmResponse { header: None, alarms: self.keyspace().alarms().list(request.alarm) }
            }
            Ok(AlarmAction::Activate | AlarmAction::Deactivate) => {
                match self.keyspace().write(Request::Alarm(request)).await? {
                    Response::Alarm(response) => response,
                    other => panic!("an alarm was answered with {other:?}"),
                }
            }
            // etcd 3.7 ends with a panic.
            Err(_) => return Err(Error::Unimplemented("etcdserver: unknown alarm action")),
        };
        // etcd tells the revision at the time of the answer.
        response.header.get_or_insert_default().revision = 0;
        self.fill(&mut response.header);
        Ok(response)
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
pub(in crate::api) fn alarm_name(kind: i32) -> String {
    AlarmType::try_from(kind).map_or_else(|_| kind.to_string(), |kind| kind.as_str_name().to_owned())
}

/// The wire has signed sizes.
fn wire_size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
