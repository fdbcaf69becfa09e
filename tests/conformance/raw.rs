//! What a client sees that breaks the protocol: frames written by hand, outcome compared with upstream's.
//!
//! The text of a refusal is compared too, unless it quotes the innards of a library. Cases known to end differently say
//! why.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri};
use tokio::{net::TcpStream, time::timeout};

/// Generous: a server that says nothing for so long never will.
const SILENCE: Duration = Duration::from_secs(20);
const BODY_BYTES_MAX: usize = 64 * 1024;
const REFUSAL_BYTES_MAX: usize = 200;
const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const TXN: &str = "/etcdserverpb.KV/Txn";
/// The default `--max-request-bytes` and what gRPC takes on top.
const MESSAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A request as bytes.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: &'static str,
    method: Method,
    path: &'static str,
    /// Replaces or adds to what a gRPC client sends.
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
    /// Whether the refusal's text must be the same.
    text: bool,
    /// Why the outcome may differ; whatever it is, it must be an answer.
    explained: Option<&'static str>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Answered {
        http: u16,
        grpc: Option<String>,
        message: Option<String>,
        body: Vec<u8>,
    },
    /// The server reset the stream or closed the connection.
    Cut,
    Silence,
}

impl Seen {
    fn without_text(self) -> Self {
        match self {
            Seen::Answered { http, grpc, body, .. } => Seen::Answered { http, grpc, message: None, body },
            other => other,
        }
    }
}

/// Whether both servers treated the case alike, or differently for a known reason. A refusal is never a long one.
pub fn alike(case: &Case, upstream: &Seen, tested: &Seen) -> bool {
    if let Seen::Answered { message: Some(message), .. } = tested
        && message.len() > REFUSAL_BYTES_MAX
    {
        return false;
    }
    if case.explained.is_some() {
        matches!(tested, Seen::Answered { .. })
    } else if case.text {
        upstream == tested
    } else {
        upstream.clone().without_text() == tested.clone().without_text()
    }
}

pub fn cases() -> Vec<Case> {
    let base = |name, path, body| Case {
        name,
        method: Method::POST,
        path,
        headers: Vec::new(),
        body,
        text: true,
        explained: None,
    };
    let with = |name, path, body, headers: &[(&'static str, &'static str)]| Case {
        headers: headers.to_vec(),
        ..base(name, path, body)
    };
    // The text quotes the innards of a Go library, or of the Rust one in its place.
    let status_only = |case: Case| Case { text: false, ..case };
    let explained = |reason, case: Case| Case { explained: Some(reason), ..case };
    // key "a", value "b"
    let put = b"\x0a\x01a\x12\x01b";
    let huge = vec![b'x'; MESSAGE_BYTES_MAX + 1];
    let gzip = [("grpc-encoding", "gzip")];
    vec![
        base("unknown service", "/nope.Nope/Nope", framed(0, b"")),
        base("unknown method", "/etcdserverpb.KV/Nope", framed(0, b"")),
        base("path without a method", "/nope", framed(0, b"")),
        // There is no reflection, in either version.
        base("reflection", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", framed(0, b"")),
        base(
            "reflection, the old one",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            framed(0, b""),
        ),
        base("health", HEALTH, framed(0, b"")),
        base("health of a service", HEALTH, framed(0, b"\x0a\x0fetcdserverpb.KV")),
        base("all health", "/grpc.health.v1.Health/List", framed(0, b"")),
        base("empty service", "//Put", framed(0, b"")),
        base("empty method", "/etcdserverpb.KV/", framed(0, put)),
        base("service in another case", "/etcdserverpb.kv/Put", framed(0, put)),
        base("message too large", PUT, framed(0, &huge)),
        base("length beyond the limit, no data", PUT, vec![0, 0xff, 0xff, 0xff, 0xff]),
        status_only(base("compressed flag without an encoding", PUT, framed(1, put))),
        status_only(with(
            "compressed flag with identity",
            PUT,
            framed(1, put),
            &[("grpc-encoding", "identity")],
        )),
        status_only(with("gzip that is none", PUT, framed(1, b"not gzip"), &gzip)),
        with("gzip announced, not used", PUT, framed(0, put), &gzip),
        status_only(with("unknown encoding", PUT, framed(1, put), &[("grpc-encoding", "nope")])),
        status_only(base("unknown flag", PUT, framed(2, put))),
        status_only(base("malformed protobuf: length past the end", PUT, framed(0, b"\x0a\xff\x01a"))),
        status_only(base(
            "malformed protobuf: bad tag",
            PUT,
            framed(0, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        )),
        status_only(base("malformed protobuf: wrong wire type", RANGE, framed(0, b"\x0a"))),
        explained(
            "the decoder refuses what Go's takes for an unknown field",
            base("known field with another wire type", PUT, framed(0, b"\x08\x01\x0a\x01a")),
        ),
        base("transactions 50 deep", TXN, framed(0, &nested_txns(50))),
        base("transactions 128 deep", TXN, framed(0, &nested_txns(128))),
        base("transactions 129 deep", TXN, framed(0, &nested_txns(129))),
        base("transactions 4,999 deep", TXN, framed(0, &nested_txns(4_999))),
        explained(
            "too many operations, however deep; Go's decoder gives up at 10,000 messages in each other",
            base("transactions 5,000 deep", TXN, framed(0, &nested_txns(5_000))),
        ),
        explained("as above", base("transactions 100,000 deep", TXN, framed(0, &nested_txns(100_000)))),
        base("unknown fields are skipped", PUT, framed(0, b"\x0a\x01a\xa2\x06\x03abc")),
        explained(
            "Internal, as for other broken messages, instead of Unknown",
            base("half a prefix", PUT, vec![0, 0, 0]),
        ),
        explained(
            "Internal, as for other broken messages, instead of Unknown",
            base("half a message", PUT, framed(0, put)[..8].to_vec()),
        ),
        base("two messages for one call", PUT, [framed(0, put), framed(0, put)].concat()),
        explained(
            "plain HTTP endpoints are served over HTTP/2 as well",
            with("foreign content type", PUT, framed(0, put), &[("content-type", "text/plain")]),
        ),
        with(
            "content type with a subtype",
            PUT,
            framed(0, put),
            &[("content-type", "application/grpc+proto")],
        ),
        with("unknown subtype", PUT, framed(0, put), &[("content-type", "application/grpc+nope")]),
        explained(
            "a deadline that cannot be read is none",
            with("malformed timeout", PUT, framed(0, put), &[("grpc-timeout", "soon")]),
        ),
        with("hasleader", PUT, framed(0, put), &[("hasleader", "true")]),
        with("old client version", PUT, framed(0, put), &[("client-api-version", "3.0.0")]),
        with("client version that is none", PUT, framed(0, put), &[("client-api-version", "nope")]),
        explained(
            "refused by its missing message instead of by its method",
            Case { method: Method::GET, ..base("another HTTP method", PUT, Vec::new()) },
        ),
    ]
}

/// A transaction with so many in one another.
fn nested_txns(levels: usize) -> Vec<u8> {
    // From the innermost on, so that lengths are known, and from the last byte on.
    let mut reversed = Vec::new();
    for _ in 0..levels {
        // `request_txn` of an operation, which is one of `success`.
        for key in [0x22, 0x12] {
            let mut field = vec![key];
            prost::encoding::encode_varint(reversed.len() as u64, &mut field);
            reversed.extend(field.iter().rev());
        }
    }
    reversed.reverse();
    reversed
}

/// A gRPC message: flag, length, payload.
fn framed(flag: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short payloads");
    [&[flag][..], &length.to_be_bytes(), payload].concat()
}

/// Sends the case on a connection of its own.
pub async fn send(address: SocketAddr, case: &Case) -> Seen {
    match timeout(SILENCE, exchange(address, case)).await {
        Ok(Ok(seen)) => seen,
        Ok(Err(_cut)) => Seen::Cut,
        Err(_elapsed) => Seen::Silence,
    }
}

async fn exchange(address: SocketAddr, case: &Case) -> Result<Seen, h2::Error> {
    let stream = TcpStream::connect(address).await.expect("connect to the server");
    let (client, connection) = h2::client::handshake(stream).await?;
    let driver = tokio::spawn(connection);
    let outcome = call(client, address, case).await;
    driver.abort();
    outcome
}

async fn call(
    client: h2::client::SendRequest<Bytes>,
    address: SocketAddr,
    case: &Case,
) -> Result<Seen, h2::Error> {
    let mut client = client.ready().await?;
    let uri: Uri = format!("http://{address}{}", case.path).parse().expect("a valid URI");
    let mut request = Request::builder().method(case.method.clone()).uri(uri);
    let headers = request.headers_mut().expect("a valid request");
    headers.insert("content-type", "application/grpc".parse().expect("a valid value"));
    headers.insert("te", "trailers".parse().expect("a valid value"));
    for (name, value) in &case.headers {
        headers.insert(*name, value.parse().expect("a valid value"));
    }
    let request = request.body(()).expect("a valid request");
    let ends = case.body.is_empty();
    let (answer, mut sender) = client.send_request(request, ends)?;
    if !ends {
        // The server may answer and reset before it took all: the answer then is what counts.
        if let Err(error) = sender.send_data(Bytes::from(case.body.clone()), true) {
            eprintln!("{}: body not taken: {error}", case.name);
        }
    }
    let answer = answer.await?;
    let http = answer.status().as_u16();
    let in_headers = answer.headers().clone();
    let mut incoming = answer.into_body();
    let mut body = Vec::new();
    while let Some(chunk) = incoming.data().await {
        let chunk = chunk?;
        incoming.flow_control().release_capacity(chunk.len())?;
        assert!(body.len() + chunk.len() < BODY_BYTES_MAX, "{}: a long answer", case.name);
        body.extend_from_slice(&chunk);
    }
    let trailers = incoming.trailers().await?.unwrap_or_default();
    let field = |name| text(&trailers, name).or_else(|| text(&in_headers, name));
    // A success carries ids that differ between servers.
    let (grpc, message) = (field("grpc-status"), field("grpc-message"));
    if grpc.as_deref() == Some("0") {
        body.clear();
    }
    Ok(Seen::Answered { http, grpc, message, body })
}

/// A header's text without percent-encoding, which servers may apply more or less widely.
fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let raw = headers.get(name)?.as_bytes();
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, escaped.map(|hex| u8::from_str_radix(hex, 16))) {
            (b'%', Some(Ok(byte))) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned()).filter(|text| !text.is_empty())
}
