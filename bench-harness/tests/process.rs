//! Starting, killing and restarting a real server, and the errors of one that does not come up.

use std::path::PathBuf;
use std::time::Duration;

use bench_harness::process::{Error, Launch};
use bench_harness::watchers::{self, Plan, Watchers};
use bench_harness::{http, oracle};

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn etcd() -> PathBuf {
    oracle::program("etcd").unwrap()
}

#[test]
fn a_server_serves_survives_a_kill_and_ends_gracefully() {
    let scratch = scratch();
    let mut server = Launch::etcd(etcd(), scratch.path().join("data")).start().unwrap();
    let (pid, addr) = (server.pid(), server.addr());
    let version = http::get(addr, "/version", Duration::from_secs(5)).unwrap();
    assert!(String::from_utf8_lossy(&version.body).contains("etcdserver"));
    assert!(server.usage().unwrap().rss_bytes > 1 << 20);

    assert!(!server.kill().unwrap().success());
    assert!(matches!(server.signal(0), Err(Error::NotRunning)));
    server.start_again().unwrap();
    assert_ne!(server.pid(), pid);
    assert_eq!(server.addr(), addr);

    server.terminate(Duration::from_secs(20)).unwrap();
    assert!(http::get(addr, "/health", Duration::from_secs(1)).is_err());
}

/// Who waits for events of it hears that they will not come.
#[test]
fn a_server_that_ends_ends_the_wait_of_who_watches() {
    let scratch = scratch();
    let mut server = Launch::etcd(etcd(), scratch.path().join("data")).start().unwrap();
    let ranges = vec![("a".to_owned(), String::new())];
    let plan = Plan { connections: 1, streams: 1, ranges, start_revision: 0 };
    let mut watchers = Watchers::start(server.addr(), plan).unwrap();
    server.kill().unwrap();
    let ended = watchers.wait_for_events(1, Duration::from_secs(600)).unwrap_err();
    assert!(!matches!(ended, watchers::Error::Missing { .. }), "{ended}");
}

#[test]
fn dropping_a_server_ends_it_also_when_a_panic_unwinds() {
    let scratch = scratch();
    let data_dir = scratch.path().join("data");
    let (report, reported) = std::sync::mpsc::channel();
    let panicked = std::thread::spawn(move || {
        let server = Launch::etcd(etcd(), data_dir).start().unwrap();
        report.send(server.addr()).unwrap();
        panic!("on purpose");
    })
    .join();
    assert!(panicked.is_err());
    let addr = reported.recv().unwrap();
    assert!(http::get(addr, "/health", Duration::from_secs(1)).is_err());
}

#[test]
fn an_early_exit_is_noticed_and_shows_the_log() {
    let scratch = scratch();
    let refused =
        Launch::etcd(etcd(), scratch.path().join("data")).arg("--no-such-flag").start().unwrap_err();
    let Error::Exited { tail, .. } = &refused else { panic!("{refused}") };
    assert!(tail.contains("no-such-flag"), "{tail}");
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let scratch = scratch();
    let timeout = Duration::from_millis(300);
    let deaf = Launch::pinion("ignored", scratch.path().join("data"));
    let deaf = deaf.wrapper(["/bin/sh", "-c", "echo started; exec sleep 100"]).ready_timeout(timeout);
    let refused = deaf.start().unwrap_err();
    let Error::NotReady { tail, .. } = &refused else { panic!("{refused}") };
    assert!(tail.contains("started"), "{tail}");
}
