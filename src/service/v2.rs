//! The v2 API: what clients ask of the tree and of the cluster, without a word of HTTP.
//!
//! Writes go through the log like all others, from whatever member. A read is of what is applied here, unless it asks for a
//! quorum. Facts about behaviour are etcd's (`server/etcdserver/v2_server.go` of v3.4).

pub mod stats;

use std::rc::Rc;

use bytes::Bytes;
use prost::Message;

use super::{Api, Error, Word};
use crate::{
    client::{Charge, Client},
    limits,
    pb::etcdserverpb as pb,
    shard::{Listing, Wait, WantedEvents},
    state::{
        self, Principal,
        v2::{Event, Method, Refused, Write},
    },
    types::MemberId,
};

/// What a node costs beside its path and value.
const NODE_BYTES: u64 = 256;

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    Refused(Refused),
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Where the group stands, as answers tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub raft_index: u64,
    pub raft_term: u64,
}

/// Where it stands now.
pub fn standing(api: &Api) -> Standing {
    let shard = api.shard();
    Standing { raft_index: shard.committed().0, raft_term: shard.term().0 }
}

pub fn cluster_id(api: &Api) -> u64 {
    api.shard().cluster_id().0
}

/// Nanoseconds since 1970.
pub fn now(api: &Api) -> i64 {
    i64::try_from(api.wall().as_nanos()).unwrap_or(i64::MAX)
}

/// Returns once the member serves; an error says that it is about to stop.
pub async fn ready(api: &Api, stopping: &Word) -> Result<(), Error> {
    let ready = &api.options().ready;
    if ready.is_given() {
        return Ok(());
    }
    let goes_on = async {
        ready.given().await;
        Ok(())
    };
    let ends = async {
        stopping.given().await;
        Err(Error::Stopped)
    };
    futures_lite::future::or(goes_on, ends).await
}

/// Through the log.
pub async fn write(api: &Api, client: &Client, write: Write) -> Result<Rc<Event>, Failure> {
    let adds = !matches!(write.method(), Method::Delete | Method::CompareAndDelete);
    if adds {
        api.check_space(NODE_BYTES + write.path.len() as u64 + write.value.len() as u64).await?;
    }
    if write.encoded_len() > api.options().max_request_bytes {
        return Err(state::Error::RequestTooLarge.into());
    }
    let answer = api.shard().of(client).write(&Principal::default(), write).await?;
    answer.map_err(Failure::Refused)
}

/// A node and what is in it. With a quorum it is as new as when it was asked for.
pub async fn get(
    api: &Api,
    client: &Client,
    path: &[u8],
    (recursive, quorum): (bool, bool),
    listing: &mut impl Listing,
) -> Result<(), Failure> {
    let shard = api.shard().of(client);
    if quorum {
        shard.linearize().await?;
    }
    shard.v2_list(path, recursive, listing).await?.map_err(Failure::Refused)
}

/// A wait, counted as its client's.
pub struct Waiting {
    wait: Wait,
    stopping: Word,
    _charge: Charge,
}

/// Begins to wait for what happens.
pub fn wait(api: &Api, client: &Client, stopping: &Word, wanted: WantedEvents) -> Result<Waiting, Failure> {
    let charge = client.charge(limits::V2_WAIT_BYTES + wanted.key.len());
    let wait = api.shard().v2_wait(wanted).map_err(Failure::Refused)?;
    Ok(Waiting { wait, stopping: stopping.clone(), _charge: charge })
}

impl Waiting {
    /// The tree's index when it began.
    pub fn index(&self) -> u64 {
        self.wait.index
    }

    /// None if some are lost to it, or the member is about to stop.
    pub async fn next(&self) -> Option<Rc<Event>> {
        let stopped = async {
            self.stopping.given().await;
            None
        };
        futures_lite::future::or(self.wait.next(), stopped).await
    }
}

/// Where clients reach the members, in order.
pub fn machines(api: &Api) -> Vec<String> {
    let members = api.shard().status().members;
    let mut urls: Vec<_> = members.into_iter().flat_map(|member| member.client_ur_ls).collect();
    urls.sort();
    urls
}

pub fn members(api: &Api) -> Vec<pb::Member> {
    api.shard().status().members
}

/// The member that leads, if one does.
pub fn leader(api: &Api) -> Option<pb::Member> {
    let leader = api.shard().leader();
    api.shard().with_state(|state| state.cluster().member(leader).cloned())
}

/// Whether the member belonged to the cluster and does not any more.
pub fn was_removed(api: &Api, id: u64) -> bool {
    api.shard().with_state(|state| state.cluster().was_removed(MemberId(id)))
}

/// A path as the tree has it.
pub fn clean(path: &[u8]) -> Bytes {
    state::v2::clean(path).into()
}
