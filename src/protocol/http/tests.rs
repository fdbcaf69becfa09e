use super::*;
use crate::{
    pb::etcdserverpb as pb,
    service::{Options, maintenance::alarm, tests::member::*},
};

fn healthy() -> TestMember {
    TestMember::serving(Options::default())
}

fn ask(member: &TestMember, surface: Surface, method: &str, target: &str) -> Response<Bytes> {
    let request = http::Request::builder().method(method).uri(target).body("").expect("a request");
    ask_with(member, surface, request)
}

fn ask_with(member: &TestMember, surface: Surface, request: http::Request<&str>) -> Response<Bytes> {
    let (head, body) = request.into_parts();
    let endpoints = Endpoints::new(member.api.clone(), Timers::new(&member.env));
    let asked = body.to_owned();
    member.run(async move {
        let connection = Rc::default();
        let answer = answer(&endpoints, Some(surface), &connection, &head, Ok(asked.into())).await;
        answer.map(|content| match content {
            Content::Whole(body) => body,
            Content::Following(_) => panic!("it has no end"),
        })
    })
}

/// Code, content type and body of a GET on a client listener.
fn get(member: &TestMember, target: &str) -> (u16, Option<HeaderValue>, String) {
    let response = ask(member, Surface::Client, "GET", target);
    let body = String::from_utf8(response.body().to_vec()).expect("text");
    (response.status().as_u16(), response.headers().get(CONTENT_TYPE).cloned(), body)
}

fn header<'a>(response: &'a Response<Bytes>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().expect("ascii"))
}

/// Turns alarms of member 7 on or off.
fn turn(member: &TestMember, on: bool, kinds: &[i32]) {
    for &kind in kinds {
        let action = if on { 1 } else { 2 };
        let (api, request) = (member.api.clone(), pb::AlarmRequest { action, member_id: 7, alarm: kind });
        member.run(async move { alarm(&api, &caller(), request).await }).expect("done");
    }
}

/// Answers of upstream 3.7.1 to the same requests.
#[test]
fn a_healthy_member() {
    let member = healthy();
    for (target, content_type, body) in [
        ("/health", PLAIN, r#"{"health":"true","reason":""}"#),
        ("/health?serializable=true", PLAIN, r#"{"health":"true","reason":""}"#),
        ("/health?exclude=NOSPACE", PLAIN, r#"{"health":"true","reason":""}"#),
        ("/livez", PLAIN, "ok\n"),
        ("/livez?verbose", PLAIN, "[+]serializable_read ok\nok\n"),
        ("/livez/serializable_read", PLAIN, "ok\n"),
        ("/readyz", PLAIN, "ok\n"),
        ("/readyz/non_learner?verbose", PLAIN, "[+]non_learner ok\nok\n"),
        (
            "/readyz?verbose&exclude=linearizable_read&exclude=non_learner",
            PLAIN,
            "[+]data_corruption ok\n[+]serializable_read ok\nok\n",
        ),
        ("/version", JSON, r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}"#),
    ] {
        assert_eq!(get(&member, target), (200, Some(content_type), body.to_owned()), "{target}");
    }
    assert_eq!(member.api.metrics().health_success.get(), 3);
}

#[test]
fn unknown_paths() {
    let member = healthy();
    for target in ["/", "/foo", "/readyz/foo", "/livez/non_learner", "/livezz", "/health/", "/v3/kv"] {
        assert_eq!(get(&member, target), (404, Some(PLAIN), "404 page not found\n".to_owned()), "{target}");
    }
}

#[test]
fn without_a_leader_only_local_checks_pass() {
    let member = TestMember::alone();
    let body = "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n".to_owned();
    assert_eq!(get(&member, "/health"), (503, Some(PLAIN), body));
    assert_eq!(get(&member, "/health?serializable=true").0, 200);
    assert_eq!(
        (member.api.metrics().health_failures.get(), member.api.metrics().health_success.get()),
        (1, 1)
    );
}

/// Answers of upstream 3.7.1 with the same alarms on.
#[test]
fn alarms_are_named_until_excluded() {
    let member = healthy();
    let sick = |reason| (503, Some(PLAIN), format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n"));
    turn(&member, true, &[1]);
    assert_eq!(get(&member, "/health"), sick("ALARM NOSPACE"));
    assert_eq!(get(&member, "/health?exclude=CORRUPT"), sick("ALARM NOSPACE"));
    assert_eq!(get(&member, "/health?exclude=NOSPACE").0, 200);
    assert_eq!(get(&member, "/readyz").0, 200, "a full member serves");
    turn(&member, true, &[2, 7]);
    assert_eq!(get(&member, "/health?exclude=NOSPACE"), sick("ALARM CORRUPT"));
    assert_eq!(get(&member, "/health?exclude=NOSPACE&exclude=CORRUPT"), sick("ALARM UNKNOWN"));
    let body = "[-]data_corruption failed: alarm activated: CORRUPT\n\n".to_owned();
    assert_eq!(get(&member, "/readyz/data_corruption"), (503, Some(PLAIN), body));
    assert_eq!(get(&member, "/readyz?exclude=data_corruption").0, 200);
    assert_eq!(get(&member, "/livez").0, 200);
    let scrape = || get(&member, "/metrics").2;
    assert!(scrape().contains(r#"etcd_debugging_server_alarms{alarm_type="CORRUPT",server_id="7"} 1"#));
    turn(&member, false, &[1, 2, 7]);
    assert!(!scrape().contains("etcd_debugging_server_alarms{"));
}

#[test]
fn a_failing_read_is_named() {
    let member = healthy();
    member.shard.stop();
    let body = "{\"health\":\"false\",\"reason\":\"RANGE ERROR:etcdserver: server stopped\"}\n".to_owned();
    assert_eq!(get(&member, "/health"), (503, Some(PLAIN), body));
    let body = "[-]linearizable_read failed: etcdserver: server stopped\n\n".to_owned();
    assert_eq!(get(&member, "/readyz/linearizable_read"), (503, Some(PLAIN), body));
    assert_eq!(get(&member, "/readyz?exclude=linearizable_read").0, 200);
    assert_eq!(get(&member, "/readyz").0, 503);
    assert_eq!(get(&member, "/readyz/non_learner").0, 200);
    assert_eq!(get(&member, "/livez").0, 200, "reads what is here");
}

#[test]
fn only_get_is_allowed() {
    let member = healthy();
    for target in ["/health", "/livez", "/readyz/non_learner", "/version"] {
        let response = ask(&member, Surface::Client, "POST", target);
        assert_eq!((response.status().as_u16(), header(&response, "allow")), (405, Some("GET")), "{target}");
        assert_eq!(response.body(), "Method Not Allowed\n");
    }
}

#[test]
fn a_client_listener_answers_preflights() {
    let member = healthy();
    let response = ask(&member, Surface::Client, "OPTIONS", "/health");
    assert_eq!((response.status().as_u16(), response.body().len()), (200, 0));
    assert_eq!(header(&response, "access-control-allow-origin"), Some("*"));
    assert_eq!(
        header(&ask(&member, Surface::Metrics, "GET", "/health"), "access-control-allow-origin"),
        None
    );
}

#[test]
fn a_metrics_listener_has_metrics_and_health_only() {
    let member = healthy();
    assert_eq!(ask(&member, Surface::Metrics, "GET", "/version").status(), 404);
    assert_eq!(ask(&member, Surface::Metrics, "GET", "/health").status(), 200);
    assert_eq!(ask(&member, Surface::Metrics, "GET", "/metrics").status(), 200);
}

#[test]
fn a_scrape_sees_the_shards_state() {
    let member = healthy();
    let (status, content_type, text) = get(&member, "/metrics");
    assert_eq!(
        (status, content_type.expect("has one")),
        (200, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"))
    );
    for line in [
        "etcd_server_has_leader 1",
        "etcd_server_is_leader 1",
        "etcd_server_is_learner 0",
        "etcd_server_proposals_pending 0",
        "etcd_server_quota_backend_bytes 2147483648",
        "etcd_debugging_mvcc_keys_total 0",
        "etcd_debugging_mvcc_current_revision 1",
        "etcd_debugging_mvcc_compact_revision -1",
        "etcd_mvcc_db_total_size_in_bytes 4096",
        "etcd_mvcc_db_total_size_in_use_in_bytes 4096",
        &format!("etcd_server_proposals_committed_total {}", member.applied()),
        &format!("etcd_server_proposals_applied_total {}", member.applied()),
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line} missing in\n{text}");
    }
}

#[test]
fn queries_are_decoded() {
    let query = Query::parse("a=1&b=%4eO+X&c&a=2&=&bad=%zz%");
    assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(query.first("b"), Some("NO X"));
    assert!(query.has("c") && !query.has("d"));
    assert_eq!(query.first("bad"), Some("%zz%"));
}

/// Answers of upstream 3.7.1 to the same requests.
#[test]
fn other_members_are_told_what_they_ask() {
    let member = healthy();
    let peer = |method: &str, target: &str, cluster: &str, body: &'static str| {
        let request = http::Request::builder().method(method).uri(target);
        let request = match cluster {
            "" => request,
            id => request.header("X-Etcd-Cluster-ID", id),
        };
        let response = ask_with(&member, Surface::Peer, request.body(body).expect("a request"));
        let text = String::from_utf8(response.body().to_vec()).expect("text");
        (response.status().as_u16(), header(&response, "x-etcd-cluster-id").map(str::to_owned), text)
    };
    let own = format!("{:x}", CLUSTER.0);
    let told = |code: u16, text: &str| (code, Some(own.clone()), text.to_owned());
    let plain = |code: u16, text: &str| (code, None, text.to_owned());

    let (code, id, members) = peer("GET", "/members", "", "");
    assert_eq!((code, id), (200, Some(own.clone())));
    assert!(members.starts_with(&format!("[{{\"id\":{},\"peerURLs\":[", MEMBER.0)), "{members}");
    assert_eq!(peer("POST", "/members", "", ""), plain(405, "Method Not Allowed\n"));
    assert_eq!(peer("GET", "/downgrade/enabled", "", ""), told(200, "false"));
    assert_eq!(peer("GET", "/version", "", "").0, 200);
    for path in ["/", "/metrics", "/health", "/members/", "/members/x"] {
        assert_eq!(peer("GET", path, "", ""), plain(404, "404 page not found\n"), "{path}");
    }

    assert_eq!(peer("GET", "/members/promote/1", "", ""), plain(405, "Method Not Allowed\n"));
    assert_eq!(peer("POST", "/members/promote/x", "", ""), told(404, "member x not found in cluster\n"));
    assert_eq!(peer("POST", "/members/promote/99", "", ""), told(404, "membership: ID not found\n"));
    let target = format!("/members/promote/{}", MEMBER.0);
    let voter = "membership: can only promote a learner member\n";
    assert_eq!(peer("POST", &target, "", ""), told(412, voter));

    let (code, id, hash) = peer("GET", "/members/hashkv", &own, "{}");
    assert_eq!((code, id), (200, Some(own.clone())));
    assert!(hash.starts_with("{\"header\":{\"revision\":1},\"hash\":"), "{hash}");
    assert_eq!(peer("GET", "/members/hashkv", "1", "{}"), plain(412, "cluster ID mismatch\n"));
    assert_eq!(peer("GET", "/members/hashkv", "", ""), plain(400, "error unmarshalling request\n"));
    let future = "mvcc: required revision is a future revision\n";
    assert_eq!(peer("GET", "/members/hashkv", "", "{\"revision\":9}"), plain(400, future));

    let stream = "/raft/stream/msgappv2/1";
    assert_eq!(peer("GET", stream, &own, ""), told(412, "incompatible version\n"));
    assert_eq!(peer("GET", stream, "1", ""), told(412, "cluster ID mismatch\n"));
}
