//! Which release the cluster is taken for (`version.Monitor` in etcd v3.7 `etcdserver/version`): the lowest that any
//! member runs, unless they are on their way down to the one before.
//!
//! A task beside the loop, of the leader's alone. As long as one member does not say what it runs, nothing changes.

use std::time::Duration;

use tracing::{error, info, warn};

use super::{Duty, others::Others};
use crate::{
    env::Env,
    limits,
    shard::{Error, Shard},
    state::{
        Principal,
        cluster::{Cluster, Release, SetDowngrade, SetVersion},
    },
};

/// Runs until the shard stops. Every `downgrade_check` it is seen whether a downgrade has come to its end; zero for never.
pub async fn watch_version<E: Env>(
    env: E,
    shard: Shard,
    duty: Duty,
    others: Others<E>,
    downgrade_check: Duration,
) {
    let mut checked = env.now();
    loop {
        env.sleep(limits::VERSION_PAUSE).await;
        if duty.term().is_none() {
            continue;
        }
        let Some(lowest) = lowest(&others).await else { continue };
        let due = shard.with_state(|state| due(state.cluster(), lowest));
        let ended = !downgrade_check.is_zero() && env.now().since(checked) >= downgrade_check;
        let mut done = match due {
            Some(version) => update(&shard, version).await,
            None => Ok(()),
        };
        if ended {
            checked = env.now();
            done = done.and(end_downgrade(&shard, &others).await);
        }
        if done == Err(Error::Stopped) {
            return;
        }
    }
}

/// The lowest release that a member runs, if all of them say what they run.
async fn lowest<E: Env>(others: &Others<E>) -> Option<Release> {
    let mut lowest = Release::OURS;
    for (id, versions) in others.versions().await {
        let text = versions?.server;
        let Some(release) = Release::parse(&text) else {
            warn!(
                "remote-member-id" = format!("{:x}", id.0),
                "remote-member-version" = text,
                "failed to parse server version of remote member"
            );
            return None;
        };
        if release > Release::OURS {
            warn!(
                "local-member-version" = crate::types::ETCD_VERSION,
                "remote-member-id" = format!("{:x}", id.0),
                "remote-member-version" = text,
                "leader found higher-versioned member"
            );
        }
        lowest = lowest.min(release);
    }
    Some(lowest)
}

async fn update(shard: &Shard, version: Release) -> Result<(), Error> {
    let before = shard.with_state(|state| state.cluster().version());
    info!(from = %before, to = %version, "updating cluster version using v3 API");
    let written = shard.write(&Principal::default(), SetVersion { version: Some(version) }).await;
    match &written {
        Ok(()) => info!("cluster-version" = %version, "cluster version is updated"),
        Err(error) => warn!(%error, "failed to update cluster version"),
    }
    written
}

/// Once all members run the release that they were on their way to, they are there.
async fn end_downgrade<E: Env>(shard: &Shard, others: &Others<E>) -> Result<(), Error> {
    let Some(target) = shard.with_state(|state| state.cluster().downgrade()) else { return Ok(()) };
    let there = |text: &str| Release::parse(text) == Some(target);
    let asked = others.versions().await;
    let all = asked.iter().all(|(_, versions)| versions.as_ref().is_some_and(|told| there(&told.server)));
    if target != Release::OURS || !all {
        return Ok(());
    }
    info!("cluster-version" = %target, "the cluster has been downgraded");
    let written = shard.write(&Principal::default(), SetDowngrade { target: None }).await;
    if let Err(error) = &written {
        warn!(%error, "failed to cancel downgrade");
    }
    written
}

/// The version to go over to, if the one there is is not right.
fn due(cluster: &Cluster, lowest: Release) -> Option<Release> {
    let version = cluster.version();
    let Some(target) = cluster.downgrade() else { return (version < lowest).then_some(lowest) };
    if version == target {
        return None;
    }
    let allowed = |from: Release| from.before() == Some(target);
    if !allowed(version) || !allowed(lowest) {
        error!(
            "downgrade-target" = %target,
            "cluster-version" = %version,
            "minimal-server-version" = %lowest,
            "Cannot downgrade from cluster-version to downgrade-target"
        );
        return None;
    }
    Some(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Command, Context, Outcome, StateMachine};

    fn apply(state: &mut StateMachine, command: &impl Command) {
        let principal = Principal::default();
        let applied = state.apply(command, Context::asked_by(&principal), &mut Outcome::default());
        applied.map(drop).expect("nothing is wrong with it");
    }

    #[test]
    fn it_follows_a_downgrade_and_its_end() {
        let mut state = StateMachine::new();
        let due = |state: &StateMachine| due(state.cluster(), Release::OURS);
        assert_eq!(due(&state), None);
        let target = Release::OURS.before();
        apply(&mut state, &SetDowngrade { target });
        assert_eq!(due(&state), target);
        apply(&mut state, &SetVersion { version: target });
        assert_eq!(due(&state), None);
        apply(&mut state, &SetDowngrade { target: None });
        assert_eq!(due(&state), Some(Release::OURS));
        apply(&mut state, &SetVersion { version: Some(Release::OURS) });
        assert_eq!(due(&state), None);
    }

    #[test]
    fn it_is_the_lowest_and_never_turns_back_by_itself() {
        let mut state = StateMachine::new();
        let older = Release::OURS.before().expect("there is one");
        apply(&mut state, &SetVersion { version: Some(older) });
        assert_eq!(due(state.cluster(), older), None, "somebody has not come along yet");
        assert_eq!(due(state.cluster(), Release::OURS), Some(Release::OURS));
        apply(&mut state, &SetVersion { version: Some(Release::OURS) });
        assert_eq!(due(state.cluster(), older), None, "an older member joins what is there");
        let target = older.before();
        apply(&mut state, &SetDowngrade { target });
        assert_eq!(due(state.cluster(), Release::OURS), None, "two at once");
    }
}
