//! What the other members ask on the peer port (etcd v3.7 `etcdhttp/peer.go`).

use bytes::Bytes;
use http::{Response, request::Parts};

use super::{not_found, version};
use crate::service::Api;

pub(super) fn endpoint(api: &Api, head: &Parts) -> Response<Bytes> {
    match head.uri.path() {
        "/version" => version(api, &head.method),
        _ => not_found(),
    }
}
