//! How large a keyspace may grow (`--quota-backend-bytes`, etcd v3.7 `storage/quota.go`).
//!
//! Looked at before a write is admitted, by the member that admits it. That the keyspace is full is then told to all
//! members by an alarm, see [`Alarms`](crate::state::Alarms).

use tracing::{info, warn};

use crate::{limits, types::Size};

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
        let size = Size(size).to_string();
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
                "quota-maximum-size" = Size(limits::QUOTA_BYTES_RECOMMENDED.unsigned_abs()).to_string(),
                "quota exceeds the maximum value"
            );
        }
        info!("quota-name" = NAME, "quota-size-bytes" = bytes, "quota-size" = size, "enabled backend quota");
    }
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
}
