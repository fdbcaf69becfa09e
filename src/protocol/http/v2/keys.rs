//! `/v2/keys`: what a request asks, and the answer's status, headers and body.

use std::rc::Rc;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Method, Response, StatusCode, request::Parts};

use super::{CLUSTER_ID, cluster_id, form::Form, json, only};
use crate::{
    limits,
    protocol::http::{Answer, Content, Endpoints, JSON, Posted, Unread, answered, ok},
    service::{
        Api, Connection, Error,
        v2::{self, Failure, Standing},
    },
    shard::WantedEvents,
    state::{
        self,
        v2::{self as tree, Code, Event, Refused, Write},
    },
};

/// Codes and texts of what is wrong with a request or the group (`v2error`).
type Told = (u16, &'static str);
const PREV_VALUE_REQUIRED: Told = (201, "PrevValue is Required in POST form");
const TTL_NAN: Told = (202, "The given TTL in POST form is not a number");
const INDEX_NAN: Told = (203, "The given index in POST form is not a number");
const INVALID_FIELD: Told = (209, "Invalid field");
const INVALID_FORM: Told = (210, "Invalid POST form");
const REFRESH_VALUE: Told = (211, "Value provided on refresh");
const REFRESH_TTL_REQUIRED: Told = (212, "A TTL must be provided on refresh");
const RAFT_INTERNAL: Told = (300, "Raft Internal Error");

fn told(code: Code) -> Told {
    let text = match code {
        Code::KeyNotFound => "Key not found",
        Code::TestFailed => "Compare failed",
        Code::NotFile => "Not a file",
        Code::NotDir => "Not a directory",
        Code::NodeExists => "Key already exists",
        Code::RootReadOnly => "Root is read only",
        Code::DirNotEmpty => "Directory not empty",
        Code::EventIndexCleared => "The event in requested index is outdated and cleared",
    };
    (code as u16, text)
}

fn status(code: u16) -> StatusCode {
    match code {
        100 => StatusCode::NOT_FOUND,
        101 | 105 => StatusCode::PRECONDITION_FAILED,
        102 | 108 => StatusCode::FORBIDDEN,
        110 => StatusCode::UNAUTHORIZED,
        300 | 301 => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    }
}

pub(super) async fn endpoint(
    endpoints: &Endpoints,
    connection: &Rc<Connection>,
    head: &Parts,
    key: &[u8],
    posted: Posted,
) -> Answer {
    let allowed = [Method::HEAD, Method::GET, Method::PUT, Method::POST, Method::DELETE];
    if let Some(refusal) = only(&head.method, &allowed) {
        return answered(refusal);
    }
    let api = endpoints.api();
    let mut answer = match Asked::of(api, head, key, posted) {
        Ok(asked) => asked.answer(endpoints, connection).await,
        Err((told, cause)) => answered(refused(told, cause.as_bytes(), 0)),
    };
    answer.headers_mut().insert(CLUSTER_ID, cluster_id(api));
    answer
}

enum Asked {
    Write(Write, bool),
    Get { path: Bytes, recursive: bool, quorum: bool },
    Wait(WantedEvents),
}

impl Asked {
    /// What is wrong is told in the order in which etcd looks.
    fn of(api: &Api, head: &Parts, key: &[u8], posted: Posted) -> Result<Self, (Told, String)> {
        let invalid = |text: &str| (INVALID_FORM, text.to_owned());
        let body = posted.map_err(|unread| match unread {
            Unread::TooLong => invalid("http: request body too large"),
            Unread::Cut => invalid("unexpected EOF"),
            Unread::NoRoom => (RAFT_INTERNAL, Error::TooManyRequests.grpc().1.into_owned()),
        })?;
        let form = Form::parse(&body, head.uri.query().unwrap_or("")).map_err(|text| invalid(&text))?;
        let index =
            |name: &str| form.number(name).map_err(|()| (INDEX_NAN, format!("invalid value for \"{name}\"")));
        let prev_index = index("prevIndex")?;
        let from = index("waitIndex")?;
        let named = |name: &str| {
            form.flag(name).map_err(|()| (INVALID_FIELD, format!("invalid value for \"{name}\"")))
        };
        let flag = |name: &str| Ok(named(name)?.unwrap_or(false));
        let recursive = flag("recursive")?;
        flag("sorted")?;
        let wait = flag("wait")?;
        let dir = flag("dir")?;
        let quorum = flag("quorum")?;
        let is_stream = flag("stream")?;
        if wait && head.method != Method::GET {
            return Err((INVALID_FIELD, "\"wait\" can only be used with GET requests".into()));
        }
        let prev_value = form.first("prevValue");
        if prev_value == Some(b"") {
            return Err((PREV_VALUE_REQUIRED, "\"prevValue\" cannot be empty".into()));
        }
        let bare = flag("noValueOnSuccess")?;
        let ttl = match form.first("ttl") {
            None | Some(b"") => None,
            Some(_) => {
                Some(form.number("ttl").map_err(|()| (TTL_NAN, "invalid value for \"ttl\"".to_owned()))?)
            }
        };
        let unquoted =
            |name: &str| form.flag(name).map_err(|()| (INVALID_FIELD, format!("invalid value for {name}")));
        let prev_exist = unquoted("prevExist")?;
        let refresh = unquoted("refresh")?.unwrap_or(false);
        if refresh {
            if form.first("value").is_some_and(|value| !value.is_empty()) {
                return Err((REFRESH_VALUE, "A value was provided on a refresh".into()));
            }
            if ttl.is_none() {
                return Err((REFRESH_TTL_REQUIRED, "No TTL value set".into()));
            }
        }
        let path = v2::clean(key);
        if path.len() > limits::V2_PATH_BYTES {
            return Err(invalid("the path is too long"));
        }
        let method = match head.method {
            Method::GET if wait && !quorum => {
                let key = path[..].into();
                return Ok(Self::Wait(WantedEvents { key, recursive, is_stream, from }));
            }
            Method::GET | Method::HEAD => {
                let quorum = quorum && head.method == Method::GET;
                return Ok(Self::Get { path, recursive, quorum });
            }
            Method::POST => tree::Method::CreateInOrder,
            Method::DELETE if prev_index > 0 || prev_value.is_some() => tree::Method::CompareAndDelete,
            Method::DELETE => tree::Method::Delete,
            _ => match prev_exist {
                Some(false) => tree::Method::Create,
                _ if prev_index > 0 || prev_value.is_some() => tree::Method::CompareAndSwap,
                Some(true) => tree::Method::Update,
                None => tree::Method::Set,
            },
        };
        let time = v2::now(api);
        // Go's numbers wrap around, too.
        let expires = ttl.map_or(0, |ttl| time.wrapping_add((ttl as i64).wrapping_mul(1_000_000_000)));
        let copied = |text: Option<&[u8]>| text.map(Bytes::copy_from_slice).unwrap_or_default();
        let write = Write {
            method: method as i32,
            path,
            value: copied(form.first("value")),
            dir,
            recursive,
            prev_value: copied(prev_value),
            prev_index,
            expires,
            refresh,
            time,
        };
        Ok(Self::Write(write, bare))
    }

    async fn answer(self, endpoints: &Endpoints, connection: &Rc<Connection>) -> Answer {
        let (api, client) = (endpoints.api(), &connection.client);
        match self {
            Self::Write(write, bare) => match v2::write(api, client, write).await {
                Ok(event) => answered(written(api, &event, bare)),
                Err(failure) => answered(failure_answer(&failure)),
            },
            Self::Get { path, recursive, quorum } => {
                let mut got = json::Got::new(v2::now(api));
                match v2::get(api, client, &path, (recursive, quorum), &mut got).await {
                    Ok(()) => {
                        let index = got.index;
                        answered(with(v2::standing(api), index, ok(JSON, got.finish())))
                    }
                    Err(failure) => answered(failure_answer(&failure)),
                }
            }
            Self::Wait(wanted) => {
                let is_stream = wanted.is_stream;
                let standing = v2::standing(api);
                let waiting = match v2::wait(api, client, &connection.stopping, wanted) {
                    Ok(waiting) => waiting,
                    Err(failure) => return answered(failure_answer(&failure)),
                };
                let index = waiting.index();
                let told = endpoints.told.clone();
                let following = stream::unfold(Some(waiting), move |waiting| {
                    let told = told.clone();
                    async move {
                        let waiting = waiting?;
                        let event = waiting.next().await?;
                        Some((told.bytes(&event), Some(waiting).filter(|_| is_stream)))
                    }
                });
                let mut response = Response::new(Content::Following(Box::pin(following)));
                response.headers_mut().insert(http::header::CONTENT_TYPE, JSON);
                with(standing, index, response)
            }
        }
    }
}

fn number(number: u64) -> HeaderValue {
    number.into()
}

fn with<T>(standing: Standing, index: u64, mut response: Response<T>) -> Response<T> {
    let headers = response.headers_mut();
    headers.insert("x-etcd-index", number(index));
    headers.insert("x-raft-index", number(standing.raft_index));
    headers.insert("x-raft-term", number(standing.raft_term));
    response
}

fn written(api: &Api, event: &Event, bare: bool) -> Response<Bytes> {
    let may_be_bare = matches!(
        event.action(),
        tree::Action::Set | tree::Action::Create | tree::Action::Update | tree::Action::CompareAndSwap
    );
    let body = if bare && may_be_bare { json::bare(event) } else { json::event(event) };
    let mut response = with(v2::standing(api), event.index(), ok(JSON, body));
    if event.is_created() {
        *response.status_mut() = StatusCode::CREATED;
    }
    response
}

fn refused((code, message): Told, cause: &[u8], index: u64) -> Response<Bytes> {
    let mut response = ok(JSON, json::error(code, message, cause, index));
    *response.status_mut() = status(code);
    response.headers_mut().insert("x-etcd-index", number(index));
    response
}

fn failure_answer(failure: &Failure) -> Response<Bytes> {
    match failure {
        Failure::Refused(Refused { code, cause, index }) => refused(told(*code), cause, *index),
        Failure::Failed(error) => failed(error),
    }
}

/// etcd's answer where its group does not decide. What is too long for the log is so for a form.
pub(super) fn failed(error: &Error) -> Response<Bytes> {
    let told = match error {
        Error::Apply(state::Error::RequestTooLarge) => INVALID_FORM,
        error => {
            tracing::warn!("internal-server-error" = %error.grpc().1, "v2 response error");
            RAFT_INTERNAL
        }
    };
    refused(told, error.grpc().1.as_bytes(), 0)
}
