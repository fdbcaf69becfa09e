//! What a server says about itself, and what alone may differ between two servers: who they are, what they make up by
//! chance, how large their files and how far their logs are.

use bench_harness::pb::etcdserverpb::{self as pb, auth_client::AuthClient, cluster_client::ClusterClient};
use tonic::transport::Channel;

use super::call::{Answer, Call};

/// Stand in calls and answers for the ids that each server has for itself, and for the learner it was given last.
pub const SELF: u64 = 0x5e1f;
pub const LEARNER: u64 = 0x1ea4;

/// Cluster, member and term as `MemberList` gave them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster_id: u64,
    pub member_id: u64,
    pub raft_term: u64,
    /// None that any member has, before there was one.
    pub learner_id: u64,
}

impl Identity {
    pub async fn ask(channel: Channel) -> Result<Self, String> {
        let list = ClusterClient::new(channel)
            .member_list(pb::MemberListRequest { linearizable: true })
            .await
            .map_err(|status| format!("member list: {status}"))?
            .into_inner();
        let header = list.header.ok_or("member list without a header")?;
        let [member] = list.members.as_slice() else {
            return Err(format!("expected one member, got {:?}", list.members));
        };
        if member.id != header.member_id || header.member_id == 0 || header.cluster_id == 0 {
            return Err(format!("member {} answers with header {header:?}", member.id));
        }
        if header.raft_term == 0 {
            return Err(format!("a leader's header without a term: {header:?}"));
        }
        Ok(Self {
            cluster_id: header.cluster_id,
            member_id: header.member_id,
            raft_term: header.raft_term,
            learner_id: LEARNER,
        })
    }

    /// The same one after it was started again: its term is another.
    pub async fn again(self, channel: Channel) -> Result<Self, String> {
        let mut cluster = ClusterClient::new(channel.clone());
        let header = match cluster.member_list(pb::MemberListRequest { linearizable: true }).await {
            Ok(list) => list.into_inner().header,
            // With auth on, nobody may ask for members who has not logged in.
            Err(_) => {
                let status = AuthClient::new(channel).auth_status(pb::AuthStatusRequest {}).await;
                status.map_err(|status| format!("auth status: {status}"))?.into_inner().header
            }
        };
        let header = header.ok_or("no header")?;
        if header.raft_term < self.raft_term {
            return Err(format!("term {} after {}", header.raft_term, self.raft_term));
        }
        Ok(Self { raft_term: header.raft_term, ..self })
    }

    /// The call as this server must get it.
    pub fn localize(&self, mut call: Call) -> Call {
        let id = match &mut call {
            Call::MemberRemove(r) => &mut r.id,
            Call::MemberUpdate(r) => &mut r.id,
            Call::MemberPromote(r) => &mut r.id,
            Call::Alarm(r) => &mut r.member_id,
            Call::MoveLeader(r) => &mut r.target_id,
            _ => return call,
        };
        *id = match *id {
            SELF => self.member_id,
            LEARNER => self.learner_id,
            other => other,
        };
        call
    }

    /// Takes note of a member that was added.
    pub fn observe(&mut self, answer: &Answer) {
        if let Answer::MemberAdd(pb::MemberAddResponse { member: Some(member), .. }) = answer {
            self.learner_id = member.id;
        }
    }

    /// Checks that the answer comes from this server and takes its identity out, so that what is left must be equal
    /// on both servers. Headers nested in a transaction carry no identity and are compared as they are.
    pub fn strip(&self, mut answer: Answer) -> Answer {
        if answer.lacks_header() {
            return Answer::Malformed("no header".to_owned());
        }
        let headers: Vec<&mut pb::ResponseHeader> = match &mut answer {
            Answer::LeaseKeepAlive(all) => all.iter_mut().filter_map(|r| r.header.as_mut()).collect(),
            other => other.header_mut().into_iter().collect(),
        };
        for header in headers {
            let said = Identity {
                cluster_id: header.cluster_id,
                member_id: header.member_id,
                raft_term: header.raft_term,
                ..*self
            };
            if said != *self {
                return Answer::Malformed(format!("header says {said:?}, member list said {self:?}"));
            }
            (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
        }
        self.mask(&mut answer).map_or(answer, |why| Answer::Malformed(why.to_owned()))
    }

    /// What is wrong with a value that differs by its nature, if it is not even of the right kind.
    fn mask(&self, answer: &mut Answer) -> Option<&'static str> {
        match answer {
            Answer::MemberAdd(r) => {
                r.member.iter_mut().for_each(|member| self.mask_member(member));
                self.mask_members(&mut r.members);
            }
            Answer::MemberRemove(r) => self.mask_members(&mut r.members),
            Answer::MemberUpdate(r) => self.mask_members(&mut r.members),
            Answer::MemberList(r) => self.mask_members(&mut r.members),
            Answer::MemberPromote(r) => self.mask_members(&mut r.members),
            Answer::Alarm(r) => r.alarms.iter_mut().for_each(|alarm| self.mask_id(&mut alarm.member_id)),
            Answer::Status(r) => {
                self.mask_id(&mut r.leader);
                if r.raft_term != self.raft_term || r.raft_index < r.raft_applied_index {
                    return Some("terms or indices do not fit");
                }
                if r.db_size <= 0 || r.db_size_in_use > r.db_size {
                    return Some("sizes that cannot be");
                }
                (r.raft_term, r.raft_index, r.raft_applied_index, r.db_size, r.db_size_in_use) =
                    (0, 0, 0, 0, 0);
            }
            Answer::Hash(r) => r.hash = 0,
            Answer::Authenticate(r) => {
                if r.token.is_empty() {
                    return Some("no token");
                }
                r.token = "token".to_owned();
            }
            Answer::LeaseTimeToLive(r) => r.keys.sort(),
            Answer::LeaseLeases(r) => r.leases.sort_by_key(|lease| lease.id),
            _ => {}
        }
        None
    }

    fn mask_id(&self, id: &mut u64) {
        *id = match *id {
            own if own == self.member_id => SELF,
            other if other == self.learner_id => LEARNER,
            other => other,
        };
    }

    fn mask_member(&self, member: &mut pb::Member) {
        self.mask_id(&mut member.id);
        if member.id == SELF {
            (member.peer_ur_ls, member.client_ur_ls) = Default::default();
        }
    }

    fn mask_members(&self, members: &mut [pb::Member]) {
        members.iter_mut().for_each(|member| self.mask_member(member));
        members.sort_by_key(|member| member.id);
    }
}
