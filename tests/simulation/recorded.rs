//! Faults that etcd once had, each as what brought it out, by its number there. The others of them:
//!
//! - etcd#13766 (what was applied counted as durable before the data were): [`Law::Checkpoint`] is that, broken on purpose;
//! - etcd#14370 (an answer before its entry was durable): [`Law::LeaderDurable`] is, and `crash` kills real members.
//!
//! [`Law::Checkpoint`]: pinion::env::Law::Checkpoint
//! [`Law::LeaderDurable`]: pinion::env::Law::LeaderDurable

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use pinion::{
    env::sim::Faults,
    pb::{
        authpb::UserAddOptions,
        etcdserverpb::{self as pb, request_op::Request, response_op::Response},
        mvccpb::event::EventType,
    },
    shard::{Error, Told},
    state::Principal,
};

use futures_lite::future::or;
use prost::Message;

use crate::{
    group::{ELECTIONS, Group, put, told, watch},
    world::{self, STEPS_MAX, World},
};

/// etcd#14571: who is who and who may what came with a checkpoint, and was not looked at again.
#[test]
fn users_and_rights_come_with_a_checkpoint() {
    for seed in world::seeds(4) {
        let group = Group::new(seed, 3);
        let away = group.left_behind(|leader| {
            let shard = group.shard(leader);
            group.run(async move {
                let nobody = Principal::default();
                let options = Some(UserAddOptions { no_password: true });
                let root = || "root".to_owned();
                let user = pb::AuthUserAddRequest { name: root(), options, ..Default::default() };
                shard.write(&nobody, user).await.expect("added");
                let role = pb::AuthRoleAddRequest { name: root() };
                shard.write(&nobody, role).await.expect("added");
                let grant = pb::AuthUserGrantRoleRequest { user: root(), role: root() };
                shard.write(&nobody, grant).await.expect("granted");
            });
        });
        let auth =
            |at| group.shard(at).with_state(|state| (state.auth().is_enabled(), state.auth().revision()));
        let before = auth(away);
        group.catch_up();
        assert_ne!(auth(away), before, "seed {seed}");
        assert_eq!(auth(away), auth(group.leader()), "seed {seed}");
    }
}

/// etcd#15271, etcd#20221: after a checkpoint watches went on from where they should not, or were told what is before their
/// start.
#[test]
fn a_watch_of_what_is_to_come_is_told_that_and_no_more_after_a_checkpoint() {
    for seed in world::seeds(6) {
        let group = Group::new(seed, 3);
        let feed = Rc::new(RefCell::new(None));
        let start = Cell::new(0);
        let away = group.left_behind(|leader| {
            // Beyond what the checkpoint will bring.
            start.set(group.shard(leader).revision().0 + 60);
            let away = (0..3).find(|at| group.shard(*at).revision() < group.shard(leader).revision());
            let away = away.unwrap_or((leader + 1) % 3);
            *feed.borrow_mut() = Some((away, watch(&group.shard(away), "w", start.get())));
        });
        group.catch_up();
        let leader = group.leader();
        let (at, mut feed) = feed.take().expect("it was created");
        while group.put(leader, "w", "v") < start.get() + 2 {}
        assert!(at == away || group.shard(at).revision() > pinion::types::Revision(0));
        let events = group.run(async move {
            let mut events = told(&mut feed).await;
            while events.len() < 3 {
                events.extend(told(&mut feed).await);
            }
            events
        });
        let revisions: Vec<_> =
            events.iter().map(|event| event.kv.as_ref().expect("a key").mod_revision).collect();
        assert_eq!(revisions, (start.get()..start.get() + 3).collect::<Vec<_>>(), "seed {seed}");
    }
}

/// etcd#18089, etcd#19179: the deletion at the compacted revision itself was not told.
#[test]
fn a_deletion_at_the_compacted_revision_is_told_by_every_member() {
    for seed in world::seeds(4) {
        let group = Group::new(seed, 3);
        let leader = group.leader();
        group.put(leader, "w", "1");
        let deleted = group.delete(leader, "w");
        group.compact(leader, deleted);
        group.agree();
        for at in group.all() {
            if seed % 2 == 1 {
                group.world.crash(at);
                group.world.start(at);
                group.agree();
            }
            let mut feed = watch(&group.shard(at), "w", deleted);
            let events = group.run(async move { told(&mut feed).await });
            assert_eq!(events.len(), 1, "seed {seed}, member {at}");
            let kv = events[0].kv.as_ref().expect("a key");
            assert_eq!((events[0].r#type(), kv.mod_revision), (EventType::Delete, deleted), "seed {seed}");
        }
    }
}

/// etcd#17780: everything was deleted and compacted, the member crashed, and its revision was lower than before.
#[test]
fn a_crash_in_a_compaction_of_everything_lowers_no_revision() {
    for seed in world::seeds(2) {
        for steps in (0..400).step_by(7) {
            let group = Group::new(seed, 1);
            for n in 0..12 {
                group.put(0, &format!("k{n}"), "v");
            }
            let deleted: Vec<_> = (0..12).map(|n| group.delete(0, &format!("k{n}"))).collect();
            let revision = *deleted.last().expect("a dozen");
            let shard = group.shard(0);
            group.world.sim.spawn(world::client_id(1), async move {
                let compact = pb::CompactionRequest { revision, physical: true };
                // It may crash at any time.
                if shard.write(&Principal::default(), compact).await.is_ok()
                    && shard.defragment().await.is_ok()
                {
                    shard.stop();
                }
            });
            group.world.sim.run_until(steps, || false);
            group.world.crash(0);
            group.world.start(0);
            let shard = group.world.serving(0).unwrap_or_else(|why| panic!("seed {seed}, {steps}: {why}"));
            assert_eq!(shard.revision().0, revision, "seed {seed}, {steps} steps");
            assert_eq!(group.put(0, "next", "v"), revision + 1);
        }
    }
}

/// etcd#20271: a checkpoint was put in place while the member gave back space.
#[test]
fn a_checkpoint_may_come_while_space_is_given_back() {
    for seed in world::seeds(6) {
        let group = Group::new(seed, 3);
        let away = group.left_behind(|_| {});
        let shard = group.shard(away);
        let running = Rc::new(Cell::new(true));
        let (again, sim) = (running.clone(), group.world.sim.clone());
        sim.clone().spawn(group.world.nodes[away].id, async move {
            while again.get() && shard.defragment().await.is_ok() {
                sim.sleep(Duration::from_micros(sim.below(2_000))).await;
            }
        });
        group.catch_up();
        running.set(false);
        group.world.crash(away);
        group.world.start(away);
        group.agree();
    }
}

/// etcd#18055: the second checkpoint that was sent removed the files of the first.
#[test]
fn two_members_get_checkpoints_while_newer_ones_are_made() {
    for seed in world::seeds(4) {
        let group = Group::new(seed, 5);
        group.put(group.leader(), "before", "1");
        group.agree();
        let leader = group.leader();
        let away: Vec<_> = group.all().into_iter().filter(|at| *at != leader).take(2).collect();
        let isolated = away.iter().map(|at| group.world.nodes[*at].id.0).collect();
        group.world.sim.set_faults(Faults { isolated, ..Faults::default() });
        group.pass(ELECTIONS);
        for n in 0..40 {
            group.put(leader, &format!("k{}", n % 3), "v");
        }
        let carried = group.world.carried.get();
        group.heal();
        // Newer ones are made all the while.
        for n in 0..60 {
            group.put(leader, &format!("k{}", n % 3), "w");
        }
        group.agree();
        group.have_come(carried + 2);
    }
}

/// etcd#20418: a leader stood still for longer than an election; when it went on, it answered a read as if it still led.
#[test]
fn a_leader_that_stood_still_answers_with_what_is_new_or_not_at_all() {
    let mut answered = 0;
    for seed in world::seeds(60) {
        let group = Group::new(seed, 3);
        let old = group.leader();
        group.put(old, "k", "old");
        group.agree();
        let id = group.world.nodes[old].id;
        group.world.sim.pause(id);
        if seed % 2 == 0 {
            // And nothing that was sent to it meanwhile has arrived.
            group.isolate(old);
        }
        let others: Vec<_> = group.all().into_iter().filter(|at| *at != old).collect();
        group.pass(ELECTIONS);
        let revision = group.put(group.leader_of(&others), "k", "new");
        let shard = group.shard(old);
        let reading = shard.clone();
        let (read, told) = (Rc::new(RefCell::new(None)), Rc::new(Cell::new(false)));
        let (reads, tells) = (read.clone(), told.clone());
        group.world.sim.spawn(world::client_id(1), async move {
            let range = pb::RangeRequest { key: "k".into(), ..Default::default() };
            let answer = match reading.linearize().await {
                Ok(()) => reading.range(&Principal::default(), range).await.map(|answer| answer.whole()),
                Err(error) => Err(error),
            };
            *reads.borrow_mut() = Some(answer);
            tells.set(true);
        });
        group.world.sim.resume(id);
        group.pass(Duration::from_millis(group.world.sim.below(200)));
        group.heal();
        assert!(group.world.sim.run_until(STEPS_MAX, || told.get()), "seed {seed}: the read hangs");
        match read.take().expect("just told") {
            Ok(answer) => {
                assert_eq!(answer.kvs[0].value, "new".as_bytes(), "seed {seed}");
                assert!(answer.header.expect("a header").revision >= revision, "seed {seed}");
                answered += 1;
            }
            Err(Error::Timeout | Error::NoLeader) => {}
            Err(error) => panic!("seed {seed}: {error}"),
        }
        group.agree();
    }
    println!("{answered} were answered");
}

/// etcd#14685: data was there without what it was of, and was applied once more.
#[test]
fn a_crash_while_space_is_given_back_applies_nothing_twice() {
    for seed in world::seeds(2) {
        for steps in (0..600).step_by(9) {
            let group = Group::new(seed, 1);
            for n in 0..20 {
                group.put(0, &format!("k{}", n % 4), &n.to_string());
            }
            let revision = group.put(0, "k", "last");
            let shard = group.shard(0);
            let done = Rc::new(Cell::new(false));
            let told = done.clone();
            group.world.sim.spawn(world::client_id(1), async move {
                told.set(shard.defragment().await.is_ok());
            });
            group.world.sim.run_until(steps, || done.get());
            group.world.crash(0);
            group.world.start(0);
            let shard = group.world.serving(0).unwrap_or_else(|why| panic!("seed {seed}, {steps}: {why}"));
            assert_eq!(shard.revision().0, revision, "seed {seed}, {steps} steps");
            let range = pb::RangeRequest { key: "k".into(), ..Default::default() };
            let found = shard.with_state(|state| state.range(&range)).expect("readable");
            assert_eq!((found.kvs[0].version, found.kvs[0].mod_revision), (1, revision), "seed {seed}");
        }
    }
}

fn operation(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn range(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

/// etcd#15220: a watch was told that it had everything up to a revision, and the events came after that.
#[test]
fn no_word_of_progress_comes_before_the_events_it_is_about() {
    for seed in world::seeds(6) {
        let group = Group::new(seed, 3);
        let leader = group.leader();
        for at in group.all() {
            let feed = watch(&group.shard(at), "w", 2);
            let (shard, sim) = (group.shard(leader), group.world.sim.clone());
            let writing = async move {
                for n in 0..40 {
                    let key = if n % 3 == 0 { "w" } else { "other" };
                    shard.write(&Principal::default(), put(key, &n.to_string())).await.expect("written");
                }
                shard.revision().0
            };
            let last = Rc::new(Cell::new(0));
            let writes = last.clone();
            group.world.sim.spawn(world::client_id(1), async move { writes.set(writing.await) });
            let events = group.run(async move {
                let (mut feed, mut events, mut promised) = (feed, Vec::new(), 0);
                while last.get() == 0 || promised < last.get() {
                    sim.sleep(Duration::from_micros(sim.below(500))).await;
                    feed.ask_for_progress();
                    let patience = async {
                        sim.sleep(Duration::from_millis(1 + sim.below(3))).await;
                        None
                    };
                    match or(async { Some(feed.next().await.expect("it runs")) }, patience).await {
                        Some(Told::Events { events: pieces, .. }) => {
                            let answer = pb::WatchResponse::decode(&pieces.concat()[..]).expect("events");
                            let revisions = answer
                                .events
                                .iter()
                                .map(|event| event.kv.as_ref().expect("a key").mod_revision);
                            events.extend(
                                revisions.inspect(|revision| assert!(*revision > promised, "seed {seed}")),
                            );
                        }
                        Some(Told::Progress { revision, .. }) => promised = revision,
                        Some(other) => panic!("{other:?}"),
                        None => {}
                    }
                }
                events
            });
            assert!(events.len() >= 14 && events.is_sorted(), "seed {seed}, member {at}: {events:?}");
        }
    }
}

/// etcd#17247: a transaction's event came twice.
#[test]
fn each_event_of_a_transaction_is_told_once() {
    for seed in world::seeds(4) {
        let group = Group::new(seed, 3);
        group.put(group.leader(), "a", "0");
        group.agree();
        let mut feeds: Vec<_> = group.all().into_iter().map(|at| watch(&group.shard(at), "a", 3)).collect();
        let shard = group.shard((group.leader() + 1) % 3);
        let txn = pb::TxnRequest {
            success: vec![
                operation(Request::RequestRange(range("a"))),
                operation(Request::RequestPut(put("a", "1"))),
                operation(Request::RequestRange(range("a"))),
                operation(Request::RequestPut(put("b", "1"))),
            ],
            ..Default::default()
        };
        group
            .run(async move { shard.write_long(&Principal::default(), txn).await.map(drop) })
            .expect("written");
        group.put(group.leader(), "a", "2");
        group.agree();
        for mut feed in feeds.drain(..) {
            let values = group.run(async move {
                let mut events = told(&mut feed).await;
                while events.len() < 2 {
                    events.extend(told(&mut feed).await);
                }
                events.into_iter().map(|event| event.kv.expect("a key").value).collect::<Vec<_>>()
            });
            assert_eq!(values, ["1", "2"], "seed {seed}");
        }
    }
}

/// etcd#17529: a watch whose client did not read for long was told some events never.
#[test]
fn a_watch_that_was_not_read_for_long_is_told_everything() {
    const WRITES: usize = 2_000;
    for seed in world::seeds(2) {
        let group = Group::new(seed, 3);
        let leader = group.leader();
        let at = (leader + 1) % 3;
        let (mut slow, mut quick) = (watch(&group.shard(at), "w", 2), watch(&group.shard(at), "w", 2));
        let shard = group.shard(leader);
        let revision = group.run(async move {
            for n in 0..WRITES {
                shard.write(&Principal::default(), put("w", &n.to_string())).await.expect("written");
            }
            shard.revision().0
        });
        group.agree();
        let expected: Vec<_> = (2..=revision).collect();
        for feed in [&mut slow, &mut quick] {
            let mut feed = std::mem::replace(feed, watch(&group.shard(at), "w", revision + 1));
            let revisions = group.run(async move {
                let mut events = Vec::new();
                while events.len() < WRITES {
                    events.extend(told(&mut feed).await);
                }
                events.iter().map(|event| event.kv.as_ref().expect("a key").mod_revision).collect::<Vec<_>>()
            });
            assert_eq!(revisions, expected, "seed {seed}");
        }
    }
}

/// etcd#18667: what a transaction was to read was left out of its entry, and members came to differ.
#[test]
fn what_a_transaction_reads_is_the_same_on_all_members_and_after_a_replay() {
    for seed in world::seeds(4) {
        let group = Group::new(seed, 3);
        for at in group.all() {
            let revision = group.put(at, "a", "1");
            // Of a revision that is there no more: refused, and by everybody.
            group.compact(group.leader(), revision);
            group.put(at, "a", "2");
            let old = pb::RangeRequest { revision: revision - 1, ..range("a") };
            for (reads, taken) in [(range("a"), true), (old, false)] {
                let txn = pb::TxnRequest {
                    success: vec![
                        operation(Request::RequestPut(put("b", "1"))),
                        operation(Request::RequestRange(reads)),
                    ],
                    ..Default::default()
                };
                let shard = group.shard(at);
                let answer = group.run(async move {
                    let answer = shard.write_long(&Principal::default(), txn).await;
                    answer.map(|answer| answer.whole())
                });
                match answer {
                    Ok(answer) => {
                        assert!(taken, "seed {seed}");
                        let Some(Response::ResponseRange(read)) = &answer.responses[1].response else {
                            panic!("seed {seed}: {answer:?}")
                        };
                        assert_eq!(read.kvs[0].value, "2".as_bytes(), "seed {seed}");
                    }
                    Err(error) => assert!(!taken, "seed {seed}: {error}"),
                }
            }
            group.agree();
        }
        for at in group.all() {
            group.world.crash(at);
            group.world.start(at);
        }
        group.agree();
    }
}

/// etcd#20221: a client went with its watch to a member that was behind, and was told what it had been told before, or that
/// it had everything up to a revision before that.
#[test]
fn a_watch_that_goes_to_a_member_that_is_behind_is_told_nothing_of_before() {
    for seed in world::seeds(6) {
        let mut world = World::new(seed, 3);
        // The log has all that is missing.
        world.catchup_entries = 1_000;
        let group = Group::with(seed, world);
        let leader = group.leader();
        let behind = (leader + 1) % 3;
        group.put(leader, "w", "before");
        group.agree();
        group.isolate(behind);
        let others: Vec<_> = group.all().into_iter().filter(|at| *at != behind).collect();
        let leader = group.leader_of(&others);
        let last = (0..20).map(|_| group.put(leader, "w", "missed")).max().expect("some");
        let mut feed = watch(&group.shard(behind), "w", last + 1);
        feed.ask_for_progress();
        let heard = Rc::new(RefCell::new(Vec::new()));
        let hearing = heard.clone();
        group.world.sim.spawn(world::client_id(1), async move {
            loop {
                match feed.next().await.expect("it runs") {
                    Told::Events { events, .. } => {
                        let answer = pb::WatchResponse::decode(&events.concat()[..]).expect("events");
                        let revisions =
                            answer.events.iter().map(|event| event.kv.as_ref().expect("a key").mod_revision);
                        hearing.borrow_mut().extend(revisions.map(|revision| (true, revision)));
                    }
                    Told::Progress { revision, .. } => hearing.borrow_mut().push((false, revision)),
                    other => panic!("{other:?}"),
                }
            }
        });
        group.pass(Duration::from_millis(200));
        group.heal();
        group.agree();
        let next = group.put(group.leader(), "w", "after");
        group.agree();
        let came = || heard.borrow().contains(&(true, next));
        assert!(group.world.sim.run_until(STEPS_MAX, came), "seed {seed}: {heard:?}");
        let early = heard.borrow().iter().any(|(_, revision)| *revision < last);
        assert!(!early, "seed {seed}: {heard:?}, and up to {last} it was told before");
    }
}
