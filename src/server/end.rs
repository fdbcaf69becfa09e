//! What ends a member: a signal, or that it does not belong to its cluster any more.

use std::time::Duration;

use futures_lite::future::or;
use tracing::warn;

use super::signals::Stop;
use crate::{
    config::Config,
    env::Env,
    service::Word,
    shard::{Fatal, Shard},
};

/// How often a member looks whether it still belongs to the cluster.
const LOOK: Duration = Duration::from_millis(200);
/// For so long a member that was removed stays, so that the others can learn from it that it was (etcd's delay of its
/// stop).
const GOODBYE: Duration = Duration::from_secs(1);

/// Clones hear of the same end.
#[derive(Clone, Debug)]
pub struct End {
    stop: Stop,
    removed: Word,
}

impl End {
    pub fn new(stop: Stop) -> Self {
        Self { stop, removed: Word::default() }
    }

    /// Completes when the member has to end. One task at a time may wait.
    pub async fn requested(&self) {
        let signal = async {
            self.stop.requested().await;
        };
        or(signal, self.removed.given()).await;
    }

    /// What some work comes to; none if the member has to end before.
    pub async fn before<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let stopped = async {
            self.requested().await;
            None
        };
        or(async { Some(work.await) }, stopped).await
    }

    pub fn has_come(&self) -> bool {
        self.signal().is_some() || self.removed.is_given()
    }

    /// The signal that came, if one did.
    pub fn signal(&self) -> Option<i32> {
        self.stop.signal()
    }

    /// Ends a member that was removed from its cluster, as its own log tells or another member says; never returns.
    pub async fn watch<E: Env>(
        &self,
        env: &E,
        shard: &Shard,
        config: &Config,
        told: impl Future<Output = ()>,
    ) {
        let by_log = async {
            while !shard.with_state(|state| state.cluster().was_removed(shard.member_id())) {
                env.sleep(LOOK).await;
            }
            env.sleep(GOODBYE).await;
        };
        or(by_log, told).await;
        say_removed(config);
        self.removed.give();
        std::future::pending().await
    }
}

/// What is to be done about a member that was removed.
pub fn say_removed(config: &Config) {
    warn!(error = %Fatal::Removed, "server error");
    warn!(
        "data-dir" = %config.data_dir.display(),
        "wal-dir" = %config.wal_dir.as_deref().unwrap_or_else(|| std::path::Path::new("")).display(),
        "data-dir used by this member must be removed"
    );
}
