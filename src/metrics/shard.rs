//! The series of one shard: its log, its checkpoints, its Raft group, its keyspace.
//!
//! Each shard has a registry of its own, made before it and handed out as `Rc<ShardMetrics>`: a core counts without looking
//! at another's. [`text`](super::text) puts the shards' series into one exposition.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};

use super::{Error, Families, register::Register};

pub struct ShardMetrics {
    /// `etcd_disk_wal_fsync_duration_seconds`: one observation per durable log write.
    pub wal_fsync_seconds: Histogram,
    /// `etcd_disk_wal_write_duration_seconds`: handing the bytes over, durability not awaited.
    pub wal_write_seconds: Histogram,
    /// `etcd_disk_wal_write_bytes_total` (a gauge, as in etcd).
    pub wal_write_bytes: IntGauge,
    /// One durable step of a checkpoint.
    pub backend_commit_seconds: Histogram,

    /// `pinion_stage_duration_seconds{stage="queued"}`: from arrival until the entry is proposed.
    pub stage_queued: Histogram,
    /// `stage="log_write"`: from proposal until the entry is durable here.
    pub stage_log_write: Histogram,
    /// `stage="commit"`: from proposal until a quorum has it.
    pub stage_commit: Histogram,
    /// `stage="apply"`: evaluation of one committed entry.
    pub stage_apply: Histogram,
    /// `stage="reply"`: from applied until the answers are handed to the connections.
    pub stage_reply: Histogram,

    pub has_leader: IntGauge,
    pub is_leader: IntGauge,
    pub is_learner: IntGauge,
    pub leader_changes: IntCounter,
    /// Raft's commit and applied index (gauges, as in etcd).
    pub proposals_committed: IntGauge,
    pub proposals_applied: IntGauge,
    pub proposals_pending: IntGauge,
    pub proposals_failed: IntCounter,
    pub slow_apply: IntCounter,
    pub heartbeats_late: IntCounter,
    pub slow_read_indexes: IntCounter,
    pub read_indexes_failed: IntCounter,
    pub quota_backend_bytes: IntGauge,
    /// `pinion_client_memory_bytes`: held on behalf of clients, and how much may be.
    pub client_memory: IntGauge,
    pub client_memory_limit: IntGauge,

    /// Operations, nested ones included; a request of more than one operation is also a txn.
    pub range_total: IntCounter,
    pub put_total: IntCounter,
    pub delete_total: IntCounter,
    pub txn_total: IntCounter,
    pub keys_total: IntGauge,
    /// Key and value bytes of every put.
    pub total_put_size: IntGauge,
    pub db_total_size: IntGauge,
    pub db_total_size_in_use: IntGauge,
    pub current_revision: IntGauge,
    /// That of users and roles.
    pub auth_revision: IntGauge,
    pub compact_revision: IntGauge,
    /// One slice of physical compaction, in milliseconds.
    pub compaction_pause: Histogram,
    /// From the first slice to the last, in milliseconds.
    pub compaction_total: Histogram,
    /// Versions freed.
    pub compaction_keys: IntCounter,
    compaction_last: IntGauge,
    /// Open streams of watches, watches, and those of them that catch up.
    pub watch_streams: IntGauge,
    pub watchers: IntGauge,
    pub slow_watchers: IntGauge,
    /// Events told to watches, and those in memory that some watch has not read.
    pub watch_events: IntCounter,
    pub pending_events: IntGauge,
    pub hash_seconds: Histogram,
    pub hash_rev_seconds: Histogram,
    pub defrag_seconds: Histogram,
    pub defrag_inflight: IntGauge,
    pub snapshot_seconds: Histogram,
    pub lease_granted: IntCounter,
    pub lease_revoked: IntCounter,
    /// Keepalives that found their lease.
    pub lease_renewed: IntCounter,
    /// Seconds leases were granted for.
    pub lease_ttl: Histogram,
    /// Leases this member revoked because their time was over.
    pub lease_expired: IntCounter,
    alarms: IntGaugeVec,
    known_peers: IntGaugeVec,
    pub learners_promoted: IntCounter,
    learners_not_promoted: IntCounterVec,
    registry: Register,
}

impl ShardMetrics {
    pub fn new() -> Result<Self, Error> {
        let to = Register::default();
        let stage = |name: &str| to.stage(name);
        Ok(Self {
            wal_fsync_seconds: to.disk(
                "etcd_disk_wal_fsync_duration_seconds",
                "Seconds until a write to the log was on stable storage.",
            )?,
            wal_write_seconds: to.disk(
                "etcd_disk_wal_write_duration_seconds",
                "Seconds taken to hand a write to the log over to the system.",
            )?,
            wal_write_bytes: to.gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the log.")?,
            backend_commit_seconds: to.disk(
                "etcd_disk_backend_commit_duration_seconds",
                "Seconds until one step of a checkpoint was on stable storage.",
            )?,
            stage_queued: stage("queued")?,
            stage_log_write: stage("log_write")?,
            stage_commit: stage("commit")?,
            stage_apply: stage("apply")?,
            stage_reply: stage("reply")?,
            has_leader: to.gauge("etcd_server_has_leader", "1 while a leader is known, else 0.")?,
            is_leader: to.gauge("etcd_server_is_leader", "1 while this member leads, else 0.")?,
            is_learner: to.gauge("etcd_server_is_learner", "1 while this member is a learner, else 0.")?,
            leader_changes: to
                .counter("etcd_server_leader_changes_seen_total", "Changes of leader seen by this member.")?,
            proposals_committed: to
                .gauge("etcd_server_proposals_committed_total", "Index of the last committed log entry.")?,
            proposals_applied: to
                .gauge("etcd_server_proposals_applied_total", "Index of the last applied log entry.")?,
            proposals_pending: to
                .gauge("etcd_server_proposals_pending", "Proposals that wait for their commit.")?,
            proposals_failed: to.counter("etcd_server_proposals_failed_total", "Proposals that failed.")?,
            slow_apply: to.counter(
                "etcd_server_slow_apply_total",
                "Requests that took longer to apply than the warning threshold.",
            )?,
            heartbeats_late: to.counter(
                "etcd_server_heartbeat_send_failures_total",
                "Heartbeats of a leader that left late.",
            )?,
            slow_read_indexes: to.counter(
                "etcd_server_slow_read_indexes_total",
                "Read index rounds that were late or timed out.",
            )?,
            read_indexes_failed: to
                .counter("etcd_server_read_indexes_failed_total", "Read index rounds that failed.")?,
            quota_backend_bytes: to
                .gauge("etcd_server_quota_backend_bytes", "Bytes the keyspace may occupy.")?,
            client_memory: to.gauge(
                "pinion_client_memory_bytes",
                "Bytes held on behalf of clients: requests and answers under way.",
            )?,
            client_memory_limit: to.gauge(
                "pinion_client_memory_limit_bytes",
                "Bytes that may be held on behalf of clients before requests are refused.",
            )?,
            range_total: to.counter("etcd_mvcc_range_total", "Ranges evaluated by this member.")?,
            put_total: to.counter("etcd_mvcc_put_total", "Puts evaluated by this member.")?,
            delete_total: to.counter("etcd_mvcc_delete_total", "Deletes evaluated by this member.")?,
            txn_total: to.counter(
                "etcd_mvcc_txn_total",
                "Requests of more than one operation evaluated by this member.",
            )?,
            keys_total: to.gauge("etcd_debugging_mvcc_keys_total", "Keys present.")?,
            total_put_size: to.gauge(
                "etcd_debugging_mvcc_total_put_size_in_bytes",
                "Key and value bytes of all puts evaluated by this member.",
            )?,
            db_total_size: to.gauge(
                "etcd_mvcc_db_total_size_in_bytes",
                "Bytes the keyspace occupies, history included.",
            )?,
            db_total_size_in_use: to.gauge(
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Bytes of the keyspace that are still reachable.",
            )?,
            current_revision: to
                .gauge("etcd_debugging_mvcc_current_revision", "The keyspace's current revision.")?,
            auth_revision: to.gauge("etcd_debugging_auth_revision", "The revision of users and roles.")?,
            compact_revision: to.gauge(
                "etcd_debugging_mvcc_compact_revision",
                "Revision of the last compaction, -1 before the first.",
            )?,
            compaction_pause: to.histogram(
                "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
                "Milliseconds of one slice of physical compaction.",
                (1.0, 13),
            )?,
            compaction_total: to.histogram(
                "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
                "Milliseconds of a physical compaction.",
                (100.0, 14),
            )?,
            compaction_keys: to
                .counter("etcd_debugging_mvcc_db_compaction_keys_total", "Versions freed by compaction.")?,
            compaction_last: to.gauge(
                "etcd_debugging_mvcc_db_compaction_last",
                "Unix time of the end of the last physical compaction, 0 before the first.",
            )?,
            watch_streams: to.gauge("etcd_debugging_mvcc_watch_stream_total", "Open streams of watches.")?,
            watchers: to.gauge("etcd_debugging_mvcc_watcher_total", "Watches.")?,
            slow_watchers: to
                .gauge("etcd_debugging_mvcc_slow_watcher_total", "Watches that catch up from history.")?,
            watch_events: to.counter("etcd_debugging_mvcc_events_total", "Events told to watches.")?,
            pending_events: to.gauge(
                "etcd_debugging_mvcc_pending_events_total",
                "Events in memory that some watch has not read yet.",
            )?,
            hash_seconds: to.histogram(
                "etcd_mvcc_hash_duration_seconds",
                "Seconds taken to hash the whole state.",
                (0.01, 15),
            )?,
            hash_rev_seconds: to.histogram(
                "etcd_mvcc_hash_rev_duration_seconds",
                "Seconds taken to hash the versions up to a revision.",
                (0.01, 15),
            )?,
            defrag_seconds: to.histogram(
                "etcd_disk_backend_defrag_duration_seconds",
                "Seconds taken by a defragmentation.",
                (0.1, 13),
            )?,
            defrag_inflight: to
                .gauge("etcd_disk_defrag_inflight", "1 while a defragmentation is under way, else 0.")?,
            snapshot_seconds: to.histogram(
                "etcd_disk_backend_snapshot_duration_seconds",
                "Seconds taken by a snapshot for a client.",
                (0.01, 17),
            )?,
            lease_granted: to.counter("etcd_debugging_lease_granted_total", "Leases granted.")?,
            lease_revoked: to.counter("etcd_debugging_lease_revoked_total", "Leases revoked.")?,
            lease_renewed: to
                .counter("etcd_debugging_lease_renewed_total", "Leases renewed by this leader.")?,
            lease_ttl: to.histogram(
                "etcd_debugging_lease_ttl_total",
                "Seconds that leases were granted for.",
                (1.0, 24),
            )?,
            lease_expired: to.counter("etcd_debugging_server_lease_expired_total", "Leases that expired.")?,
            alarms: to.gauges(
                "etcd_debugging_server_alarms",
                "1 for each alarm that is on, by member id in hexadecimal and kind.",
                &["server_id", "alarm_type"],
            )?,
            known_peers: to.gauges(
                "etcd_network_known_peers",
                "1 for each member of the cluster, by the ids of this one and of that one in hexadecimal.",
                &["Local", "Remote"],
            )?,
            learners_promoted: to.counter(
                "etcd_server_learner_promote_successes",
                "Learners that got a vote from this member.",
            )?,
            learners_not_promoted: to.register(IntCounterVec::new(
                Opts::new("etcd_server_learner_promote_failures", "Learners that got none, by the reason."),
                &["Reason"],
            )?)?,
            registry: to,
        })
    }

    /// The alarms that are on, by member and kind, in place of those shown before.
    pub fn set_alarms(&self, alarms: impl IntoIterator<Item = (u64, String)>) {
        self.alarms.reset();
        for (member_id, kind) in alarms {
            self.alarms.with_label_values(&[&format!("{member_id:x}"), &kind]).set(1);
        }
    }

    /// The members there are, in place of those shown before.
    pub fn set_known_peers(&self, own: u64, members: impl IntoIterator<Item = u64>) {
        self.known_peers.reset();
        for id in members {
            self.known_peers.with_label_values(&[&format!("{own:x}"), &format!("{id:x}")]).set(1);
        }
    }

    /// A learner did not get a vote.
    pub fn learner_not_promoted(&self, reason: &str) {
        self.learners_not_promoted.with_label_values(&[reason]).inc();
    }

    /// A physical compaction ended now.
    pub fn compaction_ended(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.compaction_last.set(now as i64);
    }

    /// All series as they stand.
    pub fn gather(&self) -> Families {
        self.registry.gather()
    }
}
