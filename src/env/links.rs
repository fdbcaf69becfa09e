//! How shards reach the other members' shards: the edge between those who have something to say and whoever carries it.

use bytes::Bytes;

use super::Instant;
use crate::types::{MemberId, ShardId};

/// Links to other members, which all shards of a core share.
pub trait Links: 'static {
    /// Sends a frame to the shard of the same number over there. It never waits, and what does not fit is dropped. A frame
    /// may get lost, be late, overtake others or come twice: who sends it repeats what matters.
    fn send(&self, to: MemberId, shard: ShardId, lane: Lane, frame: Bytes);

    /// Since when there has been a link to the member; none while there is none.
    fn active_since(&self, member: MemberId) -> Option<Instant>;

    /// Who belongs to the cluster, this member as well, and who did and must not come back. To be told again with each
    /// change, all of it.
    fn set_members(&self, members: &[Peer], removed: &[MemberId]);
}

/// What a frame waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// It is short and late if it comes after entries: heartbeats, votes, read indexes, replies.
    Signals,
    /// It is as long as what it brings.
    Entries,
}

/// A member as others reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub id: MemberId,
    /// As the cluster knows them; any may be out of order.
    pub urls: Vec<String>,
}

/// The links of a member that no other can be reached from: what is sent is lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLinks;

impl Links for NoLinks {
    fn send(&self, _to: MemberId, _shard: ShardId, _lane: Lane, _frame: Bytes) {}

    fn active_since(&self, _member: MemberId) -> Option<Instant> {
        None
    }

    fn set_members(&self, _members: &[Peer], _removed: &[MemberId]) {}
}
