//! What `--strict-reconfig-check` refuses: changes of members after which too few might be there to decide anything
//! (`mayAddMember`, `mayRemoveMember`, `mayPromoteMember` in etcd v3.7 `etcdserver/server.go`).
//!
//! A member that has told its name has been started once; one that is connected, for as long as a connection has to hold
//! to be relied on, is there now. What this member sees is what counts, whoever leads.

use tracing::warn;

use crate::{
    limits,
    pb::etcdserverpb as pb,
    service::{Api, Error},
    state::{self, cluster::Cluster},
    types::MemberId,
};

impl Api {
    /// The new one counts as not there.
    pub(super) fn may_add(&self, member: &pb::Member) -> Result<(), Error> {
        if !self.options().membership.strict {
            return Ok(());
        }
        let started = self.shard().with_state(|state| may_be_added(state.cluster(), member.is_learner));
        if !started {
            let error = state::Error::NotEnoughStarted.into();
            return self.refused(
                "rejecting member add request; not enough healthy members",
                member.id,
                error,
            );
        }
        let (connected, voters) = self.connected();
        // To one alone others may come.
        if voters == 1 || connected >= quorum(voters + 1) {
            return Ok(());
        }
        self.refused(
            "rejecting member add request; local member has not been connected to majority peers, reconfigure breaks \
             active quorum",
            member.id,
            Error::Unhealthy,
        )
    }

    pub(super) fn may_remove(&self, id: MemberId) -> Result<(), Error> {
        if !self.options().membership.strict {
            return Ok(());
        }
        let shard = self.shard();
        let (is_learner, started) = shard.with_state(|state| {
            let cluster = state.cluster();
            let is_learner = cluster.member(id).is_some_and(|member| member.is_learner);
            (is_learner, has_quorum(voters(cluster).filter(|member| member.id != id.0)))
        });
        if is_learner {
            return Ok(());
        }
        if !started {
            let error = state::Error::NotEnoughStarted.into();
            return self.refused("rejecting member remove request; not enough healthy members", id.0, error);
        }
        // One that is down takes nothing away by leaving.
        if id != shard.member_id() && shard.active_since(id).is_none() {
            return Ok(());
        }
        let (connected, voters) = self.connected();
        if connected > 1 + (voters - 1) / 2 {
            return Ok(());
        }
        self.refused(
            "rejecting member remove request; local member has not been connected to all peers, reconfigure breaks \
             active quorum",
            id.0,
            Error::Unhealthy,
        )
    }

    /// The learner counts, and as started.
    pub(super) fn may_promote(&self, id: MemberId) -> Result<(), Error> {
        let is_enough = || {
            self.shard().with_state(|state| {
                let (started, all) = count(voters(state.cluster()));
                started + 1 >= quorum(all + 1)
            })
        };
        if !self.options().membership.strict || is_enough() {
            return Ok(());
        }
        let error = state::Error::NotEnoughStarted.into();
        self.refused("rejecting member promote request; not enough healthy members", id.0, error)
    }

    /// How many members with a vote this one is connected to, itself among them, and how many there are.
    fn connected(&self) -> (usize, usize) {
        let shard = self.shard();
        let since = |id: u64| shard.active_since(MemberId(id));
        let is_there = |id: u64| {
            id == shard.member_id().0
                || since(id).is_some_and(|since| shard.now().since(since) > limits::MEMBER_HEALTHY)
        };
        shard.with_state(|state| {
            let ids: Vec<u64> = voters(state.cluster()).map(|member| member.id).collect();
            (ids.iter().filter(|id| is_there(**id)).count(), ids.len())
        })
    }

    fn refused(&self, refusal: &'static str, id: u64, error: Error) -> Result<(), Error> {
        warn!(
            "local-member-id" = format!("{:x}", self.shard().member_id().0),
            "requested-member-id" = format!("{id:x}"),
            error = %error.grpc().1,
            "{refusal}"
        );
        Err(error)
    }
}

/// From one member to two there is no other way than through one that is not there yet.
fn may_be_added(cluster: &Cluster, is_learner: bool) -> bool {
    let (started, all) = count(voters(cluster));
    is_learner || (started, all) == (1, 1) || started >= quorum(all + 1)
}

fn quorum(members: usize) -> usize {
    members / 2 + 1
}

fn voters(cluster: &Cluster) -> impl Iterator<Item = &pb::Member> {
    cluster.members().filter(|member| !member.is_learner)
}

/// How many have told their name, and how many there are.
fn count<'a>(members: impl Iterator<Item = &'a pb::Member>) -> (usize, usize) {
    members.fold((0, 0), |(started, all), member| (started + usize::from(!member.name.is_empty()), all + 1))
}

fn has_quorum<'a>(members: impl Iterator<Item = &'a pb::Member>) -> bool {
    let (started, all) = count(members);
    started >= quorum(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(started: u64, not: u64, learners: u64) -> Cluster {
        let member = |id| pb::Member {
            id,
            name: if id <= started { format!("m{id}") } else { String::new() },
            is_learner: id > started + not,
            ..pb::Member::default()
        };
        Cluster::new((1..=started + not + learners).map(member), &[])
    }

    /// As upstream 3.7.1 decides (`IsReadyToAddVotingMember`).
    #[test]
    fn a_new_vote_needs_enough_that_were_started() {
        for (started, not, may) in [
            (1, 0, true),
            (1, 1, false),
            (2, 0, true),
            (2, 1, false),
            (3, 0, true),
            (3, 1, true),
            (3, 2, false),
            (4, 0, true),
            (0, 1, false),
        ] {
            assert_eq!(may_be_added(&cluster(started, not, 1), false), may, "{started} and {not} more");
            assert!(may_be_added(&cluster(started, not, 1), true), "who only follows changes nothing");
        }
    }
}
