//! etcdctl of 3.4 with its commands of the v2 API.

use std::process::Command;

use super::pair::{Side, upstream};

/// In order; each is a line of words.
pub const COMMANDS: &[&str] = &[
    "set /message hello",
    "get /message",
    "-o extended get /message",
    "-o json get /message",
    "set /message again --ttl 1000",
    "set /message other --swap-with-value again",
    "set /message other --swap-with-value nope",
    "set /message third --swap-with-index 4",
    "mk /message x",
    "mk /new x",
    "mk /inorder x --in-order",
    "mkdir /dir",
    "mkdir /dir",
    "mkdir /dir/timed --ttl 1000",
    "setdir /dir2",
    "setdir /dir2",
    "updatedir /dir2 --ttl 1000",
    "update /new y",
    "update /none y",
    "ls",
    "ls /",
    "ls -p /",
    "ls --sort --recursive /",
    "ls /none",
    "ls --quorum /dir",
    "get /dir",
    "get /none",
    "get --quorum /new",
    "rm /new",
    "rm /dir",
    "rmdir /dir",
    "rmdir /dir/timed",
    "rm --dir /dir2",
    "rm --recursive /dir",
    "rm /message --with-value nope",
    "rm /message --with-index 1",
    "rm /message --with-value other",
    "set",
    "get",
    "watch",
    "set / x",
    "rm /",
];

/// Those that ask for the members first, and some that show them.
pub const SYNCED: &[&str] = &[
    "member list",
    "cluster-health",
    "--debug set /debug x",
    "member remove 123",
    "member remove xyz",
    "member add",
    "get /debug",
];

/// The same of one of them, without ids and ports.
pub fn run_synced(side: &Side, line: &str) -> (Option<i32>, String, String) {
    let (code, output, errors) = run_with(side, &["--endpoints"], line);
    (code, without_numbers(&output), without_numbers(&errors))
}

fn without_numbers(text: &str) -> String {
    let runs = text.split_inclusive(|sign: char| !sign.is_ascii_hexdigit());
    runs.map(|run| if run.contains(|sign: char| sign.is_ascii_digit()) { "#" } else { run }).collect()
}

/// Exit code, output and errors.
pub fn run(side: &Side, line: &str) -> (Option<i32>, String, String) {
    run_with(side, &["--no-sync", "--endpoints"], line)
}

fn run_with(side: &Side, flags: &[&str], line: &str) -> (Option<i32>, String, String) {
    let program = upstream("etcdctl-3.4");
    let output = Command::new(program)
        .env("ETCDCTL_API", "2")
        .args(flags)
        .arg(side.endpoint())
        .args(line.split(' '))
        .output()
        .expect("etcdctl runs");
    let text = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).expect("text").replace(&side.endpoint(), "ENDPOINT");
        let mut lines: Vec<_> = text.lines().map(without_clock).collect();
        if line.starts_with("ls") {
            // etcd lists in no order.
            lines.sort();
        }
        lines.join("\n")
    };
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn without_clock(line: &str) -> String {
    match line.find("\"expiration\":\"") {
        Some(at) => line[..at].to_owned(),
        None => line.to_owned(),
    }
}
