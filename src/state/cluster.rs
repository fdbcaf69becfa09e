//! What all members know of the cluster: who belongs to it, what is wrong with members, which commands all of them know.
//!
//! A space of one block, written again whenever something of it changed.

mod add_member;
mod alarm;
mod command;
mod downgrade;
mod join_member;
mod promote_member;
mod publish_member;
mod remove_member;
mod update_member;
mod version;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;

use super::{
    Error,
    space::{Space, Unsaved},
};
use crate::{
    block::{Block, BlockChange, BlockId, SpaceId},
    pb::etcdserverpb as pb,
    types::{Level, MemberId},
};

pub use add_member::AddMember;
pub use alarm::Alarms;
pub use command::ClusterCommand;
pub use downgrade::SetDowngrade;
pub use join_member::JoinMember;
pub use promote_member::PromoteMember;
pub use publish_member::PublishMember;
pub use remove_member::RemoveMember;
pub use update_member::UpdateMember;
pub use version::{Release, SetVersion};

/// The cluster's own.
pub const SPACE: SpaceId = SpaceId(4);
const BLOCK: BlockId = BlockId { space: SPACE, number: 0 };

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    members: BTreeMap<u64, pb::Member>,
    /// Ids of members that were there once: none comes back.
    removed: BTreeSet<u64>,
    alarms: Alarms,
    /// The set of commands in use.
    level: Level,
    /// What each member has said of itself beside what clients are shown.
    told: BTreeMap<u64, Told>,
    /// What the members agreed on, once that is another than clusters begin with.
    version: Option<Release>,
    /// The cluster is on its way down to this release.
    downgrade: Option<Release>,
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
    #[prost(uint64, repeated, tag = "4")]
    removed: Vec<u64>,
    #[prost(message, optional, tag = "5")]
    version: Option<Release>,
    #[prost(message, optional, tag = "6")]
    downgrade: Option<Release>,
    #[prost(btree_map = "uint64, message", tag = "7")]
    told: BTreeMap<u64, Told>,
}

/// What a member has said of itself.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Told {
    /// The newest set of commands that it knows.
    #[prost(uint32, tag = "1")]
    pub level: u32,
    /// Its log, which holds all that it ever promised. 0 where it did not say.
    #[prost(fixed64, tag = "2")]
    pub log: u64,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            members: BTreeMap::new(),
            removed: BTreeSet::new(),
            alarms: Alarms::default(),
            level: Level::FIRST,
            told: BTreeMap::new(),
            version: None,
            downgrade: None,
            unsaved: false,
        }
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

    /// The set of commands in use: all members know it.
    pub fn level(&self) -> Level {
        self.level
    }

    /// What the member has said of itself, if it has.
    pub fn told_by(&self, id: MemberId) -> Option<Told> {
        self.told.get(&id.0).copied()
    }

    /// Goes on to what all members know, if that is more than is in use, and back only with the version.
    fn settle_level(&mut self) {
        let known = |id| self.told.get(id).map_or(Level::FIRST, |told| Level(told.level));
        let all = self.members.keys().map(known).min().unwrap_or(Level::FIRST);
        self.level = self.level.max(all).min(self.version().level_max());
    }

    /// Ids of members that were removed, ascending.
    pub fn removed(&self) -> impl Iterator<Item = u64> {
        self.removed.iter().copied()
    }

    /// Whether the member belonged to the cluster and does not any more.
    pub fn was_removed(&self, id: MemberId) -> bool {
        self.removed.contains(&id.0)
    }

    /// The release whose features all members have.
    pub fn version(&self) -> Release {
        self.version.unwrap_or(Release::FOUNDED)
    }

    /// The release that the cluster is on its way down to.
    pub fn downgrade(&self) -> Option<Release> {
        self.downgrade
    }

    fn set_member(&mut self, member: pb::Member) {
        self.members.insert(member.id, member);
        self.unsaved = true;
    }

    /// The member that a change is about, which must be there.
    fn known(&self, id: u64) -> Result<&pb::Member, Error> {
        self.members.get(&id).ok_or(Error::MemberNotFound)
    }

    /// No other member than `id` may be reached by any of these.
    fn check_peer_urls(&self, id: u64, urls: &[String]) -> Result<(), Error> {
        let mut others = self.members.values().filter(|member| member.id != id);
        match others.any(|member| member.peer_ur_ls.iter().any(|url| urls.contains(url))) {
            true => Err(Error::PeerUrlExists),
            false => Ok(()),
        }
    }

    /// As a change of members is answered.
    fn all(&self) -> Vec<pb::Member> {
        self.members.values().cloned().collect()
    }

    /// The content of a block that a checkpoint has, for a release that knows commands up to `newest`.
    pub fn load(block: &Block, newest: Level) -> Result<Self, &'static str> {
        if block.id != BLOCK {
            return Err("the cluster has one block");
        }
        let Content { members, alarms, level, removed, version, downgrade, told } =
            Content::decode(block.body.clone()).map_err(|_| "what it says of the cluster makes no sense")?;
        let level = Level(level);
        if level > newest {
            return Err("the cluster has gone on to a newer release: start that one, or a newer one");
        }
        let removed = removed.into_iter().collect();
        Ok(Self { unsaved: false, level, told, removed, version, downgrade, ..Self::new(members, &alarms) })
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
            removed: self.removed().collect(),
            version: self.version,
            downgrade: self.downgrade,
            told: self.told.clone(),
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
        cluster.removed = BTreeSet::from([3, 1]);
        cluster.version = Some(Release { major: 3, minor: 6 });
        cluster.downgrade = cluster.version;
        cluster.told = BTreeMap::from([(7, Told { level: 2, log: 77 }), (1, Told { level: 1, log: 0 })]);
        cluster.level = Level(2);
        let [BlockChange::Write(block)] = &cluster.changes()[..] else { panic!("one block") };
        let load = |block: &Block| Cluster::load(block, Level(2));
        assert_eq!(load(block).as_ref(), Ok(&cluster));
        assert!(cluster.changes().is_empty());
        cluster.not_saved();
        assert_eq!(cluster.unsaved().blocks, 1);
        assert_eq!(cluster.changes(), [BlockChange::Write(block.clone())]);
        cluster.saved();
        assert_eq!(cluster.member(MemberId(7)), Some(&member));

        let cut = Block { body: block.body.slice(1..), ..block.clone() };
        assert!(load(&cut).is_err());
        let other = Block { id: BlockId { number: 1, ..BLOCK }, ..block.clone() };
        assert!(load(&other).is_err());
        assert!(Cluster::load(block, Level(1)).unwrap_err().contains("newer"));
    }
}
