//! What a server says about itself, and the one thing that may differ between two servers: who they are.

use bench_harness::pb::etcdserverpb::{self as pb, cluster_client::ClusterClient};
use tonic::transport::Channel;

use super::call::Answer;

/// Cluster, member and term as `MemberList` gave them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster_id: u64,
    pub member_id: u64,
    pub raft_term: u64,
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
        Ok(Self { cluster_id: header.cluster_id, member_id: header.member_id, raft_term: header.raft_term })
    }

    /// Checks that the answer comes from this server and takes its identity out, so that what is left must be equal
    /// on both servers. Headers nested in a transaction carry no identity and are compared as they are.
    pub fn strip(&self, mut answer: Answer) -> Answer {
        if answer.lacks_header() {
            return Answer::Malformed("no header".to_owned());
        }
        if let Some(header) = answer.header_mut() {
            let said = Identity {
                cluster_id: header.cluster_id,
                member_id: header.member_id,
                raft_term: header.raft_term,
            };
            if said != *self {
                return Answer::Malformed(format!("header says {said:?}, member list said {self:?}"));
            }
            (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
        }
        answer
    }
}
