//! Commands that take many slices: nobody sees half of one, whatever crashes in the middle, and nothing waits for it that
//! need not.
//!
//! A client owns a group of keys and brings it from state to state, each in one transaction over all of it: in even
//! states every key has the state's number, in odd ones there is none. A marker tells the state.

use std::{cell::Cell, cell::RefCell, rc::Rc, time::Duration};

use pinion::{
    pb::etcdserverpb::{
        self as pb,
        compare::{CompareResult, CompareTarget, TargetUnion},
        request_op::Request as Op,
    },
    shard::{Error, Pace, Shard},
    state::Principal,
};

use crate::world::{self, STEPS_MAX, World};

/// Keys of a group: many slices of them.
const KEYS: u64 = 40;
const GROUPS: u64 = 2;

/// What clients were told, and how often what was looked for was met.
#[derive(Default)]
struct Seen {
    /// The newest state of each group that was acknowledged or read.
    least: [Cell<u64>; GROUPS as usize],
    sent: [Cell<u64>; GROUPS as usize],
    written: Cell<u64>,
    read: Cell<u64>,
    /// Reads answered while a command was done in part.
    read_between: Cell<u64>,
    over: Cell<bool>,
    running: Cell<u64>,
}

fn op(request: Op) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn put(key: String, value: u64) -> pb::RequestOp {
    let (key, value) = (key.into(), value.to_string().into());
    op(Op::RequestPut(pb::PutRequest { key, value, ..Default::default() }))
}

fn everything() -> pb::RangeRequest {
    pb::RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() }
}

/// Brings the group to its state `number`, whatever it was in before. Compares all its keys, and reads everything.
fn to_state(group: u64, number: u64) -> pb::TxnRequest {
    let mut ops = vec![put(format!("g{group}/marker"), number)];
    if number.is_multiple_of(2) {
        ops.extend((0..KEYS).map(|k| put(format!("g{group}/k{k:02}"), number)));
    } else {
        ops.push(op(Op::RequestDeleteRange(pb::DeleteRangeRequest {
            key: format!("g{group}/k").into(),
            range_end: format!("g{group}/l").into(),
            prev_kv: true,
        })));
    }
    ops.push(op(Op::RequestRange(everything())));
    let compare = pb::Compare {
        key: format!("g{group}/").into(),
        range_end: format!("g{group}0").into(),
        target: CompareTarget::Mod as i32,
        result: CompareResult::Greater as i32,
        target_union: Some(TargetUnion::ModRevision(0)),
    };
    let nested = pb::TxnRequest { compare: vec![compare.clone()], success: ops.clone(), failure: ops };
    let nested = vec![op(Op::RequestTxn(nested))];
    pb::TxnRequest { compare: vec![compare], success: nested.clone(), failure: nested }
}

fn any(world: &World, at: u64) -> Option<Shard> {
    world.nodes[at as usize % world.nodes.len()].shard.borrow().clone()
}

fn writer(world: &Rc<World>, group: u64, seen: &Rc<Seen>) {
    let (sim, world, seen) = (world.sim.clone(), Rc::downgrade(world), seen.clone());
    seen.running.set(seen.running.get() + 1);
    sim.clone().spawn(world::client_id(group), async move {
        for number in 1.. {
            if seen.over.get() {
                break;
            }
            let shard = world.upgrade().and_then(|world| any(&world, sim.below(8)));
            seen.sent[group as usize].set(number);
            let answer = match shard {
                Some(shard) => shard.write_long(&Principal::default(), to_state(group, number)).await,
                None => Err(Error::Stopped),
            };
            match answer {
                Ok(_) => {
                    seen.least[group as usize].set(number);
                    seen.written.set(seen.written.get() + 1);
                }
                Err(_) => sim.sleep(Duration::from_millis(1 + sim.below(20))).await,
            }
        }
        seen.running.set(seen.running.get() - 1);
    });
}

fn reader(world: &Rc<World>, number: u64, seen: &Rc<Seen>) {
    let (sim, world, seen) = (world.sim.clone(), Rc::downgrade(world), seen.clone());
    seen.running.set(seen.running.get() + 1);
    sim.clone().spawn(world::client_id(100 + number), async move {
        while !seen.over.get() {
            // Now and then as often as a command has steps: some of them must be met.
            let nanos = if sim.chance(500) { 1_000 } else { 300_000 };
            sim.sleep(Duration::from_nanos(1 + sim.below(nanos))).await;
            let Some(shard) = world.upgrade().and_then(|world| any(&world, sim.below(8))) else { continue };
            let (group, serializable) = (sim.below(GROUPS), sim.chance(600));
            let least = if serializable { 0 } else { seen.least[group as usize].get() };
            let between = shard.with_state(|state| state.is_paused());
            let request = pb::RangeRequest {
                key: format!("g{group}/").into(),
                range_end: format!("g{group}0").into(),
                ..Default::default()
            };
            if !serializable && shard.linearize().await.is_err() {
                continue;
            }
            let Ok(response) = shard.range(&Principal::default(), request).await else { continue };
            let response = response.whole();
            let marker = response.kvs.last().map_or(0, |marker| world::number(&marker.value));
            let sent = seen.sent[group as usize].get();
            assert!((least..=sent).contains(&marker), "state {marker} of {least}..={sent}");
            let keys = response.kvs.len().saturating_sub(1) as u64;
            let expected = if marker > 0 && marker.is_multiple_of(2) { KEYS } else { 0 };
            assert_eq!(keys, expected, "half of state {marker} was seen");
            assert!(response.kvs.iter().all(|kv| world::number(&kv.value) == marker));
            if !serializable {
                let least = &seen.least[group as usize];
                least.set(least.get().max(marker));
            }
            seen.read.set(seen.read.get() + 1);
            seen.read_between.set(seen.read_between.get() + u64::from(serializable && between));
        }
        seen.running.set(seen.running.get() - 1);
    });
}

/// Members crash at any moment, mostly while a command is done in part, and in the end they agree.
fn crashes(seed: u64, members: u64) -> Rc<Seen> {
    let mut world = World::new(seed, members);
    world.pace = Pace { keys: 1 + world.sim.below(7) as usize, ..world.pace };
    let world = Rc::new(world);
    (0..members as usize).for_each(|at| world.start(at));
    let seen = Rc::new(Seen::default());
    (0..GROUPS).for_each(|group| writer(&world, group, &seen));
    (0..3).for_each(|number| reader(&world, number, &seen));
    for _ in 0..5 {
        let (at, count) = (world.sim.below(members) as usize, seen.written.get());
        let got_on = world.sim.run_until(STEPS_MAX, || seen.written.get() > count + 3);
        assert!(got_on, "seed {seed}: writers are stuck");
        let paused = || {
            let shard = world.nodes[at].shard.borrow();
            shard.as_ref().is_some_and(|shard| shard.with_state(|state| state.is_paused()))
        };
        assert!(world.sim.run_until(STEPS_MAX, paused), "seed {seed}: nothing is done in part");
        world.sim.run_until(world.sim.below(40), || false);
        world.crash(at);
        world.start(at);
    }
    let count = (seen.written.get(), seen.read.get());
    let got_on = || seen.written.get() > count.0 + 5 && seen.read.get() > count.1 + 5;
    assert!(world.sim.run_until(STEPS_MAX, got_on), "seed {seed}: clients are stuck");
    seen.over.set(true);
    assert!(world.sim.run_until(STEPS_MAX, || seen.running.get() == 0), "seed {seed}: clients are stuck");
    let shards = || world.nodes.iter().map(|node| node.shard.borrow().clone()).collect::<Option<Vec<_>>>();
    let agreed = world.sim.run_until(STEPS_MAX, || {
        let statuses = shards().map(|shards| shards.iter().map(Shard::status).collect::<Vec<_>>());
        statuses.is_some_and(|all| all.iter().all(|one| one.applied == all[0].committed))
    });
    assert!(agreed, "seed {seed}: members do not agree");
    let states: Vec<_> = shards()
        .expect("all run")
        .iter()
        .map(|shard| shard.with_state(|state| state.range(&everything())).expect("readable"))
        .collect();
    assert!(states.windows(2).all(|pair| pair[0] == pair[1]), "seed {seed}: members differ");
    seen
}

#[test]
fn nobody_sees_half_of_a_long_command_whatever_crashes_in_the_middle() {
    let between: u64 = world::seeds(30).map(|seed| crashes(seed, 1).read_between.get()).sum();
    assert!(between > 0, "nobody read while a command was done in part");
}

#[test]
fn members_that_crash_in_the_middle_of_long_commands_agree() {
    let between: u64 = world::seeds(15).map(|seed| crashes(seed, 3).read_between.get()).sum();
    assert!(between > 0, "nobody read while a command was done in part");
}

/// What is committed is durable: a member that stops leaves the rest to the next start, and says so to who waits.
#[test]
fn a_member_that_stops_does_not_wait_for_a_long_command() {
    for seed in world::seeds(10) {
        let mut world = World::new(seed, 1);
        // A command lasts longer than anybody waits.
        world.pace = Pace { keys: 1, slice: Duration::ZERO, patience: Duration::ZERO };
        world.start(0);
        let shard = world.serving(0).expect("it serves");
        let answer = Rc::new(RefCell::new(None));
        let (asking, told) = (shard.clone(), answer.clone());
        world.sim.spawn(world::client_id(0), async move {
            for state in [2, 4] {
                asking.write(&Principal::default(), to_state(0, state)).await.expect("written");
            }
            *told.borrow_mut() = Some(asking.write(&Principal::default(), to_state(0, 5)).await);
        });
        let done_in_part = || {
            let started = shard.revision().0 == 3;
            started && shard.with_state(|state| state.is_paused())
        };
        assert!(world.sim.run_until(STEPS_MAX, done_in_part), "seed {seed}: it is not done in part");
        shard.leave();
        let heard = world.sim.run_until(STEPS_MAX, || answer.borrow().is_some());
        assert!(heard && matches!(*answer.borrow(), Some(Err(Error::Stopped))), "seed {seed}");
        assert_eq!(shard.revision().0, 3, "seed {seed}: nobody sees a part of it");
        shard.stop();
        drop(shard);
        let node = &world.nodes[0];
        assert!(world.sim.run_until(STEPS_MAX, || node.ended.borrow().is_some()), "seed {seed}: no end");
        assert_eq!(*node.ended.borrow(), Some(Ok(())), "seed {seed}");
        world.crash(0);
        world.start(0);
        let shard = world.serving(0).expect("it serves again");
        assert_eq!(shard.revision().0, 4, "seed {seed}");
        let keys = shard.with_state(|state| state.range(&everything())).expect("readable").count;
        assert_eq!(keys, 1, "seed {seed}: the marker is left");
    }
}
