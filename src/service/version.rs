//! Which etcd this server is, for clients that turn features on by it.

use super::Api;

/// The etcd release whose behaviour this server has.
pub const SERVER: &str = crate::types::ETCD_VERSION;

/// The answer to `GET /version`.
pub fn all(api: &Api) -> String {
    let (server, cluster) = (SERVER, api.cluster_version());
    format!(r#"{{"etcdserver":"{server}","etcdcluster":"{cluster}","storage":"{cluster}"}}"#)
}
