//! The whole protocol stack, on a real executor with real sockets and disks or on simulated ones.

mod calls;
mod clients;
mod conduct;
mod http2;
mod peers;
mod streams;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bench_harness::pb::etcdserverpb::{
    self as pb, cluster_client::ClusterClient, kv_client::KvClient, maintenance_client::MaintenanceClient,
};
use prost::Message;
use tonic::{
    Code, Request, Status,
    codec::CompressionEncoding,
    transport::{Channel, Endpoint},
};

use super::{Listening, NetConfig, serve};
use crate::{
    env::{
        Env,
        real::{Bound, Reuse, run_anywhere},
        spawn_joined,
    },
    limits,
    protocol::{Offer, Routes},
    service::{
        Api, Options,
        tests::member::{CLUSTER, MEMBER, founders, metrics, open},
    },
    shard::Shard,
    types::Keyspace,
};

/// A server on its own thread, stopped and joined when dropped.
struct Served {
    client: SocketAddr,
    metrics: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    fn start() -> Self {
        Self::start_with(NetConfig::default())
    }

    fn start_with(config: NetConfig) -> Self {
        Self::launch(config, true, |_| {})
    }

    /// With a shard whose loop does not run: it has no leader, and answers nothing that would need one.
    fn still() -> Self {
        Self::launch(NetConfig::default(), false, |_| {})
    }

    fn launch(config: NetConfig, runs: bool, prepare: impl FnOnce(&Shard) + Send + 'static) -> Self {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let bind = || Bound::bind(loopback, Reuse::default()).expect("a free port");
        let sockets = [(bind(), Offer::CLIENT), (bind(), Offer::METRICS)];
        let address = |at: usize| sockets[at].0.address().expect("bound");
        let (client, metrics_address) = (address(0), address(1));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let (serves, serving) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let base = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tmp");
            std::fs::create_dir_all(&base).expect("the build directory is writable");
            let dir = tempfile::tempdir_in(base).expect("the build directory is writable");
            let served = run_anywhere(async |env| {
                let (started, _locked) = open(&env, dir.path(), founders(1)).await;
                let shard = started.shard;
                // Kept either way: without it the shard counts as stopped.
                let (mut still, mut looping) = (Some(started.run), None);
                if runs {
                    looping = still.take().map(|run| spawn_joined(&env, run.run()));
                    while !shard.can_read() {
                        env.sleep(Duration::from_millis(1)).await;
                    }
                }
                prepare(&shard);
                serves.send(()).expect("somebody waits for it");
                let api = Api::new(&env, Keyspace::default(), shard.clone(), metrics(), Options::default());
                let stop = async {
                    while !stopped.load(Ordering::Relaxed) {
                        env.sleep(Duration::from_millis(2)).await;
                    }
                };
                let listening = sockets.map(|(socket, offer)| Listening { listener: socket.listen(), offer });
                serve(&env, listening.into(), Routes::new(&env, api), config, stop).await;
                shard.stop();
                if let Some(looping) = looping {
                    looping.await.expect("nothing is wrong with the disk");
                }
                drop(still);
            });
            served.expect("an executor");
        });
        serving.recv().expect("the server starts");
        Self { client, metrics: metrics_address, stop, thread: Some(thread) }
    }

    async fn connect(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.client))
            .expect("an address")
            .connect()
            .await
            .expect("the server listens")
    }

    fn signal_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server does not panic");
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.signal_stop();
        if !std::thread::panicking() {
            self.join();
        }
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(30), test).await.expect("the test ends");
    });
}

fn put(key: &str, value_len: usize) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: vec![b'v'; value_len].into(), ..Default::default() }
}

/// Head and body of an HTTP/1.1 answer.
fn http1(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered and closed");
    answer
}

fn get(address: SocketAddr, path: &str) -> String {
    http1(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
}

fn is(status: &Status, code: Code, text: &str) {
    assert_eq!((status.code(), status.message()), (code, text));
}

#[test]
fn unary_calls_and_streams_are_answered() {
    let served = Served::start();
    run(async {
        let channel = served.connect().await;
        let mut kv = KvClient::new(channel.clone());
        for key in ["a", "b", "c"] {
            kv.put(put(key, 300)).await.expect("put");
        }
        let all = pb::RangeRequest { key: "a".into(), range_end: "z".into(), ..Default::default() };
        let range = kv.range(all.clone()).await.expect("range").into_inner();
        assert_eq!((range.count, range.kvs[2].value.len()), (3, 300));
        let header = range.header.expect("has a header");
        assert_eq!((header.cluster_id, header.member_id), (CLUSTER.0, MEMBER.0));
        assert!(header.revision == 4 && header.raft_term > 0);
        let mut chunks = kv.range_stream(all).await.expect("stream").into_inner();
        let mut keys = 0;
        while let Some(chunk) = chunks.message().await.expect("a chunk") {
            keys += chunk.range_response.expect("carries a range").kvs.len();
        }
        assert_eq!(keys, 3);
        let mut cluster = ClusterClient::new(channel.clone());
        let members =
            cluster.member_list(pb::MemberListRequest { linearizable: true }).await.expect("members");
        assert_eq!(members.into_inner().members[0].name, "default");
        let status = MaintenanceClient::new(channel).status(pb::StatusRequest {}).await.expect("status");
        assert_eq!(status.into_inner().version, "3.7.1");
    });
    let metrics = get(served.metrics, "/metrics");
    for (series, value) in [
        (
            "grpc_server_started_total{grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}",
            "3",
        ),
        (
            "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"RangeStream\",\
             grpc_service=\"etcdserverpb.KV\",grpc_type=\"server_stream\"}",
            "1",
        ),
        (
            "grpc_server_msg_sent_total{grpc_method=\"RangeStream\",grpc_service=\"etcdserverpb.KV\",\
             grpc_type=\"server_stream\"}",
            "1",
        ),
    ] {
        assert!(metrics.contains(&format!("{series} {value}\n")), "{series} {value} missing in\n{metrics}");
    }
}

#[test]
fn what_nobody_has_registered_is_unimplemented() {
    let served = Served::start();
    run(async {
        let channel = served.connect().await;
        for (path, text) in [
            ("/etcdserverpb.KV/Nothing", "unknown method Nothing for service etcdserverpb.KV"),
            ("/a.B/C", "unknown service a.B"),
            ("/nothing", "malformed method name: \"/nothing\""),
        ] {
            let mut client = tonic::client::Grpc::new(channel.clone());
            client.ready().await.expect("connected");
            let codec = tonic_prost::ProstCodec::<pb::PutRequest, pb::PutResponse>::default();
            let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
            let status =
                client.unary(Request::new(put("a", 1)), path, codec).await.expect_err("nothing there");
            is(&status, Code::Unimplemented, text);
        }
    });
}

#[test]
fn errors_carry_etcds_code_and_text() {
    let served = Served::launch(NetConfig::default(), false, |shard| {
        for _ in 0..limits::SHARD_PENDING_MAX {
            let put = crate::pb::etcdserverpb::PutRequest { key: "a".into(), ..Default::default() };
            let principal = crate::state::Principal::default();
            let write = shard.write(&principal, put);
            let waits = futures_lite::future::block_on(futures_lite::future::poll_once(write));
            assert!(waits.is_none(), "there is room for it");
        }
    });
    run(async {
        let mut kv = KvClient::new(served.connect().await);
        let empty = kv.put(put("", 1)).await.expect_err("refused");
        is(&empty, Code::InvalidArgument, "etcdserver: key is not provided");
        let busy = kv.put(put("a", 1)).await.expect_err("refused");
        is(&busy, Code::Unknown, "etcdserver: too many requests");
    });
}

#[test]
fn messages_over_the_bounds_are_refused() {
    let served = Served::start();
    run(async {
        let mut kv = KvClient::new(served.connect().await);
        kv.put(put("a", 1_500_000)).await.expect("within the bounds");
        let large = kv.put(put("a", 1_600_000)).await.expect_err("over the request's bound");
        is(&large, Code::InvalidArgument, "etcdserver: request is too large");
        let request = put("a", 3_000_000);
        let len = request.encoded_len();
        let larger = kv.put(request).await.expect_err("over the message's bound");
        let text = format!("grpc: received message larger than max ({len} vs. 2097152)");
        is(&larger, Code::ResourceExhausted, &text);
        kv.put(put("a", 1)).await.expect("the connection goes on");
    });
}

#[test]
fn compressed_requests_get_compressed_responses() {
    let served = Served::start();
    run(async {
        let channel = served.connect().await;
        let kv = KvClient::new(channel).accept_compressed(CompressionEncoding::Gzip);
        let mut zipped = kv.clone().send_compressed(CompressionEncoding::Gzip);
        zipped.put(put("a", 100_000)).await.expect("put");
        let range = pb::RangeRequest { key: "a".into(), ..Default::default() };
        let answer = zipped.range(range.clone()).await.expect("range");
        assert_eq!(answer.metadata().get("grpc-encoding").map(|value| value.as_bytes()), Some(&b"gzip"[..]));
        assert_eq!(answer.into_inner().kvs[0].value.len(), 100_000);
        zipped.put(put("b", 1000)).await.expect("put");
        let both = pb::RangeRequest { range_end: "c".into(), ..range.clone() };
        let answer = zipped.range(both).await.expect("a long answer");
        assert_eq!(answer.metadata().get("grpc-encoding").map(|value| value.as_bytes()), Some(&b"gzip"[..]));
        assert_eq!(answer.get_ref().header.map(|header| header.member_id), Some(MEMBER.0));
        assert_eq!(answer.into_inner().kvs.iter().map(|kv| kv.value.len()).sum::<usize>(), 101_000);
        let mut plain = kv;
        let answer = plain.range(range).await.expect("range");
        assert!(answer.metadata().get("grpc-encoding").is_none(), "nobody compressed the request");
    });
}

/// Code and text of a call with a `grpc-timeout`: tonic's own client would keep the time itself.
async fn call_within(
    address: SocketAddr,
    method: &str,
    timeout: &str,
    message: impl Message,
) -> (u32, String) {
    let stream = tokio::net::TcpStream::connect(address).await.expect("the server listens");
    let (client, connection) = h2::client::handshake(stream).await.expect("speaks HTTP/2");
    tokio::spawn(connection);
    let request = http::Request::post(format!("http://{address}/etcdserverpb.KV/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", timeout)
        .body(())
        .expect("a request");
    let mut client = client.ready().await.expect("room for a stream");
    let (response, mut body) = client.send_request(request, false).expect("sent");
    let mut framed = vec![0];
    framed.extend((message.encoded_len() as u32).to_be_bytes());
    message.encode(&mut framed).expect("room enough");
    body.send_data(framed.into(), true).expect("sent");
    let (head, mut answer) = response.await.expect("answered").into_parts();
    let trailers = match head.headers.contains_key("grpc-status") {
        true => head.headers,
        false => {
            assert!(answer.data().await.is_none(), "never answered");
            answer.trailers().await.expect("trailers").expect("trailers")
        }
    };
    let text = |name| trailers.get(name).map(|value| value.to_str().expect("ascii").to_owned());
    let code = text("grpc-status").expect("a status").parse().expect("a number");
    (code, text("grpc-message").unwrap_or_default().replace("%20", " "))
}

#[test]
fn a_clients_deadline_is_kept() {
    let served = Served::still();
    run(async {
        let began = Instant::now();
        let write = call_within(served.client, "Put", "50m", put("a", 1)).await;
        assert_eq!(write, (14, "etcdserver: request timed out".to_owned()));
        let range = pb::RangeRequest { key: "a".into(), ..Default::default() };
        for method in ["Range", "RangeStream"] {
            let read = call_within(served.client, method, "50000u", range.clone()).await;
            assert_eq!(read, (4, "context deadline exceeded".to_owned()), "{method}");
        }
        assert!(began.elapsed() >= Duration::from_millis(150));
    });
}

#[test]
fn clients_may_insist_on_a_leader() {
    let served = Served::still();
    run(async {
        let mut kv = KvClient::new(served.connect().await);
        let range = pb::RangeRequest { key: "a".into(), serializable: true, ..Default::default() };
        kv.range(range.clone()).await.expect("does not ask for one");
        let mut request = Request::new(range);
        request.metadata_mut().insert("hasleader", "true".parse().expect("ascii"));
        is(&kv.range(request).await.expect_err("asks for one"), Code::Unavailable, "etcdserver: no leader");
    });
}

#[test]
fn plain_http_is_served_on_the_same_port() {
    let served = Served::start();
    let version = get(served.client, "/version");
    assert!(version.starts_with("HTTP/1.1 200 OK\r\n"), "{version}");
    assert!(version.contains("\r\nContent-Type: application/json\r\n"), "{version}");
    assert!(version.contains("\r\nAccess-Control-Allow-Origin: *\r\n"), "{version}");
    assert!(
        version.ends_with(r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}"#),
        "{version}"
    );
    assert!(get(served.client, "/nothing").starts_with("HTTP/1.1 404 Not Found\r\n"));
    let posted = "POST /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi";
    assert!(http1(served.client, posted).starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
    assert!(get(served.metrics, "/version").starts_with("HTTP/1.1 404 Not Found\r\n"));
}

/// Answers of upstream 3.7.1 to the same requests.
#[test]
fn a_request_names_one_host() {
    let served = Served::start();
    let ask = |version: &str, hosts: &str| {
        let request = format!("GET /livez HTTP/{version}\r\nconnection: close\r\n{hosts}\r\n");
        let answer = http1(served.client, &request);
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        (head.lines().next().expect("a line").to_owned(), body.to_owned())
    };
    for (version, hosts, text) in [
        ("1.1", "", "400 Bad Request: missing required Host header"),
        ("1.1", "host: a\r\nhost: a\r\n", "400 Bad Request"),
        ("1.0", "host: a\r\nhost: b\r\n", "400 Bad Request"),
        ("1.1", "host: a/b\r\n", "400 Bad Request: malformed Host header"),
    ] {
        assert_eq!(ask(version, hosts), (format!("HTTP/{version} {text}"), text.to_owned()), "{hosts:?}");
    }
    for (version, hosts) in [("1.1", "host: [::1%25eth0]:2379\r\n"), ("1.1", "host:\r\n"), ("1.0", "")] {
        assert_eq!(ask(version, hosts), (format!("HTTP/{version} 200 OK"), "ok\n".to_owned()), "{hosts:?}");
    }
}

#[test]
fn garbage_ends_its_connection_only() {
    let served = Served::start();
    for garbage in
        ["PRI * HTTP/2.0\r\n\r\nXX", "\0\0\0\0\0\0\0\0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x01"]
    {
        let mut stream = TcpStream::connect(served.client).expect("the server listens");
        stream.write_all(garbage.as_bytes()).expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("a socket");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("closed by the server");
    }
    assert!(get(served.client, "/livez").ends_with("ok\n"));
}

#[test]
fn connections_over_the_bound_wait_for_a_permit() {
    let config = NetConfig { connections_max: 1, ..NetConfig::default() };
    let served = Served::start_with(config);
    let mut first = TcpStream::connect(served.client).expect("the server listens");
    first.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    let mut head = [0; 12];
    first.read_exact(&mut head).expect("answered");
    let mut second = TcpStream::connect(served.client).expect("the backlog takes it");
    second.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("sent");
    second.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
    second.read_exact(&mut head).expect_err("the only permit is taken");
    drop(first);
    second.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    second.read_exact(&mut head).expect("answered");
    assert_eq!(&head, b"HTTP/1.1 200");
}

#[test]
fn who_looks_after_the_member_is_let_in_when_clients_have_taken_all() {
    let config = NetConfig { connections_max: 2, ..NetConfig::default() };
    let served = Served::start_with(config);
    let clients = [(); 2].map(|()| {
        let mut client = TcpStream::connect(served.client).expect("the server listens");
        client.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
        client.read_exact(&mut [0; 12]).expect("answered");
        client
    });
    for _ in 0..2 {
        assert!(get(served.metrics, "/livez").ends_with("ok\n"));
    }
    drop(clients);
    assert!(get(served.client, "/livez").ends_with("ok\n"));
}

#[test]
fn stopping_waits_for_requests_in_flight_but_not_for_ever() {
    let config = NetConfig { drain_timeout: Duration::from_millis(300), ..NetConfig::default() };
    let mut served = Served::launch(config, false, |_| {});
    run(async {
        let mut kv = KvClient::new(served.connect().await);
        let began = Instant::now();
        let pending = tokio::spawn(async move { kv.put(put("a", 1)).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        served.signal_stop();
        pending.await.expect("no panic").expect_err("never answered, then cut off");
        assert!(began.elapsed() >= Duration::from_millis(300), "cut off after {:?}", began.elapsed());
    });
    served.join();
    TcpStream::connect(served.client).expect_err("nobody listens any more");
}

#[test]
fn stopping_with_idle_connections_is_prompt() {
    let mut served = Served::start();
    let began = Instant::now();
    run(async {
        let mut kv = KvClient::new(served.connect().await);
        kv.put(put("a", 1)).await.expect("put");
        let silent = TcpStream::connect(served.client).expect("the server listens");
        served.signal_stop();
        while !served.thread.as_ref().expect("running").is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(silent);
    });
    served.join();
    assert!(began.elapsed() < NetConfig::default().drain_timeout, "took {:?}", began.elapsed());
}
