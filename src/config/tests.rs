use super::*;
use crate::limits;

mod patterns;

fn load_args(args: &[&str], variables: &[(&str, &str)]) -> Loaded {
    let args: Vec<OsString> = args.iter().map(OsString::from).collect();
    let variables: Vec<_> = variables.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    load(&args, &variables)
}

pub(super) fn config(args: &[&str]) -> Config {
    match load_args(args, &[]).result {
        Ok(Command::Serve(config)) => *config,
        other => panic!("{args:?}: {other:?}"),
    }
}

/// The flags that were said to be without effect.
fn idle(loaded: &Loaded) -> Vec<&str> {
    let told = loaded.notices.iter().filter(|notice| notice.message == "flag is accepted without effect");
    told.map(|notice| notice.fields["flag-name"].as_str()).collect()
}

pub(super) fn refusal(args: &[&str]) -> String {
    match load_args(args, &[]).result {
        Err(Error::Refused(message)) => message,
        other => panic!("{args:?}: {other:?}"),
    }
}

#[test]
fn defaults_are_etcds() {
    let config = config(&[]);
    assert_eq!((config.name.as_str(), config.data_dir.to_str()), ("default", Some("default.etcd")));
    assert_eq!(config.listen_client_urls[0].as_str(), "http://localhost:2379");
    assert_eq!((config.heartbeat.as_millis(), config.election.as_millis()), (100, 1000));
    assert_eq!(config.max_request_bytes, crate::limits::MAX_REQUEST_BYTES);
    assert_eq!(config.max_txn_ops, crate::limits::MAX_TXN_OPS);
    assert_eq!(config.wal_segment_bytes, crate::limits::WAL_SEGMENT_BYTES);
    assert_eq!(config.catchup_entries, 5_000);
    let ids = config.bootstrap().unwrap();
    assert_eq!(format!("{:x} {:x}", ids.member_id.0, ids.cluster_id.0), "8e9e05c52164694d cdf818194e3a8c32");
}

#[test]
fn a_name_carries_over_into_the_initial_cluster() {
    let config = config(&["--name=a", "--initial-advertise-peer-urls=http://127.0.0.1:5"]);
    assert_eq!(config.initial_cluster, "a=http://127.0.0.1:5");
    assert_eq!(config.data_dir.to_str(), Some("a.etcd"));
    assert!(config.bootstrap().is_ok());
}

#[test]
fn refusals_in_etcds_words() {
    for (args, message) in [
        (&["--listen-client-urls=http://foo:1"][..], "expected IP in URL for binding (http://foo:1)"),
        (&["--heartbeat-interval=0"], "--heartbeat-interval must be >0 (set to 0ms)"),
        (
            &["--heartbeat-interval=201"],
            "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[201ms]",
        ),
        (
            &["--election-timeout=50001"],
            "--election-timeout[50001ms] is too long, and should be set less than 50000ms",
        ),
        (
            &["--discovery-fallback=proxy"],
            "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
        ),
        (&["--discovery-token=a"], "both --discovery-token and --discovery-endpoints must be set"),
        (&["--auto-compaction-mode=x"], "unknown auto-compaction-mode \"x\""),
        (&["--tls-min-version=x"], "unexpected TLS version \"x\" (must be one of: TLS1.2, TLS1.3)"),
        (
            &["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        (&["--log-format=x"], "unknown log format: x, supported values json, console"),
        (&["--log-outputs=default,stdout"], "multi logoutput for \"default\" is not supported yet"),
        (&["--logger=x"], "unknown logger option \"x\""),
        (&["--compact-hash-check-time=0"], "--compact-hash-check-time must be >0 (set to 0s)"),
        (
            &["--feature-gates=LeaseCheckpointPersist=true"],
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
        ),
    ] {
        assert_eq!(refusal(args), message);
    }
    assert_eq!(
        load_args(&["--listen-client-urls=http://127.0.0.1:1"], &[]).result,
        Err(Error::AdvertiseUnset)
    );
}

#[test]
fn what_is_not_built_is_refused_unless_it_means_off() {
    for args in [
        &["--cert-file=a"][..],
        &["--proxy=on"],
        &["--host-whitelist=a"],
        &["--listen-client-urls=https://127.0.0.1:1", "--advertise-client-urls=http://127.0.0.1:1"],
    ] {
        let message = refusal(args);
        assert!(message.contains("not built yet"), "{args:?}: {message}");
    }
    config(&[
        "--cert-file=",
        "--auth-token=simple",
        "--enable-v2=false",
        "--snapshot-count=10000",
        "--feature-gates=LeaseCheckpoint=false,TxnModeWriteWithSharedBuffer=false",
        "--cors=*",
    ]);
}

#[test]
fn what_has_no_effect_is_said() {
    assert_eq!(idle(&load_args(&["--max-wals=9", "--max-snapshots=5"], &[])), ["max-wals"]);
    let gates = "--feature-gates=PriorityRequest=true,InitialCorruptCheck=true,LeaseCheckpoint=true";
    assert_eq!(idle(&load_args(&[gates], &[])), ["feature-gates=PriorityRequest=true"]);
}

#[test]
fn retention_as_etcd_reads_it() {
    let retention = |mode: &str, text: &str| {
        let args = [format!("--auto-compaction-mode={mode}"), format!("--auto-compaction-retention={text}")];
        config(&[&args[0], &args[1]]).auto_compaction
    };
    let minutes = |count: u64| Some(Retention::Time(Duration::from_secs(60 * count)));
    for (text, expected) in [
        ("0", None),
        ("", None),
        ("0s", None),
        ("1", minutes(60)),
        ("10m", minutes(10)),
        ("1h30m", minutes(90)),
    ] {
        assert_eq!(retention("periodic", text), expected, "{text}");
    }
    assert_eq!(retention("revision", "1000"), Some(Retention::Revisions(1000)));
    assert_eq!(retention("revision", "1us"), Some(Retention::Revisions(1000)));
    assert_eq!(retention("revision", "0"), None);
    assert_eq!(
        refusal(&["--auto-compaction-retention=soon"]),
        "error parsing CompactionRetention: time: invalid duration \"soon\""
    );
    for bad in ["-1h", "-1", "1ns", "9223372036854775807"] {
        refusal(&[&format!("--auto-compaction-retention={bad}")]);
    }
}

#[test]
fn checks_for_corruption_are_off_until_asked_for() {
    let off = config(&[]);
    assert_eq!((off.initial_corrupt_check, off.corrupt_check_interval), (false, Duration::ZERO));
    let on = config(&[
        "--corrupt-check-time=1h",
        "--feature-gates=InitialCorruptCheck=true,CompactHashCheck=true",
    ]);
    assert_eq!((on.initial_corrupt_check, on.corrupt_check_interval), (true, Duration::from_secs(3600)));
    assert_eq!(config(&["--quota-backend-bytes=-1"]).quota_bytes, -1);
}

#[test]
fn own_flags_have_bounds() {
    for args in [
        ["--wal-sector-size=100"],
        ["--wal-segment-bytes=1000"],
        ["--max-request-bytes=10000000000"],
        ["--cores=0,1"],
        ["--cores=x"],
    ] {
        refusal(&args);
    }
    let config = config(&["--cores=1", "--wal-sector-size=4096"]);
    assert_eq!((config.core, config.wal_sector_bytes), (Some(1), Some(4096)));
}

#[test]
fn segments_grow_with_requests() {
    let segment = |args: &[&str]| config(args).wal_segment_bytes;
    let request = |bytes: usize| format!("--max-request-bytes={bytes}");
    // Upstream's recommended maximum, and what is found in guides and charts.
    for bytes in [8_323_073, 10_485_760, 33_554_432, 52_428_800] {
        let segment = segment(&[&request(bytes)]);
        let batch = segment / limits::WAL_SEGMENT_BATCHES;
        assert!(batch >= (bytes + limits::REQUEST_MARGIN_BYTES) as u64, "{bytes}: {segment}");
        assert!(segment.is_multiple_of(65_536));
    }
    assert_eq!(segment(&["--max-request-bytes=8323072"]), limits::WAL_SEGMENT_BYTES, "the default is enough");
    assert_eq!(segment(&[&request(33_554_432), "--wal-segment-bytes=268435456"]), 268_435_456, "as given");
    assert_eq!(
        refusal(&[&request(10_485_760), "--wal-segment-bytes=33554432"]),
        "--wal-segment-bytes must be at least 42205184 with --max-request-bytes=10485760 (set to 33554432): raise it, \
         or leave it out and it follows"
    );
    assert_eq!(
        refusal(&[&request(100 << 20)]),
        "--max-request-bytes must be at most 58654720 (set to 104857600)"
    );
    let warned = |bytes: usize| {
        let loaded = load_args(&[&request(bytes)], &[]);
        let mut notices = loaded.notices.into_iter();
        notices
            .find(|notice| notice.message == "exceeded recommended request limit")
            .map(|notice| notice.fields)
    };
    assert_eq!(warned(10_485_760), None);
    let fields = warned(33_554_432).expect("a warning");
    assert_eq!(
        (&fields["max-request-size"][..], &fields["recommended-request-size"][..]),
        ("34 MB", "10 MB")
    );
}

#[test]
fn a_file_excludes_flags_and_environment() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("etcd.yml");
    std::fs::write(&path, "name: from-file\nlisten-client-urls: http://127.0.0.1:1\n").unwrap();
    let path = path.to_str().unwrap();
    for (args, variables) in [
        (&["--config-file", path, "--name=flag"][..], &[("ETCD_NAME", "variable")][..]),
        (&["--name=flag"], &[("ETCD_CONFIG_FILE", path)]),
    ] {
        match load_args(args, variables).result {
            Ok(Command::Serve(config)) => {
                assert_eq!(config.name, "from-file");
                assert_eq!(config.max_txn_ops, 128);
            }
            other => panic!("{other:?}"),
        }
    }
    let missing = refusal(&["--config-file", "/nonexistent"]);
    assert_eq!(missing, "open /nonexistent: no such file or directory");
}

#[test]
fn help_names_every_flag() {
    let text = help::flags();
    for flag in flags::all() {
        assert!(text.contains(&format!("--{} '", flag.name)), "{}", flag.name);
    }
    assert!(help::version().starts_with("etcd Version: 3.7.1\n"));
    assert_eq!(load_args(&["-h"], &[]).result, Ok(Command::Help));
    assert_eq!(load_args(&["--version", "--name=a"], &[]).result, Ok(Command::Version));
}
