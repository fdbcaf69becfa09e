//! Our figures beside fio's. Machines that run tests are busy, so only the order of magnitude is
//! asserted; `tuning compare-fio` on a quiet machine is what shows that they agree.

use std::process::Command;

use serde_json::Value;

const FACTOR: f64 = 3.0;

#[test]
fn fio_finds_about_the_same() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the test");
    let output = Command::new(env!("CARGO_BIN_EXE_tuning"))
        .args([
            "compare-fio",
            "--cases=4096x1,4096x4,65536x1",
            "--rounds=5",
            "--seconds=0.2",
            "--file-mib=64",
        ])
        .args(["--json", "-", "--dir"])
        .arg(dir.path())
        .output()
        .expect("it runs");
    // Whether they agree within the tolerance decides its exit code, not this test.
    let comparison: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let rows = comparison["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 3);
    for row in rows {
        for (name, ratio) in [("writes/s", "per_second_ratio"), ("p50", "p50_ratio")] {
            let ratio = row[ratio].as_f64().expect("both have figures");
            println!("{} B x {}: {name} ours / fio {ratio:.2}", row["bytes"], row["in_flight"]);
            assert!((1.0 / FACTOR..=FACTOR).contains(&ratio), "{name}: {row}");
        }
    }
    let left = std::fs::read_dir(dir.path()).expect("the directory").count();
    assert_eq!(left, 0, "files are left");
}

#[test]
fn without_fio_it_says_where_to_get_it() {
    let output = Command::new(env!("CARGO_BIN_EXE_tuning"))
        .args(["compare-fio", "--fio=no-such-fio", "--dir", env!("CARGO_TARGET_TMPDIR")])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("install Debian's package fio"), "{said}");
}
