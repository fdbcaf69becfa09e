//! `etcdserverpb.KV`.

use std::rc::Rc;

use super::method::{Incoming, Method};
use crate::{
    api::{Api, Keyspace},
    net::http2::Call,
};

pub(super) const NAME: &str = "etcdserverpb.KV";

pub(super) struct Service<K> {
    api: Api<K>,
    range: Rc<Method>,
    range_stream: Rc<Method>,
    put: Rc<Method>,
    delete_range: Rc<Method>,
    txn: Rc<Method>,
    compact: Rc<Method>,
}

impl<K: Keyspace> Service<K> {
    pub(super) fn new(api: &Api<K>) -> Self {
        Self {
            api: api.clone(),
            range: Method::read(api, NAME, "Range"),
            range_stream: Method::server_stream(api, NAME, "RangeStream"),
            put: Method::write(api, NAME, "Put"),
            delete_range: Method::write(api, NAME, "DeleteRange"),
            txn: Method::write(api, NAME, "Txn"),
            compact: Method::write(api, NAME, "Compact"),
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
