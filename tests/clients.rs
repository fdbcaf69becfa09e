//! Unmodified clients of several languages do their whole job against one member.
//!
//! Each client has a folder in `tests/clients/` with a suite in its own language: a program that takes the server's address
//! and the parts to run (`kv txn watch lease lock auth`; others for the v2 API), says `PART ok` after each, and ends with an error at the first
//! thing that is not as it must be. On a line `restart` or `kill` the server is ended, in order or at once, and started
//! again on the same address; the suite waits for a line that says it was done. Suites know nothing of which server they
//! talk to: one that fails against upstream's etcd is wrong itself.
//!
//! | variable       | meaning                                                      |
//! |----------------|------------------------------------------------------------------------------------|
//! | `PINION_PARTS` | the parts to run, with spaces between them                      |
//! | `PINION_BIN`   | the program to test (`tests/oracle/bin/etcd` to test the suites; it has no v2 API) |

#[path = "tested/launch.rs"]
mod tested;

mod clients {
    pub mod suite;
}

use clients::suite::Suite;

/// client/v3 with its concurrency recipes and its mirror, leasing and ordering wrappers.
#[test]
fn go() {
    Suite::built("go").program("bin/go/suite").run();
}

/// client/v2, and call for call what locksmith, vulcand and confd do with it.
#[test]
fn go_v2() {
    Suite::built("go-v2")
        .program("bin/go-v2/suite")
        .of_v2("keys waits members locksmith vulcand confd")
        .run();
}

#[test]
fn python_etcd3() {
    Suite::built("python")
        .program("bin/python/etcd3/bin/python")
        .arg("-B")
        .source("python/etcd3_suite.py")
        .run();
}

#[test]
fn python_etcd_v2() {
    Suite::built("python")
        .program("bin/python/etcd_v2/bin/python")
        .arg("-B")
        .source("python/etcd_v2_suite.py")
        .of_v2("keys waits members lock restarts")
        .run();
}

#[test]
fn python_aetcd() {
    Suite::built("python")
        .program("bin/python/aetcd/bin/python")
        .arg("-B")
        .source("python/aetcd_suite.py")
        .run();
}

/// The npm client `etcd3`.
#[test]
fn node() {
    let suite = Suite::built("node").program("node").source("node/suite.js");
    suite.env("NODE_PATH", "bin/node/node_modules").run();
}

/// `etcd-client`. Its locks and elections are the server's.
#[test]
fn rust() {
    Suite::built("rust").program("bin/rust/debug/clients-rust").run();
}

/// `jetcd`. Its locks are the server's, too.
#[test]
fn java() {
    let suite = Suite::built("java")
        .program("java")
        .arg("-cp")
        .classes(["bin/java/classes", "bin/java/dependency/*"]);
    suite.arg("Suite").run();
}
