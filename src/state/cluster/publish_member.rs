//! What a member tells the others of itself: its name, where its clients find it, which commands it knows and which log it
//! has. All but the last follow its flags and its release, so it says so at a start if they are not what is known.

use prost::Message;

use super::{Cluster, ClusterCommand, Told};
use crate::{
    pb::etcdserverpb as pb,
    state::{Error, command::Kind, outcome::Change},
    types::MemberId,
};

#[derive(Clone, PartialEq, Message)]
pub struct PublishMember {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, repeated, tag = "3")]
    pub client_urls: Vec<String>,
    /// The newest set of commands that it knows.
    #[prost(uint32, tag = "4")]
    pub level: u32,
    /// Its log: whoever comes with another one under its id has lost what it promised.
    #[prost(fixed64, tag = "5")]
    pub log: u64,
}

impl PublishMember {
    /// Whether all of it is known.
    pub fn is_known(&self, cluster: &Cluster) -> bool {
        let id = MemberId(self.id);
        let says =
            |member: &pb::Member| (&member.name, &member.client_ur_ls) == (&self.name, &self.client_urls);
        cluster.member(id).is_some_and(says) && cluster.told_by(id) == Some(self.told())
    }

    fn told(&self) -> Told {
        Told { level: self.level, log: self.log }
    }
}

impl ClusterCommand for PublishMember {
    type Answer = ();
    const KIND: Kind = Kind::first(7);

    fn change(&self, cluster: &mut Cluster, changes: &mut Vec<Change>) -> Result<(), Error> {
        // A member that was removed meanwhile tells nothing any more.
        if let Ok(known) = cluster.known(self.id) {
            let member = pb::Member {
                name: self.name.clone(),
                client_ur_ls: self.client_urls.clone(),
                ..known.clone()
            };
            cluster.set_member(member);
            cluster.told.insert(self.id, self.told());
            cluster.settle_level();
            changes.push(Change::Members);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{
        StateMachine,
        cluster::{AddMember, JoinMember, Release, RemoveMember, SetVersion},
        tests::any::apply,
    };
    use crate::types::Level;

    fn publish(state: &mut StateMachine, id: u64, level: u32) -> Level {
        let told = PublishMember { id, name: format!("m{id}"), client_urls: Vec::new(), level, log: id };
        apply(state, &told).expect("nothing is wrong with it");
        assert!(told.is_known(state.cluster()) || state.cluster().member(MemberId(id)).is_none());
        state.cluster().level()
    }

    #[test]
    fn the_level_is_what_all_members_know_and_no_newcomer_takes_it_back() {
        let mut state = StateMachine::new();
        for id in [1, 2, 3] {
            apply(&mut state, &AddMember { member: Some(pb::Member { id, ..Default::default() }) })
                .expect("added");
        }
        assert_eq!(publish(&mut state, 1, 3), Level::FIRST);
        assert_eq!(publish(&mut state, 9, 1), Level::FIRST, "whoever that is");
        assert_eq!(publish(&mut state, 2, 2), Level::FIRST, "the third has not said anything");
        assert_eq!(publish(&mut state, 3, 2), Level(2));
        let member = Some(pb::Member { id: 4, ..Default::default() });
        apply(&mut state, &JoinMember { member, learners_max: 1 }).expect("added");
        assert_eq!(publish(&mut state, 4, 1), Level(2));
        assert_eq!(publish(&mut state, 2, 3), Level(2));
        assert_eq!(publish(&mut state, 3, 3), Level(2), "the fourth holds it back");
        apply(&mut state, &RemoveMember { id: 4 }).expect("removed");
        assert_eq!(state.cluster().level(), Level(3));
    }

    #[test]
    fn the_level_goes_down_with_the_version_and_comes_back_with_it() {
        let mut state = StateMachine::new();
        apply(&mut state, &AddMember { member: Some(pb::Member { id: 1, ..Default::default() }) })
            .expect("added");
        assert_eq!(publish(&mut state, 1, 2), Level(2));
        let version = Release::FOUNDED.before();
        apply(&mut state, &SetVersion { version }).expect("set");
        assert_eq!(state.cluster().level(), Level::FIRST);
        assert_eq!(publish(&mut state, 1, 2), Level::FIRST);
        apply(&mut state, &SetVersion { version: Some(Release::FOUNDED) }).expect("set");
        assert_eq!(state.cluster().level(), Level(2));
    }
}
