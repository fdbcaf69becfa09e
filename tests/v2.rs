//! The v2 API beside that of etcd 3.4: the same calls to both, in plain HTTP; status, headers and bodies are compared byte by
//! byte, except clocks and ids.
//!
//! `PINION_BIN` names another program to test than the one just built; `PINION_CALLS` has more calls drawn.

#[path = "conformance/seeded.rs"]
#[allow(dead_code, reason = "other tests draw more from it")]
mod seeded;
#[path = "tested/launch.rs"]
mod tested;

mod v2 {
    pub mod ctl;
    pub mod generator;
    pub mod http;
    pub mod named;
    pub mod pair;
}

use bench_harness::process::cluster::Cluster;
use v2::{
    generator::Generator,
    http::Request,
    pair::{Pair, Side},
};

/// Calls of one pair of servers.
const CALLS: usize = 4_000;
const SEEDS: u64 = 3;

#[test]
fn named_calls_are_answered_as_by_etcd() {
    let pair = Pair::start();
    let mut differences = Vec::new();
    for call in v2::named::CALLS {
        differences.extend(pair.compare(&Request::parse(call)));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

#[test]
fn drawn_calls_are_answered_as_by_etcd() {
    let calls = std::env::var("PINION_CALLS").map_or(CALLS, |calls| calls.parse().expect("a number"));
    for seed in 0..SEEDS {
        let pair = Pair::start();
        let mut generator = Generator::new(seed);
        for number in 0..calls {
            let request = generator.next();
            if let Some(difference) = pair.compare(&request) {
                panic!("seed {seed}, call {number}:\n{difference}");
            }
        }
    }
}

#[test]
fn who_waits_is_told_as_by_etcd() {
    let pair = Pair::start();
    for (wait, calls) in v2::named::WAITS {
        let mut begun = pair.sides.each_ref().map(|side| side.begin(&Request::parse(wait)));
        for call in *calls {
            assert_eq!(pair.compare(&Request::parse(call)), None);
        }
        let [theirs, ours] = begun.each_mut().map(|wait| wait.end());
        assert_eq!(ours, theirs, "{wait} after {calls:?}");
    }
}

/// The one name with which both fit: no clock, and no order of what ends at the same time.
#[test]
fn what_has_a_time_ends_as_with_etcd() {
    let pair = Pair::start();
    let calls = ["PUT /v2/keys/a value=x&ttl=1", "PUT /v2/keys/d dir=true&ttl=1", "PUT /v2/keys/d/e value=y"];
    for call in calls {
        assert_eq!(pair.compare(&Request::parse(call)), None);
    }
    let waits = pair.sides.each_ref().map(|side| {
        ["GET /v2/keys/a?wait=true&waitIndex=5", "GET /v2/keys/d/e?wait=true&waitIndex=7"]
            .map(|wait| side.begin(&Request::parse(wait)).end())
    });
    let [theirs, ours] = waits;
    // Which of the two ended first is not the same on both.
    let without_indices = |answers: [v2::pair::Answer; 2]| answers.map(|answer| answer.without_numbers());
    assert_eq!(without_indices(ours), without_indices(theirs));
    for side in &pair.sides {
        until_gone(side, "GET /v2/keys/d");
    }
    for call in ["GET /v2/keys/a", "GET /v2/keys/d", "PUT /v2/keys/a value=x"] {
        assert_eq!(pair.compare(&Request::parse(call)), None);
    }
}

fn until_gone(side: &Side, call: &str) {
    while side.answer(&Request::parse(call)).status != 404 {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// Of three members two are there only by name: with one of them nothing could be decided.
#[test]
fn members_come_and_go_as_with_etcd() {
    let pair = Pair::start();
    let json = |method: &str, target: &str, body: &str| Request {
        media: "application/json",
        ..Request::parse(&format!("{method} {target} {body}"))
    };
    for request in [
        json("GET", "/v2/members", ""),
        json("GET", "/v2/members/leader", ""),
        json("POST", "/v2/members", "{}"),
        json("POST", "/v2/members", r#"{"peerURLs":[]}"#),
        json("POST", "/v2/members", r#"{"peerURLs":["ftp://a:1"]}"#),
        json("POST", "/v2/members", r#"{"peerURLs":["http://a"]}"#),
        json("POST", "/v2/members", r#"{"peerURLs":["http://a:1/b"]}"#),
        json("PUT", "/v2/members/1", r#"{"peerURLs":["http://a:1"]}"#),
        json("DELETE", "/v2/members/1", ""),
    ] {
        assert_eq!(pair.compare_members(&request), None);
    }
}

#[test]
fn etcdctl_says_the_same_of_both() {
    let pair = Pair::start();
    let mut differences = Vec::new();
    for line in v2::ctl::COMMANDS {
        let [theirs, ours] = pair.sides.each_ref().map(|side| v2::ctl::run(side, line));
        if theirs != ours {
            differences.push(format!("etcdctl {line}\ntheirs {theirs:?}\nours   {ours:?}"));
        }
    }
    for line in v2::ctl::SYNCED {
        let [theirs, ours] = pair.sides.each_ref().map(|side| v2::ctl::run_synced(side, line));
        if theirs != ours {
            differences.push(format!("etcdctl {line}\ntheirs {theirs:?}\nours   {ours:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

/// Names of fields in their order: what they say is each member's own.
#[test]
fn stats_have_the_fields_of_etcds() {
    let pair = Pair::start();
    assert_eq!(pair.compare(&Request::parse("PUT /v2/keys/a value=x")), None);
    for path in ["/v2/stats/self", "/v2/stats/leader", "/v2/stats/store", "/v2/stats", "/v2/stats/none"] {
        for method in ["GET", "POST"] {
            let call = Request::parse(&format!("{method} {path}"));
            let [theirs, ours] = pair.sides.each_ref().map(|side| {
                let answer = side.answer(&call);
                let quoted = answer.body.split('"').collect::<Vec<_>>();
                let names = quoted.windows(2).filter(|pair| pair[1].starts_with(':'));
                let names: Vec<_> = names.map(|pair| pair[0].to_owned()).collect();
                (answer.status, answer.headers, names)
            });
            assert_eq!(ours, theirs, "{method} {path}");
        }
    }
    let counted = pair.sides[1].answer(&Request::parse("GET /v2/stats/store"));
    assert!(counted.body.contains("\"setsSuccess\":1,\"setsFail\":0,"), "{counted:?}");
}

/// Who leaves in the middle of waiting is forgotten.
#[test]
fn who_leaves_waits_no_more() {
    let pair = Pair::start();
    let [_, ours] = &pair.sides;
    let waiting = |count: usize| {
        let counted = ours.answer(&Request::parse("GET /v2/stats/store")).body;
        counted.ends_with(&format!("\"watchers\":{count}}}"))
    };
    let waits =
        ["/v2/keys/a?wait=true", "/v2/keys/a?wait=true&stream=true", "/v2/keys?wait=true&recursive=true"];
    let waits = waits.map(|target| ours.begin(&Request::parse(&format!("GET {target}"))));
    assert!(waiting(3));
    drop(waits);
    while !waiting(0) {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Written on one member, read and waited for on another, and there after each was killed.
#[test]
fn any_member_serves_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let launch = |number: usize| {
        let data = directory.path().join(number.to_string());
        tested::launch(tested::program(), &data).arg("--enable-v2").arg("--snapshot-count=50")
    };
    let mut cluster = Cluster::start(3, launch).unwrap_or_else(|error| panic!("{error}"));
    let ask = |side: &Side, call: &str| side.answer(&Request::parse(call));
    let mut sides: Vec<_> = cluster.members.iter().map(Side::of).collect();
    for number in 0..200 {
        let set = ask(&sides[number % 3], &format!("PUT /v2/keys/d/{} value={number}", number % 10));
        assert!([200, 201].contains(&set.status), "{set:?}");
        let read = ask(&sides[(number + 1) % 3], &format!("GET /v2/keys/d/{}?quorum=true", number % 10));
        assert!(read.body.contains(&format!("\"value\":\"{number}\"")), "{number}: {read:?}");
    }
    let waits = sides.iter().map(|side| side.begin(&Request::parse("GET /v2/keys/t?wait=true&stream=true")));
    let mut waits: Vec<_> = waits.collect();
    assert_eq!(ask(&sides[1], "PUT /v2/keys/t value=x&ttl=1").status, 201);
    for wait in &mut waits {
        assert!(wait.end().body.starts_with("{\"action\":\"set\""));
        assert!(wait.end().body.starts_with("{\"action\":\"expire\""));
    }
    drop(waits);
    let mut leaders: Vec<_> = sides.iter().map(|side| ask(side, "GET /v2/stats/leader").status).collect();
    leaders.sort_unstable();
    assert_eq!(leaders, [200, 403, 403]);
    let before = ask(&sides[0], "GET /v2/keys?recursive=true&quorum=true");
    // One after another: none is ready before a quorum runs.
    for member in &mut cluster.members {
        member.kill().unwrap_or_else(|error| panic!("{error}"));
        member.start_again().unwrap_or_else(|error| panic!("{error}"));
    }
    sides = cluster.members.iter().map(Side::of).collect();
    for side in &sides {
        assert_eq!(ask(side, "GET /v2/keys?recursive=true&quorum=true"), before);
        let told = side.begin(&Request::parse("GET /v2/keys/t?wait=true&waitIndex=100")).end();
        assert!(told.body.contains("/t"), "its history is there, too: {told:?}");
    }
}

#[test]
fn without_the_flag_there_is_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let launch = tested::launch(tested::program(), &directory.path().join("data"));
    let server = launch.start().unwrap_or_else(|error| panic!("{error}"));
    let side = Side::of(&server);
    for path in ["/v2/keys", "/v2/keys/a", "/v2/machines", "/v2/members", "/v2"] {
        let answer = side.answer(&Request::parse(&format!("GET {path}")));
        assert_eq!((answer.status, answer.body.as_str()), (404, "404 page not found\n"), "{path}");
    }
}
