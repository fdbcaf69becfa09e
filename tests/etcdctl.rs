//! An unmodified upstream etcdctl does the same things to upstream etcd and to Pinion: same output, same errors, same
//! exit code.
//!
//! `PINION_BIN` names another program to test than the one just built.

#[path = "tested/launch.rs"]
mod tested;

mod etcdctl {
    pub mod holding;
    pub mod output;
    pub mod script;
    pub mod watching;
}

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bench_harness::{
    oracle,
    pb::etcdserverpb::{
        self as pb, cluster_client::ClusterClient, lease_client::LeaseClient,
        maintenance_client::MaintenanceClient,
    },
    process::Server,
};
use etcdctl::{
    output::{self, Names},
    script::{self, Step},
    watching,
};

/// Upstream decides its storage version some time after it is ready.
const SETTLED_TIMEOUT: Duration = Duration::from_secs(60);
/// A lease of some seconds has ended by then on a machine that is not quiet.
const LEASE_ENDED_TIMEOUT: Duration = Duration::from_secs(60);

/// What one run of etcdctl did.
#[derive(Debug, PartialEq)]
struct Run {
    code: Option<i32>,
    output: String,
    errors: String,
}

struct Side {
    server: Server,
    names: Names,
    member: String,
    /// The one that was there last.
    learner: String,
    lease: String,
}

impl Side {
    fn start(program: &Path, data_dir: &Path) -> Self {
        let launch = tested::launch(program.to_owned(), data_dir).arg("--bcrypt-cost=4");
        let server = launch.start().unwrap_or_else(|error| panic!("{error}"));
        let list = members(&server);
        let names = Names::of(&list, &server.addr().to_string());
        Self {
            server,
            names,
            member: format!("{:x}", list.members[0].id),
            learner: String::new(),
            lease: String::new(),
        }
    }

    fn wait_until_settled(&self, version: &str) {
        let started = Instant::now();
        loop {
            let status = block_on(async {
                let mut maintenance =
                    MaintenanceClient::connect(self.server.endpoint()).await.expect("connect");
                maintenance.status(pb::StatusRequest {}).await.expect("status").into_inner()
            });
            if status.storage_version == version {
                return;
            }
            assert!(started.elapsed() < SETTLED_TIMEOUT, "not {version} after {SETTLED_TIMEOUT:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn wait_until_lease_ended(&self) {
        let started = Instant::now();
        while leases(&self.server).leases.iter().any(|lease| format!("{:x}", lease.id) == self.lease) {
            assert!(started.elapsed() < LEASE_ENDED_TIMEOUT, "not ended after {LEASE_ENDED_TIMEOUT:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A step, and whatever must be before the next one.
    fn take(&mut self, etcdctl: &Path, step: &Step) -> Run {
        let run = self.run(etcdctl, step);
        // A client that does not know the command changes nothing.
        if let Some(version) = step.settles.filter(|_| run.code == Some(0)) {
            self.wait_until_settled(version);
        }
        if step.outlives_lease {
            self.wait_until_lease_ended();
        }
        run
    }

    fn command(&self, etcdctl: &Path, step: &Step) -> Command {
        let mut command = Command::new(etcdctl);
        // What the caller's shell exports must not configure the client.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("ETCDCTL_")) {
                command.env_remove(name);
            }
        }
        command.arg(format!("--endpoints={}", self.server.addr())).args(step.args.iter().map(|arg| {
            match arg.as_str() {
                script::MEMBER => self.member.clone(),
                script::LEARNER => self.learner.clone(),
                _ => arg.replace(script::LEASE, &self.lease),
            }
        }));
        command
    }

    fn run(&mut self, etcdctl: &Path, step: &Step) -> Run {
        let mut command = self.command(etcdctl, step);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("run etcdctl");
        let mut stdin = child.stdin.take().expect("a pipe");
        if let Err(error) = stdin.write_all(step.stdin.as_bytes()) {
            // It may refuse its arguments without reading.
            assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe, "write to etcdctl");
        }
        drop(stdin);
        let done = child.wait_with_output().expect("wait for etcdctl");
        // Only then: while users must say who they are, nobody here could ask.
        let may_have_come = step.args.iter().any(|arg| arg == "--learner");
        let list = may_have_come.then(|| members(&self.server));
        if let Some(learner) = list.iter().flat_map(|list| &list.members).find(|member| member.is_learner) {
            self.names.add_learner(learner);
            self.learner = format!("{:x}", learner.id);
        }
        if step.args[0] == "lease" {
            for lease in leases(&self.server).leases {
                if self.names.add_lease(lease.id) {
                    self.lease = format!("{:x}", lease.id);
                }
            }
        }
        let errors = output::errors(&done.stderr, &self.names);
        // A command that fails prints no document.
        let shape = if done.status.success() { step.shape } else { output::Shape::Text };
        let output = output::normal(shape, &done.stdout, &self.names)
            .unwrap_or_else(|why| format!("{why}: {}", String::from_utf8_lossy(&done.stdout)));
        Run { code: done.status.code(), output, errors }
    }
}

fn members(server: &Server) -> pb::MemberListResponse {
    let list = block_on(async {
        let mut cluster = ClusterClient::connect(server.endpoint()).await.expect("connect");
        cluster.member_list(pb::MemberListRequest { linearizable: true }).await.expect("member list")
    });
    list.into_inner()
}

fn leases(server: &Server) -> pb::LeaseLeasesResponse {
    let list = block_on(async {
        let mut leases = LeaseClient::connect(server.endpoint()).await.expect("connect");
        leases.lease_leases(pb::LeaseLeasesRequest {}).await.expect("leases")
    });
    list.into_inner()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("build a runtime").block_on(future)
}

#[test]
fn an_unmodified_etcdctl_sees_no_difference() {
    compare("etcdctl");
}

/// What of its commands there no longer is, it says to both.
#[test]
fn one_of_3_5_sees_none_either() {
    compare("etcdctl-3.5");
}

fn compare(client: &str) {
    let program = |name| oracle::program(name).unwrap_or_else(|missing| panic!("{missing}"));
    let (etcd, etcdctl) = (program("etcd"), program(client));
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("make a directory");
    let mut upstream = Side::start(&etcd, &directory.path().join("upstream"));
    let mut tested = Side::start(&tested::program(), &directory.path().join("tested"));
    upstream.wait_until_settled("3.7.0");
    tested.wait_until_settled("3.7.0");

    let (mut different, mut succeeded) = (Vec::new(), 0);
    let steps = script::steps();
    for step in &steps {
        let (expected, seen) = (upstream.take(&etcdctl, step), tested.take(&etcdctl, step));
        succeeded += usize::from(expected.code == Some(0));
        if expected != seen {
            different.push(format!(
                "{client} {}  (input {:?})\n--- upstream: {:?}\n{}\n{}\n--- tested: {:?}\n{}\n{}",
                step.args.join(" "),
                step.stdin,
                expected.code,
                expected.output,
                expected.errors,
                seen.code,
                seen.output,
                seen.errors
            ));
        }
    }
    println!(
        "{client}: {} commands, {succeeded} of them succeed with upstream, {} differ",
        steps.len(),
        different.len()
    );
    assert!(
        different.is_empty(),
        "{client}: {} commands differ:\n\n{}",
        different.len(),
        different.join("\n\n")
    );
}

#[test]
fn an_unmodified_etcdctl_watches_the_same() {
    let program = |name| oracle::program(name).unwrap_or_else(|missing| panic!("{missing}"));
    let (etcd, etcdctl) = (program("etcd"), program("etcdctl"));
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("make a directory");
    let mut upstream = Side::start(&etcd, &directory.path().join("upstream"));
    let mut tested = Side::start(&tested::program(), &directory.path().join("tested"));
    for case in watching::cases() {
        let (expected, seen) = (upstream.watch(&etcdctl, &case), tested.watch(&etcdctl, &case));
        assert_eq!(seen, expected, "{}", case.name);
    }
}

#[test]
fn an_unmodified_etcdctl_locks_and_elects_the_same() {
    let program = |name| oracle::program(name).unwrap_or_else(|missing| panic!("{missing}"));
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("make a directory");
    let upstream = Side::start(&program("etcd"), &directory.path().join("upstream"));
    let tested = Side::start(&tested::program(), &directory.path().join("tested"));
    for client in ["etcdctl", "etcdctl-3.5"] {
        let etcdctl = program(client);
        assert_eq!(tested.hold_in_turn(&etcdctl), upstream.hold_in_turn(&etcdctl), "{client}");
    }
}
