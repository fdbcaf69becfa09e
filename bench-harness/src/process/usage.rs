//! CPU time and memory of a process, from `/proc`.

use std::io;
use std::time::Duration;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    /// User and system time of all threads, living and ended, to the kernel's tick (usually 10 ms).
    pub cpu: Duration,
    pub rss_bytes: u64,
    pub rss_peak_bytes: u64,
    /// Of the resident memory: what the process allocated, and what it shares with files (its program, maps).
    pub rss_anon_bytes: u64,
    pub rss_file_bytes: u64,
}

pub fn of(pid: u32) -> io::Result<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let ticks = cpu_ticks(&stat).ok_or_else(|| malformed("stat"))?;
    // SAFETY: sysconf takes an integer and touches no memory of ours.
    let per_second =
        u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).map_err(|_| malformed("CLK_TCK"))?;
    Ok(Usage {
        cpu: Duration::from_nanos(ticks * (1_000_000_000 / per_second)),
        rss_bytes: kibibytes(&status, "VmRSS:").ok_or_else(|| malformed("status"))? * 1024,
        rss_peak_bytes: kibibytes(&status, "VmHWM:").ok_or_else(|| malformed("status"))? * 1024,
        rss_anon_bytes: kibibytes(&status, "RssAnon:").ok_or_else(|| malformed("status"))? * 1024,
        rss_file_bytes: kibibytes(&status, "RssFile:").ok_or_else(|| malformed("status"))? * 1024,
    })
}

/// Bytes the process caused to be written to storage so far, by `/proc/PID/io`.
pub fn written_bytes(pid: u32) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/io"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes:"));
    line.and_then(|number| number.trim().parse().ok()).ok_or_else(|| malformed("io"))
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("cannot read {what}"))
}

/// utime + stime: fields 14 and 15 (proc_pid_stat(5)), counted after the command's closing parenthesis, as
/// the command may contain spaces.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().skip(11);
    let user = fields.next()?.parse::<u64>().ok()?;
    let system = fields.next()?.parse::<u64>().ok()?;
    Some(user + system)
}

fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_times_after_a_command_with_spaces_and_parentheses() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 700 50 13 14 15 16 17 18 19";
        assert_eq!(cpu_ticks(stat), Some(750));
        assert_eq!(cpu_ticks("42 (a"), None);
    }

    #[test]
    fn reads_this_process() {
        let before = of(std::process::id()).unwrap();
        let since = std::time::Instant::now();
        while since.elapsed() < Duration::from_millis(60) {
            std::hint::black_box(0);
        }
        let after = of(std::process::id()).unwrap();
        assert!(after.cpu > before.cpu);
        assert!(after.rss_bytes > 100 * 1024 && after.rss_peak_bytes >= after.rss_bytes);
        assert!(after.rss_anon_bytes > 0 && after.rss_anon_bytes + after.rss_file_bytes <= after.rss_bytes);
        written_bytes(std::process::id()).unwrap();
    }
}
