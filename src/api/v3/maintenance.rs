//! `etcdserverpb.Maintenance`.

use crate::{
    api::{Api, Error, Keyspace, SERVER_VERSION, STORAGE_VERSION},
    pb::etcdserverpb::{self as pb, alarm_request::AlarmAction},
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
            db_size_quota: wire_size(self.options().quota_bytes),
            downgrade_info: Some(pb::DowngradeInfo::default()),
        })
    }

    /// No alarm is ever raised yet, so listing and lifting them answer with none.
    pub async fn alarm(&self, request: pb::AlarmRequest) -> Result<pb::AlarmResponse, Error> {
        if request.action == AlarmAction::Activate as i32 {
            return Err(Error::Unimplemented("alarms cannot be raised by hand yet"));
        }
        self.keyspace().linearize().await?;
        let mut header = None;
        self.fill(&mut header);
        Ok(pb::AlarmResponse { header, alarms: Vec::new() })
    }
}

/// The wire has signed sizes.
fn wire_size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
