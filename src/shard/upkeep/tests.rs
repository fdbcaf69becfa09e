use std::{cell::Cell, path::Path, rc::Rc, time::Duration};

use futures_lite::future::{block_on, or, poll_once};

use super::*;
use crate::{
    env::sim::{Sim, SimEnv, disk::SimDisk},
    metrics::ShardMetrics,
    pb::etcdserverpb as pb,
    service::{self, tests::member::TestMember},
    shard::reply::{Answer, channel},
    state::{
        Commands, Context, Outcome, Principal,
        lease::{Lease, Place},
    },
    storage::{
        checkpoint::{CheckpointOptions, CheckpointStore},
        data_dir::DataDir,
    },
    types::{MemberId, ShardId, Term},
};

fn upkeep(sim: &Sim) -> Upkeep<SimEnv> {
    let env = SimEnv::new(sim, MemberId(1), SimDisk::new(sim));
    let opened = Rc::new(Cell::new(None));
    sim.spawn(MemberId(1), {
        let (env, opened) = (env.clone(), opened.clone());
        async move {
            let dir = DataDir::open(&env, Path::new("/data"), None).await.unwrap();
            let options = CheckpointOptions::new(dir.checkpoint(ShardId(0)), ShardId(0));
            let store =
                CheckpointStore::open(env, options, &mut Loader::new(Commands::default())).await.unwrap().0;
            opened.set(Some(store));
        }
    });
    let mut store = None;
    assert!(sim.run_until(1_000_000, || {
        store = opened.take();
        store.is_some()
    }));
    let due = Due { entries: u64::MAX, bytes: 1 << 30, log_bytes: u64::MAX };
    let checkpoints = Checkpoints::new(store.expect("just seen"), due, LogIndex(0), Commands::default());
    let metrics = ShardMetrics::new().unwrap();
    Upkeep::new(env, Rc::new(metrics), checkpoints, Times::new(Duration::ZERO, false))
}

/// A key that was written so many times, of which only the last version is not to be freed.
fn overwritten(times: usize) -> StateMachine {
    let (mut state, mut outcome) = (StateMachine::new(), Outcome::default());
    let principal = Principal::default();
    for _ in 0..times {
        let put = pb::PutRequest { key: "k".into(), ..Default::default() };
        state.apply(&put, Context::unasked(&principal), &mut outcome).unwrap();
    }
    let compact = pb::CompactionRequest { revision: state.revision().0, physical: false };
    state.apply(&compact, Context::unasked(&principal), &mut outcome).unwrap();
    state
}

#[test]
fn compaction_leaves_busy_turns_alone_for_a_while() {
    let sim = Sim::new(1);
    let mut upkeep = upkeep(&sim);
    let mut state = overwritten(20 * limits::COMPACTION_SLICE_KEYS);
    assert_eq!(upkeep.compact(&mut state, false, Vec::new), Some(Freed::Some));
    assert!(upkeep.is_busy());
    for _ in 0..limits::COMPACTION_TURNS_PUT_OFF {
        assert_eq!(upkeep.compact(&mut state, false, Vec::new), None);
    }
    assert_eq!(upkeep.compact(&mut state, false, Vec::new), Some(Freed::Some), "put off long enough");
    assert_eq!(upkeep.compact(&mut state, true, Vec::new), Some(Freed::Some), "nothing else to do");
    assert_eq!(upkeep.compact(&mut state, false, Vec::new), None);
    upkeep.applied(limits::COMPACTION_WRITES_PUT_OFF);
    assert_eq!(upkeep.compact(&mut state, false, Vec::new), Some(Freed::Some), "writers must not outrun it");
    while upkeep.compact(&mut state, true, Vec::new) == Some(Freed::Some) {}
    assert!(!upkeep.is_busy());
}

#[test]
fn a_defragmentation_waits_for_the_files() {
    let sim = Sim::new(1);
    let mut upkeep = upkeep(&sim);
    let mut state = overwritten(10);
    let (reply, mut answer): (_, Answer<()>) = channel();
    let freed = upkeep.compact(&mut state, true, || vec![reply]);
    assert_eq!(freed, Some(Freed::All));
    assert!(upkeep.is_awaited() && block_on(poll_once(&mut answer)).is_none());
    let mut done = false;
    for _ in 0..1_000_000 {
        let now = upkeep.env.now();
        let position = LogPosition { index: state.applied(), term: Term(1) };
        upkeep.checkpoint(&mut state, position, 0, now).expect("nothing is installed");
        upkeep.compact(&mut state, true, Vec::new);
        done = block_on(poll_once(&mut answer)).is_some();
        if done {
            break;
        }
        block_on(futures_lite::future::poll_fn(|cx| {
            upkeep.poll(cx);
            std::task::Poll::Ready(())
        }));
        sim.step();
    }
    assert!(done && !upkeep.is_awaited());
}

#[test]
fn for_leases_that_are_gone_already_nothing_is_logged() {
    let member = TestMember::serving(service::Options::default());
    let (shard, env) = (member.shard.clone(), member.env.clone());
    member.run(async move {
        let times = Times::new(Duration::ZERO, false);
        times.lead();
        let lease = Lease { id: 7, ttl: 1, remaining: 0 };
        times.granted(Place::of(3, 5), lease, env.now());
        let before = shard.status().applied;
        let duty = Duty::default();
        duty.follow(Leadership::Gained(shard.term()));
        let expiry = LeaseExpiry::new(env.clone(), shard.clone(), times.clone(), duty);
        or(expiry.run(), env.sleep(Duration::from_secs(3))).await;
        assert_eq!((times.next(), shard.status().applied), (None, before));
    });
}
