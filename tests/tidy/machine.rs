//! What only `env` may name: the executor, and on the way of a request the machine itself.

use std::path::Path;

use crate::paths::named;

const EXECUTOR: &str = "glommio";
/// What a request passes, none of which asks the machine for anything but through `env`.
const STAGES: [&str; 7] = ["net", "protocol", "service", "shard", "storage", "state", "consensus"];
/// Parts of the standard library, and crates, that are the machine. Addresses and durations are values.
const MACHINE: [&str; 10] = [
    "std::fs",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::os",
    "libc",
    "rustix",
];

pub fn named_outside_env(path: &Path, text: &str) -> Vec<String> {
    let folder = path.iter().nth(1).map(|part| part.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = folder.trim_end_matches(".rs");
    let mut forbidden = vec![EXECUTOR];
    if STAGES.contains(&folder) {
        forbidden.extend(MACHINE);
    }
    if folder == "env" {
        forbidden.clear();
    }
    let named = named(path, text).into_iter().map(|path| path.join("::")).collect::<Vec<_>>();
    let names = |word: &str| {
        named
            .iter()
            .any(|path| path.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")))
    };
    forbidden.retain(|word| names(word));
    forbidden
        .iter()
        .map(|word| format!("{}: names {word}, which is for `env` alone", path.display()))
        .collect()
}

#[test]
fn every_rule_can_fail() {
    let complaints = |path: &str, text: &str| named_outside_env(Path::new(path), text).len();
    for text in [
        "use glommio::timer::sleep;",
        "use std::fs::File;",
        "use std::{\n    io,\n    time::{Duration, Instant},\n};",
        "use std::time::{self};\nfn f() { std::thread::sleep(x) }",
        "fn f() -> i32 { libc::EIO }",
    ] {
        let everywhere = usize::from(text.contains(EXECUTOR));
        assert_eq!(complaints("src/net/a.rs", text), 1, "{text}");
        assert_eq!(complaints("src/service.rs", text), 1, "{text}");
        assert_eq!(complaints("src/server/a.rs", text), everywhere, "{text}");
        assert_eq!(complaints("src/env/real.rs", text) + complaints("src/net/tests.rs", text), 0, "{text}");
    }
    for text in
        ["// std::fs::File", "use std::{net::SocketAddr, time::Duration};", "use crate::env::{Env, Instant};"]
    {
        assert_eq!(complaints("src/net/a.rs", text), 0, "{text}");
    }
}
