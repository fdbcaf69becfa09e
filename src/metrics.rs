//! What operators see: etcd's metric names and bucket bounds, and the stage histograms that are ours.
//!
//! Each core owns one [`Metrics`], made before the shard and handed out as `Rc<Metrics>`. Every series
//! is resolved when it is made, so a request pays one uncontended atomic add per counter and never a
//! label lookup. What is only a view of the shard's state (leader, revisions, sizes) is set when
//! somebody scrapes, not when it changes.
//!
//! This module knows names and values. Who counts what, and when, is the stages' business.

mod grpc;
mod process;
#[cfg(test)]
mod tests;

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    core::Collector, exponential_buckets,
};

pub use grpc::{CODES, ClientRequests, Grpc, Method};

/// Why the registry could not be built or written out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("metrics: {0}")]
    Registry(#[from] prometheus::Error),
}

/// Media type of [`Metrics::text`].
pub const TEXT_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One core's series.
pub struct Metrics {
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
    pub health_success: IntCounter,
    pub health_failures: IntCounter,
    pub slow_apply: IntCounter,
    pub slow_read_indexes: IntCounter,
    pub read_indexes_failed: IntCounter,
    pub quota_backend_bytes: IntGauge,

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
    pub compact_revision: IntGauge,
    /// One slice of physical compaction, in milliseconds.
    pub compaction_pause: Histogram,
    /// From the first slice to the last, in milliseconds.
    pub compaction_total: Histogram,
    /// Versions freed.
    pub compaction_keys: IntCounter,
    compaction_last: IntGauge,
    pub hash_seconds: Histogram,
    pub hash_rev_seconds: Histogram,
    pub defrag_seconds: Histogram,
    pub defrag_inflight: IntGauge,
    pub snapshot_seconds: Histogram,

    pub grpc_sent_bytes: IntCounter,
    pub grpc_received_bytes: IntCounter,
    pub grpc: Grpc,
    pub client_requests: ClientRequests,

    server_id: IntGaugeVec,
    cluster_version: IntGaugeVec,
    alarms: IntGaugeVec,
    health_checks: prometheus::IntCounterVec,
    health_check: IntGaugeVec,
    registry: Registry,
}

/// What is chosen by flags.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `--metrics=extensive`: handling time per gRPC method too.
    pub extensive: bool,
    /// The etcd version reported by `etcd_server_version`.
    pub server_version: String,
}

impl Metrics {
    pub fn new(options: &Options) -> Result<Self, Error> {
        let to = Register(Registry::new());
        let version =
            to.gauges("etcd_server_version", "1 for the version that is running.", &["server_version"])?;
        version.with_label_values(&[&options.server_version]).set(1);
        let stage = |name: &str| to.stage(name);
        to.0.register(Box::new(process::Process::new()?))?;
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
                "Seconds until one step of a snapshot was on stable storage.",
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
            health_success: to.counter("etcd_server_health_success", "Health checks that passed.")?,
            health_failures: to.counter("etcd_server_health_failures", "Health checks that failed.")?,
            slow_apply: to.counter(
                "etcd_server_slow_apply_total",
                "Requests that took longer to apply than the warning threshold.",
            )?,
            slow_read_indexes: to.counter(
                "etcd_server_slow_read_indexes_total",
                "Read index rounds that were late or timed out.",
            )?,
            read_indexes_failed: to
                .counter("etcd_server_read_indexes_failed_total", "Read index rounds that failed.")?,
            quota_backend_bytes: to
                .gauge("etcd_server_quota_backend_bytes", "Bytes the keyspace may occupy.")?,
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
            grpc_sent_bytes: to.counter(
                "etcd_network_client_grpc_sent_bytes_total",
                "Bytes of encoded messages sent to gRPC clients.",
            )?,
            grpc_received_bytes: to.counter(
                "etcd_network_client_grpc_received_bytes_total",
                "Bytes of encoded messages received from gRPC clients.",
            )?,
            grpc: Grpc::new(&to.0, options.extensive)?,
            client_requests: ClientRequests::new(&to.0)?,
            server_id: to.gauges(
                "etcd_server_id",
                "1 for this member's id in hexadecimal.",
                &["server_id"],
            )?,
            cluster_version: to.gauges(
                "etcd_cluster_version",
                "1 for the version the cluster has agreed on.",
                &["cluster_version"],
            )?,
            alarms: to.gauges(
                "etcd_debugging_server_alarms",
                "1 for each alarm that is on, by member id in hexadecimal and kind.",
                &["server_id", "alarm_type"],
            )?,
            health_checks: to.register(prometheus::IntCounterVec::new(
                Opts::new("etcd_server_healthchecks_total", "Results of the single health checks."),
                &["type", "name", "status"],
            )?)?,
            health_check: to.gauges(
                "etcd_server_healthcheck",
                "1 if the check passed the last time it ran, else 0.",
                &["type", "name"],
            )?,
            registry: to.0,
        })
    }

    /// Tells who this member is. To be called once, when the ids are known.
    pub fn identify(&self, member_id: u64, cluster_version: &str) {
        self.server_id.with_label_values(&[&format!("{member_id:x}")]).set(1);
        self.cluster_version.with_label_values(&[cluster_version]).set(1);
    }

    /// The alarms that are on, by member and kind, in place of those shown before.
    pub fn set_alarms(&self, alarms: impl IntoIterator<Item = (u64, String)>) {
        self.alarms.reset();
        for (member_id, kind) in alarms {
            self.alarms.with_label_values(&[&format!("{member_id:x}"), &kind]).set(1);
        }
    }

    /// A physical compaction ended now.
    pub fn compaction_ended(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.compaction_last.set(now as i64);
    }

    /// Counts one run of a check behind `/livez` or `/readyz`.
    pub fn health_check(&self, kind: &str, name: &str, passed: bool) {
        let status = if passed { "success" } else { "error" };
        self.health_checks.with_label_values(&[kind, name, status]).inc();
        self.health_check.with_label_values(&[kind, name]).set(i64::from(passed));
    }

    /// The exposition in Prometheus' text format.
    pub fn text(&self) -> Result<Vec<u8>, Error> {
        let mut text = Vec::with_capacity(64 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Makes and registers in one step.
struct Register(Registry);

impl Register {
    fn register<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C, prometheus::Error> {
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.register(IntCounter::new(name, help)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.register(IntGauge::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    /// etcd's bounds for the disk: 1 ms doubled up to 8.192 s.
    fn disk(&self, name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
        let buckets = exponential_buckets(0.001, 2.0, 14)?;
        self.register(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?)
    }

    /// `count` bounds, doubling from the first.
    fn histogram(
        &self,
        name: &str,
        help: &str,
        (first, count): (f64, usize),
    ) -> Result<Histogram, prometheus::Error> {
        let buckets = exponential_buckets(first, 2.0, count)?;
        self.register(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?)
    }

    /// 1 us to 8.4 s, doubling: the shortest stages are a few microseconds.
    fn stage(&self, stage: &str) -> Result<Histogram, prometheus::Error> {
        let buckets = exponential_buckets(1e-6, 2.0, 24)?;
        self.register(Histogram::with_opts(
            HistogramOpts::new(
                "pinion_stage_duration_seconds",
                "Seconds a batch of requests spent in a stage.",
            )
            .const_label("stage", stage)
            .buckets(buckets),
        )?)
    }
}
