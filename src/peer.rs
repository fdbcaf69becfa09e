//! Members talk to each other: links for the frames of all shards, and beside them connections that carry checkpoints.
//!
//! Each member keeps one connection to every other one, for what it has to say; what the other says comes over the one
//! that it keeps. A connection begins with a preface of its own, so that it comes to the same port as HTTP, and a greeting
//! in which both find out whether they mean each other ([`greeting`]). Then frames go in records with checksums ([`wire`]).
//! A link that is lost is made again, with the name looked up anew; what waited for it is lost with it, and the shards hear
//! of that.
//!
//! Owned by the core: single-threaded, and generic over the environment, so that a simulation drives the same code on
//! simulated sockets. Bounds: each other member costs what its [`queue`] takes, and a record per connection. Nothing here
//! waits for a member that does not read.
//!
//! What frames say, and whether they arrive, is the shards' business; who belongs to the cluster they tell by [`Links`].

mod accepting;
mod backoff;
mod channel;
mod dialing;
mod greeting;
mod queue;
mod receiving;
mod remote;
mod sending;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    future::{Future, poll_fn},
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_lite::future::or;
use tracing::{error, info, warn};

pub use wire::PREFACE;

use crate::{
    env::{Env, Instant, Lane, Links, Peer, Socket},
    limits,
    metrics::PeerMetrics,
    shard::Shard,
    types::{ClusterId, Level, LogId, MemberId, ShardId},
};
use channel::{Channel, LinkError};
use greeting::{Known, Own, Standing};
use receiving::Arrivals;
use remote::{Complaint, Remote};

/// What is chosen by flags, and who this member is.
#[derive(Clone, Debug)]
pub struct Options {
    pub cluster: ClusterId,
    pub member: MemberId,
    /// Where the others reach this member.
    pub urls: Vec<String>,
    /// `--raft-read-timeout`: a member that says nothing for so long is gone.
    pub read_timeout: Duration,
    /// `--raft-write-timeout`: a member that takes nothing for so long is gone.
    pub write_timeout: Duration,
    /// Of checkpoints for others; 0 for as fast as it goes.
    pub checkpoint_bytes_per_second: u64,
    /// The newest set of commands that it knows.
    pub level: Level,
}

/// The other members, as this one reaches them. Cheap to clone.
pub struct Peers<E: Env>(Rc<Parts<E>>);

struct Parts<E: Env> {
    env: E,
    options: Options,
    own: Own,
    metrics: Rc<PeerMetrics>,
    remotes: RefCell<BTreeMap<MemberId, Rc<Remote>>>,
    removed: RefCell<BTreeSet<MemberId>>,
    shards: RefCell<BTreeMap<ShardId, Shard>>,
    arrivals: Arrivals,
    /// Of connections that are not welcome.
    refusals: Complaint,
    /// Checkpoints on their way to others, which share what may be sent.
    sending: Cell<u64>,
    /// Another member said that this one was removed.
    expelled: Cell<bool>,
    expelled_waker: Cell<Option<Waker>>,
}

impl<E: Env> Clone for Peers<E> {
    fn clone(&self) -> Self {
        Peers(self.0.clone())
    }
}

impl<E: Env> Peers<E> {
    pub fn new(env: E, options: Options, metrics: Rc<PeerMetrics>) -> Self {
        let own = Own { cluster: options.cluster, member: options.member, level: options.level };
        Peers(Rc::new(Parts {
            env,
            options,
            own,
            metrics,
            remotes: RefCell::default(),
            removed: RefCell::default(),
            shards: RefCell::default(),
            arrivals: Arrivals::default(),
            refusals: Complaint::default(),
            sending: Cell::new(0),
            expelled: Cell::new(false),
            expelled_waker: Cell::default(),
        }))
    }

    /// From now on frames for the shard come to it, and its checkpoints are carried to others.
    pub fn attach(&self, id: ShardId, shard: &Shard) {
        self.0.shards.borrow_mut().insert(id, shard.clone());
        self.0.env.spawn(sending::carry(self.clone(), id, shard.clone()));
    }

    /// The core is done with it: nothing is kept any more.
    pub fn close(&self) {
        let now = self.0.env.now();
        self.0.shards.take();
        self.0.remotes.take().into_values().for_each(|remote| remote.leave(now));
    }

    /// Members that are known before the cluster's own word of them has come: this one joins.
    pub fn introduce(&self, members: &[Peer]) {
        members.iter().for_each(|member| self.know(member));
    }

    /// Serves a connection of another member to its end. Its preface is still to be read.
    pub async fn serve(&self, socket: impl Socket) {
        accepting::serve(self, socket).await;
    }

    /// Once another member has said that this one was removed from the cluster. For one caller.
    pub fn expelled(&self) -> impl Future<Output = ()> + use<E> {
        let parts = self.0.clone();
        poll_fn(move |context| {
            if parts.expelled.get() {
                return Poll::Ready(());
            }
            parts.expelled_waker.set(Some(context.waker().clone()));
            Poll::Pending
        })
    }

    fn know(&self, member: &Peer) {
        let Peer { id, urls } = member;
        if *id == self.0.own.member {
            return;
        }
        let known = self.0.remotes.borrow().get(id).cloned();
        match known {
            Some(remote) => {
                remote.set_guest(false);
                if remote.set_urls(urls) {
                    info!(
                        "local-member-id" = self.own_id(),
                        "remote-peer-id" = hex(*id),
                        "remote-peer-urls" = ?urls,
                        "updated remote peer"
                    );
                }
            }
            None => drop(self.add(*id, urls, false)),
        }
    }

    /// One more member to keep a link to.
    fn add(&self, id: MemberId, urls: &[String], is_guest: bool) -> Rc<Remote> {
        let remote = Rc::new(Remote::new(id, urls, is_guest));
        self.0.remotes.borrow_mut().insert(id, remote.clone());
        info!(
            "local-member-id" = self.own_id(),
            "remote-peer-id" = hex(id),
            "remote-peer-urls" = ?urls,
            "added remote peer"
        );
        self.0.env.spawn(dialing::keep(self.clone(), remote.clone()));
        remote
    }

    fn remote(&self, id: MemberId) -> Option<Rc<Remote>> {
        self.0.remotes.borrow().get(&id).cloned()
    }

    /// Whoever calls. One that is not known is answered, if there is room: the others may be ahead of this member.
    fn caller(&self, id: MemberId, urls: &[String]) -> Option<Rc<Remote>> {
        if let Some(known) = self.remote(id) {
            // The cluster's word counts more than its own.
            if known.is_guest() {
                known.set_urls(urls);
            }
            return Some(known);
        }
        let guests = self.0.remotes.borrow().values().filter(|remote| remote.is_guest()).count();
        (guests < limits::PEER_GUESTS_MAX).then(|| self.add(id, urls, true))
    }

    /// A guest that is not there any more.
    fn forget(&self, remote: &Remote) {
        self.0.remotes.borrow_mut().remove(&remote.id);
        remote.leave(self.0.env.now());
        self.0.metrics.forget(self.0.own.member, remote.id);
    }

    fn is_removed(&self, id: MemberId) -> bool {
        self.0.removed.borrow().contains(&id)
    }

    /// How things are here: the shard says that decides who belongs to the cluster.
    fn standing(&self) -> Standing {
        match self.0.shards.borrow().first_key_value() {
            Some((_, shard)) => Standing { used: shard.level(), log: shard.log_id() },
            None => Standing { used: Level::FIRST, log: LogId(0) },
        }
    }

    /// What the cluster knows of a member.
    fn known_of(&self, id: MemberId) -> Known {
        let log = self.0.shards.borrow().first_key_value().and_then(|(_, shard)| shard.log_of(id));
        Known { is_removed: self.is_removed(id), used: self.standing().used, log }
    }

    /// A frame for a shard came from a member.
    fn deliver(&self, from: &Remote, shard: ShardId, frame: Bytes) {
        let shard = self.0.shards.borrow().get(&shard).cloned();
        if shard.is_none_or(|shard| shard.step(from.id, frame)) {
            return;
        }
        self.0.metrics.receive_failed(Some(from.id));
        if from.overrun.is_due(self.0.env.roughly()) {
            warn!(
                "local-member-id" = self.own_id(),
                "from" = hex(from.id),
                "remote-peer-id" = hex(from.id),
                "remote-peer-active" = from.is_active(),
                "dropped internal Raft message since receiving buffer is full (overloaded network)"
            );
        }
    }

    /// What was sent to a member got lost, maybe.
    fn unreachable(&self, id: MemberId) {
        for shard in self.0.shards.borrow().values() {
            shard.unreachable(id);
        }
    }

    fn expel(&self) {
        if !self.0.expelled.replace(true) {
            error!(
                "local-member-id" = self.own_id(),
                "the member has been permanently removed from the cluster; the data-dir used by this member must be removed"
            );
        }
        if let Some(waker) = self.0.expelled_waker.take() {
            waker.wake();
        }
    }

    fn own_id(&self) -> String {
        hex(self.0.own.member)
    }

    /// How often it is looked whether somebody is still there.
    fn interval(&self) -> Duration {
        let Options { read_timeout, write_timeout, .. } = self.0.options;
        limits::PEER_PROBE.min(read_timeout / 4).min(write_timeout / 4).max(limits::PEER_PROBE_MIN)
    }

    /// Sends all that a connection has gathered, as long as the other end takes some of it now and then.
    async fn flush<S: Socket>(&self, channel: &mut Channel<S>) -> Result<(), LinkError> {
        let patience = self.0.options.write_timeout;
        while !channel.is_flushed() {
            let went = self.within(patience, poll_fn(|context| channel.poll_flush(context))).await;
            went.unwrap_or(Err(LinkError::Stuck(patience)))?;
        }
        Ok(())
    }

    /// What comes of some work, if that does not take too long.
    async fn within<T>(&self, time: Duration, work: impl Future<Output = T>) -> Option<T> {
        let late = async {
            self.0.env.sleep(time).await;
            None
        };
        or(async { Some(work.await) }, late).await
    }
}

impl<E: Env> Links for Peers<E> {
    fn send(&self, to: MemberId, shard: ShardId, lane: Lane, frame: Bytes) {
        let Some(remote) = self.remote(to) else { return };
        if remote.send(lane, shard, frame) {
            return;
        }
        self.0.metrics.sent_failed(to);
        self.unreachable(to);
        if remote.is_active() && remote.complaint.is_due(self.0.env.roughly()) {
            warn!(
                "local-member-id" = self.own_id(),
                "remote-peer-id" = hex(to),
                "remote-peer-active" = true,
                "waiting-bytes" = remote.queue.bytes(),
                "dropped internal Raft message since sending buffer is full (overloaded network)"
            );
        }
    }

    fn active_since(&self, member: MemberId) -> Option<Instant> {
        self.remote(member)?.active_since()
    }

    /// While this member is not among them it is still finding out who belongs to the cluster, and forgets nobody.
    fn set_members(&self, members: &[Peer], removed: &[MemberId]) {
        *self.0.removed.borrow_mut() = removed.iter().copied().collect();
        members.iter().for_each(|member| self.know(member));
        let own = self.0.own.member;
        let knows_all = members.iter().any(|member| member.id == own);
        let is_member = |id: MemberId| members.iter().any(|member| member.id == id);
        let leaves = |id: MemberId, remote: &Remote| {
            removed.contains(&id) || (knows_all && !remote.is_guest() && !is_member(id))
        };
        let leaving: Vec<_> = {
            let remotes = self.0.remotes.borrow();
            let leaving = remotes.iter().filter(|(id, remote)| leaves(**id, remote));
            leaving.map(|(id, remote)| (*id, remote.clone())).collect()
        };
        for (id, remote) in leaving {
            self.0.remotes.borrow_mut().remove(&id);
            remote.leave(self.0.env.now());
            info!(
                "local-member-id" = self.own_id(),
                "removed-remote-peer-id" = hex(id),
                "removed remote peer"
            );
        }
    }
}

/// As etcd shows a member.
fn hex(id: MemberId) -> String {
    format!("{:x}", id.0)
}
