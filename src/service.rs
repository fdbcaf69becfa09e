//! etcd's services as plain handlers: functions of the keyspace they serve, whoever calls, and a request, to a response
//! (or a stream of responses) or an [`Error`].
//!
//! An [`Api`] belongs to the core of the keyspace it serves; connections clone it. A handler validates, asks the shard
//! and fills response headers. [`methods()`] has a row for each; how requests come in and answers go out is
//! `protocol`'s business, and nothing here knows HTTP, gRPC or JSON.

pub mod auth;
mod caller;
pub mod cluster;
pub mod election;
mod error;
pub mod health;
pub mod kv;
mod leader;
pub mod lease;
mod line;
pub mod lock;
pub mod maintenance;
mod methods;
pub mod metrics;
mod outgoing;
pub mod peers;
mod requests;
pub mod serving;
pub mod slow;
#[cfg(test)]
pub(crate) mod tests;
pub mod v2;
pub mod version;
pub mod watch;
mod word;

use std::{cell::RefCell, rc::Rc, time::Duration};

pub use caller::{Caller, Connection};
pub use cluster::Membership;
pub use error::{Code, Error};
pub use leader::watch_leader;
pub use methods::{Access, Codec, Method, methods};
pub use outgoing::Outgoing;
pub use requests::Requests;
pub use slow::Patience;
pub use word::Word;

use crate::{
    client::{Bounds, Clients},
    env::Env,
    limits,
    metrics::Metrics,
    pb::etcdserverpb as pb,
    shard::{AnswerReader, Quota, Shard, ShardStatus},
    state::kv::Answer,
    types::Keyspace,
};

/// What an empty keyspace is said to occupy: `etcdctl endpoint status` divides by the size.
const EMPTY_BYTES: u64 = 4096;

/// What is chosen by flags.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--max-request-bytes`: a larger write is refused.
    pub max_request_bytes: usize,
    /// `--max-txn-ops`.
    pub max_txn_ops: usize,
    /// `--quota-backend-bytes`.
    pub quota: Quota,
    /// What flags say of changes of members.
    pub membership: Membership,
    /// Calls that take longer are told of.
    pub patience: Patience,
    /// Shortest time of a lease, in seconds: what is asked to be shorter is made that long.
    pub lease_ttl_min: i64,
    /// How somebody shows who they are.
    pub auth: auth::Options,
    /// `--enable-v2`.
    pub enable_v2: bool,
    /// `--watch-progress-notify-interval`.
    pub watch_progress_interval: Duration,
    /// Memory held on behalf of clients.
    pub clients: Bounds,
    /// Given once the member serves linearizable reads. Calls that come before wait for it; its health can be asked for.
    pub ready: Word,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_request_bytes: limits::MAX_REQUEST_BYTES,
            max_txn_ops: limits::MAX_TXN_OPS,
            quota: Quota::default(),
            membership: Membership::default(),
            patience: Patience::default(),
            lease_ttl_min: limits::LEASE_TTL_MIN,
            auth: auth::Options::default(),
            enable_v2: false,
            watch_progress_interval: limits::WATCH_PROGRESS_INTERVAL,
            clients: Bounds::default(),
            ready: Word::spoken(),
        }
    }
}

/// What the handlers of one keyspace share. Cheap to clone.
#[derive(Clone)]
pub struct Api(Rc<Inner>);

struct Inner {
    keyspace: Keyspace,
    shard: Shard,
    metrics: Rc<Metrics>,
    options: Options,
    guard: auth::Guard,
    clients: Clients,
    leaderless: RefCell<Word>,
    /// To the leader, where it is another member.
    forward: Rc<peers::Forward>,
    /// Time of day.
    wall: Box<dyn Fn() -> Duration>,
    started: Duration,
}

impl Api {
    pub fn new<E: Env>(
        env: &E,
        keyspace: Keyspace,
        shard: Shard,
        metrics: Rc<Metrics>,
        options: Options,
    ) -> Self {
        shard.metrics().quota_backend_bytes.set(options.quota.bytes());
        metrics.identify(shard.member_id().0);
        let clients = Clients::new(options.clients);
        let guard = auth::Guard::new(env, &options.auth);
        let leaderless = RefCell::default();
        let forward = peers::forward(env);
        let calendar = env.clone();
        let wall = Box::new(move || calendar.wall());
        let started = env.wall();
        Self(Rc::new(Inner {
            keyspace,
            shard,
            metrics,
            options,
            guard,
            clients,
            leaderless,
            forward,
            wall,
            started,
        }))
    }

    /// Which keyspace is served.
    pub fn keyspace(&self) -> &Keyspace {
        &self.0.keyspace
    }

    /// Of the process; the shard has its own.
    pub fn metrics(&self) -> &Rc<Metrics> {
        &self.0.metrics
    }

    /// What is held for whom.
    pub fn clients(&self) -> &Clients {
        &self.0.clients
    }

    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// Since 1970.
    fn wall(&self) -> Duration {
        (self.0.wall)()
    }

    fn guard(&self) -> &auth::Guard {
        &self.0.guard
    }

    fn shard(&self) -> &Shard {
        &self.0.shard
    }

    /// The shard on behalf of whoever calls.
    fn shard_of(&self, caller: &Caller) -> Shard {
        self.shard().of(caller.client())
    }

    /// Bytes occupied and bytes in use, as reported to clients.
    fn sizes(status: &ShardStatus) -> (u64, u64) {
        (status.size_bytes.max(EMPTY_BYTES), status.size_in_use_bytes.max(EMPTY_BYTES))
    }

    /// What etcd's interceptors look at before any handler runs. The client's version is its metadata as it came.
    pub fn admit(
        &self,
        method: &Method,
        is_stream: bool,
        caller: &Caller,
        client_version: Option<&[u8]>,
    ) -> Result<(), Error> {
        if !method.learners_answer && self.shard().is_learner() {
            return Err(Error::NotForLearners);
        }
        let version = match client_version {
            None => "unknown",
            Some(version) => std::str::from_utf8(version).map_err(|_| Error::InvalidClientApiVersion)?,
        };
        self.metrics().client_requests.count(version, is_stream);
        if caller.needs_leader && self.shard().leader().0 == 0 { Err(Error::NoLeader) } else { Ok(()) }
    }

    /// Completes a header that already carries its revision, or none for "the current one".
    fn fill(&self, header: &mut Option<pb::ResponseHeader>) {
        let header = header.get_or_insert_default();
        self.fill_without_revision(header);
        if header.revision == 0 {
            header.revision = self.shard().revision().0;
        }
    }

    /// The header of an answer, which has it at `header` if it is there as a whole.
    fn fill_answer<R>(
        &self,
        answer: &mut Answer<R, AnswerReader>,
        header: impl FnOnce(&mut R) -> &mut Option<pb::ResponseHeader>,
    ) {
        self.fill(match answer {
            Answer::Whole(response) => header(response),
            Answer::Long(long) => long.header_mut(),
        });
    }

    fn fill_without_revision(&self, header: &mut pb::ResponseHeader) {
        let shard = self.shard();
        header.cluster_id = shard.cluster_id().0;
        header.member_id = shard.member_id().0;
        header.raft_term = shard.term().0;
    }
}
