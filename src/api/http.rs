//! The plain HTTP endpoints beside gRPC: health, version, metrics.
//!
//! Handlers take and give plain values; which HTTP version carries them is `net`'s business.

mod health;
mod query;
#[cfg(test)]
mod tests;

use super::{Api, CLUSTER_VERSION, Keyspace, SERVER_VERSION, STORAGE_VERSION, v3::maintenance::alarm_name};
use crate::{metrics::TEXT_CONTENT_TYPE, pb::etcdserverpb::AlarmType};

use query::Query;

const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// Which endpoints a listener offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// A client listener: everything, with CORS headers.
    Client,
    /// `--listen-metrics-urls`: metrics and health.
    Metrics,
}

/// What a handler needs of a request; none of them reads a body.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    pub path: &'a str,
    /// Without the question mark.
    pub query: Option<&'a str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: Vec<u8>,
}

impl Response {
    fn ok(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: vec![("content-type", content_type)], body: body.into() }
    }

    /// Like Go's `http.Error`.
    fn error(status: u16, text: impl Into<String>) -> Self {
        let mut body: String = text.into();
        body.push('\n');
        Self {
            status,
            headers: vec![("content-type", PLAIN), ("x-content-type-options", "nosniff")],
            body: body.into_bytes(),
        }
    }

    /// Like Go's `http.NotFound`.
    pub fn not_found() -> Self {
        Self::error(404, "404 page not found")
    }

    fn method_not_allowed() -> Self {
        let mut response = Self::error(405, "Method Not Allowed");
        response.headers.insert(0, ("allow", "GET"));
        response
    }
}

impl<K: Keyspace> Api<K> {
    pub async fn http(&self, surface: Surface, request: Request<'_>) -> Response {
        if surface == Surface::Metrics {
            return self.route(surface, request).await;
        }
        let mut response = match request.method {
            "OPTIONS" => Response { status: 200, headers: Vec::new(), body: Vec::new() },
            _ => self.route(surface, request).await,
        };
        response.headers.extend([
            ("access-control-allow-methods", "POST, GET, OPTIONS, PUT, DELETE"),
            ("access-control-allow-origin", "*"),
            ("access-control-allow-headers", "accept, content-type, authorization"),
        ]);
        response
    }

    async fn route(&self, surface: Surface, request: Request<'_>) -> Response {
        let query = Query::parse(request.query.unwrap_or(""));
        match request.path {
            "/metrics" => self.metrics_text(),
            "/version" if surface == Surface::Client => match request.method {
                "GET" => Response::ok(JSON, version()),
                _ => Response::method_not_allowed(),
            },
            "/health" => self.health(request.method, &query).await,
            path => match health::Check::of_path(path) {
                Some(checks) => self.run_checks(request.method, checks, &query).await,
                None => Response::not_found(),
            },
        }
    }

    /// Views of the shard's state are read now; the rest has been counted as it happened.
    fn metrics_text(&self) -> Response {
        let metrics = self.metrics();
        let status = self.keyspace().status();
        let (size, in_use) = Self::sizes(&status);
        let learns = status.members.iter().any(|member| member.id == status.member_id.0 && member.is_learner);
        metrics.has_leader.set(i64::from(status.leader.0 != 0));
        metrics.is_leader.set(i64::from(status.is_leader));
        metrics.is_learner.set(i64::from(learns));
        metrics.proposals_committed.set(status.committed.0 as i64);
        metrics.proposals_applied.set(status.applied.0 as i64);
        metrics.proposals_pending.set(status.pending as i64);
        metrics.keys_total.set(status.keys as i64);
        metrics.db_total_size.set(size as i64);
        metrics.db_total_size_in_use.set(in_use as i64);
        let alarms = self.keyspace().alarms().list(AlarmType::None as i32);
        metrics.set_alarms(alarms.iter().map(|alarm| (alarm.member_id, alarm_name(alarm.alarm))));
        metrics.current_revision.set(status.revision.0);
        metrics.compact_revision.set(if status.compact_revision.0 == 0 {
            -1
        } else {
            status.compact_revision.0
        });
        match metrics.text() {
            Ok(text) => Response::ok(TEXT_CONTENT_TYPE, text),
            Err(error) => Response::error(500, error.to_string()),
        }
    }
}

fn version() -> String {
    format!(
        r#"{{"etcdserver":"{SERVER_VERSION}","etcdcluster":"{CLUSTER_VERSION}","storage":"{STORAGE_VERSION}"}}"#
    )
}
