use super::*;
use crate::types::ShardId;

fn metrics(extensive: bool) -> Metrics {
    let features = vec![("AllAlpha", "ALPHA", false), ("FastLeaseKeepAlive", "BETA", true)];
    Metrics::new(&Options { extensive, server_version: "3.7.1".into(), features })
        .expect("names are distinct")
}

fn shard() -> ShardMetrics {
    ShardMetrics::new().expect("names are distinct")
}

fn text(metrics: &Metrics) -> String {
    text_with(metrics, &shard())
}

fn text_with(metrics: &Metrics, shard: &ShardMetrics) -> String {
    let text = super::text(metrics.gather(), vec![(ShardId(0), shard.gather())]);
    String::from_utf8(text.expect("encodes")).expect("is text")
}

/// `# TYPE` lines and bucket bounds, checked against what etcd 3.7.1 exposes for the same names.
#[test]
fn names_types_and_bounds_are_etcds() {
    let text = text(&metrics(false));
    for (name, kind) in [
        ("etcd_disk_wal_fsync_duration_seconds", "histogram"),
        ("etcd_disk_wal_write_duration_seconds", "histogram"),
        ("etcd_disk_wal_write_bytes_total", "gauge"),
        ("etcd_server_has_leader", "gauge"),
        ("etcd_server_is_leader", "gauge"),
        ("etcd_server_is_learner", "gauge"),
        ("etcd_server_leader_changes_seen_total", "counter"),
        ("etcd_server_proposals_committed_total", "gauge"),
        ("etcd_server_proposals_applied_total", "gauge"),
        ("etcd_server_proposals_pending", "gauge"),
        ("etcd_server_proposals_failed_total", "counter"),
        ("etcd_server_health_success", "counter"),
        ("etcd_server_health_failures", "counter"),
        ("etcd_server_slow_apply_total", "counter"),
        ("etcd_server_heartbeat_send_failures_total", "counter"),
        ("etcd_server_slow_read_indexes_total", "counter"),
        ("etcd_server_read_indexes_failed_total", "counter"),
        ("etcd_server_quota_backend_bytes", "gauge"),
        ("etcd_server_version", "gauge"),
        ("etcd_server_feature_enabled", "gauge"),
        ("os_fd_used", "gauge"),
        ("os_fd_limit", "gauge"),
        ("etcd_mvcc_range_total", "counter"),
        ("etcd_mvcc_put_total", "counter"),
        ("etcd_mvcc_delete_total", "counter"),
        ("etcd_mvcc_txn_total", "counter"),
        ("etcd_mvcc_db_total_size_in_bytes", "gauge"),
        ("etcd_mvcc_db_total_size_in_use_in_bytes", "gauge"),
        ("etcd_debugging_mvcc_keys_total", "gauge"),
        ("etcd_debugging_mvcc_current_revision", "gauge"),
        ("etcd_debugging_mvcc_compact_revision", "gauge"),
        ("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", "histogram"),
        ("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", "histogram"),
        ("etcd_debugging_mvcc_db_compaction_keys_total", "counter"),
        ("etcd_debugging_mvcc_db_compaction_last", "gauge"),
        ("etcd_mvcc_hash_duration_seconds", "histogram"),
        ("etcd_mvcc_hash_rev_duration_seconds", "histogram"),
        ("etcd_disk_backend_defrag_duration_seconds", "histogram"),
        ("etcd_disk_backend_snapshot_duration_seconds", "histogram"),
        ("etcd_disk_defrag_inflight", "gauge"),
        ("etcd_debugging_mvcc_total_put_size_in_bytes", "gauge"),
        ("etcd_network_client_grpc_sent_bytes_total", "counter"),
        ("etcd_network_client_grpc_received_bytes_total", "counter"),
        ("process_cpu_seconds_total", "counter"),
        ("process_open_fds", "gauge"),
        ("process_max_fds", "gauge"),
        ("process_resident_memory_bytes", "gauge"),
        ("process_virtual_memory_bytes", "gauge"),
        ("process_start_time_seconds", "gauge"),
        ("pinion_stage_duration_seconds", "histogram"),
    ] {
        assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name} {kind} missing in\n{text}");
    }
    let bounds: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("etcd_disk_wal_fsync_duration_seconds_bucket{le=\""))
        .map(|rest| rest.split('"').next().expect("split yields one"))
        .collect();
    let etcd = "0.001 0.002 0.004 0.008 0.016 0.032 0.064 0.128 0.256 0.512 1.024 2.048 4.096 8.192 +Inf";
    assert_eq!(bounds.join(" "), etcd);
    assert!(text.contains("etcd_server_version{server_version=\"3.7.1\"} 1\n"));
}

#[test]
fn stages_are_told_apart() {
    let shard = shard();
    shard.stage_commit.observe(0.0003);
    let text = text_with(&metrics(false), &shard);
    for stage in ["queued", "log_write", "commit", "apply", "reply"] {
        let count = usize::from(stage == "commit");
        assert!(
            text.contains(&format!("pinion_stage_duration_seconds_count{{stage=\"{stage}\"}} {count}\n"))
        );
    }
}

#[test]
fn a_method_has_every_code_at_zero_and_counts_by_code() {
    let metrics = metrics(false);
    let put = metrics.grpc.method("etcdserverpb.KV", "Put", "unary");
    put.started.inc();
    put.handled(8);
    let text = text(&metrics);
    let labels = r#"grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"}"#;
    assert!(text.contains(&format!("grpc_server_started_total{{{labels} 1\n")));
    for code in CODES {
        let count = usize::from(code == "ResourceExhausted");
        assert!(
            text.contains(&format!("grpc_server_handled_total{{grpc_code=\"{code}\",{labels} {count}\n"))
        );
    }
    assert!(!text.contains("grpc_server_handling_seconds"));
}

#[test]
fn handling_time_comes_with_extensive_metrics() {
    let metrics = metrics(true);
    let put = metrics.grpc.method("etcdserverpb.KV", "Put", "unary");
    put.seconds.expect("extensive").observe(0.02);
    let text = text(&metrics);
    assert!(text.contains("# TYPE grpc_server_handling_seconds histogram\n"));
    for bound in ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"] {
        assert!(
            text.contains(&format!("grpc_type=\"unary\",le=\"{bound}\"}}")),
            "{bound} missing in\n{text}"
        );
    }
}

#[test]
fn ids_and_health_checks_are_labels() {
    let metrics = metrics(false);
    metrics.identify(0x8e9e05c52164694d);
    metrics.show_cluster_version("3.7");
    metrics.health_check("readyz", "non_learner", true);
    metrics.health_check("readyz", "linearizable_read", false);
    let text = text(&metrics);
    assert!(text.contains("etcd_server_id{server_id=\"8e9e05c52164694d\"} 1\n"));
    assert!(text.contains("etcd_cluster_version{cluster_version=\"3.7\"} 1\n"));
    assert!(text.contains("etcd_server_healthcheck{name=\"non_learner\",type=\"readyz\"} 1\n"));
    assert!(text.contains(
        "etcd_server_healthchecks_total{name=\"linearizable_read\",status=\"error\",type=\"readyz\"} 1\n"
    ));
}

#[test]
fn processor_time_is_finer_than_a_second() {
    let metrics = metrics(false);
    let started = std::time::Instant::now();
    while started.elapsed() < std::time::Duration::from_millis(30) {
        std::hint::spin_loop();
    }
    let text = text(&metrics);
    let line = text.lines().find(|line| line.starts_with("process_cpu_seconds_total ")).expect("exposed");
    let seconds: f64 = line.rsplit(' ').next().expect("has a value").parse().expect("is a number");
    assert!(seconds > 0.0 && seconds.fract() != 0.0, "{line}");
}

#[test]
fn clients_cannot_make_series_without_bound() {
    let metrics = metrics(false);
    for version in 0..1000 {
        metrics.client_requests.count(&format!("3.{version}"), false);
    }
    metrics.client_requests.count("3.0", true);
    metrics.client_requests.count("3.0", false);
    let text = text(&metrics);
    let series = text.lines().filter(|line| line.starts_with("etcd_server_client_requests_total{"));
    assert_eq!(series.count(), 2 * 65, "64 versions and the rest");
    for line in [
        r#"{client_api_version="3.0",type="unary"} 2"#,
        r#"{client_api_version="3.0",type="stream"} 1"#,
        r#"{client_api_version="other",type="unary"} 936"#,
    ] {
        assert!(text.contains(&format!("etcd_server_client_requests_total{line}\n")), "{line}");
    }
}

/// The names in the order in which their `# TYPE` lines stand.
fn families(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}

#[test]
fn with_one_shard_the_text_is_that_of_one_registry() {
    let shard = shard();
    shard.set_alarms([(1, "NOSPACE".to_owned())]);
    let text = text_with(&metrics(false), &shard);
    let families = families(&text);
    assert!(families.is_sorted() && families.windows(2).all(|pair| pair[0] != pair[1]), "{families:?}");
    // The process's and the shard's stand among each other.
    let at = |name| families.iter().position(|known| *known == name).expect("exposed");
    assert!(at("etcd_mvcc_put_total") < at("etcd_network_client_grpc_sent_bytes_total"));
    assert!(at("etcd_network_client_grpc_sent_bytes_total") < at("etcd_server_has_leader"));
    assert!(!text.contains("shard="), "a label too many in\n{text}");
}

#[test]
fn families_of_several_shards_become_one_and_each_series_says_whose_it_is() {
    let server = metrics(false);
    let shards = [shard(), shard()];
    shards[0].put_total.inc_by(3);
    shards[1].put_total.inc_by(4);
    shards[1].stage_apply.observe(0.1);
    shards[1].set_alarms([(1, "CORRUPT".to_owned())]);
    let gathered = shards.iter().zip([ShardId(0), ShardId(7)]).map(|(shard, id)| (id, shard.gather()));
    let text = super::text(server.gather(), gathered.collect()).expect("encodes");
    let text = String::from_utf8(text).expect("is text");
    let names = families(&text);
    assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "{names:?}");
    for line in [
        "etcd_mvcc_put_total{shard=\"0\"} 3",
        "etcd_mvcc_put_total{shard=\"7\"} 4",
        "pinion_stage_duration_seconds_count{shard=\"7\",stage=\"apply\"} 1",
        "pinion_stage_duration_seconds_count{shard=\"0\",stage=\"apply\"} 0",
        "etcd_debugging_server_alarms{alarm_type=\"CORRUPT\",server_id=\"1\",shard=\"7\"} 1",
        "etcd_server_health_success 0",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} missing in\n{text}");
    }
    let put = text.lines().filter(|line| line.starts_with("etcd_mvcc_put_total")).collect::<Vec<_>>();
    assert_eq!(put.len(), 2, "{put:?}");
}

#[test]
#[should_panic(expected = "two meanings of x_total")]
fn one_name_has_one_meaning() {
    let family = |help: &str| {
        let to = Register::default();
        to.counter("x_total", help).expect("a sound name");
        to.gather()
    };
    let shards = vec![(ShardId(0), family("This.")), (ShardId(1), family("That."))];
    super::text(family("This."), shards).map(|_| ()).expect("encodes");
}
