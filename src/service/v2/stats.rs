//! What a member tells of itself, of those that follow it, and of its tree (`v2stats` of etcd v3.4).

use std::time::Duration;

use super::Api;
use crate::{metrics::Trips, state::v2::Counts, types::MemberId};

/// A member as it sees itself.
#[derive(Clone, Debug)]
pub struct Own {
    pub name: String,
    pub id: u64,
    pub is_leader: bool,
    /// Since 1970, as the next.
    pub started: Duration,
    /// Who leads, and since when this member knows: nobody, if none.
    pub leader: Option<(u64, Duration)>,
    pub now: Duration,
    /// Messages with entries, received and sent.
    pub appends: (u64, u64),
}

pub fn own(api: &Api) -> Own {
    let shard = api.shard();
    let (id, now) = (shard.member_id(), api.wall());
    let name = shard.with_state(|state| state.cluster().member(id).map(|member| member.name.clone()));
    let leader = shard.leader();
    let since = now.saturating_sub(shard.leader_for());
    Own {
        name: name.unwrap_or_default(),
        id: id.0,
        is_leader: shard.is_leader(),
        started: api.0.started,
        leader: (leader.0 != 0).then_some((leader.0, since)),
        now,
        appends: shard.appends(),
    }
}

/// The leader and the others, if this member leads.
pub fn followers(api: &Api) -> Option<(u64, Vec<(u64, Trips)>)> {
    let shard = api.shard();
    if !shard.is_leader() {
        return None;
    }
    let own = shard.member_id().0;
    let others = super::members(api).into_iter().map(|member| member.id).filter(|id| *id != own);
    let trips = |id| (id, api.metrics().peers.trips(MemberId(id)));
    Some((own, others.map(trips).collect()))
}

/// What was done and what was not, reads apart, and how many wait.
pub fn tree(api: &Api) -> (Counts, [u64; 2], usize) {
    let shard = api.shard();
    (shard.with_state(|state| *state.v2().counts()), shard.v2_gets(), shard.v2_waiting())
}
