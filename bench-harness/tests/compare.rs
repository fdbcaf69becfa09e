//! Whole comparisons in small: two upstream versions in every scenario of load by both clients, upstream and Pinion in
//! every scenario about stored state, two builds of Pinion without any upstream program.

use std::path::{Path, PathBuf};

use bench_harness::compare::{self, Cell, Group, Report};
use bench_harness::oracle;
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: compare::Options,
}

/// Runs a comparison with its data below `scratch`, and leaves nothing there.
fn run(scratch: &Path, words: &str) -> Report {
    let work_dir = scratch.join("work");
    let mut line = vec!["compare", "--work-dir", work_dir.to_str().unwrap(), "--rounds", "1"];
    line.extend(words.split_whitespace());
    let options = Line::parse_from(line).options;
    let mut parts = Vec::new();
    let report = compare::run(&options, &mut |part, _| parts.push(part)).unwrap();
    assert!(parts.is_sorted() && parts.iter().all(|part| (0.0..=1.0).contains(part)), "{parts:?}");
    assert_eq!(std::fs::read_dir(&work_dir).unwrap().count(), 0, "data directories are removed");
    report
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn groups(report: &Report) -> impl Iterator<Item = &Group> {
    report.sections.iter().flat_map(|section| &section.groups)
}

fn written(report: &Report, scratch: &Path) {
    let out = scratch.join("out");
    compare::write(report, &out).unwrap();
    let json = std::fs::read_to_string(out.join("compare.json")).unwrap();
    let read: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(read["sections"].as_array().unwrap().len(), report.sections.len());
    for name in ["compare.md", "compare.txt", "compare.svg"] {
        assert!(std::fs::metadata(out.join(name)).unwrap().len() > 500, "{name}");
    }
}

#[test]
fn two_servers_are_measured_under_every_load_by_both_clients() {
    let scratch = scratch();
    let report = run(
        scratch.path(),
        "--scenario put,put1,get,get-serializable,txn,mixed,open,keys --duration 0.3 --warm-up 0.1 \
         --connections 2 --clients 8 --open-duration 0.6 --rate 500 --read-keys 50 --key-space 1000 \
         --keys-few 10 --keys-many 100",
    );
    assert_eq!(report.subjects, ["etcd", "etcd-3.5"]);
    // put, put1, get, get-serializable and open by both clients, txn, mixed and two of keys by one.
    assert_eq!(groups(&report).count(), 5 * 2 + 4);
    for group in groups(&report) {
        assert_eq!(group.cells.len(), 2, "{}", group.name);
        for Cell { subject, median, .. } in &group.cells {
            let what = format!("{} {subject}: {median:?}", group.name);
            let value = |title| median.value(title).unwrap_or_else(|| panic!("{title} of {what}"));
            assert!(value("op/s") > 10.0 && median.errors == 0, "{what}");
            assert!(value("p50 ms") > 0.01 && value("p99 ms") >= value("p50 ms"), "{what}");
            assert!(value("client CPU us/op") > 0.0 && value("RSS MiB") > 5.0, "{what}");
            let writes = !group.name.starts_with("get");
            assert_eq!(median.value("fsync p99 ms").is_some(), writes, "{what}");
            let whole_tail = group.name.contains("(harness)") || group.name.starts_with("put (");
            assert!(!whole_tail || median.value("p99.9 ms").is_some(), "{what}");
        }
    }
    written(&report, scratch.path());
}

/// Pinion as the workspace's build left it beside this test.
fn pinion() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let path = here.parent().and_then(Path::parent).unwrap().join("pinion");
    assert!(path.is_file(), "{} is missing: run cargo build", path.display());
    path
}

#[test]
fn every_scenario_about_stored_state_works_with_upstream_and_with_pinion() {
    let scratch = scratch();
    let (pinion, etcd) = (pinion(), oracle::program("etcd").unwrap());
    let servers = format!("--pinion {} --peer etcd={}", pinion.display(), etcd.display());
    let small = "--stored-keys 2000 --rest 0.1 --probe-duration 0.5 --probe-lead 0.2 --probe-rate 300 \
        --maintenance-keys 500 --maintenance-revisions 1500 --listed-keys 1200 --listers 3 --overwrites 20000 \
        --overwritten-keys 100 --compact-every 0.3 --connections 2 --clients 50";
    let scenarios = "--scenario restart,memory,maintenance,list-storm,overwrite";
    let report = run(scratch.path(), &format!("{servers} {scenarios} {small}"));

    let names = report.sections.iter().map(|section| section.layout.name).collect::<Vec<_>>();
    assert_eq!(names, ["restart", "memory", "maintenance", "list-storm", "overwrite"]);
    assert_eq!(groups(&report).count(), 2 + 2 + 5 + 3 + 1);
    for group in groups(&report) {
        assert_eq!(group.cells.len(), 2, "{}", group.name);
        for Cell { subject, median, .. } in &group.cells {
            let what = format!("{} {subject}: {median:?}", group.name);
            assert_eq!(median.errors, 0, "{what}");
            let expected: &[&str] = match &group.name[..] {
                _ if median.note.as_ref().is_some_and(|note| note.starts_with("refused: ")) => &[],
                name if name.starts_with("restart") => &["ready s", "first read s", "disk MiB", "RSS MiB"],
                name if name.starts_with("memory") => &["RSS MiB", "RSS B/key", "anon MiB", "disk MiB"],
                "maintenance: idle" | "maintenance: checkpoint" => &["p50 ms", "p99 ms", "max ms"],
                name if name.starts_with("maintenance") => &["p99 ms", "p99 / idle", "took s"],
                "list-storm: idle" => &["p50 ms", "p99 ms", "server CPU %", "client CPU %"],
                name if name.starts_with("list-storm") => {
                    &["p99 ms", "p99 / idle", "lists/s", "listed MiB/s"]
                }
                _ => &["disk max MiB", "disk end MiB", "RSS max MiB", "op/s", "compactions"],
            };
            for title in expected {
                assert!(median.value(title).is_some_and(|value| value > 0.0), "{title} of {what}");
            }
            // Upstream does all of it.
            assert!(subject == "pinion" || !expected.is_empty(), "{what}");
        }
    }
    written(&report, scratch.path());
}

/// One attack of each kind, so small that it harms nobody.
#[test]
fn hostile_clients_are_seen_beside_others_on_upstream_and_on_pinion() {
    let scratch = scratch();
    let (pinion, etcd) = (pinion(), oracle::program("etcd").unwrap());
    let servers = format!("--pinion {} --peer etcd={}", pinion.display(), etcd.display());
    let small = "--attacked-keys 200 --attack-lead 0.3 --attack-duration 0.3 --rest 0.1";
    let attacks = ["pings", "scrapes", "sorted-ranges", "poison"];
    let report =
        run(scratch.path(), &format!("{servers} --scenario hostile --attack {} {small}", attacks.join(",")));
    let names = groups(&report).map(|group| &group.name[..]).collect::<Vec<_>>();
    let wanted =
        attacks.iter().flat_map(|name| [format!("hostile: {name}, before"), format!("hostile: {name}")]);
    assert_eq!(names, wanted.collect::<Vec<_>>());
    for group in groups(&report) {
        for Cell { subject, median, .. } in &group.cells {
            let what = format!("{} {subject}: {median:?}", group.name);
            for title in ["put p50 ms", "get p99 ms", "livez max ms", "RSS max MiB"] {
                assert!(median.value(title).is_some_and(|value| value > 0.0), "{title} of {what}");
            }
            if group.name.ends_with("before") {
                continue;
            }
            assert_eq!(median.value("died"), Some(0.0), "{what}");
            for title in ["stop s", "ready s"] {
                assert!(median.value(title).is_some_and(|value| value > 0.0), "{title} of {what}");
            }
        }
    }
    written(&report, scratch.path());
}

#[test]
fn users_put_and_log_in_at_upstream_and_at_pinion() {
    let scratch = scratch();
    let (pinion, etcd) = (pinion(), oracle::program("etcd").unwrap());
    let servers = format!("--pinion {} --peer etcd={}", pinion.display(), etcd.display());
    let small = "--duration 0.5 --warm-up 0.1 --probe-duration 1 --probe-lead 0.2 --probe-rate 100 --logins 20 \
        --bcrypt-cost 4 --connections 2 --clients 20";
    let report = run(scratch.path(), &format!("{servers} --scenario auth {small}"));
    assert_eq!(groups(&report).count(), 4);
    for (group, expected) in groups(&report).zip([
        &["op/s", "p99 ms"][..],
        &["op/s", "op/s / off", "p99 ms"],
        &["p99 ms", "server CPU %"],
        &["p99 ms", "p99 / idle", "logins/s", "login p50 ms"],
    ]) {
        for Cell { subject, median, .. } in &group.cells {
            let what = format!("{} {subject}: {median:?}", group.name);
            assert_eq!(median.errors, 0, "{what}");
            for title in expected {
                assert!(median.value(title).is_some_and(|value| value > 0.0), "{title} of {what}");
            }
        }
    }
    written(&report, scratch.path());
}

#[test]
fn an_apiserver_is_served_by_upstream_and_by_pinion() {
    let scratch = scratch();
    let (pinion, etcd) = (pinion(), oracle::program("etcd").unwrap());
    let servers = format!("--pinion {} --peer etcd={}", pinion.display(), etcd.display());
    let small = "--kubernetes-objects 100 --kubernetes-writers 10 --kubernetes-rate 200 --kubernetes-duration 1.5 \
        --kubernetes-event-ttl 2 --kubernetes-compact-every 0.4";
    let report = run(scratch.path(), &format!("{servers} --scenario kubernetes {small}"));
    let names = groups(&report).map(|group| &group.name[..]).collect::<Vec<_>>();
    assert_eq!(names, ["kubernetes: 200 transactions a second", "kubernetes: as fast as it goes"]);
    for group in groups(&report) {
        for Cell { subject, median, .. } in &group.cells {
            let what = format!("{} {subject}: {median:?}", group.name);
            assert!(median.errors == 0 && median.note.is_none(), "{what}");
            for title in
                ["txn/s", "txn per server CPU s", "lag p99 ms", "progress p99 ms", "pages/s", "leases"]
            {
                assert!(median.value(title).is_some_and(|value| value > 0.0), "{title} of {what}");
            }
        }
    }
    written(&report, scratch.path());
}

#[test]
fn leases_of_upstream_and_of_pinion_end_and_are_measured() {
    let scratch = scratch();
    let (pinion, etcd) = (pinion(), oracle::program("etcd").unwrap());
    let servers = format!("--pinion {} --peer etcd={}", pinion.display(), etcd.display());
    let small = "--leases 300 --lease-clients 20 --lease-keepalive 0.5 --lease-margin 1 --lease-patience 20 \
        --probe-duration 1 --probe-rate 100 --probe-lead 0.2";
    let report = run(scratch.path(), &format!("{servers} --scenario lease {small}"));
    let names = groups(&report).map(|group| &group.name[..]).collect::<Vec<_>>();
    assert_eq!(names, ["lease: 300 end together"]);
    for Cell { subject, median, .. } in groups(&report).flat_map(|group| &group.cells) {
        let what = format!("{subject}: {median:?}");
        assert!(median.errors == 0 && median.note.is_none(), "{what}");
        assert_eq!((median.value("early"), median.value("left")), (Some(0.0), Some(0.0)), "{what}");
        for title in ["grants/s", "renewals/s", "lag p99 s", "idle put p99 ms", "put p99 ms"] {
            assert!(median.value(title).is_some_and(|value| value > 0.0), "{title} of {what}");
        }
    }
    written(&report, scratch.path());
}

/// What a change to Pinion is measured by: no upstream program is needed for it.
#[test]
fn two_builds_of_pinion_take_turns_in_every_scenario_that_a_change_must_not_slow() {
    let scratch = scratch();
    let (new, old) = (pinion(), scratch.path().join("old-pinion"));
    std::fs::copy(&new, &old).unwrap();
    let small = "--duration 0.3 --warm-up 0.1 --read-keys 50 --key-space 1000 --stored-keys 2000 --rest 0.1 \
        --probe-duration 0.5 --probe-lead 0.2 --probe-rate 300 --maintenance-keys 500 --maintenance-revisions 1500 \
        --listed-keys 1200 --listers 3 --connections 2 --clients 50";
    let scenarios = "--scenario put,put1,get,list-storm,restart,memory,maintenance --client harness";
    let builds = format!("--pinion {} --baseline {} --no-peers", new.display(), old.display());
    let report = run(scratch.path(), &format!("{builds} {scenarios} {small}"));

    assert_eq!(report.subjects, ["pinion", "baseline"]);
    assert_eq!(groups(&report).count(), 3 + 3 + 2 + 2 + 5);
    let text = report.text();
    for group in groups(&report) {
        let subjects = group.cells.iter().map(|cell| &cell.subject[..]).collect::<Vec<_>>();
        assert_eq!(subjects, ["pinion", "baseline"], "{}", group.name);
        let (_, table) = text.split_once(&format!("\n{}, median", group.name)).unwrap();
        let ratios = table.lines().take(6).find(|line| line.trim_start().starts_with("ratio to baseline"));
        assert!(ratios.is_some_and(|line| line.matches('x').count() >= 4), "{}: {ratios:?}", group.name);
    }
    assert!(!text.contains("better peer"), "{text}");
    written(&report, scratch.path());
}

#[test]
fn a_wrong_path_is_told_with_its_flag_before_anything_runs() {
    let scratch = scratch();
    let (pinion, plain) = (pinion(), scratch.path().join("plain"));
    std::fs::write(&plain, "no program").unwrap();
    let refused = |words: &[&str]| {
        let line = ["compare", "--no-peers"].iter().chain(words);
        let options = Line::try_parse_from(line).map_err(|error| error.to_string())?.options;
        let outcome = compare::run(&options, &mut |_, title| panic!("{title} was started"));
        outcome.map(|_| ()).map_err(|error| error.to_string())
    };
    let pinion = pinion.to_str().unwrap();
    let missing = refused(&["--pinion", pinion, "--baseline", "/no/such/pinion"]).unwrap_err();
    assert!(missing.starts_with("--baseline: /no/such/pinion: No such file"), "{missing}");
    for path in [plain.to_str().unwrap(), scratch.path().to_str().unwrap()] {
        let error = refused(&["--pinion", pinion, "--baseline", path]).unwrap_err();
        assert_eq!(error, format!("--baseline: {path}: is no program"));
    }
    let alone = refused(&["--baseline", pinion]).unwrap_err();
    assert!(alone.contains("--pinion"), "{alone}");
}

#[test]
fn watches_are_told_by_upstream_and_by_pinion() {
    let scratch = scratch();
    let (pinion, etcd) = (pinion(), oracle::program("etcd").unwrap());
    let servers = format!("--pinion {} --peer etcd={}", pinion.display(), etcd.display());
    let small = "--watches 20,200 --watch-connections 2 --watch-streams 2 --watch-events 2000 --watch-putters 5 \
        --watch-duration 0.6 --watch-warm-up 0.2 --laggard-revisions 3000 --probe-duration 0.5 --probe-lead 0.2 \
        --probe-rate 300 --rest 0.1";
    let report = run(scratch.path(), &format!("{servers} --scenario watch,watch-laggard {small}"));
    assert_eq!(groups(&report).count(), 2 + 1 + 2 + 2);
    for group in groups(&report) {
        assert_eq!(group.cells.len(), 2, "{}", group.name);
        let expected: &[&str] = match &group.name[..] {
            name if name.contains("one key") => &["events/s", "lag p99 ms", "puts/s", "RSS MiB"],
            name if name.contains("without") => &["puts/s", "put p99 ms"],
            name if name.contains("prefixes") => &["puts/s", "events/s", "put p99 ms"],
            name if name.contains("behind") => &["p99 ms", "p99 / idle", "catches up in s", "events/s"],
            _ => &["p50 ms", "p99 ms", "peak MiB"],
        };
        for Cell { subject, median, .. } in &group.cells {
            for title in expected {
                let what = format!("{title} of {} {subject}: {median:?}", group.name);
                assert!(median.errors == 0 && median.value(title).is_some_and(|value| value > 0.0), "{what}");
            }
        }
    }
    written(&report, scratch.path());
}

#[test]
fn a_cluster_of_upstream_loses_its_leader_is_restarted_and_grows() {
    let scratch = scratch();
    let etcd = oracle::program("etcd").unwrap();
    let small = "--members 3 --scenario put,leader-loss,rolling-restart,join --client harness --duration 1 \
        --warm-up 0.2 --rest 0.2 --join-keys 100 --join-rate 200 --probe-duration 0.5 --clients 30 --connections 6 --probe-rate 200 --probe-lead 0.2";
    let report = run(scratch.path(), &format!("--peer etcd={} {small}", etcd.display()));
    let names = groups(&report).map(|group| &group.name[..]).collect::<Vec<_>>();
    assert_eq!(
        names,
        [
            "put (harness), 3 members",
            "leader killed, 3 members",
            "leader asked to stop, 3 members",
            "rolling restart, 3 members",
            "join with 100 keys, 3 members: puts before",
            "join with 100 keys, 3 members",
        ]
    );
    let joined = groups(&report).last().expect("just seen").cells[0].median.value("reads after s");
    assert!(joined.is_some_and(|seconds| seconds > 0.0), "{joined:?}");
    for group in groups(&report).skip(1).take(3) {
        let without =
            group.cells[0].median.value("no write ms").expect("there were answers before and after");
        assert!(without > 0.0, "{}: {without}", group.name);
    }
}

#[test]
fn a_scenario_of_one_member_is_for_one_member() {
    let check = |words: &str| {
        let line = ["compare"].into_iter().chain(words.split_whitespace());
        Line::parse_from(line).options.check().unwrap_err()
    };
    let refused = check("--members 3 --scenario restart");
    assert_eq!(refused, "restart is for 1 to 1 members: --members is 3");
    let refused = check("--scenario leader-loss");
    assert_eq!(refused, "leader-loss is for 3 to 9 members: --members is 1");
}
