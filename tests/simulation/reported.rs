//! What operators of etcd and of others reported, each as what brought it out.
//!
//! Those about one process, its memory or its flags are tests with real members (`cluster`, `faults`, `backup`), and what can
//! go wrong at any time (changes of members, damaged or lost disks, restarts after removals) is in the worlds of `cluster`, too.

use std::{cell::Cell, collections::BTreeMap, path::Path, rc::Rc, time::Duration};

use futures_lite::future::or;
use pinion::{
    env::sim::{Faults, LinkFault},
    pb::etcdserverpb as pb,
    shard::Error,
    state::Principal,
};

use crate::{
    cluster::{Change, newer, operate},
    group::{ELECTIONS, Group, put},
    world::{self, STEPS_MAX, World},
};

/// etcd#12291: a jump of the time of day moved leases. Neither does a clock that goes a little too fast.
#[test]
fn a_jump_of_the_time_of_day_ends_no_lease() {
    for seed in world::seeds(4) {
        let group = Group::new(seed, 3);
        let leader = group.leader();
        let (shard, grant) = (group.shard(leader), pb::LeaseGrantRequest { id: 7, ttl: 5 });
        group.run(async move { shard.write(&Principal::default(), grant).await }).expect("granted");
        for node in &group.world.nodes {
            group.world.sim.set_clock(node.id, 1_000, Duration::from_secs(1 << 30));
        }
        group.pass(Duration::from_millis(4_500));
        let lives = |at| group.shard(at).with_state(|state| state.leases().contains(7));
        assert!(lives(group.leader()), "seed {seed}: it has ended before its time");
        group.pass(Duration::from_secs(4));
        assert!(!lives(group.leader()), "seed {seed}: it lives for ever");
    }
}

/// etcd#15247: a leader whose disk had hung went on to end leases that were kept alive elsewhere.
#[test]
fn a_leader_that_was_stuck_ends_no_lease_that_others_kept_alive() {
    for seed in world::seeds(6) {
        let group = Group::new(seed, 3);
        let old = group.leader();
        let (shard, grant) = (group.shard(old), pb::LeaseGrantRequest { id: 7, ttl: 2 });
        group.run(async move { shard.write(&Principal::default(), grant).await }).expect("granted");
        // It stands still, its disk hangs, and nobody hears of it.
        group.world.sim.pause(group.world.nodes[old].id);
        group.world.nodes[old].disk.set_hanging(true);
        let others: Vec<_> = group.all().into_iter().filter(|at| *at != old).collect();
        for _ in 0..5 {
            let leader = group.leader_of(&others);
            let shard = group.shard(leader);
            let renewed = group.run(async move {
                shard.linearize().await?;
                shard.renew(7).await
            });
            assert!(matches!(renewed, Ok(Some(2))), "seed {seed}: {renewed:?}");
            group.pass(Duration::from_millis(900));
        }
        group.world.sim.resume(group.world.nodes[old].id);
        group.world.nodes[old].disk.set_hanging(false);
        for _ in 0..5 {
            let leader = group.leader();
            let shard = group.shard(leader);
            let renewed = group.run(async move {
                shard.linearize().await?;
                shard.renew(7).await
            });
            assert!(!matches!(renewed, Ok(None)), "seed {seed}: it has ended before its time");
            group.pass(Duration::from_millis(700));
        }
        group.agree();
    }
}

/// Cloudflare, 2020-11-02: one way between two members failed, and elections never ended.
#[test]
fn one_way_that_fails_brings_elections_to_an_end() {
    for seed in world::seeds(12) {
        let group = Group::new(seed, 3);
        let leader = group.leader();
        let before = group.shard(leader).term().0;
        let (from, to) = [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)][seed as usize % 6];
        let (from, to) = (group.world.nodes[from].id.0, group.world.nodes[to].id.0);
        let both = seed % 12 >= 6;
        let mut links = vec![((from, to), LinkFault::Cut)];
        links.extend(both.then_some(((to, from), LinkFault::Cut)));
        group.world.sim.set_faults(Faults { links: links.into_iter().collect(), ..Faults::default() });
        group.pass(Duration::from_secs(3));
        // Somebody leads, and is followed: what is written is acknowledged again and again.
        let mut written = 0;
        for _ in 0..40 {
            let able = group.all().into_iter().find(|at| group.shard(*at).can_read());
            if let Some(at) = able {
                let (shard, sim) = (group.shard(at), group.world.sim.clone());
                let patience = async move {
                    sim.sleep(Duration::from_millis(300)).await;
                    Err(Error::Timeout)
                };
                let write = async move { shard.write(&Principal::default(), put("k", "v")).await };
                written += u64::from(group.run(or(write, patience)).is_ok());
            }
            group.pass(Duration::from_millis(50));
        }
        let terms = group.all().into_iter().map(|at| group.shard(at).term().0).max().expect("some") - before;
        assert!(written >= 20, "seed {seed}, {from} to {to}, both {both}: {written} writes");
        assert!(terms <= 6, "seed {seed}, {from} to {to}, both {both}: {terms} terms");
        group.heal();
        group.agree();
    }
}

/// tikv#19626: a leader's disk did not answer, its heartbeats went on, and nobody else led.
#[test]
fn a_leader_whose_disk_hangs_leads_no_more() {
    for seed in world::seeds(6) {
        let group = Group::new(seed, if seed % 2 == 0 { 3 } else { 5 });
        let old = group.leader();
        group.world.nodes[old].disk.set_hanging(true);
        let shard = group.shard(old);
        // Something that it would have to write.
        group.world.sim.spawn(world::client_id(1), async move {
            match shard.write(&Principal::default(), put("k", "lost?")).await {
                // Nobody knows what becomes of it.
                Ok(_) | Err(_) => {}
            }
        });
        group.pass(ELECTIONS);
        let others: Vec<_> = group.all().into_iter().filter(|at| *at != old).collect();
        let new = group.leader_of(&others);
        group.put(new, "k", "kept");
        assert!(!group.shard(old).can_read(), "seed {seed}: it still leads");
        group.world.nodes[old].disk.set_hanging(false);
        group.agree();
    }
}

/// etcd#2698, etcd#16377: a checkpoint took so long that it was out of date when it had come, and so on for ever.
#[test]
fn a_member_catches_up_however_slow_its_link_is() {
    for seed in world::seeds(2) {
        let mut world = World::new(seed, 3);
        world.sockets = true;
        world.catchup_entries = 2;
        let group = Group::with(seed, world);
        let away = group.left_behind(|_| {});
        let id = group.world.nodes[away].id.0;
        let others = group.all().into_iter().filter(|at| *at != away).map(|at| group.world.nodes[at].id.0);
        let slow = others.map(|other| ((other, id), LinkFault::Slow(Duration::from_millis(150)))).collect();
        let writing = Rc::new(Cell::new(true));
        let (goes_on, shard, sim) = (writing.clone(), group.shard(group.leader()), group.world.sim.clone());
        group.world.sim.spawn(world::client_id(1), async move {
            for n in 0.. {
                if !goes_on.get() {
                    return;
                }
                match shard.write(&Principal::default(), put(&format!("k{}", n % 7), "v")).await {
                    // Who leads may change.
                    Ok(_) | Err(_) => {}
                }
                sim.sleep(Duration::from_micros(sim.below(20_000))).await;
            }
        });
        group.world.sim.set_faults(Faults { links: slow, ..Faults::default() });
        let before = group.shard(group.leader_of(&[(away + 1) % 3, (away + 2) % 3])).revision();
        let shard = || group.world.nodes[away].shard.borrow().clone();
        let came = || shard().is_some_and(|shard| shard.revision() >= before);
        assert!(
            group.world.sim.run_until(STEPS_MAX, came),
            "seed {seed}: it never comes to revision {before}"
        );
        writing.set(false);
        group.heal();
        group.agree();
    }
}

/// etcd#21610: a learner was sent a checkpoint from before it was added, and took itself for removed.
#[test]
fn a_learner_is_not_sent_away_by_an_older_checkpoint() {
    for seed in world::seeds(6) {
        let mut world = World::with_others(seed, 3, 1);
        world.catchup_entries = 2;
        world.sockets = seed % 2 == 1;
        let group = Group::with(seed, world);
        for n in 0..25 {
            group.put(group.leader(), &format!("k{n}"), "v");
        }
        // The newest checkpoint is of before that.
        change(&group, Change::join(&group.world, 3));
        group.world.start(3);
        group.agree();
        assert!(group.world.nodes[3].ended.borrow().is_none(), "seed {seed}");
        change(&group, Change::Promote(group.world.nodes[3].id));
        group.put(group.leader(), "k", "v");
        group.agree();
    }
}

/// etcd#20269, etcd#13509: a member was started again without its data, and it, or whoever led, ended with a panic.
#[test]
fn a_member_that_lost_its_data_is_heard_by_nobody() {
    for seed in world::seeds(6) {
        let mut world = World::new(seed, 3);
        (world.sockets, world.publishes, world.catchup_entries) = (true, true, 1_000);
        let group = Group::with(seed, world);
        let lost = (group.leader() + 1) % 3;
        let id = group.world.nodes[lost].id;
        let others: Vec<_> = group.all().into_iter().filter(|at| *at != lost).collect();
        let told = || others.iter().all(|at| group.shard(*at).log_of(id).is_some());
        assert!(group.world.sim.run_until(STEPS_MAX, told), "seed {seed}: it does not say which log it has");
        group.put(group.leader(), "k", "v");
        group.agree();
        group.world.crash(lost);
        group.world.nodes[lost].disk.put(Path::new("/"), &BTreeMap::new());
        group.world.start(lost);
        for _ in 0..4 {
            // Whoever leads then has the vote of the other one that has everything.
            group.world.crash(others[0]);
            group.pass(ELECTIONS);
            let votes = group.shard(lost);
            assert!(!votes.can_read() && !group.shard(others[1]).can_read(), "seed {seed}: its vote counted");
            group.world.start(others[0]);
            group.put(group.leader_of(&others), "k", "w");
        }
        assert_eq!(group.shard(lost).revision().0, 1, "seed {seed}: it was told something");
        change(&group, Change::Remove(id));
        group.world.crash(lost);
        group.put(group.leader_of(&others), "k", "x");
    }
}

/// etcd#13466: a start after members had left replayed their leaving over a checkpoint that knew of it already.
#[test]
fn a_start_after_members_have_left_finds_them_gone() {
    for seed in world::seeds(6) {
        let group = Group::new(seed, 5);
        for gone in [4, 3] {
            group.put(group.leader(), "k", "v");
            group.agree();
            change(&group, Change::Remove(group.world.nodes[gone].id));
            group.world.crash(gone);
            group.world.nodes[gone].has_lived.set(false);
            for n in 0..group.world.sim.below(16) {
                group.put(group.leader(), "k", &n.to_string());
            }
            group.agree();
            group.all().into_iter().for_each(|at| group.world.crash(at));
            group.all().into_iter().for_each(|at| group.world.start(at));
            group.agree();
            for at in group.all() {
                let count = group.shard(at).with_state(|state| state.cluster().members().count());
                assert_eq!(count, gone, "seed {seed}, member {at}");
            }
        }
    }
}

/// kubernetes#54027: a program older than what the cluster had gone on to was started, and ended with a panic.
#[test]
fn an_older_release_is_told_that_the_cluster_has_gone_on() {
    for seed in world::seeds(4) {
        let mut world = World::new(seed, 3);
        (world.sockets, world.publishes, world.catchup_entries) = (true, true, 1_000);
        let older = world.nodes[0].release.get();
        world.nodes.iter().for_each(|node| node.release.set(newer()));
        let group = Group::with(seed, world);
        let is_used = || group.all().into_iter().all(|at| group.shard(at).level() == newer().newest());
        assert!(group.world.sim.run_until(STEPS_MAX, is_used), "seed {seed}: what all know is not used");
        group.put(group.leader(), "k", "v");
        group.agree();
        let back = (group.leader() + 1) % 3;
        group.world.crash(back);
        group.world.nodes[back].release.set(older);
        let begins_anew = seed % 2 == 1;
        if begins_anew {
            group.world.nodes[back].disk.put(Path::new("/"), &BTreeMap::new());
        }
        group.world.start(back);
        group.pass(ELECTIONS);
        match group.world.nodes[back].ended.borrow().as_ref() {
            Some(why) => {
                assert!(why.as_ref().is_err_and(|why| why.contains("newer")), "seed {seed}: {why:?}")
            }
            // Its own log does not say so for certain, and nobody else talks to it.
            None => {
                let shard = group.shard(back);
                assert!(!shard.can_read() && shard.level() == older.newest(), "seed {seed}: it goes on");
            }
        }
        let others = [(back + 1) % 3, (back + 2) % 3];
        group.put(group.leader_of(&others), "k", "w");
        group.world.crash(back);
        group.world.nodes[back].release.set(newer());
        if !begins_anew {
            group.world.start(back);
            group.agree();
        }
    }
}

/// patroni#3335: clients of a member that was cut off waited for ever.
#[test]
fn whoever_asks_a_member_that_is_cut_off_is_told_so() {
    for seed in world::seeds(6) {
        let group = Group::new(seed, 3);
        let leader = group.leader();
        let (shard, grant) = (group.shard(leader), pb::LeaseGrantRequest { id: 7, ttl: 60 });
        group.run(async move { shard.write(&Principal::default(), grant).await }).expect("granted");
        group.agree();
        let alone = if seed % 2 == 0 { leader } else { (leader + 1) % 3 };
        group.isolate(alone);
        // As soon as it is, or once it knows.
        group.pass(Duration::from_millis(group.world.sim.below(400)));
        let shard = group.shard(alone);
        let began = group.world.sim.now();
        let answers = group.run(async move {
            let (write, read) =
                (shard.write(&Principal::default(), put("k", "v")).await, shard.linearize().await);
            [write.map(drop), read, shard.renew_anywhere(7).await.map(drop)]
        });
        let asked = group.world.sim.now().since(began);
        for answer in answers {
            assert!(
                matches!(
                    answer,
                    Err(Error::Timeout
                        | Error::NoLeader
                        | Error::NotProposed
                        | Error::LeaderLost
                        | Error::Unlinked)
                ),
                "seed {seed}: {answer:?}"
            );
        }
        assert!(asked < Duration::from_secs(30), "seed {seed}: {asked:?}");
        group.heal();
        group.agree();
    }
}

fn change(group: &Group, change: Change) {
    let done = operate(&group.world, change);
    assert!(group.world.sim.run_until(STEPS_MAX, || done.get()), "seed {}: it is not done", group.seed);
}
