//! `etcdctl lock` and `etcdctl elect`: commands that hold something, or wait for it, until they are interrupted. Each that
//! waits does so before the one that it waits for is interrupted.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use bench_harness::pb::etcdserverpb::{self as pb, kv_client::KvClient};

use crate::{Side, block_on, etcdctl::script};

const PATIENCE: Duration = Duration::from_secs(60);
const POLLED: Duration = Duration::from_millis(10);

/// A command that goes on.
struct Holding {
    child: Child,
    printed: mpsc::Receiver<String>,
}

impl Drop for Holding {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        assert!(ended.is_ok() || std::thread::panicking(), "etcdctl does not end: {ended:?}");
    }
}

/// Keys end with the id of a lease.
fn without_lease(line: String) -> String {
    match line.rsplit_once('/') {
        Some((name, id)) if u64::from_str_radix(id, 16).is_ok() => format!("{name}/{}", script::LEASE),
        _ => line,
    }
}

impl Holding {
    fn next_line(&self) -> String {
        without_lease(self.printed.recv_timeout(PATIENCE).expect("a line in time"))
    }

    /// What it had not been asked for, and how it ended by itself.
    fn end(mut self) -> String {
        let started = Instant::now();
        let code = loop {
            if let Some(status) = self.child.try_wait().expect("its status") {
                break status.code();
            }
            assert!(started.elapsed() < PATIENCE, "it goes on");
            std::thread::sleep(POLLED);
        };
        let rest: Vec<_> = self.printed.iter().map(without_lease).collect();
        format!("{} {code:?}", rest.join("|"))
    }

    /// As ^C does.
    fn interrupt(self) -> String {
        let sent = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        assert!(sent.expect("run kill").success());
        self.end()
    }
}

impl Side {
    fn hold(&self, etcdctl: &Path, line: &str) -> Holding {
        let mut command = self.command(etcdctl, &script::text(line));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("run etcdctl");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (lines, printed) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        Holding { child, printed }
    }

    /// Until so many want what has this name.
    fn wait_for_keys(&self, name: &str, wanted: i64) {
        let started = Instant::now();
        let count = || {
            let (key, range_end) = (format!("{name}/").into(), format!("{name}0").into());
            let request = pb::RangeRequest { key, range_end, count_only: true, ..Default::default() };
            block_on(async {
                let mut kv = KvClient::connect(self.server.endpoint()).await.expect("connect");
                kv.range(request).await.expect("a count").into_inner().count
            })
        };
        while count() != wanted {
            assert!(started.elapsed() < PATIENCE, "{wanted} want {name} never");
            std::thread::sleep(POLLED);
        }
    }

    /// What was printed, in order.
    pub fn hold_in_turn(&self, etcdctl: &Path) -> Vec<String> {
        let mut seen = Vec::new();
        let first = self.hold(etcdctl, "lock held");
        seen.push(first.next_line());
        let second = self.hold(etcdctl, "lock held --ttl=120 -- printenv ETCD_LOCK_KEY");
        self.wait_for_keys("held", 2);
        seen.push(first.interrupt());
        seen.push(second.end());
        self.wait_for_keys("held", 0);

        let first = self.hold(etcdctl, "elect chosen first");
        seen.extend([first.next_line(), first.next_line()]);
        let observer = self.hold(etcdctl, "elect chosen --listen");
        seen.extend([observer.next_line(), observer.next_line()]);
        let second = self.hold(etcdctl, "elect chosen second");
        self.wait_for_keys("chosen", 2);
        seen.push(first.interrupt());
        seen.extend([second.next_line(), second.next_line()]);
        seen.extend([observer.next_line(), observer.next_line()]);
        seen.push(second.interrupt());
        self.wait_for_keys("chosen", 0);
        seen.push(observer.interrupt());
        seen
    }
}
