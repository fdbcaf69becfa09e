//! A member that stops hands over leadership first, so that nobody waits for an election (`TryTransferLeadershipOnShutdown`
//! in etcd v3.7 `etcdserver/server.go`).

use std::time::Duration;

use futures_lite::future::or;
use tracing::{info, warn};

use crate::{env::Env, shard::Shard};

/// Returns once another member leads, or it is clear that none will for now.
pub async fn hand_over<E: Env>(env: &E, shard: &Shard, election: Duration) {
    let local = format!("{:x}", shard.member_id().0);
    if !shard.is_leader() {
        info!(
            "local-member-id" = local,
            "current-leader-member-id" = format!("{:x}", shard.leader().0),
            "skipped leadership transfer; local server is not leader"
        );
        return;
    }
    if shard.successors().is_empty() {
        info!("local-member-id" = local, "skipped leadership transfer for single voting member cluster");
        return;
    }
    let began = env.now();
    let handing_over = async { Some(shard.hand_over(None).await) };
    let late = async {
        // By then Raft has given it up.
        env.sleep(2 * election).await;
        None
    };
    match or(handing_over, late).await {
        Some(Ok(())) => info!(
            "local-member-id" = local,
            "transferee-member-id" = format!("{:x}", shard.leader().0),
            took = ?env.now().since(began),
            "leadership transfer finished"
        ),
        Some(Err(error)) => warn!("local-member-id" = local, %error, "leadership transfer failed"),
        None => warn!(
            "local-member-id" = local,
            error = "no other member took over in time",
            "leadership transfer failed"
        ),
    }
}
