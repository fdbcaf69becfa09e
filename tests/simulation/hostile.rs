//! Clients that mean harm on one member, beside others that do not: whatever the former send, the latter's requests are
//! answered, correctly and in bounded time, the member lives, and after a crash in the midst of it it comes back.

#[path = "hostile/connection.rs"]
mod connection;
#[path = "hostile/traffic.rs"]
mod traffic;

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use pinion::{
    client::Bounds,
    env::{
        Socket,
        sim::{Sim, SimEnv, SimSocket},
    },
    limits,
    pb::etcdserverpb as pb,
    service::Api,
    shard::{Due, Shard},
    state::Principal,
    types::MemberId,
};

use crate::world::{self, Memory, PORT, STEPS_MAX, World};
use connection::Connection;
use traffic::Traffic;

const HONEST: u64 = 2;
const HOSTILE: u64 = 10;
/// Puts of each honest client, a get after each.
const PUTS: u64 = 30;
const CRASHES: u64 = 2;
/// An honest client's request is answered within this simulated time, as long as the member does not crash.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// A hostile connection is held at most so long.
const HELD_MAX: Duration = Duration::from_secs(3);

/// So little memory that a few hostile clients fill it.
const BOUNDS: Bounds = Bounds { total: 2 << 20, each: 512 << 10 };
/// Answers that are there already may add to it: of what clients read at a time, a piece each.
const ANSWERS: usize = HOSTILE as usize * limits::CLIENT_READS_MAX * limits::RANGE_PIECE_BYTES;

/// What everybody sees of the member.
#[derive(Clone)]
struct Member {
    sim: Sim,
    at: SocketAddr,
    shard: Rc<RefCell<Option<Shard>>>,
    api: Rc<RefCell<Option<Api>>>,
    /// How often it has crashed.
    crashes: Rc<Cell<u64>>,
    over: Rc<Cell<bool>>,
}

impl Member {
    fn serves(&self) -> bool {
        self.api.borrow().is_some() && self.shard.borrow().as_ref().is_some_and(Shard::can_read)
    }

    /// A call that is repeated only if the member crashed meanwhile, or did not serve.
    async fn ask<T: prost::Message + Default>(
        &self,
        id: MemberId,
        connection: &mut Option<(u64, Connection)>,
        method: &str,
        message: &impl prost::Message,
    ) -> T {
        loop {
            let (served, crashes, began) = (self.serves(), self.crashes.get(), self.sim.now());
            // One from before a crash is no good.
            connection.take_if(|(opened, _)| *opened != crashes);
            let answer = async {
                if connection.is_none() {
                    *connection = Some((crashes, Connection::open(&self.sim, id, self.at).await?));
                }
                connection.as_ref().expect("just opened").1.call(method, message).await
            };
            let late = async {
                self.sim.sleep(ANSWERED_WITHIN).await;
                Err("no answer".to_owned())
            };
            match futures_lite::future::or(answer, late).await {
                Ok(answer) => return answer,
                Err(why) => {
                    let excused = !served || crashes != self.crashes.get();
                    let after = self.sim.now().since(began);
                    assert!(excused, "client {id}: {method} failed after {after:?}: {why}");
                    *connection = None;
                    self.sim.sleep(Duration::from_millis(2)).await;
                }
            }
        }
    }
}

/// Puts ascending values to its own keys, and reads them.
async fn honest(member: Member, number: u64, memory: Rc<RefCell<Memory>>, running: Rc<Cell<u64>>) {
    let (sim, id) = (member.sim.clone(), world::client_id(number));
    let mut connection = None;
    for value in 1..=PUTS {
        sim.sleep(Duration::from_micros(sim.below(50_000))).await;
        let key = world::key(number, sim.below(4));
        memory.borrow_mut().sent.insert(key.clone(), value);
        let put =
            pb::PutRequest { key: key.clone().into(), value: value.to_string().into(), ..Default::default() };
        let response: pb::PutResponse = member.ask(id, &mut connection, "Put", &put).await;
        let revision = response.header.expect("a header").revision;
        memory.borrow_mut().see(key.clone(), value, revision);
        memory.borrow_mut().acknowledged.push((revision, key, value));

        let key = world::key(sim.below(HONEST), sim.below(4));
        let (least, least_revision) = memory.borrow().least(&key);
        let get = pb::RangeRequest { key: key.clone().into(), ..Default::default() };
        let response: pb::RangeResponse = member.ask(id, &mut connection, "Range", &get).await;
        let revision = response.header.expect("a header").revision;
        let value = response.kvs.first().map_or(0, |kv| world::number(&kv.value));
        let mut memory = memory.borrow_mut();
        let sent = memory.sent.get(&key).copied().unwrap_or(0);
        assert!(value >= least && value <= sent, "{key} was read as {value}: {least} was there, {sent} sent");
        assert!(revision >= least_revision, "revision {revision}, and {least_revision} was there before");
        memory.see(key, value, revision);
        memory.read += 1;
    }
    running.set(running.get() - 1);
}

/// One connection after another, each with something else.
async fn hostile(member: Member, number: u64, sent: Rc<Cell<u64>>) {
    let (sim, id) = (member.sim.clone(), MemberId(2_000 + number));
    while !member.over.get() {
        sim.sleep(Duration::from_micros(sim.below(20_000))).await;
        let Ok(socket) = sim.connect(id, member.at).await else { continue };
        let Traffic { bytes, reads } = traffic::draw(&sim);
        sent.set(sent.get() + 1);
        // Mostly short, so that there are many.
        let most = HELD_MAX / if sim.chance(700) { 50 } else { 1 };
        let held = Duration::from_nanos(sim.below(most.as_nanos() as u64));
        exchange(&sim, socket, &bytes, reads, held).await;
    }
}

/// Sends, and takes what comes if it is to, until the time is over or the member has had enough.
async fn exchange(sim: &Sim, mut socket: SimSocket, bytes: &[u8], reads: bool, held: Duration) {
    let mut rest = bytes;
    let mut time = sim.sleep(held);
    poll_fn(|context: &mut Context<'_>| {
        while !rest.is_empty() {
            match socket.poll_write(context, rest) {
                Poll::Ready(Ok(sent)) => rest = &rest[sent..],
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        let mut buffer = [0; 16 * 1024];
        loop {
            let read = if reads { socket.poll_read(context, &mut buffer) } else { Poll::Pending };
            match read {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return Pin::new(&mut time).poll(context),
            }
        }
    })
    .await;
}

/// What hostile clients read and delete.
fn fill(world: &World, shard: &Shard) {
    let (shard, filled) = (shard.clone(), Rc::new(Cell::new(false)));
    let done = filled.clone();
    world.sim.spawn(world::client_id(99), async move {
        for key in 0..traffic::KEYS {
            let key = format!("{}{key:04}", traffic::PREFIX);
            let put = pb::PutRequest { key: key.into(), value: vec![b'v'; 100].into(), ..Default::default() };
            shard.write(&Principal::default(), put).await.expect("the member takes it");
        }
        done.set(true);
    });
    assert!(world.sim.run_until(STEPS_MAX, || filled.get()), "the fill is stuck");
}

/// What a world showed.
struct Seen {
    /// Hostile connections.
    sent: u64,
    /// Bytes at most.
    held: usize,
}

fn attacked(seed: u64) -> Seen {
    let mut world = World::new(seed, 1);
    world.listens = Some(BOUNDS);
    world.checkpoint = Due { entries: 20 + world.sim.below(200), bytes: 256 * 1024, log_bytes: 1 << 20 };
    world.start(0);
    let shard = world.serving(0).unwrap_or_else(|error| panic!("seed {seed}: no start: {error}"));
    fill(&world, &shard);
    drop(shard);

    let node = &world.nodes[0];
    let member = Member {
        sim: world.sim.clone(),
        at: SimEnv::new(&world.sim, node.id, node.disk.clone()).address(PORT),
        shard: node.shard.clone(),
        api: node.api.clone(),
        crashes: Rc::default(),
        over: Rc::default(),
    };
    let (memory, running) = (Rc::new(RefCell::new(Memory::default())), Rc::new(Cell::new(HONEST)));
    let sent = Rc::new(Cell::new(0));
    for number in 0..HONEST {
        world
            .sim
            .spawn(world::client_id(number), honest(member.clone(), number, memory.clone(), running.clone()));
    }
    for number in 0..HOSTILE {
        world.sim.spawn(MemberId(2_000 + number), hostile(member.clone(), number, sent.clone()));
    }
    let held_max = Cell::new(0);
    let lives = || {
        let ended = node.ended.borrow();
        assert!(ended.is_none(), "seed {seed}: the member ended: {ended:?}");
        let held = node.api.borrow().as_ref().map_or(0, |api| api.clients().used());
        assert!(held <= BOUNDS.total + ANSWERS, "seed {seed}: {held} bytes held for clients");
        held_max.set(held_max.get().max(held));
    };
    for _ in 0..CRASHES {
        let crashing = world.sim.chance(700);
        world.sim.run_until(1 + world.sim.below(60_000), || {
            lives();
            running.get() == 0
        });
        if crashing {
            member.crashes.set(member.crashes.get() + 1);
            world.crash(0);
            world.start(0);
            let shard = world.serving(0).unwrap_or_else(|error| panic!("seed {seed}: no start: {error}"));
            memory.borrow().check(&shard);
        }
    }
    let finished = world.sim.run_until(STEPS_MAX, || {
        lives();
        running.get() == 0
    });
    assert!(finished, "seed {seed}: {} honest clients are stuck", running.get());
    member.over.set(true);
    let shard = world.serving(0).expect("it serves");
    memory.borrow().check(&shard);
    Seen { sent: sent.get(), held: held_max.get() }
}

#[test]
fn hostile_clients_harm_nobody_else() {
    let seeds = world::seeds(30);
    let worlds = seeds.clone().count() as u64;
    let seen: Vec<_> = seeds.map(attacked).collect();
    let sent: u64 = seen.iter().map(|seen| seen.sent).sum();
    assert!(sent >= worlds * 10, "{sent} hostile connections in {worlds} worlds");
    let held = seen.iter().map(|seen| seen.held).max().unwrap_or(0);
    assert!(worlds < 10 || held > BOUNDS.total / 2, "{held} bytes at most: nobody was held back");
}
