//! One client's suite: built if need be, run against a member of its own, its orders carried out.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use bench_harness::process::Server;

use crate::tested;

const PARTS_VARIABLE: &str = "PINION_PARTS";
const PARTS: &str = "kv txn watch lease lock auth";
/// For all parts of a suite. They take about half a minute where nothing is wrong.
const TIME_MAX: Duration = Duration::from_secs(240);
/// For the server to end in order, while clients hold streams open. Upstream takes up to ten seconds.
const GRACE: Duration = Duration::from_secs(20);

pub struct Suite {
    command: Command,
    /// Of one that is about the v2 API.
    parts_v2: Option<&'static str>,
}

impl Suite {
    /// Of a folder in `tests/clients`. One that cannot be built fails the test: it is never skipped.
    pub fn built(folder: &str) -> Self {
        let built = Command::new(home().join("build")).arg(folder).status().expect("run tests/clients/build");
        assert!(built.success(), "tests/clients/build {folder}: {built}");
        Self { command: Command::new(""), parts_v2: None }
    }

    /// A path in `tests/clients`, or a name to be found on `PATH`.
    pub fn program(mut self, program: &str) -> Self {
        let built = home().join(program);
        assert!(built.exists() || !program.contains('/'), "{} was not built", built.display());
        self.command = Command::new(if built.is_file() { built } else { program.into() });
        self
    }

    pub fn arg(mut self, arg: &str) -> Self {
        self.command.arg(arg);
        self
    }

    /// A file in `tests/clients`.
    pub fn source(mut self, path: &str) -> Self {
        self.command.arg(home().join(path));
        self
    }

    /// A Java class path of folders in `tests/clients`.
    pub fn classes<const N: usize>(mut self, paths: [&str; N]) -> Self {
        let paths = paths.map(|path| home().join(path).to_string_lossy().into_owned());
        self.command.arg(paths.join(":"));
        self
    }

    /// A variable that names a path in `tests/clients`.
    pub fn env(mut self, name: &str, path: &str) -> Self {
        self.command.env(name, home().join(path));
        self
    }

    /// It is about the v2 API, and has these parts.
    pub fn of_v2(self, parts: &'static str) -> Self {
        Self { parts_v2: Some(parts), ..self }
    }

    pub fn run(mut self) {
        let named = std::env::var(PARTS_VARIABLE).ok().filter(|_| self.parts_v2.is_none());
        let parts =
            named.as_deref().or(self.parts_v2).unwrap_or(PARTS).split_whitespace().collect::<Vec<_>>();
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("make a directory");
        let launch = tested::launch(tested::program(), &directory.path().join("member"));
        let launch = if self.parts_v2.is_some() { launch.arg("--enable-v2") } else { launch };
        let mut server = launch.start().unwrap_or_else(|error| panic!("{error}"));

        self.command.arg(server.addr().to_string()).args(&parts);
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = Running::start(self.command);
        let mut through = 0;
        while let Some(line) = running.line() {
            match line.as_str() {
                "restart" => {
                    server.terminate(GRACE).unwrap_or_else(|error| panic!("{error}"));
                    again(&mut server);
                    running.answer();
                }
                "kill" => {
                    server.kill().unwrap_or_else(|error| panic!("{error}"));
                    again(&mut server);
                    running.answer();
                }
                _ => {
                    println!("{line}");
                    through += usize::from(line.contains(" ok"));
                }
            }
        }
        let ended = running.child.wait().expect("wait for the suite");
        let server_ended = server.exited().unwrap_or_else(|error| panic!("{error}"));
        assert!(
            ended.success() && server_ended.is_none() && through == parts.len(),
            "the suite ended with {ended} after {through} of {} parts; the server: {server_ended:?}, its log:\n{}",
            parts.len(),
            server.log_tail().unwrap_or_else(|error| error.to_string()),
        );
    }
}

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

fn again(server: &mut Server) {
    server.start_again().unwrap_or_else(|error| panic!("{error}"));
}

/// The suite's process, ended with this.
struct Running {
    child: Child,
    lines: Receiver<String>,
    until: Instant,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, until: Instant::now() + TIME_MAX }
    }

    /// The next line of its output, none at its end.
    fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(self.until.saturating_duration_since(Instant::now())) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the suite is not through after {TIME_MAX:?}"),
        }
    }

    fn answer(&mut self) {
        let stdin = self.child.stdin.as_mut().expect("a pipe");
        // One that has ended meanwhile says why with its status.
        if let Err(error) = stdin.write_all(b"done\n") {
            eprintln!("the suite does not listen: {error}");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait()
            && let Err(error) = self.child.kill().and_then(|()| self.child.wait())
        {
            eprintln!("cannot end the suite: {error}");
        }
    }
}
