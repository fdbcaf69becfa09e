//! The machine against frames made by hand; against real servers it is tested in `tests/load.rs`.

use httlib_hpack as hpack;

use super::*;

/// A server's side, made of frames.
struct Peer {
    bytes: Vec<u8>,
    encoder: hpack::Encoder<'static>,
}

impl Peer {
    fn new(settings: &[(u16, u32)]) -> Self {
        let mut bytes = Vec::new();
        frame::settings(&mut bytes, settings);
        Self { bytes, encoder: hpack::Encoder::with_dynamic_size(4096) }
    }

    fn headers(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) {
        let mut block = Vec::new();
        for (name, value) in fields {
            let how = hpack::Encoder::WITH_INDEXING | hpack::Encoder::BEST_FORMAT;
            self.encoder
                .encode((name.as_bytes().to_vec(), value.as_bytes().to_vec(), how), &mut block)
                .unwrap();
        }
        frame::head(&mut self.bytes, block.len(), frame::HEADERS, flags | frame::END_HEADERS, stream);
        self.bytes.extend(block);
    }

    fn data(&mut self, stream: u32, data: &[u8]) {
        frame::head(&mut self.bytes, data.len(), frame::DATA, 0, stream);
        self.bytes.extend(data);
    }

    fn reply(&mut self, stream: u32, message: &[u8]) {
        self.headers(stream, 0, &[(":status", "200"), ("content-type", "application/grpc")]);
        let mut framed = vec![0];
        framed.extend((message.len() as u32).to_be_bytes());
        framed.extend(message);
        self.data(stream, &framed);
        self.headers(stream, frame::END_STREAM, &[("grpc-status", "0"), ("grpc-message", "")]);
    }
}

type Done = Vec<(u32, Result<Vec<u8>, Failure>)>;

fn receive(connection: &mut Connection<u32>, bytes: &[u8]) -> Result<(usize, Done), Broken> {
    let mut done = Vec::new();
    let used =
        connection.receive(bytes, &mut |tag, outcome| done.push((tag, outcome.map(<[u8]>::to_vec))))?;
    Ok((used, done))
}

/// What the connection sent: head and payload of each frame.
fn sent(connection: &mut Connection<u32>) -> Vec<(frame::Head, Vec<u8>)> {
    let out = std::mem::take(connection.out());
    let mut rest = out.strip_prefix(frame::PREFACE).unwrap_or(&out);
    let mut frames = Vec::new();
    while let Some(head) = frame::Head::parse(rest) {
        let (payload, after) = rest[frame::HEAD..].split_at(head.length);
        frames.push((head, payload.to_vec()));
        rest = after;
    }
    assert!(rest.is_empty());
    frames
}

fn ready(calls: usize, settings: &[(u16, u32)]) -> (Connection<u32>, Peer) {
    let mut connection = Connection::new("a:1", None, calls);
    assert!(!connection.can_open());
    let mut peer = Peer::new(settings);
    receive(&mut connection, &std::mem::take(&mut peer.bytes)).unwrap();
    sent(&mut connection);
    (connection, peer)
}

#[test]
fn replies_find_their_calls_in_any_order_and_however_they_are_cut() {
    let (mut connection, mut peer) = ready(3, &[]);
    for tag in [10, 11, 12] {
        connection.open(Method::Put, b"\0\0\0\0\0", tag);
    }
    assert!(!connection.can_open());
    peer.reply(5, b"third");
    peer.reply(1, b"first");
    peer.reply(3, b"");
    let mut pending = Vec::new();
    let mut done = Vec::new();
    for byte in std::mem::take(&mut peer.bytes) {
        pending.push(byte);
        let (used, more) = receive(&mut connection, &pending).unwrap();
        pending.drain(..used);
        done.extend(more);
    }
    assert_eq!(done, [(12, Ok(b"third".to_vec())), (10, Ok(b"first".to_vec())), (11, Ok(Vec::new()))]);
    assert_eq!(connection.open_calls(), 0);
    assert!(connection.streams.is_empty());
}

#[test]
fn failures_are_told_apart() {
    let (mut connection, mut peer) = ready(5, &[]);
    for tag in 0..5 {
        connection.open(Method::Txn, b"\0\0\0\0\0", tag);
    }
    let status = [(":status", "200"), ("grpc-status", "8"), ("grpc-message", "too many requests")];
    peer.headers(1, frame::END_STREAM, &status);
    peer.headers(3, frame::END_STREAM, &[(":status", "502")]);
    frame::reset(&mut peer.bytes, 5, 7);
    peer.headers(7, 0, &[(":status", "200")]);
    peer.data(7, &[1, 0, 0, 0, 0]);
    peer.headers(7, frame::END_STREAM, &[("grpc-status", "0")]);
    peer.headers(9, 0, &[(":status", "200")]);
    peer.headers(9, frame::END_STREAM, &[("grpc-status", "0")]);
    let (_, done) = receive(&mut connection, &peer.bytes).unwrap();
    let too_many = Failure::Status { code: 8, message: "too many requests".into() };
    assert_eq!(
        done,
        [
            (0, Err(too_many)),
            (1, Err(Failure::Http(502))),
            (2, Err(Failure::Reset(7))),
            (3, Err(Failure::NotOneMessage)),
            (4, Err(Failure::NotOneMessage)),
        ]
    );
}

#[test]
fn requests_keep_to_the_peers_windows_and_frame_size() {
    let (mut connection, mut peer) = ready(2, &[(frame::INITIAL_WINDOW_SIZE, 40_000)]);
    let body = (0..100_000_u32).map(|n| n as u8).collect::<Vec<_>>();
    connection.open(Method::Put, &body, 1);
    let mut received = Vec::new();
    let mut ended = false;
    let mut take = |connection: &mut Connection<u32>, limit: usize| {
        let before = received.len();
        for (head, payload) in sent(connection).into_iter().filter(|(head, _)| head.kind == frame::DATA) {
            assert!(payload.len() <= frame::SIZE_MAX && !ended);
            received.extend(payload);
            ended = head.flags & frame::END_STREAM != 0;
        }
        assert_eq!(received.len() - before, limit);
        (received.clone(), ended)
    };
    take(&mut connection, 40_000);
    frame::window_update(&mut peer.bytes, 1, 50_000);
    receive(&mut connection, &std::mem::take(&mut peer.bytes)).unwrap();
    take(&mut connection, 25_535); // the connection's window is the tighter one now
    frame::window_update(&mut peer.bytes, 0, 1_000_000);
    receive(&mut connection, &std::mem::take(&mut peer.bytes)).unwrap();
    take(&mut connection, 24_465);
    frame::settings(&mut peer.bytes, &[(frame::INITIAL_WINDOW_SIZE, 60_000)]);
    receive(&mut connection, &std::mem::take(&mut peer.bytes)).unwrap();
    let (received, ended) = take(&mut connection, 10_000);
    assert!(received == body && ended);
}

#[test]
fn the_peers_stream_limit_holds() {
    let (mut connection, mut peer) = ready(9, &[(frame::MAX_CONCURRENT_STREAMS, 2)]);
    connection.open(Method::Put, b"\0\0\0\0\0", 1);
    connection.open(Method::Put, b"\0\0\0\0\0", 2);
    assert!(!connection.can_open());
    peer.reply(1, b"");
    receive(&mut connection, &peer.bytes).unwrap();
    assert!(connection.can_open());
}

#[test]
fn an_early_answer_to_a_blocked_request_cancels_the_rest() {
    let (mut connection, mut peer) = ready(1, &[(frame::INITIAL_WINDOW_SIZE, 10)]);
    connection.open(Method::Put, &[7; 50], 1);
    peer.headers(1, frame::END_STREAM, &[(":status", "200"), ("grpc-status", "3"), ("grpc-message", "")]);
    frame::window_update(&mut peer.bytes, 1, 100);
    let (_, done) = receive(&mut connection, &peer.bytes).unwrap();
    assert_eq!(done, [(1, Err(Failure::Status { code: 3, message: String::new() }))]);
    let data = sent(&mut connection).into_iter().filter(|(head, _)| head.kind == frame::DATA).count();
    assert_eq!(data, 1);
    assert!(connection.can_open());
}

#[test]
fn pings_are_answered_and_a_goaway_ends_the_connection() {
    let (mut connection, mut peer) = ready(1, &[]);
    frame::head(&mut peer.bytes, 8, frame::PING, 0, 0);
    peer.bytes.extend(b"12345678");
    receive(&mut connection, &std::mem::take(&mut peer.bytes)).unwrap();
    let frames = sent(&mut connection);
    assert_eq!((frames[0].0.kind, frames[0].0.flags), (frame::PING, frame::ACK));
    assert_eq!(frames[0].1, b"12345678");

    frame::head(&mut peer.bytes, 12, frame::GOAWAY, 0, 0);
    peer.bytes.extend([0, 0, 0, 1, 0, 0, 0, 11]);
    peer.bytes.extend(b"calm");
    let broken = receive(&mut connection, &peer.bytes).unwrap_err();
    assert!(matches!(broken, Broken::GoAway { code: 11, ref reason } if reason == "calm"), "{broken}");
}

#[test]
fn nonsense_breaks_the_connection_and_never_panics() {
    let frames: [(u8, u8, u32, &[u8]); 6] = [
        (frame::DATA, 0, 99, b""),
        (frame::DATA, 0x8, 1, &[200, 1]),
        (frame::HEADERS, frame::END_HEADERS, 1, &[0xff, 0xff, 0xff]),
        (frame::CONTINUATION, 0, 1, b""),
        (frame::SETTINGS, 0, 0, b"12345"),
        (frame::WINDOW_UPDATE, 0, 0, b"1"),
    ];
    for (kind, flags, stream, payload) in frames {
        let (mut connection, mut peer) = ready(1, &[]);
        connection.open(Method::Put, b"\0\0\0\0\0", 1);
        frame::head(&mut peer.bytes, payload.len(), kind, flags, stream);
        peer.bytes.extend(payload);
        assert!(matches!(receive(&mut connection, &peer.bytes), Err(Broken::Protocol(_))), "{kind}");
    }
}
