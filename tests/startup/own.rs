//! A member knows its own files: what is missing, another member's or shorter than it was is named, and nothing is served.

use super::*;

/// How servers of these tests are started.
#[derive(Clone, Copy)]
struct Flags<'a> {
    data: &'a str,
    wal: Option<&'a str>,
    token: &'a str,
}

const A: Flags<'static> = Flags { data: "a", wal: None, token: "one" };
const B: Flags<'static> = Flags { data: "b", wal: None, token: "one" };

impl Flags<'_> {
    fn command(&self, dir: &Path) -> Command {
        let mut command = serving(dir, free_port());
        command.args(["--data-dir", self.data, "--initial-cluster-token", self.token]);
        command.arg("--wal-segment-bytes=16777216");
        if let Some(wal) = self.wal {
            command.args(["--wal-dir", wal]);
        }
        command
    }

    /// Starts a member and stops it in order.
    fn run(&self, dir: &Path) {
        let mut server = Server::start(&mut self.command(dir));
        server.line(READY);
        server.signal(libc::SIGTERM);
        server.line("closed etcd server");
        server.process.wait().expect("a child can be waited for");
    }

    /// What a start that ends by itself says.
    fn refusal(&self, dir: &Path) -> String {
        let (refused, message) = output(&mut self.command(dir));
        assert_eq!(refused.status.code(), Some(1), "{message}");
        message
    }

    fn refused(&self, dir: &Path, parts: &[&str]) {
        let message = self.refusal(dir);
        for part in parts {
            assert!(message.contains(part), "no {part:?} in:\n{message}");
        }
    }
}

fn swap(a: &Path, b: &Path) {
    let aside = a.with_extension("aside");
    fs::rename(a, &aside).expect("renamed");
    fs::rename(b, a).expect("renamed");
    fs::rename(&aside, b).expect("renamed");
}

/// The first segment of a log.
const FIRST: &str = "0000000000000001.wal";

#[test]
fn a_log_that_is_missing_is_named_with_where_it_was() {
    let dir = temp_dir();
    let dir = dir.path();
    let with_log = Flags { wal: Some("log"), ..A };
    with_log.run(dir);
    let was = dir.join("log/shard-0").display().to_string();
    let lost = ["the log is missing", &was, "has no segment of log"];
    A.refused(dir, &lost);
    Flags { wal: Some("other"), ..A }.refused(dir, &lost);
    // Moved, and the flag with it.
    fs::remove_dir_all(dir.join("other")).expect("removed");
    fs::rename(dir.join("log"), dir.join("other")).expect("moved");
    with_log.refused(dir, &lost);
    Flags { wal: Some("other"), ..A }.run(dir);
    fs::remove_dir_all(dir.join("other/shard-0")).expect("removed");
    Flags { wal: Some("other"), ..A }.refused(dir, &["the log is missing", "other/shard-0"]);

    B.run(dir);
    let member = dir.join("b/member");
    for part in ["shard-0/wal", "shard-0"] {
        let (part, kept) = (member.join(part), dir.join("kept"));
        fs::rename(&part, &kept).expect("moved");
        B.refused(dir, &["the log is missing", &member.join("shard-0/wal").display().to_string()]);
        assert!(!part.exists(), "nothing is made in its place");
        fs::rename(&kept, &part).expect("moved back");
        B.run(dir);
    }
    fs::remove_file(member.join("log-0")).expect("removed");
    B.refused(dir, &["log-0 is missing"]);
}

#[test]
fn another_members_log_or_checkpoint_is_not_taken() {
    let dir = temp_dir();
    let dir = dir.path();
    // Of equal flags, so of equal ids.
    A.run(dir);
    B.run(dir);
    for part in ["shard-0/wal", &format!("shard-0/wal/{FIRST}"), "shard-0/snap"] {
        let (a, b) = (dir.join("a/member").join(part), dir.join("b/member").join(part));
        let (named, kind) = match part {
            "shard-0/snap" => (a.join("manifest"), "is of a checkpoint behind log "),
            "shard-0/wal" => (a.join(FIRST), "is of log "),
            _ => (a.clone(), "is of log "),
        };
        swap(&a, &b);
        A.refused(dir, &[&format!("{} {kind}", named.display()), "Put back what belongs here"]);
        swap(&a, &b);
    }
    A.run(dir);
    // Under a new data directory.
    let new = dir.join("a/member/shard-0");
    Flags { data: "new", wal: Some("a/member"), ..A }.refused(dir, &["lies inside"]);
    fs::create_dir(dir.join("volume")).expect("made");
    fs::rename(new.join("wal"), dir.join("volume/shard-0")).expect("moved");
    let foreign = Flags { data: "new", wal: Some("volume"), ..A };
    foreign.refused(dir, &["there is a log in", "volume/shard-0", "log-0"]);
}

#[test]
fn an_identity_is_held_against_the_log() {
    let dir = temp_dir();
    let dir = dir.path();
    let other = Flags { token: "two", ..B };
    A.run(dir);
    other.run(dir);
    let path = dir.join("a/member/identity");
    let own = fs::read_to_string(&path).expect("it is there");
    for line in ["member ", "cluster "] {
        let at = own.find(line).expect("the line") + line.len();
        let mut flipped = own.clone().into_bytes();
        flipped[at] ^= 1;
        fs::write(&path, flipped).expect("writable");
        A.refused(dir, &[&format!("{} is damaged", path.display())]);
    }
    fs::copy(dir.join("b/member/identity"), &path).expect("copied");
    A.refused(dir, &["log-0 is of member ", "one of the two is another member's"]);

    fs::remove_file(&path).expect("removed");
    let changed = Flags { token: "two", ..A };
    changed.refused(dir, &["log-0 is of member ", "`identity` is missing", "--initial-cluster-token"]);
    A.run(dir);
    assert_eq!(fs::read_to_string(&path).expect("it is there again"), own);
    changed.run(dir);
}

#[test]
fn an_end_of_the_log_that_was_zeroed_after_a_clean_stop_is_missed() {
    let dir = temp_dir();
    let dir = dir.path();
    A.run(dir);
    A.run(dir);
    let path = dir.join("a/member/shard-0/wal").join(FIRST);
    let whole = fs::read(&path).expect("readable");
    let end = whole.iter().rposition(|byte| *byte != 0).expect("there are batches") / 4096 * 4096;
    for batches in [1, 2] {
        let mut damaged = whole.clone();
        damaged[end - (batches - 1) * 4096..].fill(0);
        fs::write(&path, damaged).expect("writable");
        A.refused(dir, &["the log is shorter than it was", &path.display().to_string()]);
    }
    fs::write(&path, whole).expect("writable");
    A.run(dir);
}

#[test]
fn nothing_is_made_inside_another_member() {
    let dir = temp_dir();
    let dir = dir.path();
    let first = Flags { wal: Some("log"), ..A };
    first.run(dir);
    let mut server = Server::start(&mut first.command(dir));
    server.line(READY);
    for inside in ["log/shard-0", "log/shard-0/deeper", "a/member", "a/member/shard-0/snap/x"] {
        let above = if inside.starts_with("log") { "log" } else { "a/member" };
        let said = format!("{} lies inside {}", dir.join(inside).display(), dir.join(above).display());
        Flags { data: inside, ..A }.refused(dir, &[&said]);
        Flags { wal: Some(inside), ..B }.refused(dir, &[&said]);
    }
    assert!(!dir.join("log/shard-0/deeper").exists() && !dir.join("a/member/shard-0/snap/x").exists());
    drop(server);
    first.run(dir);
    // A log of its own beside the data is a member's own business.
    let within = Flags { data: "c", wal: Some("c/member/wal"), ..A };
    within.run(dir);
    within.run(dir);
    Flags { data: "d", wal: Some("d/member/shard-0"), ..A }.refused(dir, &["lies inside"]);
}
