//! The server as a process: what it prints, how it ends, what a second one is told.

#[path = "startup/environment.rs"]
mod environment;
#[path = "startup/own.rs"]
mod own;
#[path = "startup/settings.rs"]
mod settings;

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::{net::UnixDatagram, process::ExitStatusExt},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);
const READY: &str = "ready to serve client requests";

/// A server that is killed when the test is over, however it ends.
struct Server {
    process: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Server {
    fn start(command: &mut Command) -> Server {
        let mut process = command.stderr(Stdio::piped()).spawn().expect("the server is executable");
        let stderr = BufReader::new(process.stderr.take().expect("stderr is piped"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Server { process, lines, seen: Vec::new() }
    }

    /// Waits for a line and gives it.
    fn line(&mut self, part: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => self.seen.push(line),
                Err(error) => panic!("no line with {part:?} ({error}) after:\n{}", self.seen.join("\n")),
            }
        }
    }

    fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.process.id()).expect("a pid");
        // SAFETY: sends a signal to our own child, which is not reaped yet.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        if self.process.kill().is_ok() {
            self.process.wait().expect("a child can be waited for");
        }
    }
}

fn temp_dir() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target directory is writable")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

fn pinion(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinion"));
    command.current_dir(dir).env_clear();
    command
}

fn serving(dir: &Path, port: u16) -> Command {
    let url = format!("http://127.0.0.1:{port}");
    let mut command = pinion(dir);
    command.args(["--data-dir", "data", "--listen-client-urls", &url, "--advertise-client-urls", &url]);
    command.args(["--listen-peer-urls", "http://127.0.0.1:0"]);
    command
}

fn output(command: &mut Command) -> (Output, String) {
    let output = command.output().expect("the server is executable");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, stderr)
}

#[test]
fn version_help_and_bad_command_lines() {
    let dir = temp_dir();
    let (version, _) = output(pinion(dir.path()).arg("--version"));
    assert!(version.status.success() && version.stdout.starts_with(b"etcd Version: 3."));
    let (help, usage) = output(pinion(dir.path()).arg("-h"));
    assert!(help.status.success() && usage.starts_with("Usage:"));
    assert!(String::from_utf8_lossy(&help.stdout).contains("--wal-sector-size"));

    let (unknown, message) = output(pinion(dir.path()).arg("--nosuch"));
    assert_eq!(unknown.status.code(), Some(2));
    assert!(message.starts_with("flag provided but not defined: -nosuch\nUsage:"), "{message}");
    let (refused, message) = output(pinion(dir.path()).arg("--cert-file=a"));
    assert_eq!(refused.status.code(), Some(1));
    assert!(message.contains("failed to verify flags") && message.contains("not built yet"), "{message}");
    let (shadowed, message) = output(pinion(dir.path()).arg("--name=a").env("ETCD_NAME", "b"));
    assert_eq!(shadowed.status.code(), Some(1));
    assert!(
        message.contains("shadowed") && message.contains("\"environment-variable\":\"ETCD_NAME\""),
        "{message}"
    );
    assert_eq!(fs::read_dir(dir.path()).expect("the directory").count(), 0, "nothing is left behind");
}

#[test]
fn behaves_by_the_name_it_is_called_by() {
    let dir = temp_dir();
    let absent = "not part of this release";
    for (name, status, text) in
        [("etcd", 0, ""), ("etcdctl", 1, absent), ("etcdutl", 1, "unknown flag: --version")]
    {
        let link = dir.path().join(name);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pinion"), &link).expect("a link");
        let (output, message) = output(Command::new(&link).arg("--version").env_clear());
        assert_eq!(output.status.code(), Some(status), "{name}: {message}");
        assert!(message.contains(text), "{name}: {message}");
    }
}

#[test]
fn serves_until_it_is_asked_to_stop_and_stays_itself() {
    let (dir, port) = (temp_dir(), free_port());
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut server = Server::start(&mut serving(dir.path(), port));
        let line = server.line("now serving");
        assert!(line.contains("\"local-member-id\":\"8e9e05c52164694d\""), "{line}");
        server.line(READY);
        server.line(&format!("\"address\":\"127.0.0.1:{port}\""));
        server.signal(signal);
        server.line("received signal; shutting down");
        server.line("closed etcd server");
        let status = server.process.wait().expect("a child can be waited for");
        assert_eq!(status.signal(), Some(signal), "{status}");
    }
    // Other peer URLs give other ids to new members only.
    let url = "http://127.0.0.1:7";
    let moved = format!("default={url}");
    let mut server = Server::start(serving(dir.path(), port).args([
        "--initial-advertise-peer-urls",
        url,
        "--initial-cluster",
        &moved,
    ]));
    let line = server.line("now serving");
    assert!(line.contains("\"local-member-id\":\"8e9e05c52164694d\""), "{line}");
}

#[test]
fn a_second_server_is_told_what_is_in_use() {
    let (dir, port) = (temp_dir(), free_port());
    let mut server = Server::start(&mut serving(dir.path(), port));
    server.line(READY);
    let (same_port, message) = output(serving(dir.path(), port).args(["--data-dir", "other"]));
    assert_eq!(same_port.status.code(), Some(1));
    let expected = format!("listen tcp 127.0.0.1:{port}: bind: address already in use");
    assert!(message.contains(&expected) && message.contains("\"level\":\"fatal\""), "{message}");
    assert!(!dir.path().join("other").exists(), "sockets come before the data directory");
    let (same_data, message) = output(&mut serving(dir.path(), free_port()));
    assert_eq!(same_data.status.code(), Some(1));
    assert!(message.contains("locked"), "{message}");
}

#[test]
fn a_service_manager_hears_when_it_is_ready() {
    let (dir, port) = (temp_dir(), free_port());
    let socket = UnixDatagram::bind(dir.path().join("notify")).expect("a socket in the directory");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout is possible");
    let _server = Server::start(serving(dir.path(), port).env("NOTIFY_SOCKET", "notify"));
    let mut message = [0; 64];
    let length = socket.recv(&mut message).expect("a message in time");
    assert_eq!(&message[..length], b"READY=1");
}

#[test]
fn an_etcd_data_directory_is_refused() {
    let (dir, port) = (temp_dir(), free_port());
    fs::create_dir_all(dir.path().join("data/member/snap")).expect("a directory");
    let (refused, message) = output(&mut serving(dir.path(), port));
    assert_eq!(refused.status.code(), Some(1));
    assert!(message.contains("not a Pinion data directory"), "{message}");
}

#[test]
fn what_a_killed_restore_left_is_refused() {
    let (dir, port) = (temp_dir(), free_port());
    let restoring = dir.path().join("data/restoring");
    fs::create_dir_all(restoring.join("member")).expect("a directory");
    fs::write(restoring.join("member/version"), "pinion data 3\n").expect("writable");
    let advice = format!("remove {}", restoring.display());

    let (refused, message) = output(&mut serving(dir.path(), port));
    assert_eq!(refused.status.code(), Some(1));
    assert!(message.contains(&advice), "{message}");
    assert!(!dir.path().join("data/member").exists(), "nothing is begun beside it");
    fs::create_dir(dir.path().join("data/member")).expect("a directory");
    assert!(output(&mut serving(dir.path(), port)).1.contains(&advice), "nor if something was");

    // The restore moved the member to its place and was killed before it removed what is empty now.
    fs::remove_dir(dir.path().join("data/member")).expect("an empty directory");
    fs::rename(restoring.join("member"), dir.path().join("data/member")).expect("a directory");
    Server::start(&mut serving(dir.path(), port)).line(READY);
}
