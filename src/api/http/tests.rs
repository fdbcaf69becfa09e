use std::rc::Rc;

use futures_lite::future::block_on;

use super::*;
use crate::{
    api::{Options, fake::Fake},
    metrics::{self, Metrics},
    pb::etcdserverpb as pb,
    shard,
};

fn api(fake: &Fake) -> Api<Fake> {
    let metrics = Metrics::new(&metrics::Options::default()).expect("names are distinct");
    Api::new(fake.clone(), Rc::new(metrics), Options::default())
}

fn ask(api: &Api<Fake>, surface: Surface, method: &str, target: &str) -> Response {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    block_on(api.http(surface, Request { method, path, query }))
}

/// Code, content type and body of a GET on a client listener.
fn get(api: &Api<Fake>, target: &str) -> (u16, Option<&'static str>, String) {
    let response = ask(api, Surface::Client, "GET", target);
    let body = String::from_utf8(response.body.clone()).expect("text");
    (response.status, header(&response, "content-type"), body)
}

fn header(response: &Response, name: &str) -> Option<&'static str> {
    response.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

/// Answers of upstream 3.7.1 to the same requests.
#[test]
fn a_healthy_member() {
    let api = api(&Fake::new());
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
        assert_eq!(get(&api, target), (200, Some(content_type), body.to_owned()), "{target}");
    }
    assert_eq!(api.metrics().health_success.get(), 3);
}

#[test]
fn unknown_paths() {
    let api = api(&Fake::new());
    for target in ["/", "/foo", "/readyz/foo", "/livez/non_learner", "/livezz", "/health/", "/v3/kv"] {
        assert_eq!(get(&api, target), (404, Some(PLAIN), "404 page not found\n".to_owned()), "{target}");
    }
}

#[test]
fn without_a_leader_only_local_checks_pass() {
    let fake = Fake::new();
    fake.lose_leader();
    let api = api(&fake);
    let body = "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n".to_owned();
    assert_eq!(get(&api, "/health"), (503, Some(PLAIN), body));
    assert_eq!(get(&api, "/health?serializable=true").0, 200);
    assert_eq!((api.metrics().health_failures.get(), api.metrics().health_success.get()), (1, 1));
}

/// Answers of upstream 3.7.1 with the same alarms on.
#[test]
fn alarms_are_named_until_excluded() {
    let fake = Fake::new();
    let api = api(&fake);
    let alarm = |alarm| pb::AlarmMember { member_id: 7, alarm };
    let sick = |reason| (503, Some(PLAIN), format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n"));
    fake.raise(&[alarm(1)]);
    assert_eq!(get(&api, "/health"), sick("ALARM NOSPACE"));
    assert_eq!(get(&api, "/health?exclude=CORRUPT"), sick("ALARM NOSPACE"));
    assert_eq!(get(&api, "/health?exclude=NOSPACE").0, 200);
    assert_eq!(get(&api, "/readyz").0, 200, "a full member serves");
    fake.raise(&[alarm(1), alarm(2), alarm(7)]);
    assert_eq!(get(&api, "/health?exclude=NOSPACE"), sick("ALARM CORRUPT"));
    assert_eq!(get(&api, "/health?exclude=NOSPACE&exclude=CORRUPT"), sick("ALARM UNKNOWN"));
    let body = "[-]data_corruption failed: alarm activated: CORRUPT\n\n".to_owned();
    assert_eq!(get(&api, "/readyz/data_corruption"), (503, Some(PLAIN), body));
    assert_eq!(get(&api, "/readyz?exclude=data_corruption").0, 200);
    assert_eq!(get(&api, "/livez").0, 200);
    let scrape = |api| get(api, "/metrics").2;
    assert!(scrape(&api).contains(r#"etcd_debugging_server_alarms{alarm_type="CORRUPT",server_id="7"} 1"#));
    fake.raise(&[]);
    assert!(!scrape(&api).contains("etcd_debugging_server_alarms{"));
}

#[test]
fn a_failing_read_is_named() {
    let fake = Fake::new();
    fake.fail(shard::Error::Timeout);
    let api = api(&fake);
    let body = "{\"health\":\"false\",\"reason\":\"RANGE ERROR:etcdserver: request timed out\"}\n".to_owned();
    assert_eq!(get(&api, "/health"), (503, Some(PLAIN), body));
    let body = "[-]serializable_read failed: etcdserver: request timed out\n\n".to_owned();
    assert_eq!(get(&api, "/livez"), (503, Some(PLAIN), body));
    assert_eq!(get(&api, "/livez?exclude=serializable_read").0, 200);
    assert_eq!(get(&api, "/readyz").0, 503);
    assert_eq!(get(&api, "/readyz/non_learner").0, 200);
}

#[test]
fn only_get_is_allowed() {
    let api = api(&Fake::new());
    for target in ["/health", "/livez", "/readyz/non_learner", "/version"] {
        let response = ask(&api, Surface::Client, "POST", target);
        assert_eq!((response.status, header(&response, "allow")), (405, Some("GET")), "{target}");
        assert_eq!(response.body, b"Method Not Allowed\n");
    }
}

#[test]
fn a_client_listener_answers_preflights() {
    let api = api(&Fake::new());
    let response = ask(&api, Surface::Client, "OPTIONS", "/health");
    assert_eq!((response.status, response.body.len()), (200, 0));
    assert_eq!(header(&response, "access-control-allow-origin"), Some("*"));
    assert_eq!(header(&ask(&api, Surface::Metrics, "GET", "/health"), "access-control-allow-origin"), None);
}

#[test]
fn a_metrics_listener_has_metrics_and_health_only() {
    let api = api(&Fake::new());
    assert_eq!(ask(&api, Surface::Metrics, "GET", "/version").status, 404);
    assert_eq!(ask(&api, Surface::Metrics, "GET", "/health").status, 200);
    assert_eq!(ask(&api, Surface::Metrics, "GET", "/metrics").status, 200);
}

#[test]
fn a_scrape_sees_the_shards_state() {
    let api = api(&Fake::new());
    let (status, content_type, text) = get(&api, "/metrics");
    assert_eq!((status, content_type), (200, Some("text/plain; version=0.0.4; charset=utf-8")));
    for line in [
        "etcd_server_has_leader 1",
        "etcd_server_is_leader 1",
        "etcd_server_is_learner 0",
        "etcd_server_proposals_committed_total 11",
        "etcd_server_proposals_applied_total 10",
        "etcd_server_proposals_pending 3",
        "etcd_server_quota_backend_bytes 2147483648",
        "etcd_debugging_mvcc_keys_total 0",
        "etcd_debugging_mvcc_current_revision 1",
        "etcd_debugging_mvcc_compact_revision -1",
        "etcd_mvcc_db_total_size_in_bytes 20480",
        "etcd_mvcc_db_total_size_in_use_in_bytes 16384",
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
