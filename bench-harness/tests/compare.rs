//! A whole comparison in small: two upstream versions, both clients, every scenario that needs no time.

use bench_harness::compare::{self, Client};
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: compare::Options,
}

#[test]
fn two_servers_are_measured_in_every_scenario_by_both_clients() {
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let work_dir = scratch.path().join("work");
    let words = "--scenario put,put1,get,get-serializable,txn,mixed,open,keys --rounds 1 --duration 0.3 --warm-up 0.1 \
        --connections 2 --clients 8 --open-duration 0.6 --rate 500 --read-keys 50 --key-space 1000 \
        --keys-few 10 --keys-many 100";
    let mut line = vec!["compare", "--work-dir", work_dir.to_str().unwrap()];
    line.extend(words.split_whitespace());
    let options = Line::parse_from(line).options;

    let mut parts = Vec::new();
    let report = compare::run(&options, &mut |part, _| parts.push(part)).unwrap();
    assert!(parts.is_sorted() && parts.iter().all(|part| (0.0..=1.0).contains(part)));
    assert_eq!(report.subjects, ["etcd", "etcd-3.5"]);
    // put, put1, get, get-serializable and open by both clients, txn, mixed and two of keys by one.
    assert_eq!(report.cells.len(), 2 * (5 * 2 + 4));
    for cell in &report.cells {
        let median = &cell.median;
        let what = format!("{} {:?} {}: {median:?}", cell.load, cell.client, cell.subject);
        assert!(median.per_second > 10.0 && median.errors == 0.0, "{what}");
        assert!(median.p50_us > 10.0 && median.p99_us >= median.p50_us, "{what}");
        assert!(median.client_cpu_us > 0.0 && median.rss_mib > 5.0, "{what}");
        let writes = !cell.load.starts_with("get");
        assert_eq!(median.fsync_p99_ms.is_some(), writes, "{what}");
    }
    assert!(report.cells.iter().any(|cell| cell.client == Client::Upstream && cell.median.p999_us.is_some()));

    let out = scratch.path().join("out");
    compare::write(&report, &out).unwrap();
    let json = std::fs::read_to_string(out.join("compare.json")).unwrap();
    let read: compare::Report = serde_json::from_str(&json).unwrap();
    assert_eq!(read.cells.len(), report.cells.len());
    for name in ["compare.md", "compare.txt", "compare.svg"] {
        assert!(std::fs::metadata(out.join(name)).unwrap().len() > 500, "{name}");
    }
    assert_eq!(std::fs::read_dir(&work_dir).unwrap().count(), 0, "data directories are removed");
}
