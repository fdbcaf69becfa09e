//! etcd's services as plain handlers: a request in, a response (or a stream of responses) or an
//! [`Error`] out.
//!
//! An [`Api`] belongs to the core of the keyspace it serves; connections clone it. It validates, fills
//! response headers and knows which calls go through the log and which do not. It knows nothing of
//! HTTP/2, gRPC framing or compression: `net` adapts these handlers to whatever protocol stack serves
//! them.

#[cfg(test)]
pub(crate) mod fake;
pub mod http;
mod keyspace;
mod status;
pub mod v3;

use std::rc::Rc;

pub use keyspace::{Backup, Chunks, Keyspace, List};
pub use status::{Code, Error};

use crate::{
    limits,
    metrics::Metrics,
    shard::{Quota, Status},
};

/// The etcd release whose behaviour this server has: clients turn features on by it.
pub const SERVER_VERSION: &str = crate::types::ETCD_VERSION;
/// The version a cluster of such servers agrees on.
pub const CLUSTER_VERSION: &str = "3.7.0";
/// The version of etcd's storage schema that the reported behaviour corresponds to.
pub const STORAGE_VERSION: &str = "3.7.0";

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
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_request_bytes: limits::MAX_REQUEST_BYTES,
            max_txn_ops: limits::MAX_TXN_OPS,
            quota: Quota::default(),
        }
    }
}

/// The handlers of one keyspace. Cheap to clone.
pub struct Api<K>(Rc<Inner<K>>);

struct Inner<K> {
    keyspace: K,
    metrics: Rc<Metrics>,
    options: Options,
}

impl<K> Clone for Api<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Keyspace> Api<K> {
    pub fn new(keyspace: K, metrics: Rc<Metrics>, options: Options) -> Self {
        metrics.quota_backend_bytes.set(options.quota.bytes());
        // The label is without the patch level.
        let (cluster_version, _) = CLUSTER_VERSION.rsplit_once('.').expect("a version has three parts");
        metrics.identify(keyspace.member_id().0, cluster_version);
        Self(Rc::new(Inner { keyspace, metrics, options }))
    }

    pub fn metrics(&self) -> &Rc<Metrics> {
        &self.0.metrics
    }

    pub fn options(&self) -> &Options {
        &self.0.options
    }

    fn keyspace(&self) -> &K {
        &self.0.keyspace
    }

    /// Bytes occupied and bytes in use, as reported to clients.
    fn sizes(status: &Status) -> (u64, u64) {
        (status.size_bytes.max(EMPTY_BYTES), status.size_in_use_bytes.max(EMPTY_BYTES))
    }

    /// For callers that ask not to be served by a member that has lost its cluster.
    pub fn require_leader(&self) -> Result<(), Error> {
        if self.keyspace().leader().0 == 0 { Err(Error::NoLeader) } else { Ok(()) }
    }
}
