//! `etcdserverpb.Maintenance`.

use std::rc::Rc;

use super::method::{Incoming, Method};
use crate::{
    api::{Api, Error, Keyspace},
    env::Env,
    net::http2::Call,
    pb::etcdserverpb as pb,
};

pub(super) const NAME: &str = "etcdserverpb.Maintenance";

pub(super) struct Service<E, K> {
    api: Api<K>,
    alarm: Rc<Method<E>>,
    status: Rc<Method<E>>,
    defragment: Rc<Method<E>>,
    hash: Rc<Method<E>>,
    hash_kv: Rc<Method<E>>,
    snapshot: Rc<Method<E>>,
    move_leader: Rc<Method<E>>,
    downgrade: Rc<Method<E>>,
}

impl<E: Env, K: Keyspace> Service<E, K> {
    pub(super) fn new(env: &E, api: &Api<K>) -> Self {
        Self {
            api: api.clone(),
            alarm: Method::write(env, api, NAME, "Alarm"),
            status: Method::read(env, api, NAME, "Status"),
            defragment: Method::write(env, api, NAME, "Defragment"),
            hash: Method::read(env, api, NAME, "Hash"),
            hash_kv: Method::read(env, api, NAME, "HashKV"),
            snapshot: Method::server_stream(env, api, NAME, "Snapshot"),
            move_leader: Method::write(env, api, NAME, "MoveLeader"),
            downgrade: Method::write(env, api, NAME, "Downgrade"),
        }
    }

    /// `None` if there is no such method.
    pub(super) fn call(&self, method: &str, incoming: impl FnOnce() -> Incoming) -> Option<Call> {
        let api = &self.api;
        Some(match method {
            "Alarm" => self.alarm.unary(api, incoming(), Api::alarm),
            "Status" => self.status.unary(api, incoming(), Api::status),
            "Defragment" => self.defragment.unary(api, incoming(), Api::defragment),
            "Hash" => self.hash.unary(api, incoming(), Api::hash),
            "HashKV" => self.hash_kv.unary(api, incoming(), Api::hash_kv),
            "Snapshot" => self.snapshot.stream(api, incoming(), Api::snapshot),
            "MoveLeader" => self.move_leader.unary(api, incoming(), async |_, _: pb::MoveLeaderRequest| {
                Err::<pb::MoveLeaderResponse, _>(Error::Unimplemented("leadership cannot be moved yet"))
            }),
            "Downgrade" => self.downgrade.unary(api, incoming(), async |_, _: pb::DowngradeRequest| {
                Err::<pb::DowngradeResponse, _>(Error::Unimplemented("a downgrade is not supported yet"))
            }),
            _ => return None,
        })
    }
}
