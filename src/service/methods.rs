//! Every method a client may call, a row each.
//!
//! A row is a method and its handler; which function of the [`Codec`] makes it says what comes in and goes out: one
//! message or many. Each protocol has a codec of its own and builds its rows from this one table.

use futures_util::Stream;
use prost::Message;

use super::{
    Api, Caller, Error, Outgoing, Requests, auth, cluster, election, kv, lease, lock, maintenance, serving,
    watch,
};
use crate::{shard::AnswerReader, state::kv::Answer};

/// What there is to know of a method beside its messages.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    pub service: &'static str,
    pub name: &'static str,
    pub access: Access,
    /// A learner answers it, or its handler decides.
    pub learners_answer: bool,
    /// It lasts as long as its client likes: it ends when the server stops, and is not waited for.
    pub endless: bool,
    /// A better word for a message that cannot be decoded than that, if there is one.
    pub undecodable: fn(&[u8]) -> Option<Error>,
}

/// Which word there is for late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing has happened.
    Read,
    /// It goes through the log, and may or may not take effect.
    Write,
}

impl Method {
    pub const fn read(service: &'static str, name: &'static str) -> Self {
        let undecodable = |_: &[u8]| None;
        Self { service, name, access: Access::Read, learners_answer: false, endless: false, undecodable }
    }

    pub const fn write(service: &'static str, name: &'static str) -> Self {
        Self { access: Access::Write, ..Self::read(service, name) }
    }

    const fn by_learners(self) -> Self {
        Self { learners_answer: true, ..self }
    }

    pub const fn endless(self) -> Self {
        Self { endless: true, ..self }
    }

    const fn undecodable(self, undecodable: fn(&[u8]) -> Option<Error>) -> Self {
        Self { undecodable, ..self }
    }

    /// The answer when the client's deadline passes first.
    pub fn late(&self) -> Error {
        match self.access {
            Access::Read => Error::DeadlineExceeded,
            Access::Write => Error::Timeout,
        }
    }
}

/// How a protocol makes a row of a method and its handler.
pub trait Codec {
    type Row;

    /// A message for a message.
    fn unary<Q, R, H>(&self, method: Method, handler: H) -> Self::Row
    where
        Q: Message + Default + 'static,
        R: Message + 'static,
        H: AsyncFn(&Api, &Caller, Q) -> Result<R, Error> + Copy + 'static;

    /// A message for one that may be long, and then is encoded as the client takes it.
    fn long<Q, R, H>(&self, method: Method, handler: H) -> Self::Row
    where
        Q: Message + Default + 'static,
        R: Message + 'static,
        H: AsyncFn(&Api, &Caller, Q) -> Result<Answer<R, AnswerReader>, Error> + Copy + 'static;

    /// A message for many.
    fn server_stream<Q, R, S, H>(&self, method: Method, handler: H) -> Self::Row
    where
        Q: Message + Default + 'static,
        R: Message + 'static,
        S: Stream<Item = Result<R, Error>> + 'static,
        H: Fn(&Api, &Caller, Q) -> Result<S, Error> + Copy + 'static;

    /// The same for messages that may be long.
    fn long_stream<Q, R, S, H>(&self, method: Method, handler: H) -> Self::Row
    where
        Q: Message + Default + 'static,
        R: Message + 'static,
        S: Stream<Item = Result<Answer<R, AnswerReader>, Error>> + 'static,
        H: Fn(&Api, &Caller, Q) -> Result<S, Error> + Copy + 'static;

    /// Messages both ways, at their own pace. Dropping the answers ends the call.
    fn both<Q, R, S, H>(&self, method: Method, handler: H) -> Self::Row
    where
        Q: Message + Default + 'static,
        R: Message + 'static,
        S: Stream<Item = Result<R, Error>> + 'static,
        H: Fn(&Api, &Caller, Requests<Q>) -> Result<S, Error> + Copy + 'static;

    /// The same where answers have parts that others are sent, too.
    fn feed<Q, R, S, H>(&self, method: Method, handler: H) -> Self::Row
    where
        Q: Message + Default + 'static,
        R: Message + 'static,
        S: Stream<Item = Result<Outgoing<R>, Error>> + 'static,
        H: Fn(&Api, &Caller, Requests<Q>) -> Result<S, Error> + Copy + 'static;
}

/// The table.
pub fn methods<C: Codec>(codec: &C) -> Vec<C::Row> {
    const KV: &str = "etcdserverpb.KV";
    const LEASE: &str = "etcdserverpb.Lease";
    const LOCK: &str = "v3lockpb.Lock";
    const ELECTION: &str = "v3electionpb.Election";
    const WATCH: &str = "etcdserverpb.Watch";
    const CLUSTER: &str = "etcdserverpb.Cluster";
    const MAINTENANCE: &str = "etcdserverpb.Maintenance";
    const AUTH: &str = "etcdserverpb.Auth";
    const HEALTH: &str = "grpc.health.v1.Health";
    let (read, write) = (Method::read, Method::write);
    vec![
        codec.long(read(KV, "Range").by_learners(), kv::range),
        codec.long_stream(read(KV, "RangeStream"), kv::range_stream),
        codec.unary(write(KV, "Put"), kv::put),
        codec.long(write(KV, "DeleteRange"), kv::delete_range),
        codec.long(write(KV, "Txn").undecodable(kv::undecodable_txn), kv::txn),
        codec.unary(write(KV, "Compact"), kv::compact),
        codec.unary(write(LEASE, "LeaseGrant"), lease::lease_grant),
        codec.unary(write(LEASE, "LeaseRevoke"), lease::lease_revoke),
        codec.both(read(LEASE, "LeaseKeepAlive").endless(), lease::lease_keep_alive),
        codec.long(read(LEASE, "LeaseTimeToLive"), lease::lease_time_to_live),
        codec.long(read(LEASE, "LeaseLeases"), lease::lease_leases),
        codec.feed(read(WATCH, "Watch").endless(), watch::watch),
        codec.unary(read(LOCK, "Lock"), lock::lock),
        codec.unary(write(LOCK, "Unlock"), lock::unlock),
        codec.unary(read(ELECTION, "Campaign"), election::campaign),
        codec.unary(write(ELECTION, "Proclaim"), election::proclaim),
        codec.unary(read(ELECTION, "Leader"), election::leader),
        codec.server_stream(read(ELECTION, "Observe").endless(), election::observe),
        codec.unary(write(ELECTION, "Resign"), election::resign),
        codec.unary(read(CLUSTER, "MemberList"), cluster::member_list),
        codec.unary(write(CLUSTER, "MemberAdd"), cluster::member_add),
        codec.unary(write(CLUSTER, "MemberRemove"), cluster::member_remove),
        codec.unary(write(CLUSTER, "MemberUpdate"), cluster::member_update),
        codec.unary(write(CLUSTER, "MemberPromote"), cluster::member_promote),
        codec.unary(write(MAINTENANCE, "Alarm"), maintenance::alarm),
        codec.unary(read(MAINTENANCE, "Status").by_learners(), maintenance::status),
        codec.unary(write(MAINTENANCE, "Defragment"), maintenance::defragment),
        codec.unary(read(MAINTENANCE, "Hash"), maintenance::hash),
        codec.unary(read(MAINTENANCE, "HashKV"), maintenance::hash_kv),
        codec.server_stream(read(MAINTENANCE, "Snapshot").by_learners(), maintenance::snapshot),
        codec.unary(write(MAINTENANCE, "MoveLeader"), maintenance::move_leader),
        codec.unary(write(MAINTENANCE, "Downgrade"), maintenance::downgrade),
        codec.unary(write(AUTH, "AuthEnable"), auth::enable),
        codec.unary(write(AUTH, "AuthDisable"), auth::disable),
        codec.unary(read(AUTH, "AuthStatus"), auth::status),
        codec.unary(read(AUTH, "Authenticate"), auth::authenticate),
        codec.unary(write(AUTH, "UserAdd"), auth::user_add),
        codec.unary(read(AUTH, "UserGet"), auth::user_get),
        codec.unary(read(AUTH, "UserList"), auth::user_list),
        codec.unary(write(AUTH, "UserDelete"), auth::user_delete),
        codec.unary(write(AUTH, "UserChangePassword"), auth::user_change_password),
        codec.unary(write(AUTH, "UserGrantRole"), auth::user_grant_role),
        codec.unary(write(AUTH, "UserRevokeRole"), auth::user_revoke_role),
        codec.unary(write(AUTH, "RoleAdd"), auth::role_add),
        codec.unary(read(AUTH, "RoleGet"), auth::role_get),
        codec.unary(read(AUTH, "RoleList"), auth::role_list),
        codec.unary(write(AUTH, "RoleDelete"), auth::role_delete),
        codec.unary(write(AUTH, "RoleGrantPermission"), auth::role_grant_permission),
        codec.unary(write(AUTH, "RoleRevokePermission"), auth::role_revoke_permission),
        codec.unary(read(HEALTH, "Check"), serving::check),
        codec.unary(read(HEALTH, "List"), serving::list),
        codec.server_stream(read(HEALTH, "Watch").endless(), serving::watch),
    ]
}
