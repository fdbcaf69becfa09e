//! Every flag the server knows: etcd v3.7's whole list and our own, one row each.
//!
//! The table is the only place that knows a name, a default or what is not built yet; command line,
//! environment and file all read it.

use super::value::Kind::{self, *};

/// What setting a flag does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The value takes effect.
    Built,
    /// Checked and without effect here, for the given reason. Nobody is worse off for it: what would leave a door open or
    /// promise what is not kept is not of this kind.
    Accepted(&'static str),
    /// Belongs to a part that is not built, and who sets it relies on it. The default is accepted, and so are the values
    /// that mean off.
    Roadmap { part: &'static str, off: &'static [&'static str] },
}

#[derive(Clone, Copy, Debug)]
pub struct Flag {
    pub name: &'static str,
    pub kind: Kind,
    /// As it would be written on the command line.
    pub default: &'static str,
    pub state: State,
    pub help: &'static str,
}

use State::{Accepted, Built};

const fn roadmap(part: &'static str) -> State {
    State::Roadmap { part, off: &[] }
}

const fn off(part: &'static str, off: &'static [&'static str]) -> State {
    State::Roadmap { part, off }
}

const fn f(name: &'static str, kind: Kind, default: &'static str, state: State, help: &'static str) -> Flag {
    Flag { name, kind, default, state, help }
}

const TLS: State = roadmap("TLS");
const DISCOVERY: State = roadmap("discovery");
const NO_TLS: State = Accepted("connections are not encrypted here yet, as with etcd's on http URLs");
const NO_DISCOVERY: State = Accepted("there is no discovery here yet");
const NO_TRACING: State = Accepted("no traces are sent yet");
const NO_BBOLT: State = Accepted("there is no bbolt database here");
const OWN_COMPACTION: State = Accepted("compaction paces itself here");

/// Rows by section, in the order of the help text.
pub const SECTIONS: [(&str, &[Flag]); 10] = [
    ("Member", MEMBER),
    ("Pinion", PINION),
    ("Clustering", CLUSTERING),
    ("Security", SECURITY),
    ("Auth", AUTHENTICATION),
    ("Profiling and Monitoring", MONITORING),
    ("Logging", LOGGING),
    ("Distributed tracing", DISTRIBUTED_TRACING),
    ("Features", FEATURES),
    ("Unsafe feature", UNSAFE),
];

const MEMBER: &[Flag] = &[
    f("name", Text, "default", Built, "Name of this member, for people."),
    f("data-dir", Text, "", Built, "Data directory; empty means NAME.etcd in the working directory."),
    f("wal-dir", Text, "", Built, "Directory for the log alone, for example on its own disk."),
    f("snapshot-count", Uint, "10000", Built, "Applied entries between two checkpoints, at most."),
    f("heartbeat-interval", Uint, "100", Built, "Milliseconds between two heartbeats."),
    f("election-timeout", Uint, "1000", Built, "Milliseconds without a leader before an election."),
    f("initial-election-tick-advance", Bool, "true", Built, "Shorten the first election after a start."),
    f("listen-peer-urls", Urls, "http://localhost:2380", Built, "URLs to listen on for other members."),
    f(
        "listen-client-urls",
        Urls,
        "http://localhost:2379",
        Built,
        "URLs to listen on for clients, gRPC and HTTP.",
    ),
    f(
        "listen-client-http-urls",
        Urls,
        "",
        Built,
        "URLs for HTTP only; takes HTTP away from listen-client-urls.",
    ),
    f(
        "max-snapshots",
        Uint,
        "5",
        Accepted("checkpoints are kept by need here"),
        "Snapshot files to keep. Deprecated.",
    ),
    f("max-wals", Uint, "5", Accepted("log segments are recycled here"), "Log files to keep."),
    f(
        "memory-mlock",
        Bool,
        "false",
        Accepted("memory is not locked yet; a machine without swap, or MemorySwapMax=0, keeps it in memory"),
        "Keep the process in memory.",
    ),
    f(
        "quota-backend-bytes",
        Int,
        "0",
        Built,
        "Bytes the store may grow to before it turns read-only; negative means no quota.",
    ),
    f("backend-bbolt-freelist-type", Text, "", NO_BBOLT, "Free list of etcd's database file."),
    f("backend-batch-interval", Duration, "0s", NO_BBOLT, "Time between commits of etcd's database file."),
    f("backend-batch-limit", Int, "0", NO_BBOLT, "Operations between commits of etcd's database file."),
    f("max-txn-ops", Uint, "128", Built, "Operations allowed in one transaction."),
    f("max-request-bytes", Uint, "1572864", Built, "Largest request a client may send."),
    f("max-concurrent-streams", Uint32, "4294967295", Built, "Streams a client connection may have open."),
    f(
        "grpc-keepalive-min-time",
        Duration,
        "5s",
        Built,
        "Shortest time allowed between two pings of a client.",
    ),
    f(
        "grpc-keepalive-interval",
        Duration,
        "2h",
        Built,
        "Time between pings to a silent client; 0 means none.",
    ),
    f("grpc-keepalive-timeout", Duration, "20s", Built, "Time a client has to answer such a ping."),
    f("socket-reuse-port", Bool, "false", Built, "Set SO_REUSEPORT on listeners."),
    f("socket-reuse-address", Bool, "false", Built, "Set SO_REUSEADDR on listeners."),
    f(
        "enable-grpc-gateway",
        Bool,
        "true",
        Accepted("the JSON gateway is on the roadmap"),
        "Serve the JSON form of the API under /v3/.",
    ),
    f("raft-read-timeout", Duration, "5s", Built, "Read timeout of connections between members."),
    f("raft-write-timeout", Duration, "5s", Built, "Write timeout of connections between members."),
    // Its values have their own rules: see `gates`.
    f("feature-gates", Gates, "", Built, "Feature gates to set, as name=bool."),
];

const PINION: &[Flag] = &[
    f("cores", Set, "", Built, "CPU cores to serve from; empty chooses one."),
    f("wal-sector-size", Uint, "0", Built, "Unit of the log's writes in bytes; 0 asks the device."),
    f(
        "wal-segment-bytes",
        Uint,
        "33554432",
        Built,
        "Size of one log segment. Left out, it grows with max-request-bytes.",
    ),
    f(
        "snapshot-write-mbps",
        Uint,
        "100",
        Built,
        "Megabytes per second a checkpoint is written with at most; 0 means as fast as the disk takes them.",
    ),
];

const CLUSTERING: &[Flag] = &[
    f(
        "initial-advertise-peer-urls",
        Urls,
        "http://localhost:2380",
        Built,
        "This member's peer URLs as other members see them.",
    ),
    f("initial-cluster", Text, "default=http://localhost:2380", Built, "Members at the start, as name=URL."),
    f("initial-cluster-state", Choice(&["new", "existing"]), "new", Built, "Start a cluster or join one."),
    f("initial-cluster-token", Text, "etcd-cluster", Built, "Text that sets this cluster's ids apart."),
    f(
        "advertise-client-urls",
        Urls,
        "http://localhost:2379",
        Built,
        "Client URLs as other machines see them.",
    ),
    f("discovery", Text, "", DISCOVERY, "URL of a v2 discovery service."),
    f("discovery-token", Text, "", DISCOVERY, "Token of the cluster to discover."),
    f("discovery-endpoints", Set, "", DISCOVERY, "Endpoints of the discovery service."),
    f("discovery-dial-timeout", Duration, "2s", NO_DISCOVERY, "Dial timeout of discovery."),
    f("discovery-request-timeout", Duration, "5s", NO_DISCOVERY, "Request timeout of discovery."),
    f(
        "discovery-keepalive-time",
        Duration,
        "2s",
        NO_DISCOVERY,
        "Time between pings to the discovery service.",
    ),
    f("discovery-keepalive-timeout", Duration, "6s", NO_DISCOVERY, "Time it has to answer such a ping."),
    f(
        "discovery-insecure-transport",
        Bool,
        "true",
        NO_DISCOVERY,
        "Speak to the discovery service without TLS.",
    ),
    f(
        "discovery-insecure-skip-tls-verify",
        Bool,
        "false",
        NO_DISCOVERY,
        "Skip the check of its certificate.",
    ),
    f("discovery-cert", Text, "", NO_DISCOVERY, "Client certificate for discovery."),
    f("discovery-key", Text, "", NO_DISCOVERY, "Client key for discovery."),
    f("discovery-cacert", Text, "", NO_DISCOVERY, "CA bundle for discovery."),
    f("discovery-user", Text, "", NO_DISCOVERY, "User for discovery, as name[:password]."),
    f("discovery-password", Text, "", NO_DISCOVERY, "Password for discovery."),
    f(
        "discovery-fallback",
        Choice(&["exit", "proxy"]),
        "exit",
        Built,
        "What to do if discovery fails: exit.",
    ),
    f("discovery-proxy", Text, "", NO_DISCOVERY, "HTTP proxy for v2 discovery."),
    f("discovery-srv", Text, "", DISCOVERY, "DNS domain whose SRV records name the members."),
    f("discovery-srv-name", Text, "", DISCOVERY, "Suffix of the SRV name."),
    f("strict-reconfig-check", Bool, "true", Built, "Refuse membership changes that would lose the quorum."),
    f("pre-vote", Bool, "true", Built, "Ask before an election whether it could be won."),
    f(
        "auto-compaction-retention",
        Text,
        "0",
        Built,
        "History that automatic compaction keeps; 0 means no compaction.",
    ),
    f(
        "auto-compaction-mode",
        Text,
        "periodic",
        Built,
        "Unit of auto-compaction-retention: periodic or revision.",
    ),
    f("enable-v2", Bool, "false", Built, "Serve the v2 API."),
    f("proxy", Choice(&["off", "readonly", "on"]), "off", roadmap("the v2 proxy"), "Run as a v2 proxy."),
    f(
        "v2-deprecation",
        Choices(&["gone", "not-yet", "write-only", "write-only-drop-data", "write-only-skip-check"]),
        "",
        Accepted("as in etcd, the value is ignored"),
        "Stage of v2's retirement. Deprecated.",
    ),
];

const SECURITY: &[Flag] = &[
    f("cert-file", Text, "", TLS, "Certificate shown to clients."),
    f("key-file", Text, "", TLS, "Its key."),
    f("client-cert-auth", Bool, "false", NO_TLS, "Ask clients for a certificate."),
    f("client-cert-file", Text, "", TLS, "Certificate for connections this member opens."),
    f("client-key-file", Text, "", TLS, "Its key."),
    f("client-crl-file", Text, "", TLS, "Revoked client certificates."),
    f("client-cert-allowed-hostname", List, "", NO_TLS, "Names a client certificate may carry."),
    f("trusted-ca-file", Text, "", TLS, "CA that signs client certificates."),
    f("auto-tls", Bool, "false", TLS, "Client TLS with a generated certificate."),
    f("peer-cert-file", Text, "", TLS, "Certificate shown to other members."),
    f("peer-key-file", Text, "", TLS, "Its key."),
    f("peer-client-cert-auth", Bool, "false", NO_TLS, "Ask other members for a certificate."),
    f("peer-client-cert-file", Text, "", TLS, "Certificate for connections to other members."),
    f("peer-client-key-file", Text, "", TLS, "Its key."),
    f("peer-trusted-ca-file", Text, "", TLS, "CA that signs members' certificates."),
    f("peer-cert-allowed-cn", List, "", NO_TLS, "Common names a member's certificate may carry."),
    f("peer-cert-allowed-hostname", List, "", NO_TLS, "Names a member's certificate may carry."),
    f("peer-auto-tls", Bool, "false", TLS, "Peer TLS with a generated certificate."),
    f("peer-crl-file", Text, "", TLS, "Revoked members' certificates."),
    f(
        "peer-skip-client-san-verification",
        Bool,
        "false",
        NO_TLS,
        "Do not check the names in members' certificates.",
    ),
    f("self-signed-cert-validity", Uint, "1", NO_TLS, "Years a generated certificate is valid."),
    f("cipher-suites", List, "", NO_TLS, "Cipher suites to offer."),
    f("tls-min-version", Text, "TLS1.2", NO_TLS, "Lowest TLS version: TLS1.2 or TLS1.3."),
    f("tls-max-version", Text, "", NO_TLS, "Highest TLS version: TLS1.2 or TLS1.3."),
    f("cors", UrlsOr("*"), "*", off("cross-origin rules", &[""]), "Origins browsers may call from."),
    f("host-whitelist", Set, "*", off("the host whitelist", &[""]), "Host names HTTP requests may carry."),
];

const AUTHENTICATION: &[Flag] = &[
    f("auth-token", Text, "simple", Built, "Kind of token: simple or jwt with its options."),
    f("bcrypt-cost", Uint, "10", Built, "Cost of hashing a password."),
    f("auth-token-ttl", Uint, "300", Built, "Seconds a simple token lives without use."),
];

const MONITORING: &[Flag] = &[
    f(
        "enable-pprof",
        Bool,
        "false",
        Accepted("profiles are not served; perf shows what the process does"),
        "Serve profiles under /debug/pprof/.",
    ),
    f("metrics", Text, "basic", Built, "Detail of the metrics: basic or extensive."),
    f("listen-metrics-urls", Urls, "", Built, "URLs for /metrics and /health alone."),
];

const LOGGING: &[Flag] = &[
    f("logger", Text, "zap", Built, "Shape of the log: zap."),
    f("log-outputs", Set, "default", Built, "stderr, stdout or file paths; default is stderr."),
    f("log-level", Text, "info", Built, "debug, info, warn, error, panic or fatal."),
    f("log-format", Text, "json", Built, "json or console."),
    f("enable-log-rotation", Bool, "false", roadmap("log rotation"), "Rotate a log file."),
    f(
        "log-rotation-config-json",
        Text,
        r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#,
        Accepted("log rotation is on the roadmap"),
        "When to rotate a log file.",
    ),
    f("warning-unary-request-duration", Duration, "300ms", Built, "Requests that take longer are logged."),
];

const DISTRIBUTED_TRACING: &[Flag] = &[
    f("enable-distributed-tracing", Bool, "false", NO_TRACING, "Send traces to a collector."),
    f("distributed-tracing-address", Text, "localhost:4317", NO_TRACING, "Address of the collector."),
    f("distributed-tracing-service-name", Text, "etcd", NO_TRACING, "Service name in traces."),
    f("distributed-tracing-instance-id", Text, "", NO_TRACING, "Instance id in traces."),
    f("distributed-tracing-sampling-rate", Int, "0", NO_TRACING, "Samples per million spans."),
];

const FEATURES: &[Flag] = &[
    f("corrupt-check-time", Duration, "0s", Built, "Time between checks for corruption; 0 means none."),
    f("compact-hash-check-time", Duration, "1m", Built, "Time between comparisons of compaction hashes."),
    f("compaction-batch-limit", Int, "0", OWN_COMPACTION, "Revisions deleted in one step of a compaction."),
    f("compaction-sleep-interval", Duration, "0s", OWN_COMPACTION, "Pause between two steps."),
    f(
        "watch-progress-notify-interval",
        Duration,
        "0s",
        Built,
        "Time between notices to watches that want to hear that they missed nothing; 0 means 10m.",
    ),
    f("warning-apply-duration", Duration, "100ms", Built, "Applies that take longer are logged."),
    f(
        "bootstrap-defrag-threshold-megabytes",
        Uint,
        "0",
        Accepted("compaction gives space back as it goes here"),
        "Space to gain before a start defragments.",
    ),
    f("max-learners", Int, "1", Built, "Learners a cluster may have."),
    f("downgrade-check-time", Duration, "5s", Built, "Time between checks of a downgrade."),
    f("snapshot-catchup-entries", Uint, "5000", Built, "Entries kept for slow followers after a checkpoint."),
];

const UNSAFE: &[Flag] = &[
    f("force-new-cluster", Bool, "false", Built, "Make a one-member cluster out of this member's data."),
    f(
        "unsafe-no-fsync",
        Bool,
        "false",
        Built,
        "Do not wait for the disk. A crash loses acknowledged writes.",
    ),
];

/// Flags with a meaning before the others are read; the file and the environment cannot set them,
/// save for `ETCD_CONFIG_FILE`.
pub const SPECIAL: &[Flag] = &[
    f("config-file", Text, "", Built, "YAML file to read; other flags and the environment are then ignored."),
    f("version", Bool, "false", Built, "Print the version and exit."),
];

/// Names from before etcd 3: taken and ignored, as etcd does.
pub const IGNORED: [&str; 13] = [
    "cluster-active-size",
    "cluster-remove-delay",
    "cluster-sync-interval",
    "config",
    "force",
    "max-result-buffer",
    "max-retry-attempts",
    "peer-heartbeat-interval",
    "peer-election-timeout",
    "retry-interval",
    "snapshot",
    "v",
    "vv",
];

/// What an `--experimental-` spelling of etcd 3.4 to 3.6 is called today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renamed {
    Flag(&'static str),
    Gate(&'static str),
}

const EXPERIMENTAL: &str = "experimental-";
const EXPERIMENTAL_FLAGS: [&str; 19] = [
    "backend-bbolt-freelist-type",
    "bootstrap-defrag-threshold-megabytes",
    "compact-hash-check-time",
    "compaction-batch-limit",
    "compaction-sleep-interval",
    "corrupt-check-time",
    "distributed-tracing-address",
    "distributed-tracing-instance-id",
    "distributed-tracing-sampling-rate",
    "distributed-tracing-service-name",
    "downgrade-check-time",
    "enable-distributed-tracing",
    "max-learners",
    "memory-mlock",
    "peer-skip-client-san-verification",
    "snapshot-catchup-entries",
    "warning-apply-duration",
    "warning-unary-request-duration",
    "watch-progress-notify-interval",
];
const EXPERIMENTAL_GATES: [(&str, &str); 7] = [
    ("compact-hash-check-enabled", "CompactHashCheck"),
    ("enable-lease-checkpoint", "LeaseCheckpoint"),
    ("enable-lease-checkpoint-persist", "LeaseCheckpointPersist"),
    ("initial-corrupt-check", "InitialCorruptCheck"),
    ("set-member-localaddr", "SetMemberLocalAddr"),
    ("stop-grpc-service-on-defrag", "StopGRPCServiceOnDefrag"),
    ("txn-mode-write-with-shared-buffer", "TxnModeWriteWithSharedBuffer"),
];

pub fn renamed(name: &str) -> Option<Renamed> {
    let name = name.strip_prefix(EXPERIMENTAL)?;
    let flag = EXPERIMENTAL_FLAGS.iter().find(|flag| **flag == name).map(|flag| Renamed::Flag(flag));
    flag.or_else(|| EXPERIMENTAL_GATES.iter().find(|gate| gate.0 == name).map(|gate| Renamed::Gate(gate.1)))
}

/// Every row that holds a setting.
pub fn all() -> impl Iterator<Item = &'static Flag> {
    SECTIONS.iter().flat_map(|(_, flags)| flags.iter())
}

pub fn find(name: &str) -> Option<&'static Flag> {
    all().find(|flag| flag.name == name)
}

/// `some-flag` as an environment variable: `ETCD_SOME_FLAG`.
pub fn variable(name: &str) -> String {
    format!("ETCD_{}", name.to_uppercase().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_unique_and_their_defaults_parse() {
        let mut names: Vec<_> = all().map(|flag| flag.name).chain(IGNORED).collect();
        names.extend(SPECIAL.iter().map(|flag| flag.name));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "a flag is listed twice");
        for flag in all() {
            let value = match flag.default {
                "" if matches!(flag.kind, Choices(_)) => continue,
                text => flag.kind.parse(text),
            };
            assert!(value.is_ok(), "default of --{}: {value:?}", flag.name);
            if let State::Roadmap { off, .. } = flag.state {
                for text in off {
                    assert!(flag.kind.parse(text).is_ok(), "--{}={text}", flag.name);
                }
            }
        }
    }

    #[test]
    fn experimental_names_lead_to_rows() {
        for name in EXPERIMENTAL_FLAGS {
            assert!(find(name).is_some(), "{name}");
        }
        for (_, gate) in EXPERIMENTAL_GATES {
            assert!(super::super::gates::is_known(gate), "{gate}");
        }
        assert_eq!(renamed("experimental-max-learners"), Some(Renamed::Flag("max-learners")));
        assert_eq!(renamed("max-learners"), None);
    }
}
