//! Leases through crashes, checkpoints and changes of leader: none ends before its time, none outlives it for ever, and
//! the keys of one are there together or gone together, whenever anybody looks.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use pinion::{
    env::Instant,
    limits,
    pb::etcdserverpb::{self as pb, request_op::Request as Op},
    shard::{Due, Shard},
    state::Principal,
};

use crate::world::{self, STEPS_MAX, World};

const KEYS: usize = 3;
/// An election, and whatever else a new leader adds to what is left.
const ELECTION: Duration = Duration::from_millis(200);
/// How long a request waits for its commit.
const PATIENCE: Duration = Duration::from_millis(5_200);

/// What clients know of a lease.
struct Known {
    ttl: i64,
    /// Nobody may end it before: so long after the last grant or renewal was asked for that was acknowledged.
    until: Instant,
    /// Its keys were acknowledged.
    has_keys: bool,
    /// Somebody asked for its end.
    revoked: bool,
}

#[derive(Default)]
pub struct Ledger {
    leases: BTreeMap<i64, Known>,
    pub renewed: u64,
    pub over: bool,
    /// Clocks of members are too fast by so much at most.
    fast_permille: u64,
}

impl Ledger {
    pub fn with_clocks_off_by(fast_permille: u64) -> Self {
        Ledger { fast_permille, ..Ledger::default() }
    }

    /// How long a lease lasts at least.
    fn least(&self, ttl: i64) -> Duration {
        seconds(ttl) * 1_000 / (1_000 + self.fast_permille as u32)
    }
}

fn key(id: i64, number: usize) -> String {
    format!("l{id}/{number}")
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(ttl as u64)
}

/// A client: grants leases, attaches keys to them, keeps some alive for a while, revokes some.
pub fn client(world: &World, number: u64, ledger: Rc<RefCell<Ledger>>, running: Rc<Cell<u64>>) {
    let sim = world.sim.clone();
    let shards: Vec<_> = world.nodes.iter().map(|node| node.shard.clone()).collect();
    running.set(running.get() + 1);
    world.sim.spawn(world::client_id(number), async move {
        for lease in 1.. {
            if ledger.borrow().over {
                break;
            }
            let id = (lease * 10 + number) as i64;
            let any = || shards[sim.below(shards.len() as u64) as usize].borrow().clone();
            let (sent, ttl) = (sim.now(), 1 + sim.below(3) as i64);
            let Some(shard) = any() else {
                sim.sleep(Duration::from_millis(5)).await;
                continue;
            };
            let principal = Principal::default();
            if shard.write(&principal, pb::LeaseGrantRequest { id, ttl }).await.is_err() {
                sim.sleep(Duration::from_millis(sim.below(20))).await;
                continue;
            }
            let until = sent.after(ledger.borrow().least(ttl));
            let known = Known { ttl, until, has_keys: false, revoked: false };
            ledger.borrow_mut().leases.insert(id, known);
            let put = |at| {
                let put = pb::PutRequest { key: key(id, at).into(), lease: id, ..Default::default() };
                pb::RequestOp { request: Some(Op::RequestPut(put)) }
            };
            let txn = pb::TxnRequest { success: (0..KEYS).map(put).collect(), ..Default::default() };
            if shard.write(&principal, txn).await.is_ok() {
                let mut ledger = ledger.borrow_mut();
                let known = ledger.leases.get_mut(&id).expect("just added");
                known.has_keys = known.until > sim.now();
            }
            for _ in 0..sim.below(4) {
                sim.sleep(Duration::from_millis(sim.below(800))).await;
                let Some(shard) = any() else { continue };
                let sent = sim.now();
                match shard.renew_anywhere(id).await {
                    Ok(Some(told)) => {
                        assert_eq!(told, ttl);
                        let mut ledger = ledger.borrow_mut();
                        ledger.renewed += 1;
                        let least = ledger.least(ttl);
                        let known = ledger.leases.get_mut(&id).expect("just added");
                        known.until = known.until.max(sent.after(least));
                    }
                    Ok(None) => assert!(
                        ledger.borrow().leases[&id].until <= sim.now(),
                        "{id} is gone before its time"
                    ),
                    Err(_) => {}
                }
            }
            if sim.chance(200)
                && let Some(shard) = any()
            {
                ledger.borrow_mut().leases.get_mut(&id).expect("just added").revoked = true;
                match shard.write(&principal, pb::LeaseRevokeRequest { id }).await {
                    // It may be over already, or be told of too late.
                    Ok(_) | Err(_) => {}
                }
            }
        }
        running.set(running.get() - 1);
    });
}

/// What holds on a member at any moment, and what on one that answers linearizable reads.
pub fn check(shard: &Shard, ledger: &Ledger, now: Instant, seed: u64) {
    shard.with_state(|state| {
        let is_there = |key: String| {
            let request = pb::RangeRequest { key: key.into(), ..Default::default() };
            state.range(&request).expect("the newest revision").count > 0
        };
        let serves = shard.can_read() && shard.status().applied == shard.status().committed;
        for (id, known) in &ledger.leases {
            let there = (0..KEYS).filter(|at| is_there(key(*id, *at))).count();
            assert!(there == 0 || there == KEYS, "seed {seed}: {there} keys of {id} are there");
            assert!(there == 0 || state.leases().contains(*id), "seed {seed}: {id} is survived by its keys");
            if serves && known.has_keys && !known.revoked && now < known.until {
                assert_eq!(there, KEYS, "seed {seed}: {id} has ended before its time");
            }
        }
    });
}

fn storm(seed: u64, members: u64) -> u64 {
    let mut world = World::new(seed, members);
    world.checkpoint = Due { entries: 5 + world.sim.below(40), bytes: 256 * 1024, log_bytes: 1 << 20 };
    let members = members as usize;
    (0..members).for_each(|at| world.start(at));
    let (ledger, running) = (Rc::new(RefCell::new(Ledger::default())), Rc::new(Cell::new(0)));
    (0..3).for_each(|number| client(&world, number, ledger.clone(), running.clone()));
    let look = |_: u64| {
        for node in &world.nodes {
            if let Some(shard) = &*node.shard.borrow() {
                check(shard, &ledger.borrow(), world.sim.now(), seed);
            }
        }
    };
    let mut looks = 0;
    for _ in 0..5 {
        let until = world.sim.now().after(Duration::from_millis(500 + world.sim.below(3_000)));
        world.sim.run_until(STEPS_MAX, || {
            looks += 1;
            if looks % 16 == 0 {
                look(looks);
            }
            world.sim.now() >= until
        });
        let at = world.sim.below(members as u64) as usize;
        world.crash(at);
        world.sim.run_until(world.sim.below(2_000), || false);
        world.start(at);
    }
    ledger.borrow_mut().over = true;
    // Nobody renews any more, and nobody crashes.
    let longest = ledger.borrow().leases.values().map(|known| known.ttl).max().unwrap_or(0);
    let calm = world.sim.now();
    let done = || {
        let leads = world.nodes.iter().filter_map(|node| node.shard.borrow().clone()).find(Shard::can_read);
        running.get() == 0 && leads.is_some_and(|shard| shard.with_state(|state| state.leases().is_empty()))
    };
    assert!(world.sim.run_until(STEPS_MAX, done), "seed {seed}: a lease lives for ever");
    let took = world.sim.now().since(calm);
    // A client may have waited for an answer, and then have renewed one once more; the last leader may have been elected
    // just now, and what the one before proposed be lost.
    let most = 2 * seconds(longest) + 10 * ELECTION + 2 * PATIENCE + limits::LEASE_RETRY;
    assert!(took < most, "seed {seed}: the last lease ended after {took:?}");
    ledger.borrow().renewed
}

#[test]
fn leases_end_in_time_through_crashes_and_checkpoints() {
    let renewed: u64 = world::seeds(20).map(|seed| storm(seed, 1)).sum();
    assert!(renewed > 0, "none was renewed");
}

#[test]
fn a_change_of_leader_shortens_no_lease() {
    let renewed: u64 = world::seeds(6).map(|seed| storm(seed, 3)).sum();
    assert!(renewed > 0, "none was renewed");
}
