//! Crash: real kills of a real server on a real disk, under load, by clients that remember what they were told.
//!
//! | variable       | meaning                                                   |
//! |----------------|-----------------------------------------------------------|
//! | `PINION_KILLS` | kills in all (default 50)                                 |
//! | `PINION_SEED`  | seed of the random moments (default 1); the load is random |
//! | `PINION_BIN`   | the program to test instead of the one just built         |

#[path = "conformance/seeded.rs"]
mod seeded;
#[path = "tested/launch.rs"]
mod tested;

mod crash {
    pub mod damage;
    pub mod ledger;
    pub mod long;
    pub mod rounds;
    pub mod writers;
}

use std::{
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

use bench_harness::{
    admin::Admin,
    oracle,
    process::{Error, Kind, Launch, Server},
};
use crash::{
    damage, long,
    rounds::{Campaign, block_on},
    writers::{self, Values},
};

/// Between two looks at a server.
const LOOK: Duration = Duration::from_millis(20);
/// A graceful end under load may take so long on the slowest machine.
const GRACE: Duration = Duration::from_secs(60);

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text}: not a number")),
        Err(_) => default,
    }
}

/// Beside the build, so on a real disk.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("make a directory")
}

fn upstream(data_dir: &Path) -> Launch {
    Launch::etcd(oracle::program("etcd").unwrap_or_else(|missing| panic!("{missing}")), data_dir)
}

fn kill_rounds(name: &str, rounds: u64, args: &[&str], values: Values) {
    let (directory, seed) = (directory(), number("PINION_SEED", 1));
    let mut campaign = Campaign::begin_tested(&directory.path().join("data"), args, seed)
        .unwrap_or_else(|why| panic!("{name}: {why}"));
    campaign.values = values;
    for round in 1..=rounds {
        campaign.kill_round().unwrap_or_else(|wrong| panic!("{name}, seed {seed}, kill {round}: {wrong}"));
    }
    println!(
        "{name}: {rounds} kills under load and {} during a start, {} acknowledged writes, none missing",
        campaign.killed_starting,
        campaign.ledger.acknowledged()
    );
    assert!(campaign.ledger.acknowledged() > 0, "the clients never got an answer: nothing was tested");
}

#[test]
fn acknowledged_writes_survive_kills() {
    let kills = number("PINION_KILLS", 50);
    kill_rounds("segments as by default", kills - kills / 2, &[], Values::Mixed);
    // Segments as small as they may be and large values, so that kills meet the change from one to the next.
    let small = ["--wal-segment-bytes=16777216"];
    let args: &[&str] = if tested::kind(&tested::program()) == Kind::Pinion { &small } else { &[] };
    kill_rounds("small segments", kills / 2, args, Values::Large);
}

/// Ends a server with SIGTERM under load, and checks that nothing acknowledged is missing afterwards.
fn terminated_under_load(launch: Launch) -> ExitStatus {
    let mut status = None;
    let mut campaign =
        Campaign::begin(launch, number("PINION_SEED", 1)).unwrap_or_else(|why| panic!("{why}"));
    let terminate = |server: &mut Server| {
        status = Some(server.terminate(GRACE).map_err(|error| error.to_string())?);
        Ok(())
    };
    campaign.load_until(Duration::from_millis(800), terminate).unwrap_or_else(|wrong| panic!("{wrong}"));
    campaign.server.start_again().unwrap_or_else(|error| panic!("{error}"));
    campaign.verify().unwrap_or_else(|wrong| panic!("{wrong}"));
    status.expect("it was terminated")
}

#[test]
fn a_graceful_stop_under_load_loses_nothing_and_ends_as_upstream_does() {
    let directory = directory();
    let tested = terminated_under_load(tested::launch(tested::program(), &directory.path().join("tested")));
    let upstream = terminated_under_load(upstream(&directory.path().join("upstream")));
    let ending = |status: ExitStatus| (status.code(), status.signal());
    assert_eq!(ending(tested), ending(upstream), "exit code and signal, tested and upstream");
}

/// Neither the end nor the start waits for what is long, and all of it is there afterwards or nothing.
#[test]
fn a_long_deletion_holds_up_no_end_and_is_never_seen_in_part() {
    const KEYS: u64 = 100_000;
    let directory = directory();
    let mut campaign =
        Campaign::begin_tested(&directory.path().join("data"), &[], 1).unwrap_or_else(|why| panic!("{why}"));
    let server = &mut campaign.server;
    for moment in [5, 20, 60, 150].map(Duration::from_millis) {
        long::load(server, KEYS).unwrap_or_else(|why| panic!("{why}"));
        let deleted = long::delete_and_end(server, moment, GRACE).unwrap_or_else(|why| panic!("{why}"));
        server.start_again().unwrap_or_else(|error| panic!("{error}"));
        let left = long::count(server).unwrap_or_else(|why| panic!("{why}"));
        assert!(left == 0 || left == KEYS, "{left} of {KEYS} keys are left");
        assert!(
            deleted.is_none_or(|deleted| (deleted, left) == (KEYS, 0)),
            "{deleted:?}, and {left} are left"
        );
    }
}

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    let directory = directory();
    let data_dir = directory.path().join("data");
    let mut first = Campaign::begin_tested(&data_dir, &[], 1).unwrap_or_else(|why| panic!("{why}"));
    if tested::kind(&tested::program()) == Kind::Etcd {
        // Upstream waits for the lock instead.
        return;
    }
    let second =
        tested::launch(tested::program(), &data_dir).log(directory.path().join("second.log")).start();
    match second {
        Err(Error::Exited { status, tail, .. }) => {
            assert!(!status.success(), "ended with {status}");
            let path = data_dir.to_str().expect("a plain path");
            assert!(tail.contains(path), "the message does not name the directory:\n{tail}");
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a second process took the same data directory"),
    }
    first.verify().unwrap_or_else(|wrong| panic!("the first process suffered: {wrong}"));
}

/// Bytes changed in the middle of the log: what follows was acknowledged, so it is not cut off but refused, and the
/// message names the file.
#[test]
fn a_damaged_log_is_refused() {
    if tested::kind(&tested::program()) == Kind::Etcd {
        return;
    }
    let directory = directory();
    let data_dir = directory.path().join("data");
    let mut campaign = Campaign::begin_tested(&data_dir, &[], 1).unwrap_or_else(|why| panic!("{why}"));
    let stop = |server: &mut Server| server.terminate(GRACE).map(drop).map_err(|error| error.to_string());
    campaign.load_until(Duration::from_millis(900), stop).unwrap_or_else(|why| panic!("{why}"));

    let segment = damage::first_segment(&data_dir);
    for spot in damage::spots(&segment) {
        let undo = damage::flip(&segment, spot);
        match campaign.server.start_again() {
            Err(Error::Exited { status, tail, .. }) => {
                assert!(!status.success(), "damage at {spot}: ended with {status}");
                let path = segment.to_str().expect("a plain path");
                assert!(tail.contains(path), "damage at {spot}: the message does not name {path}:\n{tail}");
            }
            Err(other) => panic!("damage at {spot}: {other}"),
            Ok(()) => panic!("damage at {spot} of {} was not noticed", segment.display()),
        }
        undo();
    }
    campaign.server.start_again().unwrap_or_else(|error| panic!("undamaged again: {error}"));
    campaign.verify().unwrap_or_else(|wrong| panic!("undamaged again: {wrong}"));
}

/// A mapped file that the disk does not give any more: the server ends, and says why.
#[test]
fn a_mapped_file_that_cannot_be_read_ends_the_server_with_a_word() {
    if tested::kind(&tested::program()) == Kind::Etcd {
        return;
    }
    let directory = directory();
    let data_dir = directory.path().join("data");
    let args = ["--snapshot-count=100"];
    let mut campaign = Campaign::begin_tested(&data_dir, &args, 1).unwrap_or_else(|why| panic!("{why}"));
    let mut ended = None;
    let cut = |server: &mut Server| {
        let since = Instant::now();
        let patience =
            |what: &str| if since.elapsed() < GRACE { Ok(()) } else { Err(format!("{what} in vain")) };
        while !std::fs::read_to_string(server.log_path()).is_ok_and(|log| log.contains("saved snapshot")) {
            patience("waited for a checkpoint")?;
            std::thread::sleep(LOOK);
        }
        damage::cut_checkpoint(&data_dir);
        // A backup looks at everything.
        let copy = directory.path().join("copy.db");
        let saved = Admin::connect(server.addr()).and_then(|admin| admin.save_snapshot(&copy));
        if saved.is_ok() {
            return Err("what cannot be read was backed up".to_owned());
        }
        while ended.is_none() {
            patience("waited for the end")?;
            std::thread::sleep(LOOK);
            ended = server.exited().map_err(|error| error.to_string())?;
        }
        Ok(())
    };
    campaign.load_until(Duration::from_millis(1), cut).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(ended.and_then(|status| status.signal()), Some(libc::SIGBUS));
    let tail = campaign.server.log_tail().expect("read the log");
    let directory = data_dir.join("member/shard-0/snap");
    assert!(tail.contains(&format!("cannot read {}/", directory.display())), "{tail}");
}

/// The check checked: the data directory is swapped for an older copy of itself.
#[test]
fn a_lost_tail_is_noticed() {
    let directory = directory();
    let data_dir = directory.path().join("data");
    let older = directory.path().join("older");
    let stop = |server: &mut Server| server.terminate(GRACE).map(drop).map_err(|error| error.to_string());
    let mut campaign = Campaign::begin(upstream(&data_dir), 1).unwrap_or_else(|why| panic!("{why}"));
    for keep in [true, false] {
        campaign.load_until(Duration::from_millis(400), stop).unwrap_or_else(|why| panic!("{why}"));
        if keep {
            let copied = Command::new("cp").arg("-a").args([&data_dir, &older]).status().expect("run cp");
            assert!(copied.success());
            campaign.server.start_again().unwrap_or_else(|error| panic!("{error}"));
        }
    }
    std::fs::remove_dir_all(&data_dir).expect("remove the newer directory");
    std::fs::rename(&older, &data_dir).expect("put the older one in its place");
    campaign.server.start_again().unwrap_or_else(|error| panic!("{error}"));
    let endpoint = campaign.server.endpoint();
    let wrong =
        block_on(writers::verify(&endpoint, &mut campaign.ledger)).expect_err("a loss must be noticed");
    println!("noticed: {wrong}");
}
