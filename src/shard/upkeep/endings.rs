//! The end of nodes of the v2 tree: those whose time is over end by a command of who leads, as its clock says.

use std::time::Duration;

use tracing::warn;

use super::Duty;
use crate::{
    env::Env,
    limits,
    shard::{Error, Shard},
    state::v2::Expire,
};

/// Since 1970, in nanoseconds.
pub fn wall(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// Runs until the shard stops.
pub async fn end_v2_nodes<E: Env>(env: E, shard: Shard, duty: Duty) {
    while !shard.is_stopping() {
        let time = wall(env.wall());
        let is_due = shard.with_state(|state| state.v2().next_end().is_some_and(|ends| ends <= time));
        if let Some(term) = duty.term().filter(|_| is_due) {
            match shard.write_leading(term, Expire { time }).await {
                Ok(limits::V2_EXPIRED_TOGETHER) => continue,
                // Whoever leads then tries again.
                Ok(_) | Err(Error::NoLeader | Error::Stopped | Error::TooManyRequests) => {}
                Err(error) => warn!(%error, "failed to end nodes of the v2 tree"),
            }
        }
        env.sleep(limits::V2_END_PAUSE).await;
    }
}
