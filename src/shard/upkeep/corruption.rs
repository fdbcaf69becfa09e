//! Whether what is stored is what was written (etcd v3.7 `etcdserver/corrupt.go`), as far as one member can tell: its
//! versions hash to the same value twice. A group of one has no other member to compare with, and none is claimed to
//! have been.

use std::time::Duration;

use tracing::{info, warn};

use super::Duty;
use crate::{
    env::Env,
    pb::etcdserverpb::{self as pb, AlarmType, alarm_request::AlarmAction},
    shard::{Error, Shard},
    state::{Principal, mvcc::HashKv},
};

/// Which checks run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CorruptionChecks {
    /// Before anything is served.
    pub initial: bool,
    /// Time between two, zero for none.
    pub interval: Duration,
}

impl CorruptionChecks {
    /// Before a member that has data serves. Reads every version once.
    pub async fn begin(self, shard: &Shard) {
        if !self.initial {
            return;
        }
        let id = format!("{:x}", shard.member_id().0);
        info!("local-member-id" = id, "starting initial corruption check");
        shard.hash_kv(0).await.expect("the newest revision can be read");
        info!(
            "local-member-id" = id,
            "number-of-peers-checked" = 0,
            "initial corruption checking passed; no corruption"
        );
    }

    /// Runs until the shard stops.
    pub async fn run<E: Env>(self, env: E, shard: Shard, duty: Duty) {
        if self.interval.is_zero() {
            return;
        }
        let id = format!("{:x}", shard.member_id().0);
        info!("local-member-id" = id, interval = ?self.interval, "enabled corruption checking");
        loop {
            env.sleep(self.interval).await;
            let Some(term) = duty.term() else { continue };
            match check(&shard, || duty.term() == Some(term)).await {
                Ok(()) => info!("number-of-peers-checked" = 0, "finished peer corruption check"),
                Err(Error::Stopped) => return,
                Err(error) => warn!(%error, "failed to check hash KV"),
            }
        }
    }
}

/// `leads`: still in the term in which it began. Who was replaced meanwhile leaves the alarm to the new leader's check.
async fn check(shard: &Shard, leads: impl Fn() -> bool) -> Result<(), Error> {
    let (first, _) = shard.hash_kv(0).await?;
    shard.linearize().await?;
    let (second, _) = shard.hash_kv(0).await?;
    if !differ(first, second) {
        return Ok(());
    }
    warn!(
        "revision-1" = first.revision.0,
        "compact-revision-1" = first.compacted.0,
        "hash-1" = first.hash,
        "revision-2" = second.revision.0,
        "compact-revision-2" = second.compacted.0,
        "hash-2" = second.hash,
        "found hash mismatch"
    );
    if !leads() {
        return Ok(());
    }
    let raise = pb::AlarmRequest {
        action: AlarmAction::Activate as i32,
        member_id: shard.member_id().0,
        alarm: AlarmType::Corrupt as i32,
    };
    shard.write(&Principal::default(), raise).await.map(drop)
}

/// Of the same versions, yet not the same.
fn differ(first: HashKv, second: HashKv) -> bool {
    (first.revision, first.compacted) == (second.revision, second.compacted) && first.hash != second.hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Revision;

    #[test]
    fn only_hashes_of_the_same_versions_can_differ() {
        let hash = |hash, compacted, revision| HashKv {
            hash,
            compacted: Revision(compacted),
            revision: Revision(revision),
        };
        assert!(differ(hash(1, 2, 3), hash(2, 2, 3)));
        assert!(!differ(hash(1, 2, 3), hash(1, 2, 3)));
        assert!(!differ(hash(1, 2, 3), hash(2, 2, 4)), "written in between");
        assert!(!differ(hash(1, 2, 3), hash(2, 3, 3)), "compacted in between");
    }
}
