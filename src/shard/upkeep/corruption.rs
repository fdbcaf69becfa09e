//! Whether what is stored is what was written, and the same on all members (etcd v3.7 `etcdserver/corrupt.go`).
//!
//! Tasks beside the loop that hash the versions here, ask the others for theirs, and raise the alarm `CORRUPT`. Only the
//! leader checks while it serves; before it serves, each member looks for itself. What is found is judged in [`verdict`].

mod verdict;

use std::time::Duration;

use tracing::{error, info, warn};

use super::{Duty, others::Others};
use crate::{
    env::Env,
    inquiry::form::HashRefusal,
    pb::etcdserverpb::{self as pb, AlarmType, alarm_request::AlarmAction},
    shard::{Error, Fatal, Shard},
    state::Principal,
    types::MemberId,
};
use verdict::{Blame, Compared, compacted, periodic};

/// Which checks run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CorruptionChecks {
    /// Before anything is served.
    pub initial: bool,
    /// Time between two, zero for none.
    pub interval: Duration,
    /// Time between two comparisons of what was compacted, zero for none.
    pub compacted: Duration,
}

impl CorruptionChecks {
    /// Before a member that has data serves. Reads every version once. It must not serve what others know to be otherwise.
    pub async fn begin<E: Env>(self, shard: &Shard, others: &Others<E>) -> Result<(), Fatal> {
        if !self.initial {
            return Ok(());
        }
        let id = format!("{:x}", shard.member_id().0);
        info!("local-member-id" = id, "starting initial corruption check");
        let (own, _) = shard.hash_kv(0).await.expect("the newest revision can be read");
        let mut differing = 0;
        for (peer, answer) in others.hashes(own.revision.0).await {
            let peer = format!("{:x}", peer.0);
            let (hash, compacted, complaint) = match answer {
                Ok(theirs) if theirs.hash == own.hash => continue,
                Ok(theirs) if theirs.compact_revision == own.compacted.0 => {
                    differing += 1;
                    let complaint = "found different hash values from remote peer";
                    (theirs.hash, theirs.compact_revision, complaint)
                }
                Ok(theirs) => {
                    let complaint = "found different compact revision values from remote peer";
                    (theirs.hash, theirs.compact_revision, complaint)
                }
                Err(error) => {
                    let complaint = match error.and_then(|error| error.hash_refusal()) {
                        Some(HashRefusal::Future) => "cannot fetch hash from slow remote peer",
                        Some(HashRefusal::Compacted) => {
                            "cannot fetch hash from remote peer; local member is behind"
                        }
                        Some(HashRefusal::OtherCluster) => "cluster ID mismatch",
                        None => continue,
                    };
                    (0, 0, complaint)
                }
            };
            warn!(
                "local-member-id" = id,
                "local-member-revision" = own.revision.0,
                "local-member-compact-revision" = own.compacted.0,
                "local-member-hash" = own.hash,
                "remote-peer-id" = peer,
                "remote-peer-compact-revision" = compacted,
                "remote-peer-hash" = hash,
                "{complaint}"
            );
        }
        if differing > 0 {
            return Err(Fatal::Inconsistent { member: shard.member_id().0 });
        }
        info!("local-member-id" = id, "initial corruption checking passed; no corruption");
        Ok(())
    }

    /// Runs until the shard stops.
    pub async fn run<E: Env>(self, env: E, shard: Shard, duty: Duty, others: Others<E>) {
        if self.interval.is_zero() {
            return;
        }
        let id = format!("{:x}", shard.member_id().0);
        info!("local-member-id" = id, interval = ?self.interval, "enabled corruption checking");
        loop {
            env.sleep(self.interval).await;
            let Some(term) = duty.term() else { continue };
            match check(&shard, &others, || duty.term() == Some(term)).await {
                Ok(checked) => {
                    info!("number-of-peers-checked" = checked, "finished peer corruption check");
                }
                Err(Error::Stopped) => return,
                Err(error) => warn!(%error, "failed to check hash KV"),
            }
        }
    }

    /// Compares what was compacted, which is the same on all members; runs until the shard stops.
    pub async fn run_compacted<E: Env>(self, env: E, shard: Shard, duty: Duty, others: Others<E>) {
        if self.compacted.is_zero() {
            return;
        }
        let mut checked = 0;
        loop {
            env.sleep(self.compacted).await;
            let Some(term) = duty.term() else { continue };
            match check_compacted(&shard, &others, checked, || duty.term() == Some(term)).await {
                Ok(revision) => checked = revision,
                Err(Error::Stopped) => return,
                Err(error) => warn!(%error, "failed to check the hash of what was compacted"),
            }
        }
    }
}

/// How many others have told their hash. `leads`: still in the term in which it began. Who was replaced meanwhile leaves
/// the alarm to the new leader's check.
async fn check<E: Env>(shard: &Shard, others: &Others<E>, leads: impl Fn() -> bool) -> Result<usize, Error> {
    let (first, _) = shard.hash_kv(0).await?;
    let answers = others.hashes(first.revision.0).await;
    shard.linearize().await?;
    let (second, newest) = shard.hash_kv(0).await?;
    let answers: Vec<_> = answers.into_iter().filter_map(|(id, hash)| Some((id, hash.ok()?))).collect();
    if let Some(blame) = periodic(shard.member_id(), (first, second), newest, &answers) {
        let Blame { member, complaint } = blame;
        warn!(
            "revision-1" = first.revision.0,
            "compact-revision-1" = first.compacted.0,
            "hash-1" = first.hash,
            "revision-2" = second.revision.0,
            "compact-revision-2" = second.compacted.0,
            "hash-2" = second.hash,
            "member-id" = format!("{:x}", member.0),
            "{complaint}"
        );
        if leads() {
            raise(shard, member).await?;
        }
    }
    Ok(answers.len())
}

/// Up to which revision all members have compared; they have up to `checked` before.
async fn check_compacted<E: Env>(
    shard: &Shard,
    others: &Others<E>,
    checked: i64,
    leads: impl Fn() -> bool,
) -> Result<i64, Error> {
    let revision = shard.with_state(|state| state.compact_revision().0);
    let id = shard.member_id();
    info!("local-member-id" = format!("{:x}", id.0), "starting compact hash check");
    let mut number = 0;
    let mut reached = checked;
    if revision > checked {
        let (own, _) = shard.hash_kv(revision).await?;
        let answers = others.hashes(revision).await;
        let (all, own_id) = (answers.len(), format!("{:x}", id.0));
        number = usize::from(all > 0);
        let answers: Vec<_> = answers.into_iter().filter_map(|(id, hash)| Some((id, hash.ok()?))).collect();
        let Compared { counted, blamed } = compacted(id, own, all, &answers);
        if blamed.is_empty() && counted == all {
            reached = revision;
            if all > 0 {
                info!(
                    "number-of-peers-checked" = counted,
                    revision, "successfully checked hash on whole cluster"
                );
            }
        } else if blamed.is_empty() {
            warn!(
                "number-of-peers-checked" = counted,
                "number-of-peers" = all,
                revision,
                "skipped revision in compaction hash check; was not able to check all peers"
            );
        }
        for member in blamed {
            error!(
                "leader-id" = own_id,
                "leader-revision" = own.revision.0,
                "leader-compact-revision" = own.compacted.0,
                "leader-hash" = own.hash,
                "peer-id" = format!("{:x}", member.0),
                "Detected compaction hash mismatch"
            );
            if leads() {
                raise(shard, member).await?;
            }
        }
    }
    info!("number-of-hashes-checked" = number, "finished compaction hash check");
    Ok(reached)
}

async fn raise(shard: &Shard, member: MemberId) -> Result<(), Error> {
    let raise = pb::AlarmRequest {
        action: AlarmAction::Activate as i32,
        member_id: member.0,
        alarm: AlarmType::Corrupt as i32,
    };
    shard.write(&Principal::default(), raise).await.map(drop)
}
