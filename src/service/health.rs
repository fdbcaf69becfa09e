//! Whether this member is well: `/health`, and the checks behind `/livez` and `/readyz` (etcd v3.7
//! `etcdhttp/health.go`).

use super::{Api, Error, maintenance::alarm_name};
use crate::{pb::etcdserverpb::AlarmType, shard::ShardStatus};

/// One question about this member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

/// Whether to leave it running.
pub const LIVEZ: &[Check] = &[Check::SerializableRead];
/// Whether to send it requests.
pub const READYZ: &[Check] =
    &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

impl Check {
    pub fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    /// Or why it does not pass. `kind` is whom it is counted for.
    pub async fn run(self, api: &Api, kind: &str) -> Result<(), String> {
        let result = self.answer(api).await;
        api.metrics().health_check(kind, self.name(), result.is_ok());
        result
    }

    async fn answer(self, api: &Api) -> Result<(), String> {
        let text = |error: Error| error.grpc().1.into_owned();
        match self {
            Check::DataCorruption if api.shard().alarms().is_on(AlarmType::Corrupt) => {
                Err("alarm activated: CORRUPT".into())
            }
            Check::DataCorruption => Ok(()),
            Check::SerializableRead => read_nothing(api, true).await.map_err(text),
            Check::LinearizableRead if !api.options().ready.is_given() => Err(unready(api)),
            Check::LinearizableRead => read_nothing(api, false).await.map_err(text),
            Check::NonLearner if api.shard().is_learner() => Err("not supported for learner".into()),
            Check::NonLearner => Ok(()),
        }
    }
}

/// Or why it is not. Alarms whose names are `excluded` are looked past.
pub async fn health(api: &Api, serializable: bool, excluded: impl Fn(&str) -> bool) -> Result<(), String> {
    let result = if let Some(kind) = alarm_beyond(api, excluded) {
        Err(format!("ALARM {kind}"))
    } else if !serializable && api.shard().leader().0 == 0 {
        Err("RAFT NO LEADER".to_owned())
    } else {
        read_nothing(api, serializable).await.map_err(|error| format!("RANGE ERROR:{}", error.grpc().1))
    };
    let metrics = api.metrics();
    if result.is_ok() {
        metrics.health_success.inc()
    } else {
        metrics.health_failures.inc()
    }
    result
}

/// The first such alarm, as far as its name is known.
fn alarm_beyond(api: &Api, excluded: impl Fn(&str) -> bool) -> Option<&'static str> {
    let alarms = api.shard().alarms().list(AlarmType::None as i32);
    let alarm = alarms.iter().find(|alarm| !excluded(&alarm_name(alarm.alarm)))?;
    Some(AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name()))
}

/// What a member waits for that has not been ready since its start.
fn unready(api: &Api) -> String {
    let ShardStatus { leader, term, committed, applied, .. } = api.shard().status();
    let leader = match leader.0 {
        0 => "no leader".to_owned(),
        leader => format!("leader {leader:x}"),
    };
    format!("not ready yet: {leader} in term {term}, {applied} of {committed} entries applied")
}

async fn read_nothing(api: &Api, serializable: bool) -> Result<(), Error> {
    if serializable { Ok(()) } else { Ok(api.shard().linearize().await?) }
}
