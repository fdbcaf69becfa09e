//! A member on a simulated machine that serves clients over simulated sockets: what the targets about clients' bytes
//! share.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use pinion::{
    env::{
        NoLinks, Socket,
        sim::{Sim, SimEnv, SimSocket, disk::SimDisk},
    },
    metrics::{self, Metrics, ShardMetrics},
    net::{self, Listening, NetConfig},
    pb::etcdserverpb as pb,
    protocol::{Offer, Routes},
    service::{self, Api},
    shard::{self, Due, Shard},
    state::Principal,
    storage::{
        checkpoint::CheckpointOptions,
        data_dir::{DataDir, Identity},
        wal::WalOptions,
    },
    types::{ClusterId, Keyspace, MemberId, ShardId},
};

const MEMBER: MemberId = MemberId(1);
const CLIENT: MemberId = MemberId(1_000);
const PORT: u16 = 2379;
/// Steps in which a member answers whoever is decent.
const STEPS_MAX: u64 = 2_000_000;
/// Keys that are there.
const KEYS: u32 = 50;

pub struct Served {
    sim: Sim,
    shard: Shard,
    at: SocketAddr,
    ended: Rc<Cell<bool>>,
}

impl Served {
    /// A member with a few keys.
    pub fn start() -> Self {
        let sim = Sim::new(1);
        let env = SimEnv::new(&sim, MEMBER, SimDisk::new(&sim));
        let (opened, ended) = (Rc::new(RefCell::new(None)), Rc::new(Cell::new(false)));
        let (machine, shown, over) = (env.clone(), opened.clone(), ended.clone());
        sim.spawn(MEMBER, async move {
            let dir = DataDir::open(&machine, Path::new("/data"), None).await.expect("it is free");
            let shard = ShardId(0);
            let founder = pb::Member { id: MEMBER.0, name: "m".into(), ..Default::default() };
            let options = shard::Options {
                identity: Identity { member: MEMBER, cluster: ClusterId(1) },
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
                catchup_entries: 1_000,
                slow_apply: Duration::from_secs(10),
                lease_checkpoints: false,
                pace: Default::default(),
            };
            let wal = WalOptions { dir: dir.wal(shard), ..options.wal };
            let options = shard::Options { wal, ..options };
            let metrics = Rc::new(ShardMetrics::new().expect("names are distinct"));
            let started = shard::start(machine, Rc::new(NoLinks), options, metrics).await.expect("it starts");
            *shown.borrow_mut() = Some(started.shard);
            started.run.run().await.expect("nothing is wrong with its disk");
            over.set(true);
        });
        let serves = || opened.borrow().as_ref().is_some_and(Shard::can_read);
        assert!(sim.run_until(STEPS_MAX, serves), "it never serves");
        let shard = opened.borrow().clone().expect("just seen");
        let metrics = Rc::new(Metrics::new(&metrics::Options::default()).expect("names are distinct"));
        let api = Api::new(&env, Keyspace::default(), shard.clone(), metrics, service::Options::default());
        let (machine, at) = (env.clone(), env.address(PORT));
        sim.spawn(MEMBER, async move {
            let listening = vec![Listening { listener: machine.listen(PORT), offer: Offer::CLIENT }];
            let routes = Routes::new(&machine, api);
            net::serve(&machine, listening, routes, NetConfig::default(), std::future::pending()).await;
        });
        let served = Self { sim, shard, at, ended };
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
        self.exchange(bytes.to_vec(), held);
        assert!(!self.ended.get(), "the member ended");
        self.put("others".into());
        let health = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec();
        let answer = self.exchange(health, Duration::from_secs(5));
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }

    /// What came until the member closed the connection or the time was over.
    fn exchange(&self, bytes: Vec<u8>, held: Duration) -> Vec<u8> {
        let came = Rc::new(RefCell::new(None));
        let (sim, at, shown) = (self.sim.clone(), self.at, came.clone());
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
        self.sim.crash(MEMBER);
        self.sim.crash(CLIENT);
    }
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
