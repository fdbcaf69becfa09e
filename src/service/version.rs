//! Which etcd this server is, for clients that turn features on by it.

/// The etcd release whose behaviour this server has.
pub const SERVER: &str = crate::types::ETCD_VERSION;
/// The version a cluster of such servers agrees on.
pub const CLUSTER: &str = "3.7.0";
/// The version of etcd's storage schema that the reported behaviour corresponds to.
pub const STORAGE: &str = "3.7.0";
