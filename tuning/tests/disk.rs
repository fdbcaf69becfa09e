//! The program as a person runs it: a short measurement, what it leaves behind, and what it refuses.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// On the disk that holds the build, not in memory.
fn dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the test")
}

fn tuning(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tuning"));
    command.args(["disk", "--dir"]).arg(dir);
    command
}

fn short(dir: &Path) -> Command {
    let mut command = tuning(dir);
    command.args(["--quick", "--seconds=0.06", "--file-mib=16", "--sizes=512,4096", "--depths=1,4"]);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn refused(output: &Output, words: &[&str]) {
    let said = text(&output.stderr);
    assert!(!output.status.success(), "it went on: {said}");
    assert!(words.iter().all(|word| said.contains(word)), "lacks one of {words:?}: {said}");
}

fn entries(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("the directory");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_page_json_and_a_plot_and_nothing_left() {
    let (dir, out) = (dir(), dir());
    let (json, plot) = (out.path().join("disk.json"), out.path().join("disk.svg"));
    let output =
        short(dir.path()).arg("--json").arg(&json).arg("--plot").arg(&plot).output().expect("it runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(entries(dir.path()), Vec::<String>::new(), "files are left");

    let page = text(&output.stdout);
    for words in
        ["--wal-sector-size=", "--wal-segment-bytes=", "--snapshot-write-mbps=", "wal_fsync p99 < 10 ms"]
    {
        assert!(page.contains(words), "lacks {words}:\n{page}");
    }
    let json: Value = serde_json::from_str(&fs::read_to_string(json).expect("is written")).expect("is JSON");
    let rows = |name: &str| json[name].as_array().unwrap_or_else(|| panic!("{name} is missing")).clone();
    assert_eq!((rows("ways").len(), rows("states").len()), (4, 4));
    let of_rows = [rows("writes"), rows("ways"), rows("states")].concat();
    for row in &of_rows {
        let writes = row.get("writes").unwrap_or(row);
        let latency = |name: &str| writes["latency"][name].as_f64().expect("a number");
        assert!(writes["per_second"].as_f64() > Some(1.0), "{row}");
        assert!(latency("p50_us") > 1.0 && latency("p50_us") <= latency("max_us"), "{row}");
    }
    let beside = json["load"]["beside"].as_array().expect("rates");
    assert_eq!(beside.len(), 4);
    assert!(beside.iter().all(|b| b["log"]["count"].as_u64() > Some(0)), "{beside:?}");
    assert!(beside[1..].iter().all(|b| b["step"]["count"].as_u64() > Some(0)), "{beside:?}");
    let svg = fs::read_to_string(plot).expect("is written");
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
}

#[test]
fn json_alone_on_the_standard_output() {
    let dir = dir();
    let output = short(dir.path()).args(["--json", "-"]).output().expect("it runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).expect("nothing but JSON");
    assert!(json["device"]["smallest_write_bytes"].as_u64() >= Some(512));
}

#[test]
fn a_signal_ends_it_and_removes_its_files() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let dir = dir();
        let mut child =
            tuning(dir.path()).args(["--seconds=60", "--file-mib=16"]).spawn().expect("it starts");
        let begin = Instant::now();
        let extending = |dir: &Path| {
            let made = entries(dir);
            made.first().is_some_and(|name| dir.join(name).join("extending").exists())
        };
        while !extending(dir.path()) {
            assert!(begin.elapsed() < Duration::from_secs(60), "it made no files");
            thread::sleep(Duration::from_millis(20));
        }
        // SAFETY: the child is ours and not yet waited for, so its number is its own.
        assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
        let status = child.wait().expect("it ends");
        assert_eq!(status.code(), Some(128 + signal));
        assert_eq!(entries(dir.path()), Vec::<String>::new(), "files are left");
    }
}

#[test]
fn what_cannot_be_measured_is_refused_with_the_reason() {
    let dir = dir();
    let run = |dir: &Path| short(dir).output().expect("it runs");
    refused(&run(&dir.path().join("none")), &["none", "no directory"]);
    let file = dir.path().join("file");
    fs::write(&file, "x").expect("a file");
    refused(&run(&file), &["no directory"]);
    refused(&run(Path::new("/dev/shm")), &["tmpfs", "memory"]);
    // Nobody may make directories there, not even root.
    refused(&run(Path::new("/proc/self")), &["/proc/"]);
    assert_eq!(entries(dir.path()), ["file"]);
}

#[test]
fn senseless_options_are_refused() {
    let dir = dir();
    for (option, word) in [
        ("--sizes=1000", "--sizes"),
        ("--sizes=2097152", "--sizes"),
        ("--depths=0", "--depths"),
        ("--depths=65", "--depths"),
        ("--seconds=0", "--seconds"),
        ("--seconds=NaN", "--seconds"),
        ("--file-mib=1", "--file-mib"),
        ("--writes-per-second=0", "--writes-per-second"),
        ("--write-bytes=0", "--write-bytes"),
        ("--write-bytes=1048577", "--write-bytes"),
        ("--snapshot-rates=0", "--snapshot-rates"),
    ] {
        let output = tuning(dir.path()).arg(option).output().expect("it runs");
        refused(&output, &[word]);
    }
    let output = tuning(dir.path()).args(["--sizes=1048576", "--depths=64", "--file-mib=16"]).output();
    refused(&output.expect("it runs"), &["--file-mib"]);
    assert_eq!(entries(dir.path()), Vec::<String>::new());
}

/// As a container's profile does.
fn forbid_io_uring() -> std::io::Result<()> {
    let step = |code: u32, jt: u8, k: i64| libc::sock_filter { code: code as u16, jt, jf: 0, k: k as u32 };
    let mut program = [
        // The number of the system call is the first word of what the filter sees.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        libc::sock_filter {
            jf: 1,
            ..step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, libc::SYS_io_uring_setup)
        },
        step(libc::BPF_RET | libc::BPF_K, 0, i64::from(libc::SECCOMP_RET_ERRNO) | i64::from(libc::EPERM)),
        step(libc::BPF_RET | libc::BPF_K, 0, i64::from(libc::SECCOMP_RET_ALLOW)),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the calls take no memory but `filter` and `program`, which live through them.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) == 0
    };
    if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[test]
fn without_io_uring_it_says_how_to_get_it() {
    let dir = dir();
    let mut command = short(dir.path());
    // SAFETY: the function makes two system calls and allocates nothing.
    unsafe { command.pre_exec(forbid_io_uring) };
    refused(&command.output().expect("it runs"), &["io_uring is forbidden", "seccomp"]);
    assert_eq!(entries(dir.path()), Vec::<String>::new());
}
