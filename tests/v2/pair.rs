//! Two servers side by side, started empty: etcd 3.4 and the one under test.

use std::{cell::RefCell, collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use bench_harness::{
    http, oracle,
    process::{Launch, Server},
};

use super::http::{Client, Request, Response};
use crate::tested;

pub struct Pair {
    /// Upstream first.
    pub sides: [Side; 2],
    _servers: [Server; 2],
    _directory: tempfile::TempDir,
}

pub struct Side {
    address: SocketAddr,
    client: RefCell<Client>,
}

/// What of an answer is compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// A request that is not answered at once.
pub struct Begun {
    client: Client,
    head: Response,
}

const COMPARED: [&str; 9] = [
    "content-type",
    "allow",
    "location",
    "x-content-type-options",
    "x-etcd-index",
    "x-etcd-cluster-id",
    "access-control-allow-origin",
    "access-control-allow-headers",
    "access-control-allow-methods",
];

impl Pair {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let etcd = upstream("etcd-3.4");
        let theirs = Launch::etcd(etcd, directory.path().join("theirs"));
        // At the URL it listens on, as upstream: it is in answers.
        let ours = Launch::etcd(tested::program(), directory.path().join("ours"));
        let servers = [theirs, ours.arg("--unsafe-no-fsync")]
            .map(|launch| launch.arg("--enable-v2").start().unwrap_or_else(|error| panic!("{error}")));
        Self { sides: servers.each_ref().map(Side::of), _servers: servers, _directory: directory }
    }

    /// The same where members' ids and ports are in the answer.
    pub fn compare_members(&self, request: &Request) -> Option<String> {
        let [theirs, ours] = self.sides.each_ref().map(|side| side.answer(request).without_members());
        (theirs != ours).then(|| format!("{request:?}\ntheirs {theirs:#?}\nours   {ours:#?}"))
    }

    /// What is different, if anything is.
    pub fn compare(&self, request: &Request) -> Option<String> {
        let [theirs, ours] = self.sides.each_ref().map(|side| side.answer(request));
        (theirs != ours).then(|| format!("{request:?}\ntheirs {theirs:#?}\nours   {ours:#?}"))
    }
}

impl Side {
    /// Once its cluster has a version, which etcd has in the tree.
    pub fn of(server: &Server) -> Self {
        let address = server.addr();
        let has_version = || {
            let version = http::get(address, "/version", Duration::from_secs(5)).expect("answered");
            !String::from_utf8_lossy(&version.body).contains("not_decided")
        };
        while !has_version() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { address, client: RefCell::new(Client::connect(address)) }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn answer(&self, request: &Request) -> Answer {
        let mut client = self.client.borrow_mut();
        client.send(request);
        Answer::of(client.receive(request.method == "HEAD"))
    }

    /// Its answer has begun when this returns.
    pub fn begin(&self, request: &Request) -> Begun {
        let mut client = Client::connect(self.address);
        client.send(request);
        let head = client.head();
        Begun { client, head }
    }
}

impl Begun {
    /// With the first of what follows.
    pub fn end(&mut self) -> Answer {
        let body = self.client.chunk().expect("something follows");
        let Response { status, headers, .. } = &self.head;
        Answer::of(Response { status: *status, headers: headers.clone(), body })
    }
}

impl Answer {
    fn of(response: Response) -> Self {
        let Response { status, headers, body } = response;
        let mut headers = headers;
        headers.retain(|name, _| COMPARED.contains(&name.as_str()));
        if let Some(id) = headers.get_mut("x-etcd-cluster-id") {
            assert!(!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id:?}");
            *id = "ID".into();
        }
        Self { status, headers, body: without_clocks(&String::from_utf8_lossy(&body)) }
    }

    /// Indices differ where it is not certain what came first.
    pub fn without_numbers(mut self) -> Self {
        self.headers.remove("x-etcd-index");
        self.body.retain(|sign| !sign.is_ascii_digit());
        self
    }
}

impl Answer {
    /// Each run of digits and letters of a hexadecimal number becomes a sign, if it has a digit.
    fn without_members(mut self) -> Self {
        let runs = self.body.split_inclusive(|sign: char| !sign.is_ascii_hexdigit());
        let runs = runs.map(|run| if run.contains(|sign: char| sign.is_ascii_digit()) { "#" } else { run });
        self.body = runs.collect();
        self
    }
}

/// A program of etcd 3.4.
pub fn upstream(name: &str) -> PathBuf {
    oracle::program(name).unwrap_or_else(|error| panic!("{error}; this one comes from tests/oracle/debian"))
}

/// Moments become a word, and what is left of a time its sign.
fn without_clocks(body: &str) -> String {
    let mut rest = body;
    let mut without = String::with_capacity(body.len());
    loop {
        let found =
            ["\"expiration\":\"", "\"ttl\":"].into_iter().filter_map(|mark| Some((rest.find(mark)?, mark)));
        let Some((at, mark)) = found.min() else { return without + rest };
        let (before, after) = rest.split_at(at + mark.len());
        without += before;
        let end = after.find(['"', ',', '}']).expect("it goes on");
        let (value, after) = after.split_at(end);
        match value.parse::<i64>() {
            Ok(seconds) => without += if seconds > 0 { "+" } else { "-" },
            Err(_) => {
                assert!(value.len() >= "2026-01-01T00:00:00Z".len() && value.ends_with('Z'), "{value:?}");
                without += "T";
            }
        }
        rest = after;
    }
}
