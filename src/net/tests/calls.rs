//! What a call asks for beside its message, and what is said of it: deadlines, a leader, lines about slow ones, and very
//! many calls of one connection. On simulated sockets.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use h2::client;
use prost::Message;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, SubscriberExt};

use crate::{
    env::{
        Env,
        sim::{Sim, SimStream},
    },
    net::{Listening, NetConfig, serve},
    pb::{etcdserverpb as pb, grpc_health::HealthCheckRequest},
    protocol::{Offer, Routes},
    service::{
        Api, Error, Method, Options, Patience,
        slow::{Answered, Excerpt, Measured},
        tests::member::{TestMember, caller},
    },
    types::MemberId,
};

const CLIENT: MemberId = MemberId(0x700);
const PORT: u16 = 2379;

struct Client {
    sim: Sim,
    api: Api,
    sender: client::SendRequest<Bytes>,
}

/// Runs a client of a member.
fn with_client<T: 'static>(member: TestMember, client: impl AsyncFnOnce(Client) -> T + 'static) -> T {
    let listening = vec![Listening { listener: member.env.listen(PORT), offer: Offer::CLIENT }];
    let (env, routes) = (member.env.clone(), Routes::new(&member.env, member.api.clone()));
    member.env.spawn(async move {
        serve(&env, listening, routes, NetConfig::default(), std::future::pending()).await;
    });
    let (sim, api, to) = (member.sim.clone(), member.api.clone(), member.env.address(PORT));
    member.run(async move {
        let socket = sim.connect(CLIENT, to).await.expect("the server listens");
        let mut settings = client::Builder::new();
        settings.initial_max_send_streams(1);
        let (sender, connection) = settings.handshake(SimStream(socket)).await.expect("speaks HTTP/2");
        sim.spawn(CLIENT, async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection ended");
            }
        });
        client(Client { sim, api, sender: sender.ready().await.expect("room for a stream") }).await
    })
}

fn framed(message: &impl Message) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend((message.encoded_len() as u32).to_be_bytes());
    message.encode(&mut bytes).expect("room enough");
    bytes.into()
}

impl Client {
    async fn begin(
        &mut self,
        path: &str,
        headers: &[(&'static str, &'static str)],
        bytes: Bytes,
        ends: bool,
    ) -> (client::ResponseFuture, h2::SendStream<Bytes>) {
        let mut request =
            http::Request::post(format!("http://x/{path}")).header("content-type", "application/grpc");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut sender = self.sender.clone().ready().await.expect("room for a stream");
        let (response, mut body) =
            sender.send_request(request.body(()).expect("a request"), false).expect("sent");
        body.send_data(bytes, ends).expect("sent");
        (response, body)
    }
}

/// Code and text.
async fn end(response: client::ResponseFuture) -> (String, String) {
    let (head, mut body) = response.await.expect("answered").into_parts();
    while let Some(data) = body.data().await {
        let data = data.expect("not cut off");
        body.flow_control().release_capacity(data.len()).expect("as much as came");
    }
    let trailers = body.trailers().await.expect("not cut off").unwrap_or(head.headers);
    let text = |name| trailers.get(name).map_or("", |value| value.to_str().expect("ascii")).to_owned();
    (text("grpc-status"), text("grpc-message").replace("%20", " "))
}

fn is(ended: (String, String), code: &str, text: &str) {
    assert_eq!((ended.0.as_str(), ended.1.as_str()), (code, text));
}

fn put(key: &str, len: usize) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: vec![b'v'; len].into(), ..Default::default() }
}

fn serving() -> TestMember {
    TestMember::serving(Options::default())
}

#[test]
fn a_deadline_holds_while_the_message_is_on_its_way() {
    with_client(serving(), async |mut client| {
        let bytes = framed(&put("k", 100));
        for path in ["etcdserverpb.KV/Put", "etcdserverpb.KV/RangeStream"] {
            let part = bytes.slice(..50);
            let (response, _body) = client.begin(path, &[("grpc-timeout", "100m")], part, false).await;
            is(end(response).await, "4", "context deadline exceeded");
        }
    });
}

#[test]
fn a_stream_that_insists_on_a_leader_ends_without_one() {
    with_client(serving(), async |mut client| {
        let watch = framed(&HealthCheckRequest::default());
        let path = "grpc.health.v1.Health/Watch";
        let (insists, _one) = client.begin(path, &[("hasleader", "true")], watch.clone(), true).await;
        let (other, _two) = client.begin(path, &[], watch, true).await;
        client.sim.sleep(Duration::from_millis(10)).await;
        client.api.end_streams_without_leader();
        is(end(insists).await, "14", "etcdserver: no leader");
        let waits = futures_lite::future::poll_once(end(other)).await;
        assert!(waits.is_none(), "who does not ask for one goes on");
    });
}

#[test]
fn one_connection_may_have_very_many_streams() {
    const STREAMS: usize = 4_000;
    with_client(serving(), async |mut client| {
        let watch = framed(&HealthCheckRequest::default());
        let mut streams = Vec::with_capacity(STREAMS);
        for _ in 0..STREAMS {
            let (response, body) =
                client.begin("grpc.health.v1.Health/Watch", &[], watch.clone(), true).await;
            let mut answers = response.await.expect("answered").into_body();
            assert!(answers.data().await.expect("a status").is_ok());
            streams.push((answers, body));
        }
        // Each is open, and calls go on beside them.
        let (answer, _body) = client.begin("etcdserverpb.KV/Put", &[], framed(&put("k", 1)), true).await;
        is(end(answer).await, "0", "");
    });
}

/// Lines as `name=value` in order, the message last.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Lines {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == tracing::Level::WARN {
            let mut line = Line::default();
            event.record(&mut line);
            self.0.lock().expect("nobody panics").push(line.0);
        }
    }
}

#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!("{}={value:?}|", field.name()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push_str(&format!("{}={value}|", field.name()));
    }
}

/// What a member says that has so much patience.
fn lines(patience: Patience, calls: impl AsyncFnOnce(&mut Client) + 'static) -> Vec<String> {
    let lines = Lines::default();
    let subscriber =
        tracing_subscriber::registry().with(lines.clone()).with(tracing::level_filters::LevelFilter::WARN);
    tracing::subscriber::with_default(subscriber, || {
        let member = TestMember::serving(Options { patience, ..Options::default() });
        with_client(member, async |mut client| calls(&mut client).await);
    });
    let lines = lines.0.lock().expect("nobody panics");
    lines.iter().filter(|line| line.contains("too long") || line.contains("request stats")).cloned().collect()
}

async fn puts(client: &mut Client) {
    for (key, len) in [("secret-key", 5), ("k", 1_000), ("", 1)] {
        let (answer, _body) = client.begin("etcdserverpb.KV/Put", &[], framed(&put(key, len)), true).await;
        end(answer).await;
    }
}

/// In a simulated world no time passes within a read.
async fn reads(client: &mut Client) {
    let range = pb::RangeRequest { key: "a".into(), range_end: "z".into(), ..Default::default() };
    let op = pb::RequestOp { request: Some(pb::request_op::Request::RequestRange(range.clone())) };
    let txn = pb::TxnRequest { failure: vec![op], ..Default::default() };
    let list = pb::MemberListRequest::default();
    let answer = pb::RangeResponse { count: 7, kvs: vec![Default::default(); 2], ..Default::default() };
    let shown = pb::ResponseOp { response: Some(pb::response_op::Response::ResponseRange(answer.clone())) };
    let branch = pb::TxnResponse { responses: vec![shown], ..Default::default() };
    let (api, took) = (&client.api, Duration::from_secs(1));
    let tell = |method: &Method, request: &[u8], answer| {
        let mut excerpt = Excerpt::default();
        excerpt.take(request);
        api.tell_of(method, &caller(), Answered { began: took, took, request: &excerpt, answer });
    };
    const KV: &str = "etcdserverpb.KV";
    tell(&Method::read(KV, "Range"), &range.encode_to_vec(), Ok(Measured::of(&answer)));
    tell(&Method::read(KV, "Range"), &range.encode_to_vec(), Err(&Error::Timeout));
    tell(&Method::write(KV, "Txn"), &txn.encode_to_vec(), Ok(Measured::of(&branch)));
    let method = Method::read("etcdserverpb.Cluster", "MemberList");
    tell(&method, &list.encode_to_vec(), Ok(Measured::of(&pb::MemberListResponse::default())));
}

#[test]
fn slow_calls_are_told_of_in_etcds_words_and_without_values() {
    let told = lines(Patience { unary: Duration::ZERO, apply: Duration::ZERO }, puts);
    let start = "message=request stats|start time=1970-";
    let put =
        "|response type=/etcdserverpb.KV/Put|request count=1|request size=19|response count=0|response size=";
    assert!(told[0].starts_with(start) && told[0].contains("|remote=10.0.7.0:"), "{told:#?}");
    assert!(told[0].contains(put), "{told:#?}");
    assert!(told[0].ends_with("|request content=key:\"secret-key\" value_size:5|"), "{told:#?}");
    assert!(told[1].ends_with("|request content=key:\"k\" value_size:1000 ...|"), "{told:#?}");
    assert!(!told.iter().any(|line| line.contains("vvv")), "{told:#?}");
    assert_eq!(lines(Patience::default(), puts), Vec::<String>::new());
}

#[test]
fn a_client_that_is_slow_to_say_what_it_wants_makes_no_call_slow() {
    let told = lines(Patience::default(), async |client: &mut Client| {
        let (bytes, path) = (framed(&put("k", 100)), "etcdserverpb.KV/Put");
        let (response, mut body) = client.begin(path, &[], bytes.slice(..50), false).await;
        client.sim.sleep(Duration::from_secs(1)).await;
        body.send_data(bytes.slice(50..), true).expect("sent");
        is(end(response).await, "0", "");
    });
    assert_eq!(told, Vec::<String>::new());
}

#[test]
fn slow_reads_are_told_of_as_applies_too() {
    let told = lines(Patience::default(), reads);
    let apply = "message=apply request took too long|took=1s|expected-duration=100ms|prefix=";
    let range = "key:\"a\" range_end:\"z\"";
    assert_eq!(
        told[0],
        format!("{apply}read-only range |request={range}|response=range_response_count:2 size:6|")
    );
    let stats = "message=request stats|start time=1970-01-01T00:00:01.000000Z|time spent=1s|remote=No remote client \
                 info.|response type=";
    assert_eq!(
        told[1],
        format!(
            "{stats}/etcdserverpb.KV/Range|request count=0|request size=6|response count=7|response size=6|request \
             content={range}|"
        )
    );
    assert_eq!(
        told[2],
        format!("{apply}read-only range |request={range}|response=|error=etcdserver: request timed out|")
    );
    assert_eq!(
        told[4],
        format!(
            "{apply}read-only txn |request=compare:<> success:<> failure:<request_range:<{range}>>|\
             response=responses:<range_response_count:2> size:10|"
        )
    );
    assert!(
        told[5].contains("/etcdserverpb.KV/Txn|request count=1|request size=8|response count=0|"),
        "{told:#?}"
    );
    let unknown =
        "MemberList|request count=-1|request size=-1|response count=-1|response size=-1|request content=|";
    assert!(told[6].ends_with(unknown), "{told:#?}");
}
