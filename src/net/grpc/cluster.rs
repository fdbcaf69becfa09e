//! `etcdserverpb.Cluster`.

use std::rc::Rc;

use super::method::{Incoming, Method};
use crate::{
    api::{Api, Error, Keyspace},
    net::http2::Call,
    pb::etcdserverpb as pb,
};

pub(super) const NAME: &str = "etcdserverpb.Cluster";

const FIXED: Error = Error::Unimplemented("the cluster's membership cannot be changed yet");

pub(super) struct Service<K> {
    api: Api<K>,
    list: Rc<Method>,
    add: Rc<Method>,
    remove: Rc<Method>,
    update: Rc<Method>,
    promote: Rc<Method>,
}

impl<K: Keyspace> Service<K> {
    pub(super) fn new(api: &Api<K>) -> Self {
        Self {
            api: api.clone(),
            list: Method::read(api, NAME, "MemberList"),
            add: Method::write(api, NAME, "MemberAdd"),
            remove: Method::write(api, NAME, "MemberRemove"),
            update: Method::write(api, NAME, "MemberUpdate"),
            promote: Method::write(api, NAME, "MemberPromote"),
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
