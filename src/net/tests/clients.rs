//! What clients hold of a member, and what is left for others: memory, and places in its queues. On simulated sockets,
//! and looked at after every step.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use h2::{Reason, SendStream, client};
use prost::Message;

use crate::{
    client::Bounds,
    env::{
        Env,
        sim::{Sim, SimEnv, SimStream},
    },
    limits,
    net::{Listening, NetConfig, serve},
    pb::etcdserverpb as pb,
    protocol::{Offer, Routes},
    service::{Options, Word, tests::member::TestMember},
    state::Principal,
    types::MemberId,
};

const CLIENT: MemberId = MemberId(0x700);
const PORT: u16 = 2379;
const MIB: usize = 1024 * 1024;
const SMALL: Bounds = Bounds { total: 8 * MIB, each: 3 * MIB };
/// What cannot be refused, as it is there already: calls that have begun or are held back, and the answer at hand.
const BESIDE: usize = MIB;
const STEPS_MAX: u64 = 20_000_000;

const TOO_MANY: (&str, &str) = ("2", "etcdserver: too many requests");

type Sender = client::SendRequest<Bytes>;

/// The clients' side of the member.
#[derive(Clone)]
struct Net {
    sim: Sim,
    to: SocketAddr,
}

struct World {
    member: TestMember,
    bounds: Bounds,
    net: Net,
}

impl World {
    fn start(bounds: Bounds) -> Self {
        let member = TestMember::serving(Options { clients: bounds, ..Options::default() });
        let listening = vec![Listening { listener: member.env.listen(PORT), offer: Offer::CLIENT }];
        let (env, routes): (SimEnv, _) = (member.env.clone(), Routes::new(&member.env, member.api.clone()));
        member.env.spawn(async move {
            serve(&env, listening, routes, NetConfig::default(), std::future::pending()).await;
        });
        let net = Net { sim: member.sim.clone(), to: member.env.address(PORT) };
        Self { member, bounds, net }
    }

    /// So many keys with values of a length.
    fn fill(&self, keys: usize, len: usize) {
        let shard = self.member.shard.clone();
        self.run(async move {
            let nobody = Principal::default();
            let writes = (0..keys).map(|key| shard.write(&nobody, put(&format!("k{key:05}"), len)));
            for written in join_all(writes).await {
                written.expect("written");
            }
        });
    }

    /// Runs what clients do to its end. No more is held for them than may be, at any time.
    fn run<T: 'static>(&self, clients: impl Future<Output = T> + 'static) -> T {
        let done = Rc::new(RefCell::new(None));
        let shown = done.clone();
        self.net.sim.spawn(CLIENT, async move {
            let output = clients.await;
            *shown.borrow_mut() = Some(output);
        });
        self.until(|| done.borrow().is_some());
        done.take().expect("just seen")
    }

    fn until(&self, mut done: impl FnMut() -> bool) {
        let held = self.member.api.clients();
        let ended = self.net.sim.run_until(STEPS_MAX, || {
            let used = held.used();
            assert!(used <= self.bounds.total + BESIDE, "{used} bytes are held for clients");
            done()
        });
        assert!(ended, "it waits in vain");
    }

    /// Once all clients have gone, nothing is held for them.
    fn ends(self) {
        self.until(|| self.member.api.clients().used() == 0);
    }
}

impl Net {
    async fn connect(&self, settings: &client::Builder) -> Sender {
        let socket = self.sim.connect(CLIENT, self.to).await.expect("the server listens");
        let (sender, connection) = settings.handshake(SimStream(socket)).await.expect("speaks HTTP/2");
        self.sim.spawn(CLIENT, async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection ended");
            }
        });
        sender.ready().await.expect("room for a stream")
    }

    /// A client that takes no answers until it is told to.
    async fn connect_deaf(&self, listen: &Word) -> Sender {
        let socket = self.sim.connect(CLIENT, self.to).await.expect("the server listens");
        let mut settings = client::Builder::new();
        settings.initial_window_size(0).initial_connection_window_size(1 << 30);
        let (sender, mut connection) = settings.handshake(SimStream(socket)).await.expect("speaks HTTP/2");
        let mut told = Some(Box::pin(listen.given()));
        self.sim.spawn(CLIENT, async move {
            let ended = poll_fn(|context| {
                if let Some(listen) = &mut told
                    && listen.as_mut().poll(context).is_ready()
                {
                    told = None;
                    connection.set_initial_window_size(1 << 30).expect("settled before");
                }
                Pin::new(&mut connection).poll(context)
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "the connection ended");
            }
        });
        sender.ready().await.expect("room for a stream")
    }

    async fn pause(&self) {
        self.sim.sleep(Duration::from_millis(2)).await;
    }
}

fn put(key: &str, len: usize) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: vec![b'v'; len].into(), ..Default::default() }
}

fn framed(message: &impl Message) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend((message.encoded_len() as u32).to_be_bytes());
    message.encode(&mut bytes).expect("room enough");
    bytes.into()
}

fn begin(sender: &mut Sender, method: &str) -> (client::ResponseFuture, SendStream<Bytes>) {
    let request = http::Request::post(format!("http://x/etcdserverpb.KV/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a request");
    sender.send_request(request, false).expect("sent")
}

/// Length of the answer's body, code and text.
async fn read(response: client::ResponseFuture) -> (usize, String, String) {
    let (head, mut body) = response.await.expect("answered").into_parts();
    let mut len = 0;
    while let Some(data) = body.data().await {
        let data = data.expect("not cut off");
        body.flow_control().release_capacity(data.len()).expect("as much as came");
        len += data.len();
    }
    let trailers = body.trailers().await.expect("not cut off").unwrap_or(head.headers);
    let text = |name| trailers.get(name).map_or("", |value| value.to_str().expect("ascii")).to_owned();
    (len, text("grpc-status"), text("grpc-message").replace("%20", " "))
}

async fn call(sender: &mut Sender, method: &str, message: &impl Message) -> (usize, String, String) {
    let (response, mut body) = begin(sender, method);
    body.send_data(framed(message), true).expect("sent");
    read(response).await
}

#[test]
fn messages_without_an_end_are_bounded_in_sum_and_others_are_served() {
    const CONNECTIONS: usize = 5;
    const STREAMS: usize = 20;
    let world = World::start(SMALL);
    let net = world.net.clone();
    let refused = world.run(async move {
        let (mut senders, mut streams) = (Vec::new(), Vec::new());
        let message = framed(&put("k", 250_000)).slice(..240_000);
        for _ in 0..CONNECTIONS {
            let mut sender = net.connect(&client::Builder::new()).await;
            for _ in 0..STREAMS {
                let (response, mut body) = begin(&mut sender, "Put");
                body.send_data(message.clone(), false).expect("sent");
                streams.push((response, body));
            }
            senders.push(sender);
        }
        net.pause().await;
        let mut other = net.connect(&client::Builder::new()).await;
        for _ in 0..5 {
            assert_eq!(call(&mut other, "Put", &put("other", 1_500_000)).await.1, "0", "others are served");
        }
        // Those that were not refused can come to their end.
        let (mut refused, mut ended) = (0, 0);
        for (response, mut body) in streams {
            let rest = framed(&put("k", 250_000)).slice(240_000..);
            let sent = body.send_data(rest, true);
            let (_, code, text) = read(response).await;
            match &*code {
                "0" => ended += 1,
                _ => {
                    assert_eq!((&*code, &*text), TOO_MANY);
                    assert!(sent.is_err() || ended + refused < CONNECTIONS * STREAMS);
                    refused += 1;
                }
            }
        }
        assert!(ended >= CONNECTIONS, "{ended} came to their end");
        refused
    });
    assert!(refused * 240_000 >= CONNECTIONS * STREAMS * 240_000 - SMALL.total, "{refused} refused");
    world.ends();
}

/// GHSA-hrxh-6v49-42gf, Rapid Reset: what is begun and reset at once costs whoever does it.
#[test]
fn who_resets_writes_waits_for_them_and_others_do_not() {
    const FLOODS: usize = 6;
    const BURSTS: usize = 3;
    /// Together more than the shard admits.
    const STREAMS: usize = 2_000;
    let world = World::start(Bounds::default());
    let net = world.net.clone();
    let shard = world.member.shard.of(&world.member.api.clients().client());
    let worst = world.run(async move {
        for _ in 0..FLOODS {
            let net = net.clone();
            net.sim.clone().spawn(CLIENT, async move {
                // It does not read, which its own library would mind otherwise.
                let mut settings = client::Builder::new();
                let mut sender = net.connect(settings.initial_connection_window_size(1 << 30)).await;
                for _ in 0..BURSTS {
                    let message = framed(&put("flood", 100));
                    let mut streams = Vec::new();
                    for _ in 0..STREAMS {
                        sender = sender.ready().await.expect("room for a stream");
                        let (response, mut body) = begin(&mut sender, "Put");
                        body.send_data(message.clone(), true).expect("sent");
                        streams.push((response, body));
                    }
                    net.sim.sleep(Duration::from_micros(100)).await;
                    streams.iter_mut().for_each(|(_, body)| body.send_reset(Reason::CANCEL));
                }
            });
        }
        let mut other = net.connect(&client::Builder::new()).await;
        let mut worst = 0;
        for _ in 0..60 {
            let before = shard.revision().0;
            // From its arrival on.
            shard.write(&Principal::default(), put("other", 100)).await.expect("others have room");
            worst = worst.max(shard.revision().0 - before);
            let (_, code, text) = call(&mut other, "Put", &put("other", 100)).await;
            assert_eq!((&*code, &*text), ("0", ""), "it pays for others");
        }
        worst
    });
    // Those that had a place when it came, and the rest of the batch it is in.
    let most = FLOODS * limits::CLIENT_WRITES_AMONG_OTHERS + limits::ENTRY_REQUESTS_MAX;
    assert!(worst as usize <= most, "one put waited for {worst} others");
    let written = world.member.shard.status().revision.0 as usize;
    assert!(written < FLOODS * BURSTS * STREAMS, "all of {written} were written, reset or not");
    world.ends();
}

fn all() -> pb::RangeRequest {
    pb::RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() }
}

#[test]
fn answers_that_nobody_takes_are_bounded_in_sum_and_come_in_the_end() {
    const CONNECTIONS: usize = 3;
    const STREAMS: usize = 100;
    const KEYS: usize = 150;
    for (method, request) in [
        ("RangeStream", all()),
        ("Range", all()),
        // Short enough to be made at once.
        ("Range", pb::RangeRequest { limit: 10, ..all() }),
    ] {
        let world = World::start(SMALL);
        world.fill(KEYS, 2_500);
        let (net, listen) = (world.net.clone(), Word::default());
        let told = listen.clone();
        let limit = request.limit as usize;
        let (senders, streams) = world.run(async move {
            let (mut senders, mut streams) = (Vec::new(), Vec::new());
            for _ in 0..CONNECTIONS {
                let mut sender = net.connect_deaf(&told).await;
                for _ in 0..STREAMS {
                    sender = sender.ready().await.expect("room for a stream");
                    let (response, mut body) = begin(&mut sender, method);
                    body.send_data(framed(&request), true).expect("sent");
                    streams.push(response);
                }
                senders.push(sender);
            }
            net.sim.sleep(Duration::from_millis(500)).await;
            let mut other = net.connect(&client::Builder::new()).await;
            let (len, code, _) = call(&mut other, "Range", &all()).await;
            assert_eq!(&*code, "0", "others are served");
            assert!(len > KEYS * 2_500);
            (senders, streams)
        });
        listen.give();
        world.run(async move {
            for (len, code, text) in join_all(streams.into_iter().map(read)).await {
                assert_eq!((&*code, &*text), ("0", ""), "{method}");
                let pairs = if limit > 0 { limit } else { KEYS };
                assert!(len > pairs * 2_500, "{method}: {len} bytes");
            }
            drop(senders);
        });
        world.ends();
    }
}

#[test]
fn sorted_pairs_that_nobody_takes_are_given_up_when_there_is_no_room() {
    const KEYS: usize = 3_000;
    const CONNECTIONS: usize = 40;
    let world = World::start(SMALL);
    world.fill(KEYS, 20);
    let (net, listen) = (world.net.clone(), Word::default());
    let told = listen.clone();
    let sorted = |limit| pb::RangeRequest { limit, sort_target: 4, sort_order: 2, ..all() };
    let (senders, streams) = world.run(async move {
        let (mut senders, mut streams) = (Vec::new(), Vec::new());
        for _ in 0..CONNECTIONS {
            let mut sender = net.connect_deaf(&told).await;
            // One after the other of the same client.
            for _ in 0..2 {
                let (response, mut body) = begin(&mut sender, "Range");
                body.send_data(framed(&sorted(0)), true).expect("sent");
                streams.push(response);
            }
            senders.push(sender);
        }
        net.sim.sleep(Duration::from_secs(1)).await;
        let mut other = net.connect(&client::Builder::new()).await;
        for limit in [0, 1] {
            let (len, code, _) = call(&mut other, "Range", &sorted(limit)).await;
            assert_eq!(&*code, "0", "others are served");
            assert!(len > if limit == 0 { KEYS * 20 } else { 20 });
        }
        (senders, streams)
    });
    listen.give();
    let (ended, refused) = world.run(async move {
        let (mut ended, mut refused) = (0, 0);
        for (_, code, text) in join_all(streams.into_iter().map(read)).await {
            match &*code {
                "0" => ended += 1,
                _ => {
                    assert_eq!((&*code, &*text), TOO_MANY);
                    refused += 1;
                }
            }
        }
        drop(senders);
        (ended, refused)
    });
    assert!(ended >= CONNECTIONS && refused > 0, "{ended} came, {refused} did not");
    world.ends();
}
