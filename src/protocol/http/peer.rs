//! What the other members ask on the peer port (etcd v3.7 `etcdhttp/peer.go`), and what a member of etcd itself is told,
//! whose way to replicate is not ours.

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, AUTHORIZATION},
    request::Parts,
};

use super::{JSON, method_not_allowed, not_found, ok, refusal, version};
use crate::{
    inquiry::form::{self, CLUSTER_ID, HashQuestion},
    service::{Api, Error, peers},
    state,
};

/// Where etcd's members replicate to each other.
const RAFT: &str = "/raft";
/// As etcd tells a member of a release that it cannot replicate with: that one names the reason in its log.
const INCOMPATIBLE: &str = "incompatible version";

/// Whether the answer depends on the question's body.
pub(crate) fn reads_body(head: &Parts) -> bool {
    head.uri.path() == form::HASH
}

pub(super) async fn endpoint(api: &Api, head: &Parts, body: Bytes) -> Response<Bytes> {
    let method = &head.method;
    match head.uri.path() {
        form::VERSION => version(api, method),
        form::MEMBERS if *method != Method::GET => method_not_allowed(),
        form::MEMBERS => {
            let (_, members) = peers::members(api);
            told(api, ok(JSON, form::write_members(&members)))
        }
        form::DOWNGRADE if *method != Method::GET => method_not_allowed(),
        form::DOWNGRADE => told(api, downgrade(api).await),
        form::HASH if *method != Method::GET => method_not_allowed(),
        form::HASH => hash(api, head, body).await,
        path => match path.strip_prefix(form::PROMOTE) {
            Some(_) if *method != Method::POST => only(Method::POST),
            Some(id) => told(api, promote(api, head, id).await),
            None if path == RAFT || path.starts_with("/raft/") => stranger(api, head),
            None => not_found(),
        },
    }
}

/// With the cluster it is from, and what kind of member it is.
fn told(api: &Api, mut response: Response<Bytes>) -> Response<Bytes> {
    let id = HeaderValue::from_str(&format!("{:x}", peers::cluster_id(api).0)).expect("digits");
    response.headers_mut().insert(CLUSTER_ID, id);
    response.headers_mut().insert(form::PINION, HeaderValue::from_static(env!("CARGO_PKG_VERSION")));
    response
}

fn only(method: Method) -> Response<Bytes> {
    let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    let allowed = HeaderValue::from_str(method.as_str()).expect("a word");
    response.headers_mut().insert(ALLOW, allowed);
    response
}

async fn downgrade(api: &Api) -> Response<Bytes> {
    match peers::downgrades(api).await {
        Ok(enabled) => ok(HeaderValue::from_static("text/plain"), enabled.to_string()),
        Err(error) => {
            let text = format!("failed linearized read: {}", error.grpc().1);
            refusal(StatusCode::INTERNAL_SERVER_ERROR, text)
        }
    }
}

async fn hash(api: &Api, head: &Parts, body: Bytes) -> Response<Bytes> {
    let meant_for = head.headers.get(CLUSTER_ID).filter(|id| !id.is_empty());
    if meant_for.is_some_and(|id| form::parse_id(id) != Some(peers::cluster_id(api).0)) {
        return refusal(StatusCode::PRECONDITION_FAILED, form::OTHER_CLUSTER);
    }
    let HashQuestion { revision } = match form::parse(&body) {
        Ok(question) => question,
        Err(error) => {
            tracing::warn!(%error, "failed to unmarshal request");
            return refusal(StatusCode::BAD_REQUEST, "error unmarshalling request");
        }
    };
    match peers::hash(api, revision).await {
        Ok(hash) => told(api, ok(JSON, form::write(&hash))),
        Err(error) => {
            let text = match error {
                Error::Apply(state::Error::Compacted) => form::COMPACTED.into(),
                Error::Apply(state::Error::FutureRevision) => form::FUTURE.into(),
                other => other.grpc().1,
            };
            tracing::warn!("requested-revision" = revision, error = %text, "failed to get hashKV");
            refusal(StatusCode::BAD_REQUEST, text)
        }
    }
}

async fn promote(api: &Api, head: &Parts, id: &str) -> Response<Bytes> {
    // As Go reads it, without a sign.
    let digits = id.bytes().all(|byte| byte.is_ascii_digit());
    let Some(number) = digits.then(|| id.parse().ok()).flatten() else {
        return refusal(StatusCode::NOT_FOUND, format!("member {id} not found in cluster"));
    };
    let token = head.headers.get(AUTHORIZATION).and_then(|token| token.to_str().ok()).map(Into::into);
    let error = match peers::promote(api, number, token).await {
        Ok(members) => return ok(JSON, form::write_members(&members)),
        Err(error) => error,
    };
    tracing::warn!("member-id" = format!("{number:x}"), error = %error.grpc().1, "failed to promote a member");
    match &error {
        Error::Apply(state::Error::MemberNotFound) => {
            refusal(StatusCode::NOT_FOUND, "membership: ID not found")
        }
        Error::Apply(state::Error::MemberNotLearner) => {
            refusal(StatusCode::PRECONDITION_FAILED, "membership: can only promote a learner member")
        }
        Error::LearnerNotReady => refusal(StatusCode::PRECONDITION_FAILED, error.grpc().1),
        _ => {
            let mut response = ok(JSON, r#"{"message":"Internal Server Error"}"#);
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
}

/// A member of etcd wants to replicate. It tries again ten times a second, and its log says why in vain.
fn stranger(api: &Api, head: &Parts) -> Response<Bytes> {
    let text =
        |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let (from, cluster) = (text("x-server-from"), text("x-etcd-cluster-id"));
    let reason = match u64::from_str_radix(&cluster, 16) {
        Ok(id) if id != peers::cluster_id(api).0 => form::OTHER_CLUSTER,
        _ => INCOMPATIBLE,
    };
    tracing::warn!(
        "remote-peer-id" = from,
        "remote-peer-cluster-id" = cluster,
        "remote-peer-server-version" = text("x-server-version"),
        reason,
        "refused a member that replicates as etcd does, which this server does not: take all members of a cluster from \
         one of the two"
    );
    let mut response = told(api, refusal(StatusCode::PRECONDITION_FAILED, reason));
    // It looks at the reason of those only that are not older than itself.
    let version = HeaderValue::from_static(crate::service::version::SERVER);
    response.headers_mut().insert("x-server-version", version);
    response
}
