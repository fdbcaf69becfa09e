//! Requests on any member: writes and changes that it forwards, reads it asks the leader about, leases it has others
//! renew; what waits where there is no leader; and who leads when a leader should not any more.

use std::{
    cell::Cell, cell::RefCell, collections::BTreeMap, collections::BTreeSet, pin::Pin, rc::Rc, time::Duration,
};

use futures_lite::future::{or, poll_once};
use futures_util::future::join;
use pinion::{
    env::{Instant, sim::Faults},
    pb::etcdserverpb as pb,
    shard::{Error, Seat, Shard},
    state::{Principal, cluster::JoinMember},
    types::MemberId,
};

use crate::world::{self, STEPS_MAX, World};

const ELECTION: Duration = Duration::from_millis(100);
/// How long writes wait for a leader.
const PATIENCE: Duration = Duration::from_millis(5_200);

/// Three members that have a leader, which is not the first.
fn led(seed: u64) -> (World, usize) {
    let world = World::new(seed, 3);
    (0..3).for_each(|at| world.start(at));
    let leader = leader(&world);
    (world, leader)
}

fn shard(world: &World, at: usize) -> Shard {
    world.nodes[at].shard.borrow().clone().expect("it runs")
}

/// Who leads, once everybody who runs knows of it.
fn leader(world: &World) -> usize {
    let known = || {
        let running: Vec<_> = world.nodes.iter().filter_map(|node| node.shard.borrow().clone()).collect();
        let leaders: BTreeSet<_> = running.iter().map(|shard| shard.leader().0).collect();
        let serves = running.iter().any(Shard::can_read);
        (leaders.len() == 1 && serves && !leaders.contains(&0)).then(|| *leaders.first().expect("one"))
    };
    assert!(world.sim.run_until(STEPS_MAX, || known().is_some()), "nobody leads");
    let leader = known().expect("just seen");
    world.nodes.iter().position(|node| node.id.0 == leader).expect("a member")
}

/// Runs something on a client's machine to its end.
fn run<T: 'static>(world: &World, task: impl Future<Output = T> + 'static) -> T {
    let done = Rc::new(RefCell::new(None));
    let shown = done.clone();
    world.sim.spawn(world::client_id(99), async move {
        let output = task.await;
        *shown.borrow_mut() = Some(output);
    });
    assert!(world.sim.run_until(STEPS_MAX, || done.borrow().is_some()), "it waits in vain");
    done.take().expect("just seen")
}

async fn put(shard: &Shard, key: &str, value: u64) -> Result<i64, Error> {
    let put =
        pb::PutRequest { key: key.to_owned().into(), value: value.to_string().into(), ..Default::default() };
    let response = shard.write(&Principal::default(), put).await?;
    Ok(response.header.expect("a header").revision)
}

async fn read(shard: &Shard, key: &str) -> Result<u64, Error> {
    shard.linearize().await?;
    let request = pb::RangeRequest { key: key.to_owned().into(), ..Default::default() };
    let answer = shard.range(&Principal::default(), request).await?.whole();
    Ok(answer.kvs.first().map_or(0, |kv| world::number(&kv.value)))
}

#[test]
fn every_member_takes_writes_and_reads_of_the_newest() {
    for seed in world::seeds(5) {
        let (world, _) = led(seed);
        for round in 1..=10 {
            let (writer, reader) =
                (shard(&world, round as usize % 3), shard(&world, (round / 3) as usize % 3));
            run(&world, async move {
                put(&writer, "k", round).await.expect("it is forwarded");
                assert_eq!(read(&reader, "k").await, Ok(round), "seed {seed}");
            });
        }
        // Without a fault nothing is asked twice, and each write is one entry at most.
        let committed = shard(&world, 0).status().committed.0;
        assert!(committed <= 3 + 10 + 10, "seed {seed}: {committed} entries");
    }
}

#[test]
fn members_are_changed_through_any_member() {
    let (world, leader) = led(1);
    let asked = shard(&world, (leader + 1) % 3);
    run(&world, async move {
        let member = pb::Member {
            id: 9,
            is_learner: true,
            peer_ur_ls: vec!["http://x:1".into()],
            ..Default::default()
        };
        let join = JoinMember { member: Some(member), learners_max: 1 };
        let members = asked.change(&Principal::default(), (Seat::Follow, MemberId(9)), join).await;
        assert_eq!(members.map(|members| members.len()), Ok(4));
        // It has nothing of the log.
        let promote = pinion::state::cluster::PromoteMember { id: 9 };
        let refused = asked.change(&Principal::default(), (Seat::Vote, MemberId(9)), promote).await;
        assert_eq!(refused.map(drop), Err(Error::LearnerNotReady));
    });
}

#[test]
fn a_lease_is_granted_renewed_and_asked_about_through_any_member() {
    let (world, leader) = led(1);
    let (asked, sim) = (shard(&world, (leader + 1) % 3), world.sim.clone());
    run(&world, async move {
        let nobody = Principal::default();
        asked.write(&nobody, pb::LeaseGrantRequest { id: 7, ttl: 2 }).await.expect("granted");
        for _ in 0..5 {
            sim.sleep(Duration::from_millis(1_500)).await;
            assert_eq!(asked.renew_elsewhere(vec![7, 8]).await, Ok(Some(vec![Some(2), None])));
        }
        let left = asked.time_to_live(&nobody, (7, false)).await.expect("told").whole();
        assert_eq!((left.granted_ttl, left.ttl), (2, 1), "the seconds that are whole");
        sim.sleep(Duration::from_secs(4)).await;
        let gone = asked.time_to_live(&nobody, (7, false)).await.expect("told").whole();
        assert_eq!((gone.granted_ttl, gone.ttl), (0, -1));
        assert_eq!(asked.renew_anywhere(7).await, Ok(None));
    });
}

#[test]
fn without_a_leader_writes_wait_for_one_and_then_are_given_up_for_good() {
    let (world, leader) = led(1);
    let left = shard(&world, (leader + 1) % 3);
    world.crash(leader);
    world.crash((leader + 2) % 3);
    let (sim, alone) = (world.sim.clone(), left.clone());
    run(&world, async move {
        while alone.leader() != MemberId(0) {
            sim.sleep(ELECTION).await;
        }
        let began = sim.now();
        assert_eq!(put(&alone, "given up", 1).await, Err(Error::NotProposed));
        assert!(sim.now().since(began) >= PATIENCE);
        assert_eq!(read(&alone, "k").await, Err(Error::Timeout));
        // And one that has a leader in time.
    });
    let waiting = Rc::new(Cell::new(None));
    let (alone, told) = (left.clone(), waiting.clone());
    world.sim.spawn(world::client_id(1), async move { told.set(Some(put(&alone, "k", 7).await)) });
    world.sim.run_until(1_000, || false);
    world.start(leader);
    assert!(world.sim.run_until(STEPS_MAX, || waiting.get().is_some()));
    assert!(matches!(waiting.get(), Some(Ok(_))), "{:?}", waiting.get());
    run(&world, async move {
        assert_eq!(read(&left, "given up").await, Ok(0), "it was told that it is not");
        assert_eq!(read(&left, "k").await, Ok(7));
    });
}

#[test]
fn a_leader_that_is_cut_off_leaves_nobody_waiting_for_long() {
    for seed in world::seeds(5) {
        let (world, leader) = led(seed);
        let (cut, other) = (shard(&world, leader), shard(&world, (leader + 1) % 3));
        let isolated = BTreeSet::from([world.nodes[leader].id.0]);
        world.sim.set_faults(Faults { isolated, ..Faults::default() });
        let sim = world.sim.clone();
        run(&world, async move {
            let began = sim.now();
            // One that is in the old leader's log, and one that was on its way to it, which starts anew.
            let (lost, moved) = join(put(&cut, "a", 1), put(&other, "b", 1)).await;
            assert!(moved.is_ok(), "seed {seed}: {moved:?}");
            assert_eq!(lost, Err(Error::Timeout), "nobody else has it");
            assert!(sim.now().since(began) <= PATIENCE + 3 * ELECTION, "seed {seed}");
            put(&other, "c", 1).await.expect("there is another leader");
            // It knows nothing of that, and must not answer.
            assert_eq!(read(&cut, "c").await, Err(Error::Timeout), "seed {seed}");
        });
    }
}

/// Writes distinct values through all members while messages are lost, doubled, late and out of order.
#[test]
fn a_write_takes_effect_once_however_often_it_comes() {
    for seed in world::seeds(10) {
        let (world, _) = led(seed);
        world.sim.set_faults(Faults {
            drop_permille: 100,
            duplicate_permille: 400,
            delay_max: Duration::from_millis(20),
            ..Faults::default()
        });
        let running = Rc::new(Cell::new(0));
        let written = Rc::new(RefCell::new(0));
        for number in 0..6u64 {
            let (shards, sim) =
                (world.nodes.iter().map(|node| node.shard.clone()).collect::<Vec<_>>(), world.sim.clone());
            let (running, written) = (running.clone(), written.clone());
            running.set(running.get() + 1);
            world.sim.spawn(world::client_id(number), async move {
                for value in 0..20 {
                    let shard = shards[sim.below(3) as usize].borrow().clone().expect("nobody crashes");
                    *written.borrow_mut() +=
                        u64::from(put(&shard, "k", number * 1_000 + value).await.is_ok());
                }
                running.set(running.get() - 1);
            });
        }
        assert!(world.sim.run_until(10 * STEPS_MAX, || running.get() == 0), "seed {seed}: stuck");
        world.sim.set_faults(Faults::default());
        let shard = shard(&world, leader(&world));
        let newest = shard.status().revision.0;
        let mut seen = BTreeMap::new();
        for revision in 2..=newest {
            let request = pb::RangeRequest { key: "k".into(), revision, ..Default::default() };
            let response = shard.with_state(|state| state.range(&request)).expect("readable");
            *seen.entry(world::number(&response.kvs[0].value)).or_insert(0) += 1;
        }
        assert!(seen.values().all(|times| *times == 1), "seed {seed}: {seen:?}");
        assert!(*written.borrow() >= 60, "seed {seed}: {} were written", written.borrow());
    }
}

#[test]
fn leadership_is_handed_over_at_once_and_nobody_is_refused() {
    for seed in world::seeds(10) {
        let (world, leader) = led(seed);
        let (from, to) = (shard(&world, leader), shard(&world, (leader + 1) % 3));
        let (other, sim) = (shard(&world, (leader + 2) % 3), world.sim.clone());
        let over = Rc::new(Cell::new(false));
        let (ended, refused, longest) =
            (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)), Rc::new(Cell::new(Duration::ZERO)));
        for (number, shard) in [from.clone(), to.clone(), other].into_iter().enumerate() {
            let (over, ended, refused, sim) = (over.clone(), ended.clone(), refused.clone(), sim.clone());
            let longest = longest.clone();
            world.sim.spawn(world::client_id(number as u64), async move {
                let mut value = 0;
                while !over.get() {
                    let began = sim.now();
                    value += 1;
                    if put(&shard, &format!("k{number}"), value).await.is_err() {
                        refused.set(refused.get() + 1);
                    }
                    longest.set(longest.get().max(sim.now().since(began)));
                }
                ended.set(ended.get() + 1);
            });
        }
        world.sim.run_until(500, || false);
        run(&world, async move {
            from.hand_over(Some(to.member_id())).await.expect("it takes over");
            assert_eq!(from.leader(), to.member_id(), "seed {seed}");
            to.hand_over(None).await.expect("somebody takes over");
            assert!(!to.is_leader(), "seed {seed}");
        });
        over.set(true);
        assert!(world.sim.run_until(STEPS_MAX, || ended.get() == 3), "seed {seed}: stuck");
        assert_eq!(refused.get(), 0, "seed {seed}");
        assert!(longest.get() < ELECTION, "seed {seed}: {:?}", longest.get());
    }
}

/// What is asked of a member again and again.
type Ask = fn(Shard) -> Pin<Box<dyn Future<Output = ()>>>;

/// Asks each member, some times a millisecond, while something happens: how long it took at most until what was asked then
/// was answered.
fn longest(world: &World, ask: Ask, happens: impl Future<Output = ()> + 'static) -> Duration {
    let over = Rc::new(Cell::new(false));
    let (waiting, longest) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(Duration::ZERO)));
    for at in 0..world.nodes.len() {
        let (shard, sim, over) = (shard(world, at), world.sim.clone(), over.clone());
        let (waiting, longest) = (waiting.clone(), longest.clone());
        world.sim.spawn(world::client_id(at as u64), async move {
            while !over.get() {
                let asked = ask(shard.clone());
                let (waiting, longest, clock) = (waiting.clone(), longest.clone(), sim.clone());
                waiting.set(waiting.get() + 1);
                sim.spawn(world::client_id(at as u64), async move {
                    let began = clock.now();
                    asked.await;
                    longest.set(longest.get().max(clock.now().since(began)));
                    waiting.set(waiting.get() - 1);
                });
                sim.sleep(Duration::from_micros(sim.below(1_000))).await;
            }
        });
    }
    let sim = world.sim.clone();
    run(world, async move {
        sim.sleep(Duration::from_millis(20)).await;
        happens.await;
        sim.sleep(Duration::from_millis(20)).await;
    });
    over.set(true);
    assert!(world.sim.run_until(STEPS_MAX, || waiting.get() == 0), "some are stuck");
    longest.get()
}

#[test]
fn no_tick_of_the_clock_is_waited_for_when_leadership_is_handed_over() {
    let puts: Ask = |shard| {
        Box::pin(async move {
            put(&shard, "k", 1).await.expect("nobody is refused");
        })
    };
    let reads: Ask = |shard| {
        Box::pin(async move {
            read(&shard, "k").await.expect("nobody is refused");
        })
    };
    let renewals: Ask = |shard| {
        Box::pin(async move {
            assert_eq!(shard.renew_anywhere(7).await, Ok(Some(1_000)));
        })
    };
    for seed in world::seeds(10) {
        for (what, ask) in [("puts", puts), ("reads", reads), ("renewals", renewals)] {
            let mut world = World::new(seed, 3);
            world.heartbeat = Duration::from_secs(10);
            (0..3).for_each(|at| world.start(at));
            let from = shard(&world, leader(&world));
            let granting = from.clone();
            run(&world, async move {
                let grant = pb::LeaseGrantRequest { id: 7, ttl: 1_000 };
                granting.write(&Principal::default(), grant).await.expect("granted");
            });
            let took = longest(&world, ask, async move {
                from.hand_over(None).await.expect("somebody takes over");
            });
            // Some writes to a disk that is slow at times.
            assert!(took < Duration::from_millis(80), "seed {seed}, {what}: {took:?}");
        }
    }
}

#[test]
fn leadership_is_not_handed_over_to_who_cannot_be_reached() {
    for seed in world::seeds(10) {
        let (world, leader) = led(seed);
        let (from, sim) = (shard(&world, leader), world.sim.clone());
        let unreached = shard(&world, (leader + 1 + seed as usize % 2) % 3).member_id();
        let isolate = |members: BTreeSet<u64>| Faults { isolated: members, ..Faults::default() };
        sim.set_faults(isolate(BTreeSet::from([unreached.0])));
        let other = from.clone();
        run(&world, async move {
            // As far as Raft knows, both are there.
            let began = sim.now();
            other.hand_over(None).await.expect("the third one takes over");
            assert!(sim.now().since(began) < ELECTION, "seed {seed}: {:?}", sim.now().since(began));
            assert_ne!(other.leader(), unreached, "seed {seed}");
        });
        let sim = world.sim.clone();
        sim.set_faults(Faults::default());
        let leader = shard(&world, self::leader(&world));
        sim.set_faults(isolate(world.nodes.iter().map(|node| node.id.0).collect()));
        run(&world, async move {
            let began = sim.now();
            assert_eq!(leader.hand_over(None).await, Err(Error::NotHandedOver), "seed {seed}");
            assert_eq!(sim.now().since(began), Duration::ZERO, "seed {seed}: it waits for nobody");
        });
    }
}

#[test]
fn a_promotion_outlives_a_crash_of_all_though_nothing_is_written_after_it() {
    for seed in world::seeds(10) {
        let world = World::with_others(seed, 2, 1);
        (0..2).for_each(|at| world.start(at));
        let leader = leader(&world);
        let (asked, joins) = (shard(&world, leader), world.nodes[2].id);
        let learner = pb::Member {
            id: joins.0,
            is_learner: true,
            peer_ur_ls: vec!["http://x:1".into()],
            ..Default::default()
        };
        let join = JoinMember { member: Some(learner), learners_max: 1 };
        let change = asked.clone();
        run(&world, async move {
            let joined = change.change(&Principal::default(), (Seat::Follow, joins), join).await;
            assert!(joined.is_ok(), "seed {seed}: {joined:?}");
        });
        world.start(2);
        let sim = world.sim.clone();
        run(&world, async move {
            let promote = pinion::state::cluster::PromoteMember { id: joins.0 };
            while asked.change(&Principal::default(), (Seat::Vote, joins), promote.clone()).await.is_err() {
                sim.sleep(ELECTION).await;
            }
            // Nobody writes anything.
            sim.sleep(2 * ELECTION).await;
        });
        (0..3).for_each(|at| world.crash(at));
        (0..3).filter(|at| *at != leader).for_each(|at| world.start(at));
        // Two of three, one of which had no vote before.
        let serves = || {
            let mut running = world.nodes.iter().filter_map(|node| node.shard.borrow().clone());
            running.any(|shard| shard.can_read())
        };
        assert!(world.sim.run_until(STEPS_MAX, serves), "seed {seed}: nobody can lead");
    }
}

#[test]
fn a_leader_that_is_removed_hands_over_first() {
    for seed in world::seeds(5) {
        let (world, leader) = led(seed);
        let (removed, other) = (shard(&world, leader), shard(&world, (leader + 1) % 3));
        let term = removed.status().term;
        run(&world, async move {
            let id = removed.member_id();
            let remove = pinion::state::cluster::RemoveMember { id: id.0 };
            let members = removed.change(&Principal::default(), (Seat::Leave, id), remove).await;
            // Who is removed need not hear of it any more: the others do.
            let told = members.map(|members| members.len());
            assert!(matches!(told, Ok(2) | Err(Error::LeaderLost | Error::Timeout)), "seed {seed}: {told:?}");
            put(&other, "k", 1).await.expect("the others go on");
            assert_eq!(other.status().members.len(), 2, "seed {seed}");
            assert!(other.leader() != id && !removed.is_leader(), "seed {seed}");
            assert_eq!(other.status().term.0, term.0 + 1, "seed {seed}: one election, at once");
        });
    }
}

#[test]
fn a_leader_whose_disk_does_not_answer_leads_no_more() {
    for seed in world::seeds(5) {
        let (world, leader) = led(seed);
        let (stuck, other) = (shard(&world, leader), shard(&world, (leader + 1) % 3));
        let sim = world.sim.clone();
        world.nodes[leader].disk.set_hanging(true);
        let writing = Rc::new(Cell::new(false));
        let (asked, told) = (stuck.clone(), writing.clone());
        world.sim.spawn(world::client_id(1), async move {
            // Whatever it is told: its write is in the log of the others, or starts anew once the disk answers.
            match put(&asked, "a", 1).await {
                Ok(_) | Err(_) => told.set(true),
            }
        });
        let began: Instant = world.sim.now();
        let moved = || other.leader() != MemberId(0) && other.leader() != stuck.member_id();
        assert!(world.sim.run_until(STEPS_MAX, moved), "seed {seed}: it leads on");
        let took = world.sim.now().since(began);
        assert!(took <= 4 * ELECTION, "seed {seed}: {took:?}");
        let another = other.clone();
        run(&world, async move {
            put(&another, "b", 1).await.expect("there is another leader");
            // For as long as its disk does not answer it does not campaign.
            sim.sleep(20 * ELECTION).await;
            assert_ne!(another.leader(), MemberId(0), "seed {seed}");
        });
        let term = other.status().term;
        assert!(!stuck.is_leader() && stuck.status().term == term, "seed {seed}");
        world.nodes[leader].disk.set_hanging(false);
        assert!(world.sim.run_until(STEPS_MAX, || writing.get()), "seed {seed}: who asked waits for ever");
        run(&world, async move {
            assert_eq!(read(&stuck, "b").await, Ok(1), "seed {seed}: it follows again");
        });
    }
}

#[test]
fn a_stop_waits_for_nobody_who_cannot_come() {
    let (world, leader) = led(1);
    let left = shard(&world, (leader + 1) % 3);
    world.crash(leader);
    world.crash((leader + 2) % 3);
    let (sim, ended) = (world.sim.clone(), world.nodes[(leader + 1) % 3].ended.clone());
    run(&world, async move {
        let mut waiting = Box::pin(put(&left, "k", 1));
        assert!(poll_once(&mut waiting).await.is_none());
        left.leave();
        left.stop();
        let late = async {
            sim.sleep(Duration::from_secs(2)).await;
            Err(Error::Timeout)
        };
        assert_eq!(or(waiting, late).await, Err(Error::Stopped));
        while ended.borrow().is_none() {
            sim.sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(*ended.borrow(), Some(Ok(())));
    });
}
