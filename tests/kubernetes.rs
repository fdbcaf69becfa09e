//! The Kubernetes pattern against upstream etcd and against Pinion: transactions on revisions, watch caches with what was
//! there before, progress, lists at a revision, events that end with their leases, compactions guarded by a key. The load
//! checks what it sees; here it is small, and everything must be right.
//!
//! `PINION_BIN` names another program to test than the one just built.

#[path = "tested/launch.rs"]
mod tested;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use bench_harness::{
    kubernetes::{Apiserver, Pattern, Seen},
    oracle,
};

const PATTERN: Pattern = Pattern {
    writers: 8,
    objects: 160,
    value_size: 300,
    listers: 4,
    page: 50,
    event_ttl: 2,
    compact_every: Duration::from_millis(300),
    progress_every: Duration::from_millis(100),
};
/// Longer than any machine takes.
const PATIENCE: Duration = Duration::from_secs(300);
/// Leases of two seconds have ended by then on a machine that is not quiet.
const EVENTS_GONE: Duration = Duration::from_secs(60);

/// Whether every part of the pattern had its turn. What was written has an event, but for the very last ones.
fn is_enough(seen: &Seen) -> bool {
    seen.transactions > 100
        && seen.events > seen.transactions / 2
        && !seen.progress.is_empty()
        && seen.pages > 20
        && seen.listed > 500
        && seen.leases >= 2
        && seen.compactions >= 3
}

fn everything_is_right(program: PathBuf) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("make a directory");
    let launch = tested::launch(program, &directory.path().join("data"));
    let server = launch.start().unwrap_or_else(|error| panic!("{error}"));
    let mut apiserver = Apiserver::start(server.addr(), PATTERN).unwrap_or_else(|error| panic!("{error}"));
    for rate in [Some(200.0), None] {
        // However slow the machine is: until all of it has happened.
        let (since, mut all) = (Instant::now(), Seen::default());
        while !is_enough(&all) {
            assert!(
                since.elapsed() < PATIENCE,
                "{} transactions, {} compactions",
                all.transactions,
                all.compactions
            );
            let seen = apiserver.run(rate, Duration::from_secs(1));
            assert!(seen.errors.is_empty() && seen.faults.is_empty(), "{:?} {:?}", seen.errors, seen.faults);
            assert!(seen.conflicts == 0, "of {} transactions", seen.transactions);
            all.transactions += seen.transactions;
            all.events += seen.events;
            all.progress.extend(seen.progress);
            all.pages += seen.pages;
            all.listed += seen.listed;
            all.leases += seen.leases;
            all.compactions += seen.compactions;
        }
    }
    let since = Instant::now();
    while apiserver.count_events().unwrap_or_else(|error| panic!("{error}")) > 0 {
        assert!(since.elapsed() < EVENTS_GONE, "events have not ended");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(apiserver.finish(), Vec::<String>::new());
}

#[test]
fn upstream_serves_an_apiserver() {
    everything_is_right(oracle::program("etcd").unwrap_or_else(|missing| panic!("{missing}")));
}

#[test]
fn an_apiserver_sees_everything_in_order_and_as_it_was() {
    everything_is_right(tested::program());
}
