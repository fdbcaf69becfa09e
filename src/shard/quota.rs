//! How large a keyspace may grow (`--quota-backend-bytes`, etcd v3.7 `storage/quota.go`).
//!
//! Looked at before a write is admitted, by the member that admits it. That the keyspace is full is then told to all
//! members by an alarm, see [`Alarms`](crate::apply::Alarms).

use tracing::{info, warn};

use crate::limits;

/// Which of the checks logs it, in etcd's words.
const NAME: &str = "v3-applier";

/// As the flag says it: negative for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota(i64);

impl Default for Quota {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Quota {
    /// 0 means etcd's default, below 0 no quota.
    pub fn new(bytes: i64) -> Self {
        Self(if bytes == 0 { limits::QUOTA_BYTES } else { bytes })
    }

    /// As clients and metrics see it.
    pub fn bytes(self) -> i64 {
        self.0
    }

    /// Whether a keyspace of `size` bytes has room for what costs `cost`. What costs nothing always has.
    pub fn admits(self, size: u64, cost: u64) -> bool {
        match u64::try_from(self.0) {
            Ok(max) => cost == 0 || size.saturating_add(cost) < max,
            Err(_negative) => true,
        }
    }

    /// Says it once, at the start.
    pub fn announce(self) {
        let bytes = self.0;
        let Ok(size) = u64::try_from(bytes) else {
            info!("quota-name" = NAME, "quota-size-bytes" = bytes, "disabled backend quota");
            return;
        };
        let size = readable(size);
        if bytes == limits::QUOTA_BYTES {
            info!(
                "quota-name" = NAME,
                "quota-size-bytes" = bytes,
                "quota-size" = size,
                "enabled backend quota with default value"
            );
            return;
        }
        if bytes > limits::QUOTA_BYTES_RECOMMENDED {
            warn!(
                "quota-name" = NAME,
                "quota-size-bytes" = bytes,
                "quota-size" = size,
                "quota-maximum-size-bytes" = limits::QUOTA_BYTES_RECOMMENDED,
                "quota-maximum-size" = readable(limits::QUOTA_BYTES_RECOMMENDED.unsigned_abs()),
                "quota exceeds the maximum value"
            );
        }
        info!("quota-name" = NAME, "quota-size-bytes" = bytes, "quota-size" = size, "enabled backend quota");
    }
}

/// `2.1 GB`: in thousands, with a decimal below ten.
pub fn readable(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1000.0 {
        size /= 1000.0;
        unit += 1;
    }
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let size = (size * 10.0 + 0.5).floor() / 10.0;
    if size < 10.0 { format!("{size:.1} {}", UNITS[unit]) } else { format!("{size:.0} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcds_default_none_and_the_edge() {
        assert_eq!(Quota::new(0).bytes(), 2 << 30);
        assert!(Quota::new(-1).admits(u64::MAX, u64::MAX));
        let quota = Quota::new(1000);
        assert!(quota.admits(700, 299) && !quota.admits(700, 300));
        assert!(quota.admits(5000, 0) && !quota.admits(u64::MAX, 1));
    }

    #[test]
    fn sizes_as_people_read_them() {
        for (bytes, text) in
            [(0, "0 B"), (999, "999 B"), (65_536, "66 kB"), (2 << 30, "2.1 GB"), (8 << 30, "8.6 GB")]
        {
            assert_eq!(readable(bytes), text);
        }
    }
}
