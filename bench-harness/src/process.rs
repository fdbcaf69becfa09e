//! One server, upstream etcd or Pinion, as a child process on loopback ports of its own.
//!
//! A `Server` owns its child: dropping it kills and reaps the child by pid, also while a panic unwinds, and the
//! kernel kills the child when this process dies in any other way (Ctrl-C, SIGKILL, abort). It does not own
//! the data directory: that is the caller's, so that a server can be killed and started on it again.

pub mod cluster;
mod disk;
mod guard;
pub mod ports;
mod scratch;
mod spawner;
mod usage;

use std::io::{Read, Seek, SeekFrom};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub use disk::allocated_bytes;
pub use guard::Guard;
pub use scratch::scratch;
pub(crate) use spawner::spawn;
pub use usage::{Usage, of as usage_of, written_bytes};

use crate::http;

const READY_TIMEOUT: Duration = Duration::from_secs(30);
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
const PROBE_PAUSE: Duration = Duration::from_millis(2);
/// Someone else may take a port between our look and the server's bind.
const PORT_ATTEMPTS: usize = 5;
const LOG_TAIL_BYTES: u64 = 4096;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("{program} ended before it was ready ({status}); the end of its log {log}:\n{tail}", program = .program.display(), log = .log.display())]
    Exited { program: PathBuf, status: ExitStatus, log: PathBuf, tail: String },
    #[error("{program} was not ready after {after:?}: {last}; the end of its log {log}:\n{tail}", program = .program.display(), log = .log.display())]
    NotReady { program: PathBuf, after: Duration, last: String, log: PathBuf, tail: String },
    #[error("pid {pid} did not end within {grace:?} of SIGTERM and was killed")]
    Stuck { pid: u32, grace: Duration },
    #[error("the server is not running")]
    NotRunning,
    #[error("no member leads after {after:?}")]
    NoLeader { after: Duration },
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.into();
    move |source| Error::Io { what, source }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Upstream: is a member at the peer URL it listens on.
    Etcd,
    /// Is a member at the default peer URL, wherever it listens: so its ids are those of every default.
    Pinion,
}

/// How to start a server. `Launch::etcd(program, dir).arg("--quota-backend-bytes=0").start()`.
#[derive(Clone, Debug)]
pub struct Launch {
    kind: Kind,
    program: PathBuf,
    data_dir: PathBuf,
    log: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    wrapper: Vec<String>,
    host: Ipv4Addr,
    client_port: Option<u16>,
    /// With others: its name, and `--initial-cluster`.
    among: Option<(String, String)>,
    ready_timeout: Duration,
}

impl Launch {
    pub fn etcd(program: impl Into<PathBuf>, data_dir: impl Into<PathBuf>) -> Self {
        Self::new(Kind::Etcd, program.into(), data_dir.into())
    }

    pub fn pinion(program: impl Into<PathBuf>, data_dir: impl Into<PathBuf>) -> Self {
        Self::new(Kind::Pinion, program.into(), data_dir.into())
    }

    /// The log goes beside the data directory (`DIR.log`), never into it.
    pub fn new(kind: Kind, program: PathBuf, data_dir: PathBuf) -> Self {
        let mut log = data_dir.clone().into_os_string();
        log.push(".log");
        Self {
            kind,
            program,
            data_dir,
            log: log.into(),
            args: Vec::new(),
            env: Vec::new(),
            wrapper: Vec::new(),
            host: Ipv4Addr::LOCALHOST,
            client_port: None,
            among: None,
            ready_timeout: READY_TIMEOUT,
        }
    }

    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Runs `WRAPPER... PROGRAM ARGS` instead, for a tool that execs the program and keeps its pid
    /// (`taskset`, `chrt`).
    pub fn wrapper<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.wrapper = words.into_iter().map(Into::into).collect();
        self
    }

    /// Both standard output and standard error are appended to this file.
    pub fn log(mut self, path: impl Into<PathBuf>) -> Self {
        self.log = path.into();
        self
    }

    /// The address it listens on, instead of the loopback's: that of a network namespace which a wrapper enters. Ports are such as
    /// are free on this host.
    pub fn host(mut self, host: Ipv4Addr) -> Self {
        self.host = host;
        self
    }

    /// A given client port instead of a free one.
    pub fn client_port(mut self, port: u16) -> Self {
        self.client_port = Some(port);
        self
    }

    /// With another data directory, and the log beside that.
    pub fn at(self, data_dir: PathBuf) -> Self {
        let new = Self::new(self.kind, self.program.clone(), data_dir);
        Self { data_dir: new.data_dir, log: new.log, ..self }
    }

    /// As the member of a cluster that is founded together, where the members' names and peer URLs are known.
    fn among(mut self, name: String, initial_cluster: String) -> Self {
        self.among = Some((name, initial_cluster));
        self
    }

    pub fn ready_timeout(mut self, timeout: Duration) -> Self {
        self.ready_timeout = timeout;
        self
    }

    /// Starts the server and waits until it answers `/health` with true. When it ends before that, or is not
    /// ready in time, the error carries the end of its log and no process is left.
    pub fn start(self) -> Result<Server, Error> {
        for attempt in 1.. {
            let mut server = self.clone().placed()?;
            match server.start_again() {
                Ok(()) => return Ok(server),
                Err(Error::Exited { tail, .. })
                    if attempt < PORT_ATTEMPTS && tail.contains("address already in use") => {}
                Err(error) => return Err(error),
            }
        }
        unreachable!("the loop returns on its last attempt")
    }

    fn placed(self) -> Result<Server, Error> {
        let mut ports = ports::free().map_err(io("find free ports"))?;
        if let Some(port) = self.client_port {
            ports.client = port;
        }
        Ok(Server::at(self, ports))
    }

    fn command(&self, ports: ports::Ports) -> Result<Command, Error> {
        let mut words = self.wrapper.iter().map(Into::into).collect::<Vec<std::ffi::OsString>>();
        words.push(self.program.clone().into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);

        let host = self.host;
        let client = format!("http://{host}:{}", ports.client);
        command.arg("--data-dir").arg(&self.data_dir);
        command.arg(format!("--listen-client-urls={client}"));
        command.arg(format!("--advertise-client-urls={client}"));
        let peer = format!("http://{host}:{}", ports.peer);
        command.arg(format!("--listen-peer-urls={peer}"));
        match &self.among {
            Some((name, initial_cluster)) => {
                command.arg(format!("--name={name}"));
                command.arg(format!("--initial-advertise-peer-urls={peer}"));
                command.arg(format!("--initial-cluster={initial_cluster}"));
            }
            None if self.kind == Kind::Etcd => {
                command.arg(format!("--initial-advertise-peer-urls={peer}"));
                command.arg(format!("--initial-cluster=default={peer}"));
            }
            None => {}
        }
        command.args(&self.args);

        // What the caller's shell exports must not configure the servers under test.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("ETCD_") || name.starts_with("PINION_")) {
                command.env_remove(name);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));

        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(io(format!("open {}", self.log.display())))?;
        let errors = log.try_clone().map_err(io("duplicate the log's descriptor"))?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        Ok(command)
    }
}

/// A server with its ports and its launch recipe; running, or ended and startable again.
#[derive(Debug)]
pub struct Server {
    launch: Launch,
    ports: ports::Ports,
    child: Option<Child>,
    /// Shared with who watches it, through restarts too.
    pid: Arc<AtomicU32>,
    ready_after: Duration,
}

impl Server {
    fn at(launch: Launch, ports: ports::Ports) -> Self {
        Self { launch, ports, child: None, pid: Arc::default(), ready_after: Duration::ZERO }
    }

    pub fn addr(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.launch.host), self.ports.client)
    }

    /// `http://127.0.0.1:PORT`: the same across restarts.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// Where other members of its cluster reach it.
    pub fn peer_url(&self) -> String {
        format!("http://{}:{}", self.launch.host, self.ports.peer)
    }

    /// Of the running server, or of the last one.
    pub fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// Watches it from now on, as it is started again too.
    pub fn guard(&self, memory_max: u64) -> Guard {
        Guard::new(Arc::clone(&self.pid), memory_max)
    }

    pub fn data_dir(&self) -> &Path {
        &self.launch.data_dir
    }

    /// What its files take on the disk.
    pub fn disk_bytes(&self) -> Result<u64, Error> {
        allocated_bytes(self.data_dir()).map_err(io("measure the data directory"))
    }

    pub fn log_path(&self) -> &Path {
        &self.launch.log
    }

    /// From the exec to the first good answer of `/health`.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// The last 4 KiB of the log file.
    pub fn log_tail(&self) -> Result<String, Error> {
        log_tail(&self.launch.log).map_err(io(format!("read {}", self.launch.log.display())))
    }

    pub fn usage(&self) -> Result<Usage, Error> {
        usage_of(self.pid()).map_err(io(format!("read the usage of pid {}", self.pid())))
    }

    /// Whether the server has ended, without waiting.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>, Error> {
        let child = self.child.as_mut().ok_or(Error::NotRunning)?;
        child.try_wait().map_err(io("wait for the server"))
    }

    /// Sends a signal to the server's pid.
    pub fn signal(&self, signal: libc::c_int) -> Result<(), Error> {
        // A child that was reaped no longer owns its pid, so `child` must still be there.
        let child = self.child.as_ref().ok_or(Error::NotRunning)?;
        let pid = libc::pid_t::try_from(child.id()).expect("a pid fits pid_t");
        // SAFETY: kill takes two integers and touches no memory of ours.
        let outcome = unsafe { libc::kill(pid, signal) };
        match outcome {
            0 => Ok(()),
            _ => Err(io(format!("signal {signal} to pid {pid}"))(std::io::Error::last_os_error())),
        }
    }

    /// SIGKILL, then reap.
    pub fn kill(&mut self) -> Result<ExitStatus, Error> {
        let mut child = self.child.take().ok_or(Error::NotRunning)?;
        child.kill().map_err(io("kill the server"))?;
        child.wait().map_err(io("wait for the server"))
    }

    /// SIGTERM, then wait for a graceful end; a server that takes longer than `grace` is killed, and that is
    /// an error.
    pub fn terminate(&mut self, grace: Duration) -> Result<ExitStatus, Error> {
        self.signal(libc::SIGTERM)?;
        let since = Instant::now();
        while since.elapsed() < grace {
            if let Some(status) = self.exited()? {
                self.child = None;
                return Ok(status);
            }
            std::thread::sleep(PROBE_PAUSE);
        }
        self.kill()?;
        Err(Error::Stuck { pid: self.pid(), grace })
    }

    /// Starts an ended server again: same program, ports and data directory.
    pub fn start_again(&mut self) -> Result<(), Error> {
        let since = self.begin()?;
        let outcome = self.wait_until_ready(since);
        if outcome.is_err() && self.child.is_some() {
            self.kill()?;
        }
        self.ready_after = since.elapsed();
        outcome
    }

    /// The same without waiting until it is ready; when it was started.
    pub fn begin(&mut self) -> Result<Instant, Error> {
        assert!(self.child.is_none(), "end the server before starting it again");
        let since = Instant::now();
        let command = self.launch.command(self.ports)?;
        let child =
            spawner::spawn(command).map_err(io(format!("start {}", self.launch.program.display())))?;
        self.pid.store(child.id(), Ordering::Relaxed);
        self.child = Some(child);
        Ok(since)
    }

    /// `start_again` with other arguments and environment; ports and data directory stay.
    pub fn start_again_with(&mut self, change: impl FnOnce(Launch) -> Launch) -> Result<(), Error> {
        self.launch = change(self.launch.clone());
        self.start_again()
    }

    /// Until it answers `/health` with true, for as long since its start as its launch allows.
    pub fn wait_until_ready(&mut self, since: Instant) -> Result<(), Error> {
        loop {
            if let Some(status) = self.exited()? {
                self.child = None;
                let (program, log) = (self.launch.program.clone(), self.launch.log.clone());
                return Err(Error::Exited { program, status, log, tail: self.log_tail()? });
            }
            let last = match http::get(self.addr(), "/health?exclude=NOSPACE", PROBE_TIMEOUT) {
                Ok(answer) if answer.status == 200 && contains(&answer.body, br#""health":"true""#) => {
                    return Ok(());
                }
                Ok(answer) => format!("/health {} {}", answer.status, String::from_utf8_lossy(&answer.body)),
                Err(error) => error.to_string(),
            };
            if since.elapsed() >= self.launch.ready_timeout {
                let (program, log) = (self.launch.program.clone(), self.launch.log.clone());
                let after = since.elapsed();
                return Err(Error::NotReady { program, after, last, log, tail: self.log_tail()? });
            }
            std::thread::sleep(PROBE_PAUSE);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some()
            && let Err(error) = self.kill()
        {
            eprintln!("cannot end pid {}: {error}", self.pid());
        }
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn log_tail(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
