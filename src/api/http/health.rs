//! `/health`, and the checks behind `/livez` and `/readyz` (etcd v3.7 `etcdhttp/health.go`).

use super::{PLAIN, Response, query::Query};
use crate::{
    api::{Api, Error, Keyspace, v3::maintenance::alarm_name},
    pb::etcdserverpb::{self as pb, AlarmType},
};

/// One question about this member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

/// What one path runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checks {
    kind: &'static str,
    list: &'static [Check],
    /// `?exclude=NAME` works on the whole list only.
    may_exclude: bool,
}

const LIVEZ: &[Check] = &[Check::SerializableRead];
const READYZ: &[Check] =
    &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    /// `/readyz` runs all of its checks, `/readyz/NAME` one.
    pub(super) fn of_path(path: &str) -> Option<Checks> {
        let (kind, all) = match path.strip_prefix('/')?.split('/').next()? {
            "livez" => ("livez", LIVEZ),
            "readyz" => ("readyz", READYZ),
            _ => return None,
        };
        match path[1 + kind.len()..].strip_prefix('/') {
            None => Some(Checks { kind, list: all, may_exclude: true }),
            Some(name) => {
                let at = all.iter().position(|check| check.name() == name)?;
                Some(Checks { kind, list: &all[at..=at], may_exclude: false })
            }
        }
    }
}

impl<K: Keyspace> Api<K> {
    pub(super) async fn health(&self, method: &str, query: &Query<'_>) -> Response {
        if method != "GET" {
            tracing::warn!("status-code" = 405, "/health error");
            return Response::method_not_allowed();
        }
        let serializable = query.first("serializable") == Some("true");
        let reason = if let Some(kind) = self.alarm_beyond(query) {
            Some(format!("ALARM {kind}"))
        } else if !serializable && self.keyspace().leader().0 == 0 {
            Some("RAFT NO LEADER".to_owned())
        } else {
            let read = self.read_nothing(serializable).await;
            read.err().map(|error| format!("RANGE ERROR:{}", error.grpc().1))
        };
        match reason {
            None => {
                self.metrics().health_success.inc();
                Response::ok(PLAIN, r#"{"health":"true","reason":""}"#)
            }
            Some(reason) => {
                self.metrics().health_failures.inc();
                let output = serde_json::json!({"health": "false", "reason": reason}).to_string();
                tracing::warn!(output, "status-code" = 503, "/health error");
                Response::error(503, output)
            }
        }
    }

    /// The first alarm that `?exclude=` does not tell to look past, as far as its name is known.
    fn alarm_beyond(&self, query: &Query<'_>) -> Option<&'static str> {
        let alarms = self.keyspace().alarms().list(AlarmType::None as i32);
        let alarm =
            alarms.iter().find(|alarm| query.all("exclude").all(|name| name != alarm_name(alarm.alarm)))?;
        Some(AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name()))
    }

    pub(super) async fn run_checks(
        &self,
        method: &str,
        Checks { kind, list, may_exclude }: Checks,
        query: &Query<'_>,
    ) -> Response {
        if method != "GET" {
            tracing::warn!(path = kind, "status-code" = 405, "Health request error");
            return Response::method_not_allowed();
        }
        let mut report = String::new();
        let mut healthy = true;
        for check in list {
            let name = check.name();
            if may_exclude && query.all("exclude").any(|excluded| excluded == name) {
                continue;
            }
            let result = self.run_check(*check).await;
            self.metrics().health_check(kind, name, result.is_ok());
            match result {
                Ok(()) => report.push_str(&format!("[+]{name} ok\n")),
                Err(reason) => {
                    healthy = false;
                    report.push_str(&format!("[-]{name} failed: {reason}\n"));
                }
            }
        }
        if !healthy {
            tracing::error!(path = kind, reason = report, "status-code" = 503, "Health check error");
            return Response::error(503, report);
        }
        let mut response = Response::error(200, "ok");
        if query.has("verbose") {
            response.body.splice(0..0, report.into_bytes());
        }
        response
    }

    async fn run_check(&self, check: Check) -> Result<(), String> {
        match check {
            Check::DataCorruption if self.keyspace().alarms().is_on(AlarmType::Corrupt) => {
                Err("alarm activated: CORRUPT".into())
            }
            Check::DataCorruption => Ok(()),
            Check::SerializableRead => self.read_nothing(true).await.map_err(|error| error.grpc().1.into()),
            Check::LinearizableRead => self.read_nothing(false).await.map_err(|error| error.grpc().1.into()),
            Check::NonLearner => {
                let status = self.keyspace().status();
                let me = status.members.iter().find(|member| member.id == status.member_id.0);
                match me {
                    Some(member) if member.is_learner => Err("not supported for learner".into()),
                    _ => Ok(()),
                }
            }
        }
    }

    async fn read_nothing(&self, serializable: bool) -> Result<(), Error> {
        let request = pb::RangeRequest { keys_only: true, limit: 1, serializable, ..Default::default() };
        self.keyspace().range(request).await?;
        Ok(())
    }
}
