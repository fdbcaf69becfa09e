//! The series of what members send each other (etcd v3.7 `rafthttp/metrics.go`).
//!
//! One value for each of the other members, by its id in hexadecimal; what is no longer a member is no longer shown as
//! active.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, exponential_buckets,
};

use super::{Error, Trips, register::Register};
use crate::types::MemberId;

pub struct PeerMetrics {
    active: IntGaugeVec,
    disconnected: IntCounterVec,
    sent_bytes: IntCounterVec,
    received_bytes: IntCounterVec,
    sent_failures: IntCounterVec,
    received_failures: IntCounterVec,
    round_trip_seconds: HistogramVec,
    checkpoints_sent: IntCounterVec,
    checkpoints_sending: IntGaugeVec,
    checkpoints_not_sent: IntCounterVec,
    checkpoint_send_seconds: HistogramVec,
    checkpoints_received: IntCounterVec,
    checkpoints_receiving: IntGaugeVec,
    checkpoints_not_received: IntCounterVec,
    checkpoint_receive_seconds: HistogramVec,
    trips: RefCell<BTreeMap<MemberId, Trips>>,
}

impl PeerMetrics {
    pub(super) fn new(to: &Register) -> Result<Self, Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            to.register(IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let histogram = |name: &str, help: &str, label: &str, (first, count): (f64, usize)| {
            let buckets = exponential_buckets(first, 2.0, count)?;
            to.register(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), &[label])?)
        };
        Ok(Self {
            active: to.gauges(
                "etcd_network_active_peers",
                "1 while there is a link from this member to that one.",
                &["Local", "Remote"],
            )?,
            disconnected: counter(
                "etcd_network_disconnected_peers_total",
                "Links to another member that were lost.",
                &["Local", "Remote"],
            )?,
            sent_bytes: counter("etcd_network_peer_sent_bytes_total", "Bytes sent to a member.", &["To"])?,
            received_bytes: counter(
                "etcd_network_peer_received_bytes_total",
                "Bytes received from a member.",
                &["From"],
            )?,
            sent_failures: counter(
                "etcd_network_peer_sent_failures_total",
                "Messages for a member that were dropped.",
                &["To"],
            )?,
            received_failures: counter(
                "etcd_network_peer_received_failures_total",
                "Connections of a member that made no sense, or came to nothing.",
                &["From"],
            )?,
            round_trip_seconds: histogram(
                "etcd_network_peer_round_trip_time_seconds",
                "Seconds until a probe came back from a member.",
                "To",
                (0.0001, 16),
            )?,
            checkpoints_sent: counter(
                "etcd_network_snapshot_send_success",
                "Checkpoints that a member has in place.",
                &["To"],
            )?,
            checkpoints_sending: to.gauges(
                "etcd_network_snapshot_send_inflights_total",
                "Checkpoints on their way to a member.",
                &["To"],
            )?,
            checkpoints_not_sent: counter(
                "etcd_network_snapshot_send_failures",
                "Checkpoints that a member did not get or take.",
                &["To"],
            )?,
            checkpoint_send_seconds: histogram(
                "etcd_network_snapshot_send_total_duration_seconds",
                "Seconds until a checkpoint was in place.",
                "To",
                (0.1, 10),
            )?,
            checkpoints_received: counter(
                "etcd_network_snapshot_receive_success",
                "Checkpoints of a member that are in place.",
                &["From"],
            )?,
            checkpoints_receiving: to.gauges(
                "etcd_network_snapshot_receive_inflights_total",
                "Checkpoints on their way from a member.",
                &["From"],
            )?,
            checkpoints_not_received: counter(
                "etcd_network_snapshot_receive_failures",
                "Checkpoints of a member that did not come or were not taken.",
                &["From"],
            )?,
            checkpoint_receive_seconds: histogram(
                "etcd_network_snapshot_receive_total_duration_seconds",
                "Seconds until a checkpoint was in place here.",
                "From",
                (0.1, 10),
            )?,
            trips: RefCell::default(),
        })
    }

    /// There is a link to a member.
    pub fn activated(&self, own: MemberId, to: MemberId) {
        self.active.with_label_values(&[&hex(own), &hex(to)]).set(1);
    }

    /// It was lost.
    pub fn deactivated(&self, own: MemberId, to: MemberId) {
        self.active.with_label_values(&[&hex(own), &hex(to)]).set(0);
        self.disconnected.with_label_values(&[&hex(own), &hex(to)]).inc();
    }

    /// Nothing more is said of a member that was not known, and did not come back: others like it may come for ever.
    pub fn forget(&self, own: MemberId, guest: MemberId) {
        let (own, guest) = (hex(own), hex(guest));
        // Most of them have had no value for it.
        drop(self.active.remove_label_values(&[&own, &guest]));
        drop(self.disconnected.remove_label_values(&[&own, &guest]));
        for counters in [&self.sent_bytes, &self.received_bytes, &self.sent_failures, &self.received_failures]
        {
            drop(counters.remove_label_values(&[&guest]));
        }
        drop(self.round_trip_seconds.remove_label_values(&[&guest]));
    }

    /// What goes to a member and comes from it.
    pub fn bytes(&self, member: MemberId) -> (IntCounter, IntCounter) {
        let of = |counters: &IntCounterVec| counters.with_label_values(&[&hex(member)]);
        (of(&self.sent_bytes), of(&self.received_bytes))
    }

    pub fn sent_failed(&self, to: MemberId) {
        self.sent_failures.with_label_values(&[&hex(to)]).inc();
        self.trips.borrow_mut().entry(to).or_default().failed += 1;
    }

    /// A connection made no sense, or a frame found no room; of whom, if that is known.
    pub fn receive_failed(&self, from: Option<MemberId>) {
        let from = from.map_or_else(|| "unknown".to_owned(), hex);
        self.received_failures.with_label_values(&[&from]).inc();
    }

    pub fn round_trip(&self, to: MemberId, took: Duration) {
        self.round_trip_seconds.with_label_values(&[&hex(to)]).observe(took.as_secs_f64());
        self.trips.borrow_mut().entry(to).or_default().took(took);
    }

    /// How long those took so far.
    pub fn trips(&self, to: MemberId) -> Trips {
        self.trips.borrow().get(&to).copied().unwrap_or_default()
    }

    /// So many more are on their way.
    pub fn checkpoint_sending(&self, to: MemberId, more: i64) {
        self.checkpoints_sending.with_label_values(&[&hex(to)]).add(more);
    }

    /// How long it took; none if it failed.
    pub fn checkpoint_sent(&self, to: MemberId, took: Option<Duration>) {
        match took {
            Some(took) => {
                self.checkpoints_sent.with_label_values(&[&hex(to)]).inc();
                self.checkpoint_send_seconds.with_label_values(&[&hex(to)]).observe(took.as_secs_f64());
            }
            None => self.checkpoints_not_sent.with_label_values(&[&hex(to)]).inc(),
        }
    }

    /// So many more are on their way.
    pub fn checkpoint_receiving(&self, from: MemberId, more: i64) {
        self.checkpoints_receiving.with_label_values(&[&hex(from)]).add(more);
    }

    /// How long it took; none if it failed.
    pub fn checkpoint_received(&self, from: MemberId, took: Option<Duration>) {
        match took {
            Some(took) => {
                self.checkpoints_received.with_label_values(&[&hex(from)]).inc();
                self.checkpoint_receive_seconds.with_label_values(&[&hex(from)]).observe(took.as_secs_f64());
            }
            None => self.checkpoints_not_received.with_label_values(&[&hex(from)]).inc(),
        }
    }
}

fn hex(id: MemberId) -> String {
    format!("{:x}", id.0)
}
