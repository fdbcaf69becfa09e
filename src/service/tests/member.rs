//! A member for the tests of what stands on a shard: one on a simulated machine that serves, or one that cannot.

use std::{cell::RefCell, future::Future, path::Path, rc::Rc, time::Duration};

use crate::{
    env::{
        Env, NoLinks,
        sim::{Sim, SimEnv, disk::SimDisk},
    },
    limits,
    metrics::{self, Metrics, ShardMetrics},
    pb::etcdserverpb as pb,
    service::{Api, Caller, Connection, Options},
    shard::{self, Due, Shard, Started},
    state::Commands,
    storage::{
        checkpoint::CheckpointOptions,
        data_dir::{DataDir, Identity},
        wal::WalOptions,
    },
    types::{ClusterId, Keyspace, MemberId, ShardId},
};

pub(crate) const CLUSTER: ClusterId = ClusterId(0xcdf8_1811_94e3_2c9d);
pub(crate) const MEMBER: MemberId = MemberId(0x8e9e_05c5_2164_694d);

/// Steps after which a simulated member that should have answered never will.
const STEPS_MAX: u64 = 3_000_000;

/// Opens the first of a cluster's members. Its loop does not run yet: until it does, it has no leader, answers no
/// write and no linearizable read.
pub(crate) async fn open<E: Env>(env: &E, dir: &Path, founders: Vec<pb::Member>) -> (Started<E>, DataDir<E>) {
    open_with(env, dir, founders, NO_CHECKPOINTS).await
}

const NO_CHECKPOINTS: Due = Due { entries: u64::MAX, bytes: usize::MAX, log_bytes: u64::MAX };

async fn open_with<E: Env>(
    env: &E,
    dir: &Path,
    founders: Vec<pb::Member>,
    checkpoint_due: Due,
) -> (Started<E>, DataDir<E>) {
    let data_dir = DataDir::open(env, dir, None).await.expect("the directory is free");
    let shard = ShardId(0);
    let options = shard::Options {
        shard_id: shard,
        identity: Identity { member: MEMBER, cluster: CLUSTER },
        founded: false,
        anchor: data_dir.anchor(shard),
        founders,
        go_alone: false,
        wal: WalOptions {
            segment_bytes: limits::WAL_SEGMENT_BYTES_MIN,
            ..WalOptions::new(data_dir.wal(shard), shard)
        },
        checkpoint: CheckpointOptions::new(data_dir.checkpoint(shard), shard),
        checkpoint_due,
        heartbeat: Duration::from_millis(10),
        election: Duration::from_millis(100),
        pre_vote: true,
        advance_election: false,
        catchup_entries: 1_000,
        slow_apply: Duration::from_secs(10),
        pace: shard::Pace::default(),
        lease_checkpoints: false,
        commands: Commands::default(),
    };
    let metrics = Rc::new(ShardMetrics::new().expect("names are distinct"));
    let started =
        shard::start(env.clone(), Rc::new(NoLinks), options, metrics).await.expect("the member starts");
    (started, data_dir)
}

/// So many voters, this member the first.
pub(crate) fn founders(count: u64) -> Vec<pb::Member> {
    let founder = |id| pb::Member {
        id,
        name: "default".into(),
        peer_ur_ls: vec!["http://localhost:2380".into()],
        client_ur_ls: vec!["http://localhost:2379".into()],
        is_learner: false,
    };
    (MEMBER.0..MEMBER.0 + count).map(founder).collect()
}

pub(crate) fn metrics() -> Rc<Metrics> {
    Rc::new(Metrics::new(&metrics::Options::default()).expect("names are distinct"))
}

/// Somebody who asks for nothing in particular.
pub(crate) fn caller() -> Caller {
    Caller { connection: Rc::new(Connection::default()), token: None, deadline: None, needs_leader: false }
}

/// A member whose loop runs on a simulated machine.
pub(crate) struct TestMember {
    pub(crate) sim: Sim,
    pub(crate) env: SimEnv,
    pub(crate) shard: Shard,
    pub(crate) api: Api,
}

impl TestMember {
    /// One that serves.
    pub(crate) fn serving(options: Options) -> Self {
        Self::of(1, founders(1), options, NO_CHECKPOINTS).once_it_serves()
    }

    /// One that serves, in a world of its own, and makes a checkpoint after so many entries.
    pub(crate) fn with_checkpoints(seed: u64, entries: u64) -> Self {
        let due = Due { entries, ..NO_CHECKPOINTS };
        Self::of(seed, founders(1), Options::default(), due).once_it_serves()
    }

    fn once_it_serves(self) -> Self {
        assert!(self.sim.run_until(STEPS_MAX, || self.shard.can_read()), "it never serves");
        self
    }

    /// One that has never heard of the two others of its cluster.
    pub(crate) fn alone() -> Self {
        Self::alone_with(Options::default())
    }

    pub(crate) fn alone_with(options: Options) -> Self {
        Self::of(1, founders(3), options, NO_CHECKPOINTS)
    }

    fn of(seed: u64, founders: Vec<pb::Member>, options: Options, checkpoint_due: Due) -> Self {
        let sim = Sim::new(seed);
        let env = SimEnv::new(&sim, MEMBER, SimDisk::new(&sim));
        let opened = Rc::new(RefCell::new(None));
        let (machine, shown) = (env.clone(), opened.clone());
        env.spawn(async move {
            let (started, _dir) = open_with(&machine, Path::new("/data"), founders, checkpoint_due).await;
            *shown.borrow_mut() = Some(started.shard);
            started.run.run().await.expect("nothing is wrong with its disk");
        });
        assert!(sim.run_until(STEPS_MAX, || opened.borrow().is_some()), "it never opens");
        let shard = opened.take().expect("just seen");
        let api = Api::new(&env, Keyspace::default(), shard.clone(), metrics(), options);
        Self { sim, env, shard, api }
    }

    /// Runs a test to its end on the member's machine.
    pub(crate) fn run<T: 'static>(&self, test: impl Future<Output = T> + 'static) -> T {
        let done = Rc::new(RefCell::new(None));
        let shown = done.clone();
        self.env.spawn(async move {
            let output = test.await;
            *shown.borrow_mut() = Some(output);
        });
        assert!(self.sim.run_until(STEPS_MAX, || done.borrow().is_some()), "it waits in vain");
        done.take().expect("just seen")
    }

    /// What was applied of the log, entry by entry: nothing that stays off it adds to that.
    pub(crate) fn applied(&self) -> u64 {
        self.shard.status().applied.0
    }
}
