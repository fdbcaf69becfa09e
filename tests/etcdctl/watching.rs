//! `etcdctl watch`: a command that goes on until it is stopped. What it printed by the time the last event came is
//! compared; who watches from now on is waited for before anything is written.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use bench_harness::prom;

use crate::{
    Run, Side,
    etcdctl::{
        output::{self, Shape},
        script::{self, Step},
    },
};

const PATIENCE: Duration = Duration::from_secs(20);
/// Of what comes together nothing comes so much later.
const QUIET: Duration = Duration::from_millis(300);
/// Value of the last event of each case.
const END: &str = "the-end";
const WATCHES: &str = "etcd_debugging_mvcc_watcher_total";

pub struct Case {
    pub name: &'static str,
    watch: Step,
    /// Watches there are before anything is written.
    watches: u32,
    writes: Vec<Step>,
}

fn case(name: &'static str, line: &str, stdin: &'static str, watches: u32, writes: &[&str]) -> Case {
    let shape = if line.ends_with("json") { Shape::Json } else { Shape::Text };
    let watch = script::with_input(line, stdin, shape);
    Case { name, watch, watches, writes: writes.iter().map(|write| script::text(write)).collect() }
}

/// In order: later ones see what earlier ones did.
pub fn cases() -> Vec<Case> {
    let writes = ["put w/a 1", "put w/b 1", "put w/a 2", "del w/a", "del w/ --prefix", "put w/a the-end"];
    let mut cases = vec![
        case("one key", "watch w/a", "", 1, &writes),
        case("a prefix", "watch w/ --prefix --prev-kv", "", 1, &writes),
        case("a range in JSON", "watch w/a w/b -w json", "", 1, &writes),
        case("every field", "watch w/a --prev-kv -w fields", "", 1, &writes),
        case(
            "several",
            "watch -i",
            "watch w/a\nwatch w/b\nwatch w/ --prefix\n",
            3,
            &["put w/b 1", "put w/a the-end"],
        ),
        case("with notices", "watch w/a --progress-notify", "", 1, &writes),
    ];
    for line in ["watch w/ --prefix --rev=1", "watch w/a --rev=5 --prev-kv", "watch w/a --rev=3 -w json"] {
        cases.push(case("from the past", line, "", 0, &["put w/a the-end"]));
    }
    cases.extend([
        case("for each event", "watch w/a --rev=2 -- printenv ETCD_WATCH_VALUE", "", 0, &[]),
        case("a range that is empty", "watch w/b w/a", "", 0, &[]),
        case("a revision that is negative", "watch w/a --rev=-5", "", 0, &[]),
        case("a revision that is none", "watch w/a --rev=x", "", 0, &[]),
        case("nothing", "watch", "", 0, &[]),
        case("a compacted revision", "watch w/a --rev=1", "", 0, &["compact 12"]),
        case("a compacted revision in JSON", "watch w/a --rev=1 -w json", "", 0, &[]),
        case("the compacted revision", "watch w/ --prefix --rev=12", "", 0, &["put w/a the-end"]),
    ]);
    cases
}

/// Kills what goes on, however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        assert!(ended.is_ok() || std::thread::panicking(), "etcdctl does not end: {ended:?}");
    }
}

impl Side {
    pub fn watch(&mut self, etcdctl: &Path, case: &Case) -> Run {
        // Where everything has happened before, all is written first.
        let (before, live) =
            if case.watches == 0 { (&case.writes[..], &[][..]) } else { (&[][..], &case.writes[..]) };
        for write in before {
            self.run(etcdctl, write);
        }
        let mut command: Command = self.command(etcdctl, &case.watch);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Running(command.spawn().expect("run etcdctl"));
        let mut stdin = running.0.stdin.take().expect("a pipe");
        stdin.write_all(case.watch.stdin.as_bytes()).expect("it reads");
        let (lines, printed) = mpsc::channel();
        let stdout = BufReader::new(running.0.stdout.take().expect("a pipe"));
        let reading = std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        if case.watches > 0 {
            self.wait_for(case.watches);
        }
        for write in live {
            self.run(etcdctl, write);
        }
        let (started, mut seen, mut ends) = (Instant::now(), Vec::new(), 0);
        // Each of several watches is told of the last event that concerns it.
        let expected = if case.watches > 1 { case.watches as usize - 1 } else { 1 };
        let code = loop {
            match printed.recv_timeout(QUIET) {
                Ok(line) => {
                    ends += usize::from(line.contains(END) || line.contains("dGhlLWVuZA=="));
                    seen.push(line);
                }
                Err(mpsc::RecvTimeoutError::Timeout) if ends >= expected => break None,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let told = seen.join("\n");
                    assert!(started.elapsed() < PATIENCE, "{}: nothing more comes after\n{told}", case.name);
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    break running.0.wait().expect("it has ended").code();
                }
            }
        };
        let mut errors = running.0.stderr.take().expect("a pipe");
        drop(running);
        drop(stdin);
        reading.join().expect("it reads to the end");
        let mut said = Vec::new();
        errors.read_to_end(&mut said).expect("what it said");
        self.wait_for(0);
        let normal = |line: &String| match case.watch.shape {
            Shape::Json => output::normal(Shape::Json, line.as_bytes(), &self.names).expect("JSON"),
            shape => output::normal(shape, line.as_bytes(), &self.names).expect("text"),
        };
        let mut output: Vec<_> = seen.iter().map(normal).collect();
        if case.watches > 1 {
            // Who is told first is not said.
            output.sort();
        }
        Run { code, output: output.join("\n"), errors: output::errors(&said, &self.names) }
    }

    /// Until so many are watched.
    fn wait_for(&self, watches: u32) {
        let started = Instant::now();
        loop {
            let there = prom::scrape(self.server.addr()).expect("metrics").value(WATCHES, &[]);
            if there == Some(f64::from(watches)) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{watches} watches never, but {there:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
