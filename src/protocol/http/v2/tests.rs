//! What does not need another server beside it: bounds, and the end of waiting.

use std::rc::Rc;

use bytes::Bytes;
use futures_util::StreamExt;
use http::Response;

use crate::{
    protocol::{
        http::{Answer, Content, Endpoints, Posted, Surface, Unread, answer},
        timers::Timers,
    },
    service::{Connection, Options, tests::member::TestMember},
    state::{
        Principal,
        v2::{Method, Write},
    },
};

fn member() -> TestMember {
    TestMember::serving(Options { enable_v2: true, ..Options::default() })
}

async fn ask(endpoints: &Endpoints, connection: &Rc<Connection>, call: &str, posted: Posted) -> Answer {
    let (method, target) = call.split_once(' ').expect("a method and a target");
    let request = http::Request::builder().method(method).uri(target).body(()).expect("a request");
    let (head, ()) = request.into_parts();
    answer(endpoints, Some(Surface::Client), connection, &head, posted).await
}

fn endpoints(member: &TestMember) -> Endpoints {
    Endpoints::new(member.api.clone(), Timers::new(&member.env))
}

fn whole(answer: Answer) -> (u16, String) {
    let status = answer.status().as_u16();
    let Content::Whole(body) = answer.into_body() else { panic!("it has no end") };
    (status, String::from_utf8(body.to_vec()).expect("text"))
}

fn once(member: &TestMember, call: &'static str, posted: Posted) -> (u16, String) {
    let endpoints = endpoints(member);
    member.run(async move { whole(ask(&endpoints, &Rc::default(), call, posted).await) })
}

/// A public report: a PUT that was cut off wiped the value.
#[test]
fn a_body_that_is_not_whole_changes_nothing() {
    let member = member();
    let put = "PUT /v2/keys/a";
    assert_eq!(once(&member, put, Ok("value=x".into())).0, 201);
    for (unread, told) in [
        (Unread::Cut, (400, 210, "unexpected EOF")),
        (Unread::TooLong, (400, 210, "http: request body too large")),
        (Unread::NoRoom, (500, 300, "etcdserver: too many requests")),
    ] {
        let (status, code, cause) = told;
        let (answered, body) = once(&member, put, Err(unread));
        assert_eq!(answered, status);
        assert!(body.starts_with(&format!("{{\"errorCode\":{code},")), "{body}");
        assert!(body.contains(&format!("\"cause\":\"{cause}\"")), "{body}");
    }
    let long = format!("value={}", "x".repeat(2 * 1024 * 1024));
    let (status, body) = once(&member, put, Ok(long.into()));
    assert!(status == 400 && body.contains("etcdserver: request is too large"), "{status} {body}");
    let deep: &str = Box::leak(format!("GET /v2/keys{}", "/a".repeat(3_000)).into_boxed_str());
    let (status, body) = once(&member, deep, Ok(Bytes::new()));
    assert!(status == 400 && body.contains("the path is too long"), "{status} {body}");
    assert!(once(&member, "GET /v2/keys/a", Ok(Bytes::new())).1.contains("\"value\":\"x\""));
}

#[test]
fn a_large_directory_is_listed_as_a_whole() {
    const NODES: usize = 5_000;
    let member = member();
    let shard = member.shard.clone();
    member.run(async move {
        for at in 0..NODES {
            let path = format!("/d/{}/{at:05}", at % 3).into_bytes();
            let write = Write { method: Method::Set as i32, path: path.into(), ..Write::default() };
            shard.write(&Principal::default(), write).await.expect("applied").expect("set");
        }
    });
    let (status, body) = once(&member, "GET /v2/keys/d?recursive=true", Ok(Bytes::new()));
    assert_eq!(status, 200);
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let directories = body["node"]["nodes"].as_array().expect("a list");
    let keys = directories.iter().flat_map(|directory| directory["nodes"].as_array().expect("a list"));
    assert_eq!((directories.len(), keys.count()), (3, NODES));
}

#[test]
fn who_waits_is_told_the_same_bytes_and_leaves_with_the_member() {
    let member = member();
    let endpoints = endpoints(&member);
    member.run(async move {
        let connection: Rc<Connection> = Rc::default();
        let wait = async || {
            let call = "GET /v2/keys/a?wait=true&stream=true";
            let answer: Response<Content> = ask(&endpoints, &connection, call, Ok(Bytes::new())).await;
            assert_eq!(answer.headers()["x-etcd-index"], "3");
            let Content::Following(pieces) = answer.into_body() else { panic!("it waits") };
            pieces
        };
        let (mut one, mut other) = (wait().await, wait().await);
        let set = ask(&endpoints, &connection, "PUT /v2/keys/a", Ok("value=x".into())).await;
        let (_, set) = whole(set);
        let (told, same) = (one.next().await.expect("told"), other.next().await.expect("told"));
        assert_eq!(told, set);
        assert_eq!(told.as_ptr(), same.as_ptr(), "made once");
        connection.stopping.give();
        assert_eq!((one.next().await, other.next().await), (None, None));
    });
}
