//! `etcdserverpb.Cluster`.

use std::rc::Rc;

use super::method::{Incoming, Method};
use crate::{
    api::{Api, Error, Keyspace},
    env::Env,
    net::http2::Call,
    pb::etcdserverpb as pb,
};

pub(super) const NAME: &str = "etcdserverpb.Cluster";

const FIXED: Error = Error::Unimplemented("the cluster's membership cannot be changed yet");

pub(super) struct Service<E, K> {
    api: Api<K>,
    list: Rc<Method<E>>,
    add: Rc<Method<E>>,
    remove: Rc<Method<E>>,
    update: Rc<Method<E>>,
    promote: Rc<Method<E>>,
}

impl<E: Env, K: Keyspace> Service<E, K> {
    pub(super) fn new(env: &E, api: &Api<K>) -> Self {
        Self {
            api: api.clone(),
            list: Method::read(env, api, NAME, "MemberList"),
            add: Method::write(env, api, NAME, "MemberAdd"),
            remove: Method::write(env, api, NAME, "MemberRemove"),
            update: Method::write(env, api, NAME, "MemberUpdate"),
            promote: Method::write(env, api, NAME, "MemberPromote"),
        }
    }

    /// `None` if there is no such method.
    pub(super) fn call(&self, method: &str, incoming: impl FnOnce() -> Incoming) -> Option<Call> {
        let api = &self.api;
        Some(match method {
            "MemberList" => self.list.unary(api, incoming(), Api::member_list),
            "MemberAdd" => self.add.unary(api, incoming(), async |_, _: pb::MemberAddRequest| {
                Err::<pb::MemberAddResponse, _>(FIXED)
            }),
            "MemberRemove" => self.remove.unary(api, incoming(), async |_, _: pb::MemberRemoveRequest| {
                Err::<pb::MemberRemoveResponse, _>(FIXED)
            }),
            "MemberUpdate" => self.update.unary(api, incoming(), async |_, _: pb::MemberUpdateRequest| {
                Err::<pb::MemberUpdateResponse, _>(FIXED)
            }),
            "MemberPromote" => self.promote.unary(api, incoming(), async |_, _: pb::MemberPromoteRequest| {
                Err::<pb::MemberPromoteResponse, _>(FIXED)
            }),
            _ => return None,
        })
    }
}
