//! The other members, as the tasks of upkeep ask them: each at its URLs, one after the other, until one answers.

use std::future::Future;

use tracing::warn;

use crate::{
    env::Env,
    inquiry::{
        self, Inquiry,
        form::{HashAnswer, Versions},
    },
    pb::etcdserverpb as pb,
    shard::Shard,
    types::MemberId,
};

/// Cheap to clone.
#[derive(Clone)]
pub struct Others<E> {
    shard: Shard,
    inquiry: Inquiry<E>,
}

impl<E: Env> Others<E> {
    pub fn new(shard: &Shard, inquiry: Inquiry<E>) -> Self {
        Self { shard: shard.clone(), inquiry }
    }

    /// What each of them runs, where it says so.
    pub(super) async fn versions(&self) -> Vec<(MemberId, Option<Versions>)> {
        let mut all = Vec::new();
        for member in self.members() {
            let versions = ask(&member, "/version", |url| self.inquiry.versions(url)).await;
            all.push((MemberId(member.id), versions.ok()));
        }
        all
    }

    /// What each of them has up to a revision, or why it does not say.
    pub(super) async fn hashes(
        &self,
        revision: i64,
    ) -> Vec<(MemberId, Result<HashAnswer, Option<inquiry::Error>>)> {
        let (mut all, cluster) = (Vec::new(), self.shard.cluster_id());
        for member in self.members() {
            let hash = ask(&member, "/members/hashkv", |url| self.inquiry.hash(url, cluster, revision)).await;
            all.push((MemberId(member.id), hash));
        }
        all
    }

    fn members(&self) -> Vec<pb::Member> {
        let own = self.shard.member_id().0;
        self.shard.with_state(|state| {
            state.cluster().members().filter(|member| member.id != own).cloned().collect()
        })
    }
}

/// The first answer, or the last error, if there is any URL at all.
async fn ask<'a, T, F: Future<Output = Result<T, inquiry::Error>>>(
    member: &'a pb::Member,
    path: &str,
    ask: impl Fn(&'a str) -> F,
) -> Result<T, Option<inquiry::Error>> {
    let mut last = None;
    for url in &member.peer_ur_ls {
        match ask(url).await {
            Ok(answer) => return Ok(answer),
            Err(error) => {
                warn!(
                    address = format!("{url}{path}"),
                    "remote-member-id" = format!("{:x}", member.id),
                    %error,
                    "failed to reach the peer URL"
                );
                last = Some(error);
            }
        }
    }
    Err(last)
}
