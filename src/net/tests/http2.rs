//! The HTTP/2 driver against clients that pause, cancel, vanish or never read.

use super::*;

use bytes::Bytes;
use h2::{Reason, RecvStream, client};
use http::Response;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const PING: u8 = 6;
const GOAWAY: u8 = 7;

type Sender = client::SendRequest<Bytes>;

async fn connect(address: SocketAddr, settings: &client::Builder) -> Sender {
    let stream = tokio::net::TcpStream::connect(address).await.expect("the server listens");
    let (sender, connection) = settings.handshake(stream).await.expect("speaks HTTP/2");
    tokio::spawn(connection);
    sender.ready().await.expect("room for a stream")
}

fn request(method: &str, path: &str) -> http::Request<()> {
    http::Request::builder().method(method).uri(format!("http://x{path}")).body(()).expect("a request")
}

fn grpc(method: &str) -> http::Request<()> {
    let mut request = request("POST", &format!("/etcdserverpb.KV/{method}"));
    request.headers_mut().insert("content-type", "application/grpc".parse().expect("ascii"));
    request.headers_mut().insert("te", "trailers".parse().expect("ascii"));
    request
}

fn framed(message: &impl Message) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend((message.encoded_len() as u32).to_be_bytes());
    message.encode(&mut bytes).expect("room enough");
    bytes.into()
}

fn send(sender: &mut Sender, method: &str, message: &impl Message) -> client::ResponseFuture {
    let (response, mut body) = sender.send_request(grpc(method), false).expect("sent");
    body.send_data(framed(message), true).expect("sent");
    response
}

/// Length of the body, and the status.
async fn read(response: Response<RecvStream>) -> (usize, String) {
    let mut body = response.into_body();
    let mut len = 0;
    while let Some(data) = body.data().await {
        let data = data.expect("not cut off");
        body.flow_control().release_capacity(data.len()).expect("as much as came");
        len += data.len();
    }
    let trailers = body.trailers().await.expect("not cut off").expect("gRPC ends with trailers");
    (len, trailers["grpc-status"].to_str().expect("ascii").to_owned())
}

async fn fill(served: &Served, keys: usize, value_len: usize) {
    let mut kv = KvClient::new(served.connect().await);
    for key in 0..keys {
        kv.put(put(&format!("k{key}"), value_len)).await.expect("put");
    }
}

fn all() -> pb::RangeRequest {
    pb::RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() }
}

/// The value of a series.
fn counted(served: &Served, series: &str) -> usize {
    let metrics = get(served.metrics, "/metrics");
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().expect("a count"))
}

async fn until_counted(served: &Served, series: &str, wanted: usize) {
    while counted(served, series) != wanted {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn large_answers_pass_a_small_window() {
    let served = Served::start();
    run(async {
        fill(&served, 5, 300_000).await;
        let mut settings = client::Builder::new();
        let mut sender = connect(served.client, settings.initial_window_size(1000)).await;
        for (method, messages) in [("Range", 1), ("RangeStream", 3)] {
            let answer = send(&mut sender, method, &all()).await.expect("answered");
            let (len, status) = read(answer).await;
            assert!(len > 1_500_000 && len < 1_501_000, "{method}: {len} bytes in {messages} messages");
            assert_eq!(status, "0", "{method}");
        }
    });
}

#[test]
fn a_client_that_never_reads_holds_up_only_itself() {
    const MESSAGE: usize = 1_000_000;
    const STREAMS: usize = 200;
    let started = "grpc_server_started_total{grpc_method=\"Range\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}";
    let served = Served::start();
    run(async {
        fill(&served, 1, MESSAGE).await;
        let mut settings = client::Builder::new();
        settings.initial_window_size(0).initial_connection_window_size(1 << 30);
        let stream = tokio::net::TcpStream::connect(served.client).await.expect("the server listens");
        let (mut sender, mut connection) = settings.handshake(stream).await.expect("speaks HTTP/2");
        let (open, opened) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let mut opened = Some(opened);
            std::future::poll_fn(move |context| {
                if let Some(waiting) = &mut opened
                    && std::pin::Pin::new(waiting).poll(context).is_ready()
                {
                    opened = None;
                    connection.set_initial_window_size(1 << 30).expect("settled before");
                }
                std::pin::Pin::new(&mut connection).poll(context)
            })
            .await
        });
        let mut answers = Vec::new();
        for _ in 0..STREAMS {
            sender = sender.ready().await.expect("room for a stream");
            let whole = pb::RangeRequest { key: "k0".into(), serializable: true, ..Default::default() };
            answers.push(send(&mut sender, "Range", &whole));
        }
        // More than is made for a client that takes nothing.
        while counted(&served, started) < limits::CLIENT_BYTES / MESSAGE {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut other = KvClient::new(served.connect().await);
        for _ in 0..20 {
            other.put(put("other", 1)).await.expect("others are served");
        }
        open.send(()).expect("the connection is open");
        for answer in answers {
            let (len, status) = read(answer.await.expect("answered")).await;
            assert!(len > MESSAGE && status == "0", "{len} bytes, status {status}");
        }
        assert_eq!(counted(&served, started), STREAMS);
    });
}

#[test]
fn a_cancelled_call_is_dropped() {
    let served = Served::still();
    let canceled = "grpc_server_handled_total{grpc_code=\"Canceled\",grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}";
    run(async {
        let mut sender = connect(served.client, &client::Builder::new()).await;
        let (response, mut body) = sender.send_request(grpc("Put"), false).expect("sent");
        body.send_data(framed(&put("a", 1)), true).expect("sent");
        let started = canceled.replace("handled", "started").replace("grpc_code=\"Canceled\",", "");
        until_counted(&served, &started, 1).await;
        assert_eq!(counted(&served, canceled), 0, "the call waits");
        body.send_reset(Reason::CANCEL);
        drop(response);
        until_counted(&served, canceled, 1).await;
        // A connection that breaks takes its calls with it.
        let mut stream = TcpStream::connect(served.client).expect("the server listens");
        stream.write_all(PREFACE).expect("sent");
        drop(stream);
        let sender = connect(served.client, &client::Builder::new()).await;
        let mut lost = sender.clone();
        let pending = send(&mut lost, "Put", &put("a", 1));
        until_counted(&served, &started, 2).await;
        drop((sender, lost, pending));
        until_counted(&served, canceled, 2).await;
    });
}

#[test]
fn a_preface_may_come_in_pieces() {
    let served = Served::start();
    let mut stream = TcpStream::connect(served.client).expect("the server listens");
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    let ping = [&[0, 0, 8, PING, 0, 0, 0, 0, 0][..], b"12345678"].concat();
    let sent = [PREFACE, SETTINGS, &ping].concat();
    for piece in [&sent[..1], &sent[1..17], &sent[17..30], &sent[30..]] {
        stream.write_all(piece).expect("sent");
        std::thread::sleep(Duration::from_millis(20));
    }
    let answer = frame(&mut stream, PING).expect("answered");
    assert_eq!(answer, b"12345678");
}

/// Reads up to the next frame of a kind; `None` if the connection ends before.
fn frame(stream: &mut TcpStream, wanted: u8) -> Option<Vec<u8>> {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).ok()?;
        if head[3] == wanted {
            return Some(payload);
        }
    }
}

#[test]
fn a_client_without_a_sign_of_life_is_given_up() {
    let config = NetConfig {
        keepalive_interval: Duration::from_millis(100),
        keepalive_timeout: Duration::from_millis(100),
        ..NetConfig::default()
    };
    let served = Served::start_with(config);
    let mut silent = TcpStream::connect(served.client).expect("the server listens");
    silent.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    silent.write_all(&[PREFACE, SETTINGS].concat()).expect("sent");
    let began = Instant::now();
    run(async {
        // h2's client answers pings by itself.
        let mut sender = connect(served.client, &client::Builder::new()).await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        let answer = send(&mut sender, "Put", &put("a", 1)).await.expect("still connected");
        assert_eq!(read(answer).await.1, "0");
    });
    assert!(frame(&mut silent, PING).is_some(), "asked for a sign of life");
    assert_eq!(frame(&mut silent, GOAWAY), None, "then given up");
    assert!(began.elapsed() < Duration::from_secs(5), "took {:?}", began.elapsed());
}

#[test]
fn a_stop_lets_a_call_finish_and_admits_no_other() {
    let mut served = Served::start();
    run(async {
        let mut sender = connect(served.client, &client::Builder::new()).await;
        let (response, mut body) = sender.send_request(grpc("Put"), false).expect("sent");
        let message = framed(&put("a", 100));
        body.send_data(message.slice(..10), false).expect("sent");
        tokio::time::sleep(Duration::from_millis(50)).await;
        served.signal_stop();
        while sender.clone().ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        body.send_data(message.slice(10..), true).expect("the stream is still open");
        assert_eq!(read(response.await.expect("answered")).await.1, "0");
    });
    served.join();
}

#[test]
fn plain_http_is_served_over_http2_too() {
    let served = Served::start();
    run(async {
        let mut sender = connect(served.client, &client::Builder::new()).await;
        for (method, path, status, has_body) in
            [("GET", "/version", 200, true), ("HEAD", "/metrics", 200, false), ("GET", "/nothing", 404, true)]
        {
            let (response, _) = sender.send_request(request(method, path), true).expect("sent");
            let (head, mut body) = response.await.expect("answered").into_parts();
            assert_eq!(head.status, status, "{path}");
            let announced: usize =
                head.headers["content-length"].to_str().expect("ascii").parse().expect("a number");
            let mut len = 0;
            while let Some(data) = body.data().await {
                len += data.expect("not cut off").len();
            }
            assert!(announced > 0);
            assert_eq!(len, if has_body { announced } else { 0 }, "{path}");
        }
    });
}
