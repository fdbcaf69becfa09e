//! Command lines, variables and files as projects in the open carry them: each starts, or is refused for a reason.

use super::*;

const SAMPLE: &str = include_str!("etcd.conf.yml");

enum Outcome {
    /// With these flags said to be without effect, in the order they are said.
    Starts(&'static [&'static str]),
    /// With a message that has this part.
    Refused(&'static str),
}
use Outcome::{Refused, Starts};

/// Where it is from, the arguments, the variables.
type Pattern = (&'static str, &'static [&'static str], &'static [(&'static str, &'static str)], Outcome);

/// `kubeadm`'s static pod without its certificates.
const KUBEADM: &[&str] = &[
    "--advertise-client-urls=https://10.10.100.30:2379",
    "--client-cert-auth=true",
    "--data-dir=/var/lib/etcd",
    "--experimental-initial-corrupt-check=true",
    "--experimental-watch-progress-notify-interval=5s",
    "--initial-advertise-peer-urls=https://10.10.100.30:2380",
    "--initial-cluster=master=https://10.10.100.30:2380",
    "--listen-client-urls=http://127.0.0.1:2379",
    "--listen-metrics-urls=http://127.0.0.1:2381",
    "--listen-peer-urls=http://10.10.100.30:2380",
    "--name=master",
    "--peer-client-cert-auth=true",
    "--snapshot-count=10000",
];

const PATTERNS: &[Pattern] = &[
    (
        "kubeadm",
        &[
            "--advertise-client-urls=https://10.10.100.30:2379",
            "--cert-file=/etc/kubernetes/pki/etcd/server.crt",
            "--client-cert-auth=true",
            "--key-file=/etc/kubernetes/pki/etcd/server.key",
            "--listen-client-urls=https://127.0.0.1:2379,https://10.10.100.30:2379",
        ],
        &[],
        Refused("--cert-file belongs to TLS, which is not built yet"),
    ),
    (
        "kubeadm behind a proxy that ends TLS",
        KUBEADM,
        &[],
        Starts(&["client-cert-auth", "peer-client-cert-auth"]),
    ),
    (
        "kubeadm of Kubernetes 1.33, feature gates",
        &[
            "--feature-gates=InitialCorruptCheck=true,CompactHashCheck=true",
            "--watch-progress-notify-interval=5s",
            "--listen-client-http-urls=http://127.0.0.1:2382",
        ],
        &[],
        Starts(&[]),
    ),
    (
        "KubeOne",
        &[
            "--experimental-compact-hash-check-enabled=true",
            "--experimental-initial-corrupt-check=true",
            "--experimental-corrupt-check-time=240m",
            "--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        ],
        &[],
        Starts(&["cipher-suites"]),
    ),
    (
        "an OpenShift control plane's variables",
        &["--logger=zap", "--log-level=info", "--snapshot-count=10000", "--metrics=extensive"],
        &[
            ("ETCD_CIPHER_SUITES", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
            ("ETCD_DATA_DIR", "/var/lib/etcd"),
            ("ETCD_ELECTION_TIMEOUT", "1000"),
            ("ETCD_ENABLE_PPROF", "true"),
            ("ETCD_EXPERIMENTAL_MAX_LEARNERS", "3"),
            ("ETCD_EXPERIMENTAL_WARNING_APPLY_DURATION", "200ms"),
            ("ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL", "5s"),
            ("ETCD_HEARTBEAT_INTERVAL", "100"),
            ("ETCD_IMAGE", ""),
            ("ETCD_INITIAL_CLUSTER_STATE", "existing"),
            ("ETCD_QUOTA_BACKEND_BYTES", "8589934592"),
            ("ETCD_SOCKET_REUSE_ADDRESS", "true"),
        ],
        Starts(&["cipher-suites", "enable-pprof"]),
    ),
    (
        "an etcd on a tmpfs",
        &[],
        &[
            ("ETCD_AUTO_COMPACTION_MODE", "periodic"),
            ("ETCD_AUTO_COMPACTION_RETENTION", "5m"),
            ("ETCD_BACKEND_BBOLT_FREELIST_TYPE", "map"),
            ("ETCD_EXPERIMENTAL_ENABLE_LEASE_CHECKPOINT", "true"),
            ("ETCD_EXPERIMENTAL_ENABLE_LEASE_CHECKPOINT_PERSIST", "true"),
            ("ETCD_INITIAL_CLUSTER_TOKEN", "etcd_tmpfs"),
            ("ETCD_BACKEND_BATCH_INTERVAL", "50ms"),
        ],
        Starts(&["backend-bbolt-freelist-type", "backend-batch-interval"]),
    ),
    (
        "kops, etcd-manager",
        &[],
        &[
            ("ETCD_DATA_DIR", "/rootfs/mnt/master/data/x"),
            ("ETCD_ENABLE_V2", "false"),
            ("ETCD_LISTEN_PEER_URLS", "http://0.0.0.0:2380"),
            ("ETCD_LISTEN_CLIENT_URLS", "http://0.0.0.0:4001"),
            ("ETCD_ADVERTISE_CLIENT_URLS", "http://etcd-a.internal.example:4001"),
            ("ETCD_INITIAL_ADVERTISE_PEER_URLS", "http://etcd-a.internal.example:2380"),
            ("ETCD_INITIAL_CLUSTER", "etcd-a=http://etcd-a.internal.example:2380"),
            ("ETCD_NAME", "etcd-a"),
            ("ETCD_STRICT_RECONFIG_CHECK", "true"),
        ],
        Starts(&[]),
    ),
    (
        "kubespray",
        &[],
        &[
            ("ETCD_METRICS", "basic"),
            ("ETCD_LISTEN_CLIENT_URLS", "http://10.0.0.1:2379,http://127.0.0.1:2379"),
            ("ETCD_ADVERTISE_CLIENT_URLS", "https://10.0.0.1:2379"),
            ("ETCD_ELECTION_TIMEOUT", "5000"),
            ("ETCD_HEARTBEAT_INTERVAL", "250"),
            ("ETCD_AUTO_COMPACTION_RETENTION", "8"),
            ("ETCD_PROXY", "off"),
            ("ETCD_ENABLE_V2", "true"),
            ("ETCD_SNAPSHOT_COUNT", "100000"),
            ("ETCD_MAX_SNAPSHOTS", "5"),
            ("ETCD_MAX_WALS", "5"),
            ("ETCD_EXPERIMENTAL_ENABLE_DISTRIBUTED_TRACING", "false"),
            ("ETCD_CLIENT_CERT_AUTH", "true"),
            ("ETCD_PEER_AUTO_TLS", "false"),
            ("ETCD_UNSUPPORTED_ARCH", "arm64"),
        ],
        Starts(&["client-cert-auth"]),
    ),
    (
        "Bitnami's image",
        &[],
        &[
            ("ALLOW_NONE_AUTHENTICATION", "yes"),
            ("ETCDCTL_API", "3"),
            ("ETCD_ROOT_PASSWORD", "x"),
            ("ETCD_ON_K8S", "yes"),
            ("ETCD_NAME", "etcd-0"),
            ("ETCD_DATA_DIR", "/bitnami/etcd/data"),
            ("ETCD_LOG_LEVEL", "info"),
            ("ETCD_AUTO_TLS", "false"),
            ("ETCD_CLIENT_CERT_AUTH", "false"),
            ("ETCD_AUTH_TOKEN", "simple"),
            ("ETCD_LISTEN_CLIENT_URLS", "http://0.0.0.0:2379"),
            (
                "ETCD_ADVERTISE_CLIENT_URLS",
                "http://etcd-0.etcd-headless.ns.svc.cluster.local:2379,http://etcd:2379",
            ),
            ("ETCD_INITIAL_ADVERTISE_PEER_URLS", "http://etcd-0.etcd-headless.ns.svc.cluster.local:2380"),
            ("ETCD_LISTEN_PEER_URLS", "http://0.0.0.0:2380"),
            // What Kubernetes sets for a service of that name.
            ("ETCD_PORT", "tcp://10.96.0.7:2379"),
            ("ETCD_SERVICE_HOST", "10.96.0.7"),
        ],
        Starts(&[]),
    ),
    (
        "Bitnami's chart asks for tokens",
        &[],
        &[(
            "ETCD_AUTH_TOKEN",
            "jwt,priv-key=/opt/bitnami/etcd/certs/token/jwt-token.pem,sign-method=RS256,ttl=10m",
        )],
        Starts(&[]),
    ),
    (
        "a compose file that only listens",
        &[],
        &[("ETCD_LISTEN_CLIENT_URLS", "http://0.0.0.0:2379,http://0.0.0.0:4001")],
        Refused("--advertise-client-urls is required when --listen-client-urls is set explicitly"),
    ),
    (
        "Milvus",
        &[
            "-advertise-client-urls=http://127.0.0.1:2379",
            "-listen-client-urls",
            "http://0.0.0.0:2379",
            "--data-dir",
            "/etcd",
        ],
        &[
            ("ETCD_AUTO_COMPACTION_MODE", "revision"),
            ("ETCD_AUTO_COMPACTION_RETENTION", "1000"),
            ("ETCD_QUOTA_BACKEND_BYTES", "4294967296"),
            ("ETCD_SNAPSHOT_COUNT", "50000"),
        ],
        Starts(&[]),
    ),
    (
        "APISIX",
        &[],
        &[
            ("ETCD_ENABLE_V2", "true"),
            ("ALLOW_NONE_AUTHENTICATION", "yes"),
            ("ETCD_ADVERTISE_CLIENT_URLS", "http://etcd:2379"),
            ("ETCD_LISTEN_CLIENT_URLS", "http://0.0.0.0:2379"),
        ],
        Starts(&[]),
    ),
    (
        "Pachyderm",
        &[
            "--listen-client-urls=http://0.0.0.0:2379",
            "--advertise-client-urls=http://0.0.0.0:2379",
            "--data-dir=/var/data/etcd",
            "--auto-compaction-retention=1",
            "--max-txn-ops=10000",
            "--max-request-bytes=52428800",
            "--quota-backend-bytes=8589934592",
        ],
        &[],
        Starts(&[]),
    ),
    (
        "Patroni's guides",
        &[],
        &[
            ("ETCD_NAME", "etcd1"),
            ("ETCD_ELECTION_TIMEOUT", "10000"),
            ("ETCD_HEARTBEAT_INTERVAL", "2000"),
            ("ETCD_INITIAL_ELECTION_TICK_ADVANCE", "false"),
            ("ETCD_ENABLE_V2", "true"),
        ],
        Starts(&[]),
    ),
    (
        "a unit of a distribution",
        &[
            "--name",
            "node1",
            "--peer-auto-tls=false",
            "--enable-grpc-gateway=false",
            "--max-concurrent-streams",
            "1024",
        ],
        &[
            ("ETCD_UNSUPPORTED_ARCH", "arm64"),
            ("ETCD_DEBUG", "false"),
            ("ETCD_LOG_PACKAGE_LEVELS", "none"),
            ("ETCD_PROXY_FAILURE_WAIT", "5000"),
            ("ETCD_FORCE_NEW_CLUSTER", "false"),
            ("ETCD_MAX_LEARNERS", "2"),
            ("ETCD_BCRYPT_COST", "4"),
        ],
        Starts(&["enable-grpc-gateway"]),
    ),
    (
        "disaster recovery",
        &["--force-new-cluster", "--data-dir=/var/lib/etcd", "--strict-reconfig-check=false"],
        &[],
        Starts(&[]),
    ),
    (
        "a cluster of three",
        &[
            "--name=etcd1",
            "--initial-advertise-peer-urls=http://etcd1:2380",
            "--initial-cluster=etcd1=http://etcd1:2380,etcd2=http://etcd2:2380,etcd3=http://etcd3:2380",
        ],
        &[],
        Starts(&[]),
    ),
    (
        "discovery",
        &["--discovery-srv=example.com", "--discovery-srv-name=x"],
        &[],
        Refused("--discovery-srv belongs to discovery, which is not built yet"),
    ),
    (
        "log rotation",
        &["--enable-log-rotation", "--log-outputs=/var/log/etcd.log"],
        &[],
        Refused("--enable-log-rotation belongs to log rotation, which is not built yet"),
    ),
    (
        "URLs with a user",
        &[
            "--listen-client-urls=http://u:p@127.0.0.1:2379",
            "--advertise-client-urls=http://u@etcd.example:2379",
        ],
        &[],
        Starts(&[]),
    ),
    (
        "tracing",
        &[
            "--experimental-enable-distributed-tracing=true",
            "--experimental-distributed-tracing-address=otel:4317",
            "--experimental-distributed-tracing-sampling-rate=100",
        ],
        &[],
        Starts(&[
            "enable-distributed-tracing",
            "distributed-tracing-address",
            "distributed-tracing-sampling-rate",
        ]),
    ),
    ("no swap", &["--memory-mlock"], &[], Starts(&["memory-mlock"])),
    (
        "a switch that is gone from etcd too",
        &["--enable-v2v3=/v2"],
        &[],
        Refused("flag provided but not defined: -enable-v2v3"),
    ),
];

/// As a start reads them, the first one of a member included.
fn outcome(loaded: &Loaded) -> Result<&Config, String> {
    match &loaded.result {
        Ok(Command::Serve(config)) => match config.join_existing {
            true => config.joined().map(|_| &**config).map_err(|error| error.to_string()),
            false => config.bootstrap().map(|_| &**config).map_err(|error| error.to_string()),
        },
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn settings_of_projects_start_or_say_why_not() {
    for (whose, args, variables, expected) in PATTERNS {
        let loaded = load_args(args, variables);
        match (outcome(&loaded), expected) {
            (Ok(_), Starts(without_effect)) => assert_eq!(idle(&loaded), *without_effect, "{whose}"),
            (Err(message), Refused(part)) => assert!(message.contains(part), "{whose}: {message}"),
            (Ok(_), Refused(part)) => panic!("{whose} starts: {part}"),
            (Err(message), Starts(_)) => panic!("{whose}: {message}"),
        }
    }
}

/// Loads a file with these lines.
fn load_file(text: &str) -> Loaded {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    load_args(&["--config-file", file.path().to_str().unwrap()], &[])
}

#[test]
fn the_sample_of_etcd_starts() {
    for text in [SAMPLE.to_owned(), format!("\u{feff}{SAMPLE}"), SAMPLE.replace('\n', "\r\n")] {
        let loaded = load_file(&text);
        let config = outcome(&loaded).unwrap();
        assert_eq!(config.auto_compaction, Some(Retention::Time(Duration::from_secs(3600))));
        assert_eq!(config.log.level, LogLevel::Debug);
        let expected = ["discovery-fallback", "cipher-suites", "tls-max-version", "enable-pprof"];
        assert_eq!(idle(&loaded), expected);
        let unknown = loaded.notices.iter().filter_map(|notice| notice.fields.get("key"));
        let unknown: Vec<_> = unknown.map(|key| key.trim_start_matches("proxy-")).collect();
        assert_eq!(
            unknown,
            ["failure-wait", "refresh-interval", "dial-timeout", "write-timeout", "read-timeout"]
        );
    }
}

#[test]
fn files_of_projects_start_or_say_why_not() {
    for (lines, expected) in [
        (
            "experimental-corrupt-check-time: 10800000000000\nexperimental-initial-corrupt-check: true\n\
             experimental-compact-hash-check-enabled: true\nenable-pprof: true\nenable-v2: false\n\
             listen-metrics-urls: http://0.0.0.0:2381\n",
            Starts(&["enable-pprof"]),
        ),
        (
            "experimental-watch-progress-notify-interval: 5000000000\nself-signed-cert-validity: 10\n\
             client-transport-security:\n  client-cert-auth: true\n  auto-tls: no\n\
             peer-transport-security:\n  peer-client-cert-auth: true\n  allowed-cn:\n",
            Starts(&["client-cert-auth", "self-signed-cert-validity"]),
        ),
        (
            "debug: false\nlog-package-levels:\nlog-outputs: [default]\nproxy: 'off'\nproxy-failure-wait: 5000\n\
             proxy-read-timeout: 0\nenable-v2: true\ndiscovery-fallback: 'proxy'\ndiscovery:\n",
            Starts(&["discovery-fallback"]),
        ),
        (
            "name: k8s-master01\nlisten-client-urls: 'https://10.0.0.81:2379,http://127.0.0.1:2379'\n\
             client-transport-security:\n  cert-file: '/etc/kubernetes/pki/etcd/etcd.pem'\n",
            Refused("--cert-file belongs to TLS"),
        ),
        ("listen-client-urls: https://10.0.0.81:2379\n", Refused("needs TLS, which is not built yet")),
        ("client-transport-security: {auto-tls: true}\n", Refused("--auto-tls belongs to TLS")),
        ("{\"name\": \"a\", \"quota-backend-bytes\": 8589934592, \"pre-vote\": true}", Starts(&[])),
        ("name: a\nname: b\n", Starts(&[])),
        ("raft-read-timeout: 5s\n", Refused("raft-read-timeout must be a whole number of nanoseconds")),
        ("quota-backend-bytes: 8GB\n", Refused("quota-backend-bytes must be a number")),
    ] {
        let loaded = load_file(lines);
        match (outcome(&loaded), expected) {
            (Ok(_), Starts(without_effect)) => assert_eq!(idle(&loaded), without_effect, "{lines}"),
            (Err(message), Refused(part)) => assert!(message.contains(part), "{lines}: {message}"),
            (Ok(_), Refused(part)) => panic!("{lines} starts: {part}"),
            (Err(message), Starts(_)) => panic!("{lines}: {message}"),
        }
    }
}
