//! `etcdserverpb.KV`.

use std::rc::Rc;

use super::method::{Incoming, Method};
use crate::{
    api::{Api, Keyspace},
    env::Env,
    net::http2::Call,
};

pub(super) const NAME: &str = "etcdserverpb.KV";

pub(super) struct Service<E, K> {
    api: Api<K>,
    range: Rc<Method<E>>,
    range_stream: Rc<Method<E>>,
    put: Rc<Method<E>>,
    delete_range: Rc<Method<E>>,
    txn: Rc<Method<E>>,
    compact: Rc<Method<E>>,
}

impl<E: Env, K: Keyspace> Service<E, K> {
    pub(super) fn new(env: &E, api: &Api<K>) -> Self {
        Self {
            api: api.clone(),
            range: Method::read(env, api, NAME, "Range"),
            range_stream: Method::server_stream(env, api, NAME, "RangeStream"),
            put: Method::write(env, api, NAME, "Put"),
            delete_range: Method::write(env, api, NAME, "DeleteRange"),
            txn: Method::write(env, api, NAME, "Txn"),
            compact: Method::write(env, api, NAME, "Compact"),
        }
    }

    /// `None` if there is no such method.
    pub(super) fn call(&self, method: &str, incoming: impl FnOnce() -> Incoming) -> Option<Call> {
        let api = &self.api;
        Some(match method {
            "Range" => self.range.list(api, incoming(), Api::range),
            "Put" => self.put.unary(api, incoming(), Api::put),
            "DeleteRange" => self.delete_range.unary(api, incoming(), Api::delete_range),
            "Txn" => self.txn.unary(api, incoming(), Api::txn),
            "Compact" => self.compact.unary(api, incoming(), Api::compact),
            "RangeStream" => self.range_stream.stream(api, incoming(), Api::range_stream),
            _ => return None,
        })
    }
}
