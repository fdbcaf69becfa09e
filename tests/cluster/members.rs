//! Several members as processes on loopback, of the program under test or of upstream; and etcd's tools against them.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use bench_harness::{oracle, process::ports};
use tempfile::TempDir;

/// How long anything may take that is waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);
const READY: &str = "ready to serve client requests";

/// Where a member is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub client: u16,
    pub peer: u16,
}

impl Place {
    pub fn client_url(self) -> String {
        format!("http://127.0.0.1:{}", self.client)
    }

    pub fn peer_url(self) -> String {
        format!("http://127.0.0.1:{}", self.peer)
    }
}

/// Places that nobody has taken just now.
pub fn places<const N: usize>() -> [Place; N] {
    std::array::from_fn(|_| {
        let ports = ports::free().expect("free ports");
        Place { client: ports.client, peer: ports.peer }
    })
}

/// One member; it ends with this.
pub struct Member {
    pub name: String,
    pub place: Place,
    pub dir: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Member {
    /// What it has logged in all its runs.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("it has a log")
    }

    /// The process that runs now.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("started").id()
    }

    pub fn wait_for(&self, text: &str) {
        self.wait_until(text, || self.log().contains(text));
    }

    pub fn wait_until(&self, what: &str, is_done: impl Fn() -> bool) {
        let began = Instant::now();
        while !is_done() {
            assert!(began.elapsed() < PATIENCE, "{}: no {what:?} in\n{}", self.name, self.log());
            thread::sleep(PAUSE);
        }
    }

    /// Until it serves. It may have served before.
    pub fn wait_until_ready(&mut self, times: usize) {
        let began = Instant::now();
        while self.log().matches(READY).count() < times {
            if let Some(status) = self.child.as_mut().expect("started").try_wait().expect("a child") {
                panic!("{} ended ({status}):\n{}", self.name, self.log());
            }
            assert!(began.elapsed() < PATIENCE, "{} is not ready:\n{}", self.name, self.log());
            thread::sleep(PAUSE);
        }
    }

    /// Until it ends by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let began = Instant::now();
        let child = self.child.as_mut().expect("started");
        loop {
            if let Some(status) = child.try_wait().expect("a child") {
                self.child = None;
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "{} goes on:\n{}", self.name, self.log());
            thread::sleep(PAUSE);
        }
    }

    /// Ends it as an operator does.
    pub fn stop(&mut self) {
        let child = self.child.as_mut().expect("started");
        let pid = i32::try_from(child.id()).expect("a pid");
        // SAFETY: sends a signal to our own child, which is not reaped yet.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
        self.ended();
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be waited for");
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Members that belong together, and what they were started with.
pub struct Cluster {
    /// What members that are started next run.
    pub program: PathBuf,
    pub root: TempDir,
    pub members: Vec<Member>,
    token: &'static str,
}

impl Cluster {
    pub fn new(program: &Path) -> Self {
        let root =
            tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target directory is writable");
        Self { program: program.to_owned(), root, members: Vec::new(), token: "token" }
    }

    /// All members at these places, founded together and serving.
    pub fn founded(program: &Path, places: &[Place]) -> Self {
        let mut cluster = Self::new(program);
        let initial = initial(places);
        for (at, place) in places.iter().enumerate() {
            cluster.launch(at, *place, &["--initial-cluster", &initial]);
        }
        cluster.members.iter_mut().for_each(|member| member.wait_until_ready(1));
        cluster
    }

    /// Starts a member without waiting for it; it is `m` and its number plus one, or the same as before if it was there.
    pub fn launch(&mut self, at: usize, place: Place, args: &[&str]) -> &mut Member {
        let name = format!("m{}", at + 1);
        let (dir, log) = (self.root.path().join(&name), self.root.path().join(format!("{name}.log")));
        let output: File =
            OpenOptions::new().create(true).append(true).open(&log).expect("the log is writable");
        let mut command = Command::new(&self.program);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        command.args(["--name", &name, "--initial-cluster-token", self.token]).arg("--data-dir").arg(&dir);
        let (client, peer) = (place.client_url(), place.peer_url());
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(args);
        let child = Some(command.spawn().expect("the program is executable"));
        let member = Member { name, place, dir, log, child };
        match self.members.get_mut(at) {
            Some(before) => *before = member,
            None => self.members.push(member),
        }
        assert!(at < self.members.len(), "members are started in order");
        &mut self.members[at]
    }

    pub fn endpoints(&self) -> String {
        self.members.iter().map(|member| member.place.client_url()).collect::<Vec<_>>().join(",")
    }

    /// Runs etcdctl against these endpoints: exit code, output, the last line of what it complained of.
    pub fn ctl(&self, endpoints: &str, args: &str) -> Run {
        let mut command = Command::new(tool("etcdctl"));
        command.args(["--endpoints", endpoints, "--command-timeout=20s"]).args(args.split(' '));
        Run::of(command.env_clear())
    }

    /// The same until it succeeds: members may be on their way.
    pub fn ctl_until_done(&self, endpoints: &str, args: &str) -> Run {
        let began = Instant::now();
        loop {
            let run = self.ctl(endpoints, args);
            if run.code == Some(0) || began.elapsed() > PATIENCE {
                assert_eq!(run.code, Some(0), "{args}: {run:?}");
                return run;
            }
            thread::sleep(PAUSE);
        }
    }

    /// The same until it prints this.
    pub fn ctl_until_prints(&self, endpoints: &str, args: &str, output: &str) {
        let began = Instant::now();
        while self.ctl(endpoints, args).output != output {
            assert!(began.elapsed() < PATIENCE, "{args}: {output:?} never came");
            thread::sleep(PAUSE);
        }
    }

    /// The same until it succeeds or complains of just that.
    pub fn ctl_until_done_or(&self, endpoints: &str, args: &str, complaint: &str) -> Run {
        let began = Instant::now();
        loop {
            let run = self.ctl(endpoints, args);
            if run.code == Some(0) || run.error.ends_with(complaint) {
                return run;
            }
            assert!(began.elapsed() < PATIENCE, "{args}: {run:?}");
            thread::sleep(PAUSE);
        }
    }

    /// `member list`, a member a line: id, started or not, name, peer URLs, client URLs, whether it is a learner.
    pub fn list(&self, endpoint: &str) -> Vec<Vec<String>> {
        let list = self.ctl_until_done(endpoint, "member list").output;
        let mut members: Vec<Vec<String>> =
            list.lines().map(|line| line.split(", ").map(str::to_owned).collect()).collect();
        members.sort_by(|a, b| a[3].cmp(&b[3]));
        members
    }
}

/// The program under test.
pub fn program() -> PathBuf {
    std::env::var_os("PINION_BIN").map_or_else(|| env!("CARGO_BIN_EXE_pinion").into(), PathBuf::from)
}

/// One of upstream's programs.
pub fn tool(name: &str) -> PathBuf {
    oracle::program(name).unwrap_or_else(|missing| panic!("{missing}"))
}

/// What `--initial-cluster` says of members at these places.
pub fn initial(places: &[Place]) -> String {
    let pairs = (1..).zip(places).map(|(number, place)| format!("m{number}={}", place.peer_url()));
    pairs.collect::<Vec<_>>().join(",")
}

/// What a tool did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub code: Option<i32>,
    pub output: String,
    pub error: String,
}

impl Run {
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().expect("the tool is executable");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let errors = text(output.stderr);
        let error = errors.lines().last().unwrap_or_default().to_owned();
        Self { code: output.status.code(), output: text(output.stdout), error }
    }
}

/// The answer to a request over HTTP/1.1: its head and its body.
pub fn ask(port: u16, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_owned(), body.to_owned())
}

pub fn get(port: u16, path: &str) -> (String, String) {
    ask(port, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
}
