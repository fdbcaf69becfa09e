//! A state that was made elsewhere, as the first checkpoint of a member that begins with it: for a restore.

use prost::Message;

use super::{
    auth::Auth,
    cluster::Cluster,
    lease::{Lease, Leases},
    mvcc::{self, Mark},
    space::{Facts, Space},
};
use crate::{
    block::{Block, BlockChange},
    pb::etcdserverpb as pb,
};

#[derive(Debug)]
pub struct Seed {
    pub mark: Mark,
    /// Of the history.
    pub blocks: Vec<Block>,
    pub leases: Vec<Lease>,
    pub auth: Auth,
    pub members: Vec<pb::Member>,
    pub alarms: Vec<pb::AlarmMember>,
}

impl Seed {
    /// What [`StateMachine::changes`](super::StateMachine::changes) of such a state would give.
    pub fn into_checkpoint(mut self) -> (Vec<BlockChange>, Vec<u8>) {
        let mut cluster = Cluster::new(self.members, &self.alarms);
        let mut leases = Leases::default();
        for lease in self.leases {
            leases.add(lease);
        }
        let mut facts = Facts::default();
        facts.add(mvcc::SPACE, self.mark.encode());
        facts.add(leases.id(), leases.facts());
        facts.add(self.auth.id(), self.auth.facts());
        facts.add(cluster.id(), cluster.facts());
        let mut changes: Vec<_> = self.blocks.into_iter().map(BlockChange::Write).collect();
        changes.append(&mut leases.changes());
        changes.append(&mut self.auth.changes());
        changes.append(&mut cluster.changes());
        (changes, facts.encode_to_vec())
    }
}
