//! The v2 API in etcd's form: `/v2/keys`, `/v2/members`, `/v2/machines` and `/v2/stats` on client listeners, where `--enable-v2` is on.
//!
//! Facts about forms, headers and texts are etcd's (`server/etcdserver/api/v2http` of v3.4, `net/http` of Go).

mod form;
mod json;
mod keys;
mod members;
mod stats;
#[cfg(test)]
mod tests;
mod time;

use std::{cell::RefCell, rc::Rc};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, LOCATION},
    request::Parts,
};

use super::{Answer, Endpoints, Posted, answered, not_found, refusal};
use crate::{
    service::{Api, Connection, v2},
    state::v2::Event,
};

const KEYS: &str = "/v2/keys";
const MEMBERS: &str = "/v2/members";
const STATS: &str = "/v2/stats";
const MACHINES: &[u8] = b"/v2/machines";
const CLUSTER_ID: &str = "x-etcd-cluster-id";
const FORM: &[u8] = b"application/x-www-form-urlencoded";

/// The event that was told last, as it was told: whoever waited for it is told the same bytes.
#[derive(Clone, Default)]
pub(super) struct Told(Rc<RefCell<Option<Written>>>);

type Written = (Rc<Event>, Bytes);

impl Told {
    fn bytes(&self, event: &Rc<Event>) -> Bytes {
        let mut told = self.0.borrow_mut();
        match &*told {
            Some((known, bytes)) if Rc::ptr_eq(known, event) => bytes.clone(),
            _ => {
                let bytes = json::event(event);
                *told = Some((event.clone(), bytes.clone()));
                bytes
            }
        }
    }
}

/// Whether the path is one of the API's.
pub(super) fn is_of(head: &Parts) -> bool {
    head.uri.path().as_bytes().windows(3).any(|part| part == b"/v2")
}

/// Whether the answer needs the request's body.
pub(super) fn reads_body(head: &Parts) -> bool {
    let content_type = head.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let media = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let is_form = || media.eq_ignore_ascii_case(FORM) || head.uri.path().starts_with(MEMBERS);
    is_of(head) && matches!(head.method, Method::PUT | Method::POST) && is_form()
}

pub(super) async fn endpoint(
    endpoints: &Endpoints,
    connection: &Rc<Connection>,
    head: &Parts,
    posted: Posted,
) -> Answer {
    let api = endpoints.api();
    let Some(path) = form::path(head.uri.path()) else {
        return answered(refusal(StatusCode::BAD_REQUEST, "400 Bad Request"));
    };
    let clean = form::clean(&path);
    if clean != path {
        return answered(moved(head, &clean));
    }
    if let Err(error) = v2::ready(api, &connection.stopping).await {
        return answered(keys::failed(&error));
    }
    let below = |prefix: &str| {
        path.strip_prefix(prefix.as_bytes()).filter(|rest| matches!(rest.first(), None | Some(b'/')))
    };
    if let Some(key) = below(KEYS) {
        keys::endpoint(endpoints, connection, head, key, posted).await
    } else if let Some(rest) = below(MEMBERS) {
        answered(members::endpoint(api, connection, head, rest, posted).await)
    } else if let Some(rest) = below(STATS) {
        answered(stats::endpoint(api, head, rest))
    } else if path == MACHINES {
        answered(members::machines(api, head))
    } else {
        answered(not_found())
    }
}

fn cluster_id(api: &Api) -> HeaderValue {
    HeaderValue::from_str(&format!("{:x}", v2::cluster_id(api))).expect("digits")
}

/// The answer to another method than these.
fn only(method: &Method, allowed: &[Method]) -> Option<Response<Bytes>> {
    if allowed.contains(method) {
        return None;
    }
    let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    let allowed = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(",");
    response.headers_mut().insert(ALLOW, HeaderValue::from_str(&allowed).expect("words"));
    Some(response)
}

/// Where the same is found by its clean path, as Go's `ServeMux` says it.
fn moved(head: &Parts, path: &[u8]) -> Response<Bytes> {
    let mut target = form::escape(path);
    if let Some(query) = head.uri.query() {
        target = format!("{target}?{query}");
    }
    let body = match head.method {
        Method::GET => format!("<a href=\"{}\">Moved Permanently</a>.\n\n", target.replace('&', "&amp;")),
        _ => String::new(),
    };
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let headers: &mut HeaderMap = response.headers_mut();
    if let Ok(target) = HeaderValue::from_str(&target) {
        headers.insert(LOCATION, target);
    }
    if matches!(head.method, Method::GET | Method::HEAD) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    }
    response
}
