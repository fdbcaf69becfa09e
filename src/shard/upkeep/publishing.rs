//! Tells the other members what this one is, if that is not what they know: a task beside the loop.

use std::time::Duration;

use tracing::{info, warn};

use crate::{
    env::Env,
    shard::{Error, Shard},
    state::{Principal, cluster::PublishMember},
};

const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Tries until it is done or the shard stops.
pub async fn publish<E: Env>(env: E, shard: Shard, told: PublishMember) {
    while !shard.with_state(|state| told.is_known(state.cluster())) {
        match shard.write(&Principal::default(), told.clone()).await {
            Ok(()) => info!("name" = told.name, "published local member to cluster through raft"),
            Err(Error::Stopped) => return,
            Err(error) => {
                warn!(%error, "failed to publish local member to cluster through raft");
                env.sleep(RETRY_PAUSE).await;
            }
        }
    }
}
