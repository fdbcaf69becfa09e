//! `/v2/members` and `/v2/machines`: who belongs to the cluster, in the form of that time, and changes of it.
//!
//! Changes are those of `etcdserverpb.Cluster`; so with v3's authentication on, nobody makes any here.

use std::rc::Rc;

use bytes::Bytes;
use http::{Method, Response, StatusCode, header::CONTENT_TYPE, request::Parts};
use serde::{Deserialize, Serialize};

use super::{cluster_id, only};
use crate::{
    pb::etcdserverpb as pb,
    protocol::http::{JSON, PLAIN, Posted, ok, refusal},
    service::{Api, Caller, Connection, Error, cluster, v2},
    state,
    types::url::Url,
};

#[derive(Serialize)]
struct Member {
    id: String,
    name: String,
    #[serde(rename = "peerURLs")]
    peer_urls: Vec<String>,
    #[serde(rename = "clientURLs")]
    client_urls: Vec<String>,
}

#[derive(Serialize)]
struct Members {
    members: Vec<Member>,
}

#[derive(Serialize)]
struct Message {
    message: String,
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default, rename = "peerURLs")]
    peer_urls: Option<Vec<String>>,
}

impl From<pb::Member> for Member {
    fn from(member: pb::Member) -> Self {
        let pb::Member { id, name, peer_ur_ls, client_ur_ls, .. } = member;
        Self { id: format!("{id:x}"), name, peer_urls: peer_ur_ls, client_urls: client_ur_ls }
    }
}

pub(super) fn machines(api: &Api, head: &Parts) -> Response<Bytes> {
    match only(&head.method, &[Method::GET, Method::HEAD]) {
        Some(refusal) => refusal,
        None => ok(PLAIN, v2::machines(api).join(", ")),
    }
}

/// `rest` follows `/v2/members` in the path.
pub(super) async fn endpoint(
    api: &Api,
    connection: &Rc<Connection>,
    head: &Parts,
    rest: &[u8],
    posted: Posted,
) -> Response<Bytes> {
    let allowed = [Method::GET, Method::POST, Method::DELETE, Method::PUT];
    if let Some(refusal) = only(&head.method, &allowed) {
        return refusal;
    }
    let rest = String::from_utf8_lossy(rest.strip_prefix(b"/").unwrap_or(rest));
    let connection = connection.clone();
    let caller = Caller { connection, token: None, deadline: None, needs_leader: false };
    let answer = match head.method {
        Method::GET => list(api, &rest),
        Method::POST => add(api, &caller, head, posted).await,
        _ => change(api, &caller, head, &rest, posted).await,
    };
    let mut response = answer.unwrap_or_else(|refused_as| match refused_as {
        Refusal::Told(status, message) => refused(status, message),
        Refusal::Method => refusal(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"),
    });
    response.headers_mut().insert(super::CLUSTER_ID, cluster_id(api));
    response
}

/// What a request is answered with that comes to nothing.
enum Refusal {
    Told(StatusCode, String),
    /// There is no such method here.
    Method,
}

type Answered = Result<Response<Bytes>, Refusal>;

fn told(status: StatusCode, message: impl Into<String>) -> Refusal {
    Refusal::Told(status, message.into())
}

fn list(api: &Api, rest: &str) -> Answered {
    match rest {
        "" => Ok(line(&Members { members: v2::members(api).into_iter().map(Member::from).collect() })),
        "leader" => match v2::leader(api) {
            Some(leader) => Ok(line(&Member::from(leader))),
            None => Err(told(StatusCode::SERVICE_UNAVAILABLE, "During election")),
        },
        _ => Err(told(StatusCode::NOT_FOUND, "Not found")),
    }
}

async fn add(api: &Api, caller: &Caller, head: &Parts, posted: Posted) -> Answered {
    let request = pb::MemberAddRequest { peer_ur_ls: peer_urls(head, posted)?, is_learner: false };
    let added = cluster::member_add(api, caller, request).await;
    let added = added.map_err(|error| changed_not(&error, || told(StatusCode::NOT_FOUND, "Not found")))?;
    let mut response = line(&Member::from(added.member.unwrap_or_default()));
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

async fn change(api: &Api, caller: &Caller, head: &Parts, rest: &str, posted: Posted) -> Answered {
    if rest.is_empty() {
        return Err(Refusal::Method);
    }
    let unknown = |id: &str| told(StatusCode::NOT_FOUND, format!("No such member: {id}"));
    let digits = rest.bytes().all(|byte| byte.is_ascii_hexdigit());
    let Some(id) = digits.then(|| u64::from_str_radix(rest, 16).ok()).flatten() else {
        return Err(unknown(rest));
    };
    let shown = format!("{id:x}");
    let changed = if head.method == Method::DELETE {
        if v2::was_removed(api, id) {
            return Err(told(StatusCode::GONE, format!("Member permanently removed: {shown}")));
        }
        cluster::member_remove(api, caller, pb::MemberRemoveRequest { id }).await.map(drop)
    } else {
        let request = pb::MemberUpdateRequest { id, peer_ur_ls: peer_urls(head, posted)? };
        cluster::member_update(api, caller, request).await.map(drop)
    };
    changed.map_err(|error| changed_not(&error, || unknown(&shown)))?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

fn changed_not(error: &Error, unknown: impl FnOnce() -> Refusal) -> Refusal {
    match error {
        Error::Apply(state::Error::MemberNotFound) => unknown(),
        Error::Apply(state::Error::MemberExists) => told(StatusCode::CONFLICT, "membership: ID exists"),
        Error::Apply(state::Error::PeerUrlExists) => told(StatusCode::CONFLICT, "membership: peerURL exists"),
        error => {
            tracing::warn!("internal-server-error" = %error.grpc().1, "v2 response error");
            told(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
        }
    }
}

fn peer_urls(head: &Parts, posted: Posted) -> Result<Vec<String>, Refusal> {
    let given = head.headers.get(CONTENT_TYPE).and_then(|media| media.to_str().ok()).unwrap_or("");
    let media = match given.split_once(';') {
        Some((media, _)) => media.trim().to_ascii_lowercase(),
        None => given.to_owned(),
    };
    if media != "application/json" {
        let text = format!("Bad Content-Type {media}, accept application/json");
        return Err(told(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let bad = |text: String| told(StatusCode::BAD_REQUEST, text);
    let body = posted.map_err(|_| bad("http: request body too large".into()))?;
    let asked: Asked = serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))?;
    let urls = asked.peer_urls.unwrap_or_default();
    if urls.is_empty() {
        return Err(bad("no valid URLs given".into()));
    }
    for url in &urls {
        Url::parse(url).map_err(bad)?;
    }
    Ok(urls)
}

/// As Go's encoder writes it.
fn line(message: &impl Serialize) -> Response<Bytes> {
    let mut body = serde_json::to_vec(message).expect("texts");
    body.push(b'\n');
    ok(JSON, body)
}

/// As Go's `httptypes.HTTPError` is written.
pub(super) fn refused(status: StatusCode, message: impl Into<String>) -> Response<Bytes> {
    let body = serde_json::to_vec(&Message { message: message.into() }).expect("a text");
    let mut response = ok(JSON, body);
    *response.status_mut() = status;
    response
}
