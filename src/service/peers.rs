//! What other members ask of this one (etcd v3.7 `etcdhttp/peer.go`), and what they are asked on behalf of a client.
//!
//! Whoever can reach the peer port may ask, as in etcd; a promotion shows who it is for.

use std::{future::Future, pin::Pin, rc::Rc, time::Duration};

use super::{Api, Caller, Connection, Error, cluster};
use crate::{
    env::Env,
    inquiry::{
        self, Inquiry,
        form::{HashAnswer, HashHeader},
    },
    pb::etcdserverpb as pb,
    state,
    types::ClusterId,
};

/// Has the leader promote a learner, within a time: its peer URL, the learner, the token of whoever wants it.
pub(super) type Forward = dyn Fn(Duration, String, u64, Option<Rc<str>>) -> Forwarded;
type Forwarded = Pin<Box<dyn Future<Output = Result<Vec<pb::Member>, inquiry::Error>>>>;

/// How a client's promotion goes to the leader.
pub(super) fn forward<E: Env>(env: &E) -> Rc<Forward> {
    let env = env.clone();
    Rc::new(move |patience, url, id, token| {
        let inquiry = Inquiry::new(&env, patience);
        Box::pin(async move { inquiry.promote(&url, id, token.as_deref()).await })
    })
}

/// Which cluster this is, in which as far as this member knows these are.
pub fn members(api: &Api) -> (ClusterId, Vec<pb::Member>) {
    (api.shard().cluster_id(), api.shard().status().members)
}

pub fn cluster_id(api: &Api) -> ClusterId {
    api.shard().cluster_id()
}

/// Whether the cluster is on its way down to an older release.
pub async fn downgrades(api: &Api) -> Result<bool, Error> {
    api.shard().linearize().await?;
    Ok(api.shard().with_state(|state| state.cluster().downgrade().is_some()))
}

/// What is stored here up to a revision, in short.
pub async fn hash(api: &Api, revision: i64) -> Result<HashAnswer, Error> {
    let timer = api.shard().metrics().hash_rev_seconds.start_timer();
    let (hash, current) = api.shard().hash_kv(revision).await?;
    timer.observe_duration();
    Ok(HashAnswer {
        header: HashHeader { revision: current.0 },
        hash: hash.hash,
        compact_revision: hash.compacted.0,
        hash_revision: hash.revision.0,
    })
}

/// A client of another member wants a learner to get a vote; `token` is what it showed there.
pub async fn promote(api: &Api, id: u64, token: Option<Rc<str>>) -> Result<Vec<pb::Member>, Error> {
    let connection = Connection { client: api.clients().client(), ..Connection::default() };
    let caller = Caller { connection: Rc::new(connection), token, deadline: None, needs_leader: false };
    let request = pb::MemberPromoteRequest { id };
    Ok(cluster::member_promote(api, &caller, request).await?.members)
}

/// What the leader's refusal means, if asking again would not help.
pub(super) fn refusal(error: &inquiry::Error) -> Option<Error> {
    let inquiry::Error::Refused { status, text } = error else { return None };
    match status.as_u16() {
        404 => Some(state::Error::MemberNotFound.into()),
        412 if text.contains("in sync with leader") => Some(Error::LearnerNotReady),
        412 => Some(state::Error::MemberNotLearner.into()),
        _ => None,
    }
}
