//! Members on simulated machines, clients that remember, and what must hold afterwards.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use crate::courier;

use pinion::{
    client::Bounds,
    env::{
        Env, Links, Listener,
        sim::{Sim, SimEnv, SimLinks, disk::SimDisk},
    },
    metrics::{self, Metrics, ShardMetrics},
    net::{self, Listening, NetConfig},
    pb::etcdserverpb as pb,
    peer::{self, Peers},
    protocol::{Offer, Routes},
    service::{self, Api},
    shard::{self, Due, Duty, Pace, Shard},
    state::{Commands, Principal, cluster::PublishMember},
    storage::checkpoint::CheckpointOptions,
    storage::data_dir::{DataDir, Identity},
    storage::wal::WalOptions,
    types::{ClusterId, Keyspace, MemberId, ShardId},
};

/// Steps after which a world that should have finished is stuck.
pub const STEPS_MAX: u64 = 3_000_000;

/// Where members listen for clients, and for each other.
pub const PORT: u16 = 2379;
pub const PEER_PORT: u16 = 2380;

/// One member: its disk stays, the rest comes and goes with crashes.
pub struct Node {
    pub id: MemberId,
    /// It joins a cluster that is there, and does not found one.
    pub joins: bool,
    pub disk: SimDisk,
    pub shard: Rc<RefCell<Option<Shard>>>,
    /// Of the run that serves.
    pub duty: Rc<RefCell<Duty>>,
    /// What clients meet, where it listens.
    pub api: Rc<RefCell<Option<Api>>>,
    /// What it says to the others, where it has sockets for that.
    pub peers: RefCell<Option<Peers<SimEnv>>>,
    /// How the last run ended, if it ended by itself.
    pub ended: Rc<RefCell<Option<Result<(), String>>>>,
    /// It was started, and has not crashed since.
    pub started: Cell<bool>,
    /// It was started at some time.
    pub has_lived: Cell<bool>,
    /// What it knows from its next start on.
    pub release: Cell<Commands>,
    /// At its next starts the others are lost for good.
    pub goes_alone: Cell<bool>,
}

pub struct World {
    pub sim: Sim,
    pub nodes: Vec<Node>,
    /// When members make checkpoints.
    pub checkpoint: Due,
    pub catchup_entries: usize,
    /// How members apply: here in slices of a few keys.
    pub pace: Pace,
    /// One tick of Raft; an election takes ten without a leader.
    pub heartbeat: Duration,
    pub cluster: ClusterId,
    /// `--wal-dir`.
    pub wal_dir: Option<PathBuf>,
    /// Members take clients' connections on [`PORT`], and hold so much memory on their behalf.
    pub listens: Option<Bounds>,
    /// Members say what they are, as real ones do.
    pub publishes: bool,
    /// Members talk over sockets, as real ones do; else the world carries their frames.
    pub sockets: bool,
    /// Checkpoints that came from one member to another, where the world carries them.
    pub carried: Rc<Cell<u64>>,
    /// Bytes of them that a member sends in a second, where it has sockets for that.
    pub checkpoint_rate: u64,
    /// Of all members together.
    pub metrics: Rc<Metrics>,
}

/// Checkpoints so rare that the log has everything.
const NEVER: Due = Due { entries: u64::MAX, bytes: usize::MAX, log_bytes: u64::MAX };

/// Every few commands the rest of a turn has its turn.
const PACE: Pace = Pace { keys: 3, slice: Duration::ZERO, patience: Duration::from_millis(500) };

impl World {
    pub fn new(seed: u64, members: u64) -> Self {
        Self::with_others(seed, members, 0)
    }

    /// And so many others that may join them.
    pub fn with_others(seed: u64, members: u64, others: u64) -> Self {
        let sim = Sim::new(seed);
        let node = |id| Node {
            id: MemberId(id),
            joins: id > members,
            disk: SimDisk::new(&sim),
            shard: Rc::default(),
            duty: Rc::default(),
            api: Rc::default(),
            peers: RefCell::default(),
            ended: Rc::default(),
            started: Cell::default(),
            has_lived: Cell::default(),
            release: Cell::default(),
            goes_alone: Cell::default(),
        };
        let nodes = (1..=members + others).map(node).collect();
        World {
            nodes,
            sim,
            checkpoint: NEVER,
            catchup_entries: 1_000_000,
            pace: PACE,
            heartbeat: Duration::from_millis(10),
            cluster: ClusterId(1),
            wal_dir: None,
            listens: None,
            publishes: false,
            sockets: false,
            carried: Rc::default(),
            checkpoint_rate: 50_000_000,
            metrics: Rc::new(Metrics::new(&metrics::Options::default()).expect("metrics are made")),
        }
    }

    fn founders(&self) -> Vec<pb::Member> {
        let member = |node: &Node| {
            let env = SimEnv::new(&self.sim, node.id, node.disk.clone());
            let url = format!("http://{}", env.address(PEER_PORT));
            let name = format!("m{}", node.id);
            pb::Member { id: node.id.0, name, peer_ur_ls: vec![url], ..Default::default() }
        };
        self.nodes.iter().filter(|node| !node.joins).map(member).collect()
    }

    /// Starts member `at`; it serves once its `shard` is there.
    pub fn start(&self, at: usize) {
        let node = &self.nodes[at];
        let env = SimEnv::new(&self.sim, node.id, node.disk.clone());
        let options = shard::Options {
            identity: Identity { member: node.id, cluster: self.cluster },
            founded: false,
            anchor: PathBuf::new(),
            shard_id: ShardId(0),
            founders: if node.joins { Vec::new() } else { self.founders() },
            go_alone: node.goes_alone.get(),
            // The directory is known once it is open.
            wal: WalOptions { segment_bytes: 1 << 20, ..WalOptions::new(PathBuf::new(), ShardId(0)) },
            checkpoint: CheckpointOptions::new(PathBuf::new(), ShardId(0)),
            checkpoint_due: self.checkpoint,
            heartbeat: self.heartbeat,
            election: 10 * self.heartbeat,
            pre_vote: true,
            advance_election: true,
            catchup_entries: self.catchup_entries,
            slow_apply: Duration::from_secs(1),
            pace: self.pace,
            lease_checkpoints: false,
            commands: node.release.get(),
        };
        let metrics = Rc::new(ShardMetrics::new().expect("metrics are made"));
        let (shard, ended, sim, id) = (node.shard.clone(), node.ended.clone(), self.sim.clone(), node.id);
        let others: Vec<_> = self.nodes.iter().map(|node| (node.id, node.shard.clone())).collect();
        let (carried, duty, wal_dir) = (self.carried.clone(), node.duty.clone(), self.wal_dir.clone());
        let listening = self.listens.map(|bounds| (env.clone(), bounds, node.api.clone()));
        let publishes = self.publishes;
        *ended.borrow_mut() = None;
        let peers = self.sockets.then(|| self.peers(&env, node.release.get()));
        *node.peers.borrow_mut() = peers.clone();
        node.started.set(true);
        node.has_lived.set(true);
        self.sim.spawn(node.id, async move {
            let started = async {
                let dir = DataDir::open(&env, Path::new("/data"), wal_dir.as_deref()).await;
                let dir = dir.map_err(|error| error.to_string())?;
                let wal = WalOptions { dir: dir.wal(ShardId(0)), ..options.wal };
                let checkpoint = CheckpointOptions { dir: dir.checkpoint(ShardId(0)), ..options.checkpoint };
                let (own, path, anchor) = (options.identity, dir.identity(), dir.anchor(ShardId(0)));
                let read = Identity::read(&env, &path).await.map_err(|error| error.to_string())?;
                let (identity, founded) = (read.unwrap_or(own), read.is_some());
                let options = shard::Options { identity, founded, anchor, wal, checkpoint, ..options };
                let links: Rc<dyn Links> = match &peers {
                    Some(peers) => Rc::new(peers.clone()),
                    None => Rc::new(SimLinks::new(&sim, id)),
                };
                let started = shard::start(env.clone(), links, options, metrics).await;
                let started = started.map_err(|error| error.to_string())?;
                if !founded {
                    identity.write(&env, &path).await.map_err(|error| error.to_string())?;
                }
                Ok::<_, String>((started, dir, peers, env))
            };
            let result = match started.await {
                Ok((started, _dir, peers, env)) => {
                    match peers {
                        Some(peers) => {
                            peers.attach(ShardId(0), &started.shard);
                            sim.spawn(id, listen_to_peers(env.clone(), peers));
                        }
                        None => {
                            let inbox = started.shard.clone();
                            sim.listen(id, ShardId(0), move |from, frame| {
                                inbox.step(from, frame);
                            });
                            sim.spawn(
                                id,
                                courier::carry(sim.clone(), started.shard.clone(), others, carried),
                            );
                        }
                    }
                    *duty.borrow_mut() = started.duty;
                    if publishes {
                        let told = PublishMember {
                            id: id.0,
                            name: format!("m{id}"),
                            client_urls: Vec::new(),
                            level: started.shard.with_state(|state| state.commands().newest().0),
                            log: started.shard.log_id().0,
                        };
                        sim.spawn(id, shard::publish(env.clone(), started.shard.clone(), told));
                    }
                    if let Some((env, bounds, api)) = listening {
                        sim.spawn(id, listen(env, started.shard.clone(), bounds, api));
                    }
                    *shard.borrow_mut() = Some(started.shard);
                    started.run.run().await.map_err(|error| error.to_string())
                }
                Err(error) => Err(error),
            };
            *shard.borrow_mut() = None;
            *ended.borrow_mut() = Some(result);
        });
    }

    fn peers(&self, env: &SimEnv, release: Commands) -> Peers<SimEnv> {
        let id = env.member();
        let options = peer::Options {
            cluster: self.cluster,
            member: id,
            urls: vec![format!("http://{}", env.address(PEER_PORT))],
            read_timeout: Duration::from_millis(400),
            write_timeout: Duration::from_millis(400),
            checkpoint_bytes_per_second: self.checkpoint_rate,
            level: release.newest(),
        };
        Peers::new(env.clone(), options, self.metrics.peers.clone())
    }

    /// Checkpoints that members got from others over sockets.
    pub fn received(&self) -> u64 {
        self.counted("etcd_network_snapshot_receive_success")
    }

    /// What all members together have counted under a name with labels.
    pub fn counted(&self, name: &str) -> u64 {
        let text = metrics::text(self.metrics.gather(), Vec::new()).expect("it can be written");
        let text = String::from_utf8(text).expect("text");
        let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'));
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok());
        text.lines().filter(of_name).map(|line| value(line).expect("a count")).sum()
    }

    /// Power is gone: tasks stop where they stand, the disk keeps what was durable and parts of the
    /// rest.
    pub fn crash(&self, at: usize) {
        let node = &self.nodes[at];
        self.sim.crash(node.id);
        *node.shard.borrow_mut() = None;
        *node.api.borrow_mut() = None;
        // It holds its shard, which holds it.
        node.peers.take().into_iter().for_each(|peers| peers.close());
        node.started.set(false);
        node.disk.crash();
    }

    /// The files of checkpoints that member `at` has on its disk now; each checkpoint makes one with a name of its own.
    pub fn checkpoint_segments(&self, at: usize) -> Vec<PathBuf> {
        let files = self.nodes[at].disk.files().into_iter().map(|(path, _)| path);
        files.filter(|path| path.extension().is_some_and(|extension| extension == "seg")).collect()
    }

    /// Runs until member `at` serves and everything committed is applied there, or gives the reason it does not.
    pub fn serving(&self, at: usize) -> Result<Shard, String> {
        let node = &self.nodes[at];
        let serves = |shard: &Shard| {
            let status = shard.status();
            shard.can_read() && status.applied == status.committed
        };
        let done = self.sim.run_until(STEPS_MAX, || {
            node.ended.borrow().is_some() || node.shard.borrow().as_ref().is_some_and(serves)
        });
        if let Some(ended) = node.ended.borrow().as_ref() {
            return Err(ended.clone().err().unwrap_or_else(|| "stopped".into()));
        }
        assert!(done, "member {} neither serves nor ends", node.id);
        Ok(node.shard.borrow().clone().expect("it serves"))
    }
}

/// Serves clients until the machine crashes.
async fn listen(env: SimEnv, shard: Shard, clients: Bounds, shown: Rc<RefCell<Option<Api>>>) {
    let metrics = Rc::new(Metrics::new(&metrics::Options::default()).expect("metrics are made"));
    let auth = service::auth::Options { bcrypt_cost: 4, ..Default::default() };
    let options = service::Options { clients, auth, ..Default::default() };
    let api = Api::new(&env, Keyspace::default(), shard, metrics, options);
    *shown.borrow_mut() = Some(api.clone());
    let listening = vec![Listening { listener: env.listen(PORT), offer: Offer::CLIENT }];
    let routes = Routes::new(&env, api);
    net::serve(&env, listening, routes, NetConfig::default(), std::future::pending()).await;
}

/// Takes in what other members have to say, until the machine crashes.
async fn listen_to_peers(env: SimEnv, peers: Peers<SimEnv>) {
    let listener = env.listen(PEER_PORT);
    while let Ok(socket) = listener.accept().await {
        let peers = peers.clone();
        env.spawn(async move { peers.serve(socket).await });
    }
}

/// Tasks hold the world they run in: without this a search over many seeds would keep all of them.
impl Drop for World {
    fn drop(&mut self) {
        (0..self.nodes.len()).for_each(|at| self.crash(at));
    }
}

/// What the clients know.
#[derive(Default)]
pub struct Memory {
    /// Acknowledged: revision, key, value.
    pub acknowledged: Vec<(i64, String, u64)>,
    /// The newest value sent for each key, acknowledged or not.
    pub sent: BTreeMap<String, u64>,
    /// Linearizable reads that were answered.
    pub read: u64,
    /// Clients end after what they are at.
    pub over: bool,
    /// The newest value of each key, and the newest revision, that was acknowledged or read.
    seen: BTreeMap<String, u64>,
    seen_revision: i64,
}

impl Memory {
    /// What a linearizable read of the key that begins now must see at least: value and revision.
    pub fn least(&self, key: &str) -> (u64, i64) {
        (self.seen.get(key).copied().unwrap_or(0), self.seen_revision)
    }

    /// Somebody was told of this value and this revision.
    pub fn see(&mut self, key: String, value: u64, revision: i64) {
        let seen = self.seen.entry(key).or_default();
        *seen = (*seen).max(value);
        self.seen_revision = self.seen_revision.max(revision);
    }

    /// Everything acknowledged is there, at its revision, and nothing was invented.
    pub fn check(&self, shard: &Shard) {
        let revision = shard.status().revision.0;
        let newest = self.acknowledged.iter().map(|a| a.0).max().unwrap_or(0);
        assert!(revision >= newest, "revision {revision} went back, {newest} was acknowledged");
        let value = |key: &str, revision: i64| -> Option<u64> {
            let request = pb::RangeRequest { key: key.to_owned().into(), revision, ..Default::default() };
            let response = shard.with_state(|state| state.range(&request)).expect("readable");
            let kv = response.kvs.first()?;
            Some(number(&kv.value))
        };
        let mut least: BTreeMap<&str, u64> = BTreeMap::new();
        for (revision, key, sent) in &self.acknowledged {
            assert_eq!(value(key, *revision), Some(*sent), "{key} at its revision {revision}");
            let least = least.entry(key).or_default();
            *least = (*least).max(*sent);
        }
        for (key, sent) in &self.sent {
            let (now, least) = (value(key, 0).unwrap_or(0), least.get(key.as_str()).copied().unwrap_or(0));
            assert!(now >= least, "{key} is {now}, {least} was acknowledged");
            assert!(now <= *sent, "{key} is {now}, only {sent} was sent");
        }
    }
}

/// Where clients run: on machines of their own, which never crash.
pub fn client_id(number: u64) -> MemberId {
    MemberId(1000 + number)
}

/// The `k`th key of a client.
pub fn key(client: u64, k: u64) -> String {
    format!("c{client}/k{k}")
}

/// A value as clients write it.
pub fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).expect("a number").parse().expect("a number")
}

/// A client: writes ascending values to its own keys through any member.
pub fn client(world: &World, number: u64, writes: u64, memory: Rc<RefCell<Memory>>, running: Rc<Cell<u64>>) {
    client_of(world, &world.nodes, (number, writes), memory, running);
}

/// The same through some of the members.
pub fn client_of(
    world: &World,
    nodes: &[Node],
    (number, writes): (u64, u64),
    memory: Rc<RefCell<Memory>>,
    running: Rc<Cell<u64>>,
) {
    let sim = world.sim.clone();
    let shards: Vec<_> = nodes.iter().map(|node| node.shard.clone()).collect();
    running.set(running.get() + 1);
    world.sim.spawn(client_id(number), async move {
        for value in 1..=writes {
            if memory.borrow().over {
                break;
            }
            let key = key(number, sim.below(4));
            memory.borrow_mut().sent.insert(key.clone(), value);
            let at = sim.below(shards.len() as u64) as usize;
            let shard = shards[at].borrow().clone();
            let Some(shard) = shard else {
                sim.sleep(Duration::from_millis(5)).await;
                continue;
            };
            let put = pb::PutRequest {
                key: key.clone().into(),
                value: value.to_string().into(),
                ..Default::default()
            };
            match shard.write(&Principal::default(), put).await {
                Ok(response) => {
                    let revision = response.header.expect("a header").revision;
                    let mut memory = memory.borrow_mut();
                    memory.see(key.clone(), value, revision);
                    memory.acknowledged.push((revision, key, value));
                }
                // Refused or unknown: it may or may not be there.
                Err(_) => sim.sleep(Duration::from_millis(sim.below(20))).await,
            }
        }
        running.set(running.get() - 1);
    });
}

/// The seeds to run: `PINION_SEEDS` of them (`default` if unset), from `PINION_SEED` on; or that one alone.
pub fn seeds(default: u64) -> std::ops::Range<u64> {
    match (wanted("PINION_SEED"), wanted("PINION_SEEDS")) {
        (Some(first), count) => first..first + count.unwrap_or(1),
        (None, count) => 0..count.unwrap_or(default),
    }
}

/// So many seeds, from `PINION_SEED` on.
pub fn fresh_seeds(count: u64) -> std::ops::Range<u64> {
    let first = wanted("PINION_SEED").unwrap_or(0);
    first..first + count
}

fn wanted(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}
