//! `/metrics`: what has been counted as it happened, and views of the shard's state as of now.

use super::{Api, maintenance::alarm_name};
use crate::{
    metrics::{self, Families, Metrics},
    pb::etcdserverpb::AlarmType,
    state::cluster::Release,
};

pub use crate::metrics::{Error, TEXT_CONTENT_TYPE};

/// The exposition in Prometheus' text format: of the process, and of the shards of these keyspaces.
pub fn text(process: &Metrics, keyspaces: &[Api]) -> Result<Vec<u8>, Error> {
    if let Some(first) = keyspaces.first() {
        let Release { major, minor } = first.cluster_version();
        process.show_cluster_version(&format!("{major}.{minor}"));
    }
    let shards = keyspaces.iter().map(|api| (api.keyspace().shard, gather(api)));
    metrics::text(process.gather(), shards.collect())
}

/// What one keyspace's shard has counted and looks like.
fn gather(api: &Api) -> Families {
    let metrics = api.shard().metrics();
    let status = api.shard().status();
    let (size, in_use) = Api::sizes(&status);
    metrics.has_leader.set(i64::from(status.leader.0 != 0));
    metrics.is_leader.set(i64::from(status.is_leader));
    metrics.is_learner.set(i64::from(api.shard().is_learner()));
    metrics.proposals_committed.set(status.committed.0 as i64);
    metrics.proposals_applied.set(status.applied.0 as i64);
    metrics.proposals_pending.set(status.pending as i64);
    metrics.client_memory.set(api.clients().used() as i64);
    metrics.client_memory_limit.set(api.clients().bounds().total as i64);
    metrics.keys_total.set(status.keys as i64);
    metrics.db_total_size.set(size as i64);
    metrics.db_total_size_in_use.set(in_use as i64);
    let (watches, slow, pending) = api.shard().watch_counts();
    metrics.watchers.set(watches as i64);
    metrics.slow_watchers.set(slow as i64);
    metrics.pending_events.set(pending as i64);
    let alarms = api.shard().alarms().list(AlarmType::None as i32);
    metrics.set_alarms(alarms.iter().map(|alarm| (alarm.member_id, alarm_name(alarm.alarm))));
    metrics.set_known_peers(status.member_id.0, status.members.iter().map(|member| member.id));
    metrics.current_revision.set(status.revision.0);
    metrics.auth_revision.set(api.shard().with_state(|state| state.auth().revision()) as i64);
    metrics.compact_revision.set(if status.compact_revision.0 == 0 { -1 } else { status.compact_revision.0 });
    metrics.gather()
}
