//! What all members know of the cluster: who belongs to it, what is wrong with members, which commands all of them know.
//!
//! A space of one block, written again whenever something of it changed.

mod add_member;
mod alarm;
mod publish_member;

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use super::{
    command::Level,
    space::{Space, Unsaved},
};
use crate::{
    block::{Block, BlockChange, BlockId, SpaceId},
    pb::etcdserverpb as pb,
    types::MemberId,
};

pub use add_member::AddMember;
pub use alarm::Alarms;
pub use publish_member::PublishMember;

/// The cluster's own.
pub const SPACE: SpaceId = SpaceId(4);
const BLOCK: BlockId = BlockId { space: SPACE, number: 0 };

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    members: BTreeMap<u64, pb::Member>,
    alarms: Alarms,
    level: Level,
    /// The newest checkpoint, finished or under way, does not have it.
    unsaved: bool,
}

/// The block's body.
#[derive(Clone, PartialEq, Message)]
struct Content {
    #[prost(message, repeated, tag = "1")]
    members: Vec<pb::Member>,
    #[prost(message, repeated, tag = "2")]
    alarms: Vec<pb::AlarmMember>,
    #[prost(uint32, tag = "3")]
    level: u32,
}

impl Default for Cluster {
    fn default() -> Self {
        Self { members: BTreeMap::new(), alarms: Alarms::default(), level: Level::FIRST, unsaved: false }
    }
}

impl Cluster {
    /// A cluster of a restored backup.
    pub fn new(members: impl IntoIterator<Item = pb::Member>, alarms: &[pb::AlarmMember]) -> Self {
        let members = members.into_iter().map(|member| (member.id, member)).collect();
        Self { members, alarms: Alarms::restore(alarms), unsaved: true, ..Self::default() }
    }

    /// In order of id.
    pub fn members(&self) -> impl Iterator<Item = &pb::Member> {
        self.members.values()
    }

    pub fn member(&self, id: MemberId) -> Option<&pb::Member> {
        self.members.get(&id.0)
    }

    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// The set of commands that all members know.
    pub fn level(&self) -> Level {
        self.level
    }

    fn set_member(&mut self, member: pb::Member) {
        self.members.insert(member.id, member);
        self.unsaved = true;
    }

    /// The content of a block that a checkpoint has.
    pub fn load(block: &Block) -> Result<Self, &'static str> {
        if block.id != BLOCK {
            return Err("the cluster has one block");
        }
        let Content { members, alarms, level } =
            Content::decode(block.body.clone()).map_err(|_| "what it says of the cluster makes no sense")?;
        let level = Level(level);
        if level > Level::NEWEST {
            return Err("the cluster has gone on to a newer release: start that one, or a newer one");
        }
        Ok(Self { unsaved: false, level, ..Self::new(members, &alarms) })
    }
}

impl Space for Cluster {
    fn id(&self) -> SpaceId {
        SPACE
    }

    fn unsaved(&self) -> Unsaved {
        Unsaved { bytes: 0, blocks: usize::from(self.unsaved) }
    }

    fn changes(&mut self) -> Vec<BlockChange> {
        if !std::mem::take(&mut self.unsaved) {
            return Vec::new();
        }
        let content = Content {
            members: self.members.values().cloned().collect(),
            alarms: self.alarms.list(0),
            level: self.level.0,
        };
        let body = content.encode_to_vec().into();
        vec![BlockChange::Write(Block { id: BLOCK, meta: Vec::new(), body })]
    }

    fn saved(&mut self) {}

    fn not_saved(&mut self) {
        // Once more than needed does no harm.
        self.unsaved = true;
    }

    fn place(&mut self, _: u64, _: Bytes) {
        // Nothing refers to the body.
    }

    fn facts(&self) -> Vec<u8> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_block_is_written_when_something_changed_and_comes_back() {
        let mut cluster = Cluster::default();
        assert!(cluster.changes().is_empty(), "an empty one says nothing");
        let member = pb::Member { id: 7, name: "seven".into(), is_learner: true, ..Default::default() };
        cluster.set_member(member.clone());
        cluster.alarms = Alarms::restore(&[pb::AlarmMember { member_id: 7, alarm: 1 }]);
        let [BlockChange::Write(block)] = &cluster.changes()[..] else { panic!("one block") };
        assert_eq!(Cluster::load(block).as_ref(), Ok(&cluster));
        assert!(cluster.changes().is_empty());
        cluster.not_saved();
        assert_eq!(cluster.unsaved().blocks, 1);
        assert_eq!(cluster.changes(), [BlockChange::Write(block.clone())]);
        cluster.saved();
        assert_eq!(cluster.member(MemberId(7)), Some(&member));

        let cut = Block { body: block.body.slice(1..), ..block.clone() };
        assert!(Cluster::load(&cut).is_err());
        let other = Block { id: BlockId { number: 1, ..BLOCK }, ..block.clone() };
        assert!(Cluster::load(&other).is_err());
        let newer = Content { level: Level::NEWEST.0 + 1, ..Content::default() }.encode_to_vec().into();
        assert!(Cluster::load(&Block { body: newer, ..block.clone() }).unwrap_err().contains("newer"));
    }
}
