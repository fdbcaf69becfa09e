//! A member on a simulated machine that serves clients and other members over simulated sockets: what the targets about
//! the bytes of both share.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    path::{Path, PathBuf},
    pin::Pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use pinion::{
    env::{
        Links, Peer, Socket,
        sim::{Sim, SimEnv, SimSocket, disk::SimDisk},
    },
    metrics::{self, Metrics, ShardMetrics},
    net::{self, Listening, NetConfig},
    pb::etcdserverpb as pb,
    peer::{self, Peers},
    protocol::{Offer, Routes},
    service::{self, Api},
    shard::{self, Due, Shard},
    state::{Commands, Principal},
    storage::{
        checkpoint::CheckpointOptions,
        data_dir::{DataDir, Identity},
        wal::WalOptions,
    },
    types::{ClusterId, Keyspace, MemberId, ShardId},
};

const MEMBER: MemberId = MemberId(1);
const CLIENT: MemberId = MemberId(1_000);
/// A further member of the cluster, of which nobody has heard.
const OTHER: MemberId = MemberId(3);
pub const CLUSTER: ClusterId = ClusterId(1);
const PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// Another member that is silent for so long is gone.
const PEER_TIMEOUT: Duration = Duration::from_millis(400);
/// Steps in which a member answers whoever is decent.
const STEPS_MAX: u64 = 2_000_000;
/// Keys that are there.
const KEYS: u32 = 50;

pub struct Served {
    sim: Sim,
    env: SimEnv,
    shard: Shard,
    peers: Peers<SimEnv>,
    ended: Rc<Cell<bool>>,
}

impl Served {
    /// A member with a few keys.
    pub fn start() -> Self {
        let sim = Sim::new(1);
        let env = SimEnv::new(&sim, MEMBER, SimDisk::new(&sim));
        let (opened, ended) = (Rc::new(RefCell::new(None)), Rc::new(Cell::new(false)));
        let peers = peers(&env);
        let (machine, shown, over, links) = (env.clone(), opened.clone(), ended.clone(), peers.clone());
        sim.spawn(MEMBER, async move {
            let dir = DataDir::open(&machine, Path::new("/data"), None).await.expect("it is free");
            let shard = ShardId(0);
            let founder = pb::Member { id: MEMBER.0, name: "m".into(), ..Default::default() };
            let options = shard::Options {
                identity: Identity { member: MEMBER, cluster: CLUSTER },
                founded: false,
                anchor: dir.anchor(shard),
                shard_id: shard,
                founders: vec![founder],
                go_alone: false,
                wal: WalOptions { segment_bytes: 1 << 20, ..WalOptions::new(PathBuf::new(), shard) },
                checkpoint: CheckpointOptions::new(dir.checkpoint(shard), shard),
                checkpoint_due: Due { entries: u64::MAX, bytes: usize::MAX, log_bytes: u64::MAX },
                heartbeat: Duration::from_millis(10),
                election: Duration::from_millis(100),
                pre_vote: true,
                advance_election: false,
                commands: Commands::default(),
                catchup_entries: 1_000,
                slow_apply: Duration::from_secs(10),
                lease_checkpoints: false,
                pace: Default::default(),
            };
            let wal = WalOptions { dir: dir.wal(shard), ..options.wal };
            let options = shard::Options { wal, ..options };
            let metrics = Rc::new(ShardMetrics::new().expect("names are distinct"));
            let started = shard::start(machine, Rc::new(links), options, metrics).await.expect("it starts");
            *shown.borrow_mut() = Some(started.shard);
            started.run.run().await.expect("nothing is wrong with its disk");
            over.set(true);
        });
        let serves = || opened.borrow().as_ref().is_some_and(Shard::can_read);
        assert!(sim.run_until(STEPS_MAX, serves), "it never serves");
        let shard = opened.borrow().clone().expect("just seen");
        let metrics = Rc::new(Metrics::new(&metrics::Options::default()).expect("names are distinct"));
        let options = service::Options { enable_v2: true, ..service::Options::default() };
        let api = Api::new(&env, Keyspace::default(), shard.clone(), metrics, options);
        peers.attach(ShardId(0), &shard);
        let (machine, routes, members) = (env.clone(), Routes::new(&env, api.clone()), peers.clone());
        sim.spawn(MEMBER, async move {
            let listening = vec![Listening { listener: machine.listen(PEER_PORT), offer: Offer::PEER }];
            net::serve_peers(&machine, listening, routes, members).await;
        });
        let machine = env.clone();
        sim.spawn(MEMBER, async move {
            let listening = vec![Listening { listener: machine.listen(PORT), offer: Offer::CLIENT }];
            let routes = Routes::new(&machine, api);
            net::serve(&machine, listening, routes, NetConfig::default(), std::future::pending()).await;
        });
        let served = Self { sim, env, shard, peers, ended };
        (0..KEYS).for_each(|key| served.put(format!("k{key:02}")));
        served
    }

    /// A decent write is answered.
    fn put(&self, key: String) {
        let (shard, done) = (self.shard.clone(), Rc::new(Cell::new(false)));
        let over = done.clone();
        self.sim.spawn(CLIENT, async move {
            let put = pb::PutRequest { key: key.into(), value: "v".into(), ..Default::default() };
            shard.write(&Principal::default(), put).await.expect("a put is taken");
            over.set(true);
        });
        assert!(self.sim.run_until(STEPS_MAX, || done.get()), "a put waits in vain");
    }

    /// One connection that sends all of this, reads what comes, and after `held` goes away. Others are served then.
    pub fn meets(&self, bytes: &[u8], held: Duration) {
        self.exchange(PORT, bytes.to_vec(), held);
        self.goes_on();
        let health = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec();
        let answer = self.exchange(PORT, health, Duration::from_secs(5));
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }

    /// The same where other members call. One that is decent is welcome then.
    pub fn meets_as_member(&self, bytes: &[u8], held: Duration) {
        self.exchange(PEER_PORT, bytes.to_vec(), held);
        self.goes_on();
        let other = peers(&SimEnv::new(&self.sim, OTHER, SimDisk::new(&self.sim)));
        let urls = vec![format!("http://{}", self.env.address(PEER_PORT))];
        other.set_members(&[Peer { id: MEMBER, urls }, Peer { id: OTHER, urls: Vec::new() }], &[]);
        let is_welcome = || other.active_since(MEMBER).is_some();
        assert!(self.sim.run_until(STEPS_MAX, is_welcome), "nobody is welcome any more");
        other.close();
    }

    fn goes_on(&self) {
        assert!(!self.ended.get(), "the member ended");
        self.put("others".into());
    }

    /// What came until the member closed the connection or the time was over.
    fn exchange(&self, port: u16, bytes: Vec<u8>, held: Duration) -> Vec<u8> {
        let came = Rc::new(RefCell::new(None));
        let (sim, at, shown) = (self.sim.clone(), self.env.address(port), came.clone());
        self.sim.spawn(CLIENT, async move {
            let socket = sim.connect(CLIENT, at).await.expect("the member listens");
            *shown.borrow_mut() = Some(converse(&sim, socket, &bytes, held).await);
        });
        assert!(self.sim.run_until(STEPS_MAX, || came.borrow().is_some()), "a client's time stands still");
        came.take().expect("just seen")
    }
}

/// A world that is dropped would be kept by its own tasks.
impl Drop for Served {
    fn drop(&mut self) {
        self.peers.close();
        [MEMBER, CLIENT, OTHER].into_iter().for_each(|member| self.sim.crash(member));
    }
}

fn peers(env: &SimEnv) -> Peers<SimEnv> {
    let metrics = Metrics::new(&metrics::Options::default()).expect("names are distinct");
    let options = peer::Options {
        cluster: CLUSTER,
        member: env.member(),
        urls: vec![format!("http://{}", env.address(PEER_PORT))],
        read_timeout: PEER_TIMEOUT,
        write_timeout: PEER_TIMEOUT,
        checkpoint_bytes_per_second: 0,
        level: Commands::default().newest(),
    };
    Peers::new(env.clone(), options, metrics.peers.clone())
}

async fn converse(sim: &Sim, mut socket: SimSocket, bytes: &[u8], held: Duration) -> Vec<u8> {
    let (mut rest, mut came) = (bytes, Vec::new());
    let mut time = sim.sleep(held);
    poll_fn(|context| {
        while !rest.is_empty() {
            match socket.poll_write(context, rest) {
                Poll::Ready(Ok(sent)) => rest = &rest[sent..],
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        let mut buffer = [0; 16 * 1024];
        loop {
            match socket.poll_read(context, &mut buffer) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(read)) => came.extend_from_slice(&buffer[..read]),
                Poll::Pending => break,
            }
        }
        Pin::new(&mut time).poll(context)
    })
    .await;
    came
}

/// The preface and whole gRPC calls of one method, each on a stream of its own.
pub fn calls(path: &str, messages: &[Vec<u8>]) -> Vec<u8> {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const FRAME_MAX: usize = 16_384;
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let mut frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
        out.extend_from_slice(&[kind, flags]);
        out.extend_from_slice(&stream.to_be_bytes());
        out.extend_from_slice(payload);
    };
    frame(SETTINGS, 0, 0, &[]);
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "x"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        // A literal that nobody remembers.
        block.extend_from_slice(&[0, name.len() as u8]);
        block.extend_from_slice(name.as_bytes());
        block.push(value.len() as u8);
        block.extend_from_slice(value.as_bytes());
    }
    for (message, stream) in messages.iter().zip((1..).step_by(2)) {
        frame(HEADERS, 0x4, stream, &block);
        let mut body = vec![0];
        body.extend_from_slice(&(message.len() as u32).to_be_bytes());
        body.extend_from_slice(message);
        let pieces = body.chunks(FRAME_MAX).count();
        for (place, piece) in body.chunks(FRAME_MAX).enumerate() {
            frame(DATA, u8::from(place + 1 == pieces), stream, piece);
        }
    }
    out
}
