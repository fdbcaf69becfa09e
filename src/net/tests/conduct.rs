//! Clients that write frames by hand, over simulated sockets: those that do not come to their point, those that have a
//! connection do more than they ask for, and those whose words h2 by itself does not take.

use std::{future::poll_fn, io, net::SocketAddr, time::Duration};

use futures_lite::future::poll_once;

use crate::{
    env::{
        Env, Instant, Socket,
        sim::{Sim, SimSocket},
    },
    limits,
    net::{Listening, NetConfig, serve, socket::PREFACE},
    protocol::{Offer, Routes},
    service::{Options, Word, tests::member::TestMember},
    types::MemberId,
};

const CLIENT: MemberId = MemberId(0x700);
const PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// What a client begins with.
fn opening() -> Vec<u8> {
    [&PREFACE[..], &frame(SETTINGS, 0, 0, &[])].concat()
}

/// The head of a call, in literals that nobody remembers (RFC 7541, 6.2.2).
fn call_head(authority: &[u8], path: &str) -> Vec<u8> {
    let literal = |name: &[u8], value: &[u8]| {
        let mut field = name.to_vec();
        field.push(value.len() as u8);
        field.extend(value);
        field
    };
    // :method POST, :scheme http, then by number: :path, :authority, content-type.
    [
        vec![0x83, 0x86],
        literal(&[0x04], path.as_bytes()),
        literal(&[0x01], authority),
        literal(&[0x0f, 0x10], b"application/grpc"),
    ]
    .concat()
}

/// A Range over one key, whose message is `[10, 1, b'k']`.
fn range(stream: u32, authority: &[u8]) -> Vec<u8> {
    call(stream, &call_head(authority, "/etcdserverpb.KV/Range"), &[10, 1, b'k'])
}

fn call(stream: u32, head: &[u8], message: &[u8]) -> Vec<u8> {
    let message = [&[0, 0, 0, 0, message.len() as u8], message].concat();
    [frame(HEADERS, END_HEADERS, stream, head), frame(DATA, END_STREAM, stream, &message)].concat()
}

struct Client {
    sim: Sim,
    socket: SimSocket,
}

impl Client {
    async fn send(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let sent = poll_fn(|context| self.socket.poll_write(context, bytes)).await.expect("open");
            bytes = &bytes[sent..];
        }
    }

    /// Up to so many bytes; fewer if the connection ends.
    async fn read(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let mut read = 0;
        while read < len {
            match poll_fn(|context| self.socket.poll_read(context, &mut bytes[read..])).await {
                Ok(0) => break,
                Ok(some) => read += some,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                    break;
                }
            }
        }
        bytes.truncate(read);
        bytes
    }

    /// The next frame of a kind; `None` if the connection ends before.
    async fn frame(&mut self, wanted: u8) -> Option<Vec<u8>> {
        loop {
            let head = self.read(9).await;
            let [a, b, c, kind, ..] = head[..] else { return None };
            let payload = self.read(u32::from_be_bytes([0, a, b, c]) as usize).await;
            if kind == wanted {
                return Some(payload);
            }
        }
    }

    /// When the connection ends.
    async fn end(&mut self) -> Instant {
        while !self.read(1024).await.is_empty() {}
        self.sim.now()
    }
}

/// Runs what a client does with a connection to a member.
fn with_client<T: 'static>(client: impl AsyncFnOnce(Client) -> T + 'static) -> T {
    with_member(&TestMember::serving(Options::default()), async move |sim, to| {
        let socket = sim.connect(CLIENT, to).await.expect("the server listens");
        client(Client { sim, socket }).await
    })
}

/// Runs what clients do that know where a member is.
fn with_member<T: 'static>(
    member: &TestMember,
    clients: impl AsyncFnOnce(Sim, SocketAddr) -> T + 'static,
) -> T {
    with_member_until(member, &Word::default(), clients)
}

/// The same; the member stops when the word is given.
fn with_member_until<T: 'static>(
    member: &TestMember,
    stop: &Word,
    clients: impl AsyncFnOnce(Sim, SocketAddr) -> T + 'static,
) -> T {
    let stop = stop.given();
    let listening = [(PORT, Offer::CLIENT), (PEER_PORT, Offer::PEER)];
    let listening = listening.map(|(port, offer)| Listening { listener: member.env.listen(port), offer });
    let (env, routes) = (member.env.clone(), Routes::new(&member.env, member.api.clone()));
    member.env.spawn(async move {
        serve(&env, listening.into(), routes, NetConfig::default(), stop).await;
    });
    let (sim, to) = (member.sim.clone(), member.env.address(PORT));
    member.run(async move { clients(sim, to).await })
}

#[test]
fn who_does_not_come_to_the_point_is_given_up() {
    let head = call_head(b"x", "/etcdserverpb.KV/Range");
    let open = [frame(HEADERS, 0, 1, &head), frame(9, 0, 1, b"")].concat();
    for (what, sent) in [
        ("nothing", Vec::new()),
        ("a part of a preface", PREFACE[..10].to_vec()),
        ("a bare preface", PREFACE.to_vec()),
        ("headers without an end", [opening(), open].concat()),
        ("a part of a frame", [opening(), frame(PING, 0, 0, b"12345678")[..12].to_vec()].concat()),
        ("a part of a head", [opening(), vec![0, 0]].concat()),
        ("a part of a line", b"GET /livez HT".to_vec()),
        ("a part of a request", b"GET /livez HTTP/1.1\r\nhost: x\r\n".to_vec()),
        (
            "a body that does not come",
            b"POST /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n".to_vec(),
        ),
    ] {
        let lasted = with_client(async move |mut client| {
            let began = client.sim.now();
            client.send(&sent).await;
            client.end().await.since(began)
        });
        let longest = limits::CONNECTION_BEGIN + limits::FRAME_WAIT + Duration::from_secs(1);
        assert!(lasted <= longest, "{what}: lasted {lasted:?}");
    }
}

#[test]
fn a_members_question_that_does_not_come_to_its_end_is_given_up() {
    let answer = with_member(&TestMember::serving(Options::default()), async |sim, to| {
        let to = SocketAddr::new(to.ip(), PEER_PORT);
        let mut client = Client { socket: sim.connect(CLIENT, to).await.expect("the server listens"), sim };
        client.send(b"GET /members/hashkv HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{").await;
        client.read(1024).await
    });
    assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn who_has_said_everything_may_be_silent() {
    with_client(async |mut client| {
        client.send(&opening()).await;
        client.sim.sleep(Duration::from_secs(30 * 60)).await;
        client.send(&range(1, b"x")).await;
        assert!(client.frame(DATA).await.is_some(), "answered");
        client.sim.sleep(Duration::from_secs(30 * 60)).await;
        client.send(&frame(PING, 0, 0, b"12345678")).await;
        assert_eq!(client.frame(PING).await.expect("answered"), b"12345678");
    });
}

#[test]
fn headers_that_come_slowly_are_given_up_and_others_go_on() {
    let lasted = with_client(async |mut client| {
        client.send(&opening()).await;
        let began = client.sim.now();
        // The connection is never silent for long.
        for stream in (1..200).step_by(2) {
            let call = range(stream, b"x");
            // Each read ends within headers, but never the same ones.
            client.send(&call[..20]).await;
            client.sim.sleep(Duration::from_secs(1)).await;
            client.send(&call[20..]).await;
            assert!(client.frame(DATA).await.is_some(), "stream {stream}");
        }
        assert!(client.sim.now().since(began) > 2 * limits::FRAME_WAIT);
        let began = client.sim.now();
        for byte in range(201, b"x") {
            if poll_fn(|context| client.socket.poll_write(context, &[byte])).await.is_err() {
                break;
            }
            client.sim.sleep(Duration::from_secs(1)).await;
        }
        client.end().await.since(began)
    });
    // It is known that these are headers once their frame's head is there, nine bytes.
    assert!(lasted <= limits::FRAME_WAIT + Duration::from_secs(12), "{lasted:?}");
}

/// grpc-go takes whatever a client calls the server.
#[test]
fn a_server_may_be_called_anything() {
    for authority in [
        &b"localhost:2379"[..],
        b"#initially=[http://127.0.0.1:2379;http://127.0.0.1:22379]",
        b"ipv4:127.0.0.1:2379,127.0.0.1:22379",
        b"a:1,b:2",
        b"%2Ftmp%2Fetcd.sock",
        b"",
        b"unix:///x",
    ] {
        with_client(async move |mut client| {
            client.send(&[opening(), range(1, authority)].concat()).await;
            let answer = client.frame(DATA).await;
            assert!(answer.is_some_and(|answer| answer.len() > 5), "{}", String::from_utf8_lossy(authority));
        });
    }
}

/// What the client is told of a connection that it has had do too much.
async fn farewell(client: &mut Client) -> String {
    let told = client.frame(GOAWAY).await.expect("told why");
    assert_eq!(told[4..8], [0, 0, 0, 0xb], "calm down");
    assert_eq!(client.frame(PING).await, None, "nothing more");
    String::from_utf8_lossy(&told[8..]).into_owned()
}

#[test]
fn a_flood_of_pings_is_ended_as_in_grpc_go() {
    with_client(async |mut client| {
        client.send(&opening()).await;
        client.send(&frame(PING, 0, 0, b"12345678").repeat(50)).await;
        assert_eq!(farewell(&mut client).await, "too_many_pings");
    });
}

#[test]
fn a_flood_of_settings_is_ended() {
    with_client(async |mut client| {
        let window = |size: u8| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, size]);
        let head = call_head(b"x", "/etcdserverpb.KV/Range");
        client.send(&opening()).await;
        for stream in (1..4_000).step_by(2) {
            client.send(&frame(HEADERS, END_HEADERS, stream, &head)).await;
        }
        // As many as anybody may need are taken, although they are put off until their turn.
        for size in 0..100 {
            client.send(&window(size)).await;
        }
        client.send(&frame(PING, 0, 0, b"12345678")).await;
        assert_eq!(client.frame(PING).await.expect("answered"), b"12345678");
        client.send(&window(1).repeat(limits::SETTINGS_BURST as usize)).await;
        assert_eq!(farewell(&mut client).await, "too_many_settings");
    });
}

/// Every wake-up on the way of a lone write over a connection of its own, while checkpoints come and go beside it.
#[test]
fn lone_writes_beside_checkpoints_are_all_answered() {
    for seed in 0..12 {
        let member = TestMember::with_checkpoints(seed, 5);
        let slowest = with_member(&member, async |sim, to| {
            let mut slowest = Duration::ZERO;
            for round in 0..40u64 {
                let began = sim.now();
                let socket = sim.connect(CLIENT, to).await.expect("the server listens");
                let mut client = Client { sim: sim.clone(), socket };
                let put = call(1, &call_head(b"x", "/etcdserverpb.KV/Put"), &[10, 1, b'k', 18, 1, b'v']);
                client.send(&[opening(), put].concat()).await;
                assert!(client.frame(DATA).await.is_some(), "round {round}");
                drop(client);
                slowest = slowest.max(sim.now().since(began));
                sim.sleep(Duration::from_micros(sim.random_u64() % 50_000)).await;
            }
            slowest
        });
        assert!(slowest < Duration::from_secs(5), "seed {seed}: an answer took {slowest:?}");
    }
}

/// A client that says nothing to the end of its connection does not hold it up for all the time that calls may take.
#[test]
fn who_has_nothing_in_flight_holds_up_no_stop() {
    for sent in [opening(), PREFACE.to_vec(), [opening(), range(1, b"x")].concat()] {
        let stop = Word::default();
        let member = TestMember::serving(Options::default());
        let lasted = with_member_until(&member, &stop.clone(), async move |sim, to| {
            let socket = sim.connect(CLIENT, to).await.expect("the server listens");
            let mut client = Client { sim: sim.clone(), socket };
            client.send(&sent).await;
            sim.sleep(Duration::from_millis(100)).await;
            let began = sim.now();
            stop.give();
            client.end().await.since(began)
        });
        assert!(lasted <= limits::GOODBYE + Duration::from_millis(100), "it lasted {lasted:?}");
    }
}

/// The text of a member's answer to a GET over HTTP/1.1.
async fn get(sim: &Sim, to: SocketAddr, path: &str) -> String {
    let socket = sim.connect(CLIENT, to).await.expect("the server listens");
    let mut client = Client { sim: sim.clone(), socket };
    client.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await;
    String::from_utf8(client.read(64 * 1024).await).expect("text")
}

#[test]
fn a_member_that_is_not_ready_says_so_and_keeps_calls_waiting() {
    let ready = Word::default();
    let member = TestMember::alone_with(Options { ready: ready.clone(), ..Options::default() });
    with_member(&member, async move |sim, to| {
        let answer = get(&sim, to, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        let why = "[-]linearizable_read failed: not ready yet: no leader in term ";
        assert!(answer.contains(why), "{answer}");
        assert!(get(&sim, to, "/livez").await.starts_with("HTTP/1.1 200 "));
        assert!(get(&sim, to, "/metrics").await.contains("etcd_server_has_leader 0"));

        let socket = sim.connect(CLIENT, to).await.expect("the server listens");
        let mut client = Client { sim: sim.clone(), socket };
        client.send(&opening()).await;
        // A serializable one: answered without a leader, once calls are let in.
        let serializable = [10, 1, b'k', 56, 1];
        client.send(&call(1, &call_head(b"x", "/etcdserverpb.KV/Range"), &serializable)).await;
        let mut waiting = Box::pin(client.frame(DATA));
        assert!(poll_once(&mut waiting).await.is_none());
        sim.sleep(Duration::from_secs(3)).await;
        assert!(poll_once(&mut waiting).await.is_none(), "it waits");
        ready.give();
        assert!(waiting.await.is_some(), "answered");
    });
}

#[test]
fn a_call_that_waits_for_a_member_hears_of_its_end() {
    let stop = Word::default();
    let member = TestMember::alone_with(Options { ready: Word::default(), ..Options::default() });
    let answered = with_member_until(&member, &stop.clone(), async move |sim, to| {
        let socket = sim.connect(CLIENT, to).await.expect("the server listens");
        let mut client = Client { sim: sim.clone(), socket };
        client.send(&[opening(), range(1, b"x")].concat()).await;
        sim.sleep(Duration::from_millis(100)).await;
        let began = sim.now();
        stop.give();
        client.frame(HEADERS).await.map(|_| sim.now().since(began))
    });
    assert!(answered.is_some_and(|after| after < Duration::from_millis(100)), "{answered:?}");
}
