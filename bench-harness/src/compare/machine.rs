//! What a comparison ran on, so that its numbers can be read later.

use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub date: String,
    pub cpu: String,
    pub cores: usize,
    pub memory_gib: u64,
    pub kernel: String,
    /// Of the data directories: `ext4 on /dev/vda`.
    pub file_system: String,
}

impl Machine {
    pub fn describe(work_dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(work_dir)?;
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
        let meminfo = std::fs::read_to_string("/proc/meminfo")?;
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        let kibibytes =
            value(&meminfo, "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        Ok(Self {
            date: date(SystemTime::now()),
            cpu: value(&cpuinfo, "model name").unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: kibibytes.unwrap_or(0).div_ceil(1 << 20),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            file_system: file_system(&mounts, &work_dir.canonicalize()?)
                .unwrap_or_else(|| "unknown".to_owned()),
        })
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { date, cpu, cores, memory_gib, kernel, file_system } = self;
        write!(f, "{date}: {cpu}, {cores} cores, {memory_gib} GiB, Linux {kernel}, data on {file_system}")
    }
}

/// Of `name : value` lines.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        (field.trim() == name).then_some(value.trim())
    })
}

/// Of the mount that holds the path: the one with the longest matching directory, the last of these.
fn file_system(mounts: &str, path: &Path) -> Option<String> {
    let mut best: Option<(usize, String)> = None;
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let (device, directory, kind) = (words.next()?, words.next()?, words.next()?);
        let length = directory.len();
        if path.starts_with(directory) && best.as_ref().is_none_or(|(known, _)| length >= *known) {
            best = Some((length, format!("{kind} on {device}")));
        }
    }
    best.map(|(_, text)| text)
}

/// `2026-11-21`, in UTC, by the civil calendar's 400-year cycle.
fn date(now: SystemTime) -> String {
    let days = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400) + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_right_around_leap_days() {
        for (seconds, text) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_795_219_199, "2026-11-20"),
        ] {
            assert_eq!(date(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn finds_the_innermost_mount() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /home/data xfs rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/home/data/x")).unwrap(), "xfs on /dev/vdb");
        assert_eq!(file_system(mounts, Path::new("/home/database")).unwrap(), "ext4 on /dev/vda");
    }

    #[test]
    fn describes_this_machine() {
        let machine = Machine::describe(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(
            machine.cores > 0 && machine.memory_gib > 0 && machine.file_system.contains(" on "),
            "{machine}"
        );
    }
}
