//! How much of the processors others used meanwhile. A write that has completed waits for a processor to
//! be seen, so on a busy machine latencies are the scheduler's, not the disk's.

use std::{fs, time::Instant};

use crate::{disk::ring, error::Error};

const STAT: &str = "/proc/stat";

pub struct Watch {
    busy_ticks: u64,
    own_us: f64,
    since: Instant,
}

impl Watch {
    pub fn start() -> Result<Self, Error> {
        Ok(Self { busy_ticks: busy_ticks()?, own_us: own_us()?, since: Instant::now() })
    }

    /// Processors that other programs kept busy on average since the start.
    pub fn others(&self) -> Result<f64, Error> {
        // SAFETY: the call takes no pointers.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as f64;
        let all = (busy_ticks()?.saturating_sub(self.busy_ticks)) as f64 / per_second;
        let own = (own_us()? - self.own_us) / 1e6;
        Ok(((all - own) / self.since.elapsed().as_secs_f64().max(0.001)).max(0.0))
    }
}

/// From here on other programs show in the latencies.
pub const BUSY: f64 = 0.3;

/// Ours and of the programs we ran.
fn own_us() -> Result<f64, Error> {
    Ok(ring::cpu_us()? + ring::children_cpu_us()?)
}

fn busy_ticks() -> Result<u64, Error> {
    let text = fs::read_to_string(STAT).map_err(Error::io(STAT))?;
    parse(&text).ok_or_else(|| Error::io(STAT)(std::io::Error::other("has no line of all processors")))
}

/// User, nice and system time; interrupts are our own writes' as well.
fn parse(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    (fields.len() >= 4).then(|| fields[..3].iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_user_nice_and_system() {
        assert_eq!(parse("cpu  100 20 3 9999 55 0 7 0 0 0\ncpu0 1 1 1 1\n"), Some(123));
        assert_eq!(parse("cpu0 1 1 1 1\n"), None);
        assert_eq!(parse("cpu  1 x\n"), None);
    }
}
