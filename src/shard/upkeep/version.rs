//! Which release the cluster is taken for (`version.Monitor` in etcd v3.7 `etcdserver/version`): what all members run,
//! unless they are on their way down to the one before.
//!
//! A task beside the loop, of the leader's alone. A group of one has no other member to ask.

use tracing::{info, warn};

use super::Duty;
use crate::{
    env::Env,
    limits,
    shard::{Error, Shard},
    state::{
        Principal,
        cluster::{Cluster, Release, SetVersion},
    },
};

/// Runs until the shard stops.
pub async fn watch_version<E: Env>(env: E, shard: Shard, duty: Duty) {
    loop {
        env.sleep(limits::VERSION_PAUSE).await;
        if duty.term().is_none() {
            continue;
        }
        let (before, due) = shard.with_state(|state| (state.cluster().version(), due(state.cluster())));
        let Some(version) = due else { continue };
        info!(from = %before, to = %version, "updating cluster version using v3 API");
        match shard.write(&Principal::default(), SetVersion { version: Some(version) }).await {
            Ok(()) => info!("cluster-version" = %version, "cluster version is updated"),
            Err(Error::Stopped) => return,
            Err(error) => warn!(%error, "failed to update cluster version"),
        }
    }
}

/// The version to go over to, if the one there is is not right.
fn due(cluster: &Cluster) -> Option<Release> {
    let wanted = cluster.downgrade().unwrap_or(Release::OURS);
    (wanted != cluster.version()).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Command, Context, Outcome, StateMachine, cluster::SetDowngrade};

    fn apply(state: &mut StateMachine, command: &impl Command) {
        let principal = Principal::default();
        let applied = state.apply(command, Context::asked_by(&principal), &mut Outcome::default());
        applied.map(drop).expect("nothing is wrong with it");
    }

    #[test]
    fn it_follows_a_downgrade_and_its_end() {
        let mut state = StateMachine::new();
        assert_eq!(due(state.cluster()), None);
        let target = Release::OURS.before();
        apply(&mut state, &SetDowngrade { target });
        assert_eq!(due(state.cluster()), target);
        apply(&mut state, &SetVersion { version: target });
        assert_eq!(due(state.cluster()), None);
        apply(&mut state, &SetDowngrade { target: None });
        assert_eq!(due(state.cluster()), Some(Release::OURS));
        apply(&mut state, &SetVersion { version: Some(Release::OURS) });
        assert_eq!(due(state.cluster()), None);
    }
}
