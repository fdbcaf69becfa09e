//! What operators see: etcd's metric names and bucket bounds, and the stage histograms that are ours.
//!
//! [`ShardMetrics`] are a shard's, [`Metrics`] those of the process and its connections. Each has a registry of its own,
//! which only its core writes to, and is made where the process or the shard is put together; a scrape gathers all of
//! them, and [`text`] makes one exposition. Every series is resolved when it is made, so a request pays one uncontended
//! atomic add per counter and never a label lookup. What is only a view of the shard's state (leader, revisions, sizes)
//! is set when somebody scrapes, not when it changes.
//!
//! This module knows names and values. Who counts what, and when, is the stages' business.

mod exposition;
mod grpc;
mod peer;
mod process;
mod register;
mod shard;
#[cfg(test)]
mod tests;
mod trips;

use std::rc::Rc;

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts};

use register::Register;

pub use exposition::{Families, TEXT_CONTENT_TYPE, text};
pub use grpc::{CODES, ClientRequests, Grpc, Method};
pub use peer::PeerMetrics;
pub use shard::ShardMetrics;
pub use trips::Trips;

/// Why the registry could not be built or written out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("metrics: {0}")]
    Registry(#[from] prometheus::Error),
}

/// The series of the process and its connections.
pub struct Metrics {
    pub health_success: IntCounter,
    pub health_failures: IntCounter,

    pub grpc_sent_bytes: IntCounter,
    pub grpc_received_bytes: IntCounter,
    pub grpc: Grpc,
    pub client_requests: ClientRequests,
    pub peers: Rc<PeerMetrics>,

    server_id: IntGaugeVec,
    cluster_version: IntGaugeVec,
    health_checks: IntCounterVec,
    health_check: IntGaugeVec,
    registry: Register,
}

/// What is chosen by flags.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `--metrics=extensive`: handling time per gRPC method too.
    pub extensive: bool,
    /// The etcd version reported by `etcd_server_version`.
    pub server_version: String,
    /// Feature gates with their stages, and whether they are on.
    pub features: Vec<(&'static str, &'static str, bool)>,
}

impl Metrics {
    pub fn new(options: &Options) -> Result<Self, Error> {
        let to = Register::default();
        let version =
            to.gauges("etcd_server_version", "1 for the version that is running.", &["server_version"])?;
        version.with_label_values(&[&options.server_version]).set(1);
        let features = to.gauges(
            "etcd_server_feature_enabled",
            "1 if a feature gate is on, else 0.",
            &["name", "stage"],
        )?;
        for (name, stage, is_enabled) in &options.features {
            features.with_label_values(&[*name, *stage]).set(i64::from(*is_enabled));
        }
        to.registry().register(Box::new(process::Process::new()?))?;
        Ok(Self {
            health_success: to.counter("etcd_server_health_success", "Health checks that passed.")?,
            health_failures: to.counter("etcd_server_health_failures", "Health checks that failed.")?,
            grpc_sent_bytes: to.counter(
                "etcd_network_client_grpc_sent_bytes_total",
                "Bytes of encoded messages sent to gRPC clients.",
            )?,
            grpc_received_bytes: to.counter(
                "etcd_network_client_grpc_received_bytes_total",
                "Bytes of encoded messages received from gRPC clients.",
            )?,
            grpc: Grpc::new(to.registry(), options.extensive)?,
            client_requests: ClientRequests::new(to.registry())?,
            peers: Rc::new(PeerMetrics::new(&to)?),
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
            health_checks: to.register(IntCounterVec::new(
                Opts::new("etcd_server_healthchecks_total", "Results of the single health checks."),
                &["type", "name", "status"],
            )?)?,
            health_check: to.gauges(
                "etcd_server_healthcheck",
                "1 if the check passed the last time it ran, else 0.",
                &["type", "name"],
            )?,
            registry: to,
        })
    }

    /// Tells who this member is. To be called once, when the ids are known.
    pub fn identify(&self, member_id: u64) {
        self.server_id.with_label_values(&[&format!("{member_id:x}")]).set(1);
    }

    /// Tells the version that the cluster has agreed on, without its patch level.
    pub fn show_cluster_version(&self, version: &str) {
        self.cluster_version.reset();
        self.cluster_version.with_label_values(&[version]).set(1);
    }

    /// Counts one run of a check behind `/livez` or `/readyz`.
    pub fn health_check(&self, kind: &str, name: &str, passed: bool) {
        let status = if passed { "success" } else { "error" };
        self.health_checks.with_label_values(&[kind, name, status]).inc();
        self.health_check.with_label_values(&[kind, name]).set(i64::from(passed));
    }

    /// What the process has counted so far.
    pub fn gather(&self) -> Families {
        self.registry.gather()
    }
}
