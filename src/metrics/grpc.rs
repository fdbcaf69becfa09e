//! `grpc_server_*`: the series of go-grpc-middleware's Prometheus provider, resolved per method; and
//! requests per version of the client.

use std::cell::RefCell;

use prometheus::{
    DEFAULT_BUCKETS, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};

/// gRPC status codes by number, spelled as grpc-go prints them.
pub const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

const LABELS: [&str; 3] = ["grpc_method", "grpc_service", "grpc_type"];

/// One method's series.
#[derive(Clone)]
pub struct Method {
    pub started: IntCounter,
    pub received: IntCounter,
    pub sent: IntCounter,
    handled: [IntCounter; CODES.len()],
    /// Only with `--metrics=extensive`.
    pub seconds: Option<Histogram>,
}

impl Method {
    /// Counts an answer by its gRPC code.
    pub fn handled(&self, code: usize) {
        assert!(code < CODES.len(), "gRPC code {code} is out of range");
        self.handled[code].inc();
    }
}

/// Makes the series of methods.
pub struct Grpc {
    started: IntCounterVec,
    received: IntCounterVec,
    sent: IntCounterVec,
    handled: IntCounterVec,
    seconds: Option<HistogramVec>,
}

impl Grpc {
    pub(super) fn new(registry: &Registry, extensive: bool) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let mut with_code = vec!["grpc_code"];
        with_code.extend(LABELS);
        let seconds = if extensive {
            let options = HistogramOpts::new(
                "grpc_server_handling_seconds",
                "Seconds until the server had answered an RPC.",
            )
            .buckets(DEFAULT_BUCKETS.to_vec());
            let seconds = HistogramVec::new(options, &LABELS)?;
            registry.register(Box::new(seconds.clone()))?;
            Some(seconds)
        } else {
            None
        };
        Ok(Self {
            started: counters("grpc_server_started_total", "RPCs begun.", &LABELS)?,
            received: counters("grpc_server_msg_received_total", "Messages received.", &LABELS)?,
            sent: counters("grpc_server_msg_sent_total", "Messages sent.", &LABELS)?,
            handled: counters("grpc_server_handled_total", "RPCs answered, by code.", &with_code)?,
            seconds,
        })
    }

    /// Resolves the series of one method; all of them exist from then on, at zero.
    ///
    /// `kind` is `unary`, `server_stream`, `client_stream` or `bidi_stream`.
    pub fn method(&self, service: &str, method: &str, kind: &str) -> Method {
        let labels = [method, service, kind];
        Method {
            started: self.started.with_label_values(&labels),
            received: self.received.with_label_values(&labels),
            sent: self.sent.with_label_values(&labels),
            handled: CODES.map(|code| self.handled.with_label_values(&[code, method, service, kind])),
            seconds: self.seconds.as_ref().map(|seconds| seconds.with_label_values(&labels)),
        }
    }
}

/// Versions of clients that get a series of their own; the label is chosen by whoever connects.
const CLIENT_VERSIONS_MAX: usize = 64;
const OTHER_VERSIONS: &str = "other";

/// `etcd_server_client_requests_total`.
pub struct ClientRequests {
    family: IntCounterVec,
    /// Versions seen, with their `unary` and `stream` requests.
    seen: RefCell<Vec<(String, [IntCounter; 2])>>,
}

impl ClientRequests {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let family = IntCounterVec::new(
            Opts::new("etcd_server_client_requests_total", "Requests by the version of the client."),
            &["type", "client_api_version"],
        )?;
        registry.register(Box::new(family.clone()))?;
        Ok(Self { family, seen: RefCell::default() })
    }

    pub fn count(&self, version: &str, stream: bool) {
        let mut seen = self.seen.borrow_mut();
        // One or two in practice.
        let known = seen.iter().find(|(known, _)| known == version);
        if let Some((_, counters)) = known {
            counters[usize::from(stream)].inc();
            return;
        }
        let full = seen.len() >= CLIENT_VERSIONS_MAX;
        let label = if full { OTHER_VERSIONS } else { version };
        let counters = ["unary", "stream"].map(|kind| self.family.with_label_values(&[kind, label]));
        counters[usize::from(stream)].inc();
        if !full {
            seen.push((label.to_owned(), counters));
        }
    }
}
