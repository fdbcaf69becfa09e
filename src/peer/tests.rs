//! Members on simulated sockets: who finds whom, who is refused, and what is noticed when somebody is gone.

use std::{cell::RefCell, future::poll_fn, rc::Rc, time::Duration};

use bytes::Bytes;

use super::*;
use crate::{
    env::{
        Listener,
        sim::{Faults, LinkFault, Sim, SimEnv, disk::SimDisk},
    },
    metrics::{self, Metrics},
};

const PORT: u16 = 2380;
const STANDING: Standing = Standing { used: Level::FIRST, log: LogId(0) };
const CLUSTER: ClusterId = ClusterId(7);
const STEPS: u64 = 200_000;
const TIMEOUT: Duration = Duration::from_millis(400);

/// One member without shards.
struct Node {
    env: SimEnv,
    peers: Peers<SimEnv>,
    metrics: Rc<Metrics>,
}

impl Node {
    /// It listens, and knows nobody.
    fn new(sim: &Sim, id: u64, cluster: ClusterId) -> Self {
        let env = SimEnv::new(sim, MemberId(id), SimDisk::new(sim));
        let metrics = Rc::new(Metrics::new(&metrics::Options::default()).expect("names are distinct"));
        let options = Options {
            cluster,
            member: MemberId(id),
            urls: vec![format!("http://{}", env.address(PORT))],
            read_timeout: TIMEOUT,
            write_timeout: TIMEOUT,
            checkpoint_bytes_per_second: 0,
            level: Level::FIRST,
        };
        let peers = Peers::new(env.clone(), options, metrics.peers.clone());
        let (machine, serving) = (env.clone(), peers.clone());
        env.spawn(async move {
            let listener = machine.listen(PORT);
            while let Ok(socket) = listener.accept().await {
                let peers = serving.clone();
                machine.spawn(async move { peers.serve(socket).await });
            }
        });
        Node { env, peers, metrics }
    }

    fn id(&self) -> MemberId {
        self.peers.0.own.member
    }

    fn peer(&self) -> Peer {
        Peer { id: self.id(), urls: self.peers.0.options.urls.clone() }
    }

    fn reaches(&self, other: &Node) -> bool {
        self.peers.active_since(other.id()).is_some()
    }

    fn exposition(&self) -> String {
        let text = metrics::text(self.metrics.gather(), Vec::new()).expect("it can be written");
        String::from_utf8(text).expect("text")
    }
}

/// What tasks and tables hold of each other would outlive the test.
impl Drop for Node {
    fn drop(&mut self) {
        self.peers.close();
    }
}

fn nodes(sim: &Sim, count: u64) -> Vec<Node> {
    (1..=count).map(|id| Node::new(sim, id, CLUSTER)).collect()
}

/// All of them know each other.
fn acquainted(sim: &Sim, count: u64) -> Vec<Node> {
    let nodes = nodes(sim, count);
    let all: Vec<_> = nodes.iter().map(Node::peer).collect();
    nodes.iter().for_each(|node| node.peers.set_members(&all, &[]));
    nodes
}

fn all_reach_all(nodes: &[Node]) -> bool {
    let others = |node: &Node| nodes.iter().all(|other| other.id() == node.id() || node.reaches(other));
    nodes.iter().all(others)
}

#[test]
fn members_find_each_other_and_measure_the_way() {
    for seed in 0..20 {
        let sim = Sim::new(seed);
        let nodes = acquainted(&sim, 3);
        assert!(sim.run_until(STEPS, || all_reach_all(&nodes)), "seed {seed}");
        let measured = || nodes[0].exposition().contains("round_trip_time_seconds_count{To=\"3\"} 2");
        assert!(sim.run_until(STEPS, measured), "seed {seed}: {}", nodes[0].exposition());
        assert!(nodes[0].exposition().contains("etcd_network_active_peers{Local=\"1\",Remote=\"2\"} 1"));
        let since = nodes[0].peers.active_since(MemberId(2));
        sim.run_until(STEPS / 10, || false);
        assert_eq!(nodes[0].peers.active_since(MemberId(2)), since, "seed {seed}: the link holds");
    }
}

#[test]
fn a_member_of_another_cluster_is_refused() {
    let sim = Sim::new(1);
    let (one, other) = (Node::new(&sim, 1, CLUSTER), Node::new(&sim, 2, ClusterId(8)));
    one.peers.set_members(&[one.peer(), other.peer()], &[]);
    other.peers.set_members(&[one.peer(), other.peer()], &[]);
    assert!(!sim.run_until(STEPS, || one.reaches(&other) || other.reaches(&one)));
}

#[test]
fn a_member_that_was_removed_hears_of_it() {
    let sim = Sim::new(1);
    let nodes = acquainted(&sim, 3);
    assert!(sim.run_until(STEPS, || all_reach_all(&nodes)));
    let (left, removed) = ([nodes[0].peer(), nodes[1].peer()], [MemberId(3)]);
    nodes[..2].iter().for_each(|node| node.peers.set_members(&left, &removed));
    assert!(nodes[0].peers.active_since(MemberId(3)).is_none(), "it is no member any more");
    let heard = Rc::new(Cell::new(false));
    let (expelled, told) = (nodes[2].peers.expelled(), heard.clone());
    nodes[2].env.spawn(async move {
        expelled.await;
        told.set(true);
    });
    // Its links are cut after a while, and what it makes then is refused.
    assert!(sim.run_until(STEPS, || heard.get()));
    assert!(!nodes[0].reaches(&nodes[2]) && nodes[0].reaches(&nodes[1]));
}

#[test]
fn an_address_that_is_another_members_is_none() {
    let sim = Sim::new(1);
    let nodes = nodes(&sim, 3);
    let wrong = Peer { id: MemberId(2), ..nodes[2].peer() };
    nodes[0].peers.set_members(&[nodes[0].peer(), wrong], &[]);
    assert!(!sim.run_until(STEPS / 4, || nodes[0].reaches(&nodes[1])));
    nodes[0].peers.set_members(&[nodes[0].peer(), nodes[1].peer()], &[]);
    assert!(sim.run_until(STEPS, || nodes[0].reaches(&nodes[1])), "at its right address it is found at once");
}

#[test]
fn names_are_looked_up_for_each_attempt() {
    let sim = Sim::new(1);
    let nodes = nodes(&sim, 2);
    let named = Peer { id: MemberId(2), urls: vec![format!("http://two:{PORT}")] };
    nodes[0].peers.set_members(&[nodes[0].peer(), named], &[]);
    assert!(!sim.run_until(STEPS / 4, || nodes[0].reaches(&nodes[1])), "nobody has the name");
    sim.set_name("two", nodes[1].env.address(PORT).ip());
    assert!(sim.run_until(STEPS, || nodes[0].reaches(&nodes[1])));
}

#[test]
fn who_is_cut_off_is_noticed_and_found_again() {
    for seed in 0..10 {
        let sim = Sim::new(seed);
        let nodes = acquainted(&sim, 3);
        assert!(sim.run_until(STEPS, || all_reach_all(&nodes)));
        sim.set_faults(Faults { isolated: [3].into(), ..Faults::default() });
        let gone = || !nodes[0].reaches(&nodes[2]) && !nodes[2].reaches(&nodes[0]);
        assert!(sim.run_until(STEPS, gone), "seed {seed}");
        assert!(nodes[0].reaches(&nodes[1]), "seed {seed}: the others go on");
        sim.set_faults(Faults::default());
        assert!(sim.run_until(STEPS, || all_reach_all(&nodes)), "seed {seed}");
        let lost = "etcd_network_disconnected_peers_total{Local=\"1\",Remote=\"3\"} 1";
        assert!(nodes[0].exposition().contains(lost), "seed {seed}: {}", nodes[0].exposition());
    }
}

#[test]
fn whoever_is_not_known_yet_is_answered() {
    let sim = Sim::new(1);
    let nodes = nodes(&sim, 2);
    // It has called before, from elsewhere.
    let elsewhere = ["http://10.0.0.9:2380".to_owned()];
    assert!(nodes[0].peers.caller(MemberId(2), &elsewhere).is_some());
    nodes[1].peers.introduce(&[nodes[0].peer()]);
    // What is known of the cluster so far has neither of them.
    nodes[0].peers.set_members(&[], &[]);
    nodes[1].peers.set_members(&[], &[]);
    assert!(sim.run_until(STEPS, || all_reach_all(&nodes)), "each has a link to the other");
    nodes[0].peers.set_members(&[nodes[0].peer()], &[]);
    assert!(nodes[0].reaches(&nodes[1]), "who called may be a member that is yet to be heard of");
    nodes[0].peers.set_members(&[nodes[0].peer()], &[MemberId(2)]);
    assert!(!nodes[0].reaches(&nodes[1]));
}

#[test]
fn guests_that_do_not_come_back_are_forgotten() {
    let sim = Sim::new(1);
    let mut nodes = nodes(&sim, 2);
    nodes[1].peers.introduce(&[nodes[0].peer()]);
    assert!(sim.run_until(STEPS, || all_reach_all(&nodes)));
    let guest = nodes.pop().expect("there are two");
    sim.crash(guest.id());
    drop(guest);
    let knows = || nodes[0].peers.remote(MemberId(2)).is_some();
    assert!(knows());
    let counted = || {
        let text = nodes[0].exposition();
        ["Remote", "To", "From"].iter().any(|label| text.contains(&format!("{label}=\"2\"")))
    };
    assert!(counted());
    assert!(sim.run_until(10 * STEPS, || !knows()));
    assert!(!counted(), "{}", nodes[0].exposition());
    assert!(sim.now() >= Instant(limits::PEER_GUEST_PATIENCE.as_nanos() as u64), "not before its time");
}

#[test]
fn a_member_that_takes_nothing_costs_no_more_than_its_bound() {
    let sim = Sim::new(1);
    let nodes = acquainted(&sim, 2);
    assert!(sim.run_until(STEPS, || all_reach_all(&nodes)));
    sim.set_faults(Faults { isolated: [2].into(), ..Faults::default() });
    let remote = nodes[0].peers.remote(MemberId(2)).expect("it is a member");
    for _ in 0..100 {
        let frame = Bytes::from(vec![0; 1 << 20]);
        nodes[0].peers.send(MemberId(2), ShardId(0), Lane::Entries, frame);
        nodes[0].peers.send(MemberId(2), ShardId(0), Lane::Signals, Bytes::from_static(b"beat"));
        sim.run_until(20, || false);
    }
    assert!(remote.queue.bytes() <= limits::PEER_QUEUE_BYTES + limits::PEER_SIGNALS_BYTES);
    let dropped = "etcd_network_peer_sent_failures_total{To=\"2\"}";
    assert!(nodes[0].exposition().contains(dropped), "{}", nodes[0].exposition());
    assert!(sim.run_until(STEPS, || !nodes[0].reaches(&nodes[1])), "it is taken for gone");
    assert!(sim.run_until(STEPS, || remote.queue.bytes() == 0), "what waited for it is lost with the link");
}

/// Sends bytes where members listen, and gives what comes back.
fn intrude(sim: &Sim, to: &Node, bytes: Vec<u8>) -> Option<Vec<u8>> {
    let (world, at, answer) = (sim.clone(), to.env.address(PORT), Rc::new(RefCell::new(None)));
    let told = answer.clone();
    sim.spawn(MemberId(99), async move {
        let mut socket = world.connect(MemberId(99), at).await.expect("it listens");
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            match poll_fn(|context| socket.poll_write(context, rest)).await {
                Ok(taken) => rest = &rest[taken..],
                Err(_) => break,
            }
        }
        poll_fn(|context| socket.poll_close(context)).await.expect("it can be closed");
        let (mut came, mut buffer) = (Vec::new(), [0; 100]);
        while let Ok(read @ 1..) = poll_fn(|context| socket.poll_read(context, &mut buffer)).await {
            came.extend_from_slice(&buffer[..read]);
        }
        *told.borrow_mut() = Some(came);
    });
    sim.run_until(STEPS, || answer.borrow().is_some());
    answer.take()
}

#[test]
fn a_slow_link_carries_a_checkpoint_and_one_that_takes_nothing_does_not() {
    let sim = Sim::new(1);
    let node = Node::new(&sim, 1, CLUSTER);
    let other = SimEnv::new(&sim, MemberId(2), SimDisk::new(&sim));
    let (listener, host) = (other.listen(PORT), other.address(PORT).ip().to_string());
    sim.spawn(MemberId(2), async move {
        let mut socket = listener.accept().await.expect("somebody comes");
        let mut buffer = vec![0; limits::CHECKPOINT_PIECE_BYTES];
        while let Ok(1..) = poll_fn(|context| socket.poll_read(context, &mut buffer)).await {}
    });
    // Longer for a piece than the other end may take nothing.
    let slow = LinkFault::Slow(TIMEOUT / 2);
    sim.set_faults(Faults { links: [((1, 2), slow)].into(), ..Faults::default() });
    let ended = Rc::new(RefCell::new(Vec::new()));
    let (env, peers, told) = (node.env.clone(), node.peers.clone(), ended.clone());
    sim.spawn(MemberId(1), async move {
        let mut channel = Channel::new(env.connect(&host, PORT).await.expect("it listens"));
        loop {
            let began = env.now();
            let piece = vec![7; limits::CHECKPOINT_PIECE_BYTES];
            (0..4).for_each(|_| channel.push(&wire::Record::new(wire::Kind::Piece, piece.clone())));
            let flushed = peers.flush(&mut channel).await;
            let is_over = flushed.is_err();
            told.borrow_mut().push((flushed, env.now().since(began)));
            if is_over {
                return;
            }
        }
    });
    assert!(sim.run_until(STEPS, || !ended.borrow().is_empty()));
    assert!(matches!(ended.borrow()[0], (Ok(()), took) if took > TIMEOUT), "{:?}", ended.borrow());
    sim.set_faults(Faults { isolated: [2].into(), ..Faults::default() });
    let is_stuck = || matches!(ended.borrow().last(), Some((Err(LinkError::Stuck(_)), _)));
    assert!(sim.run_until(STEPS, is_stuck), "{:?}", ended.borrow());
}

#[test]
fn bytes_that_are_no_members_end_their_connection_and_nothing_else() {
    let sim = Sim::new(1);
    let nodes = acquainted(&sim, 2);
    assert!(sim.run_until(STEPS, || all_reach_all(&nodes)));
    let greeting = |to: u64| {
        let own = Own { cluster: CLUSTER, member: MemberId(2), level: Level::FIRST };
        let hello = own.hello(MemberId(to), &[], crate::pb::link::Purpose::Frames, STANDING);
        let mut bytes = PREFACE.to_vec();
        wire::Record::new(wire::Kind::Hello, prost::Message::encode_to_vec(&hello)).encode_into(&mut bytes);
        bytes
    };
    let with = |mut bytes: Vec<u8>, more: &[u8]| {
        bytes.extend_from_slice(more);
        bytes
    };
    for bytes in [
        Vec::new(),
        b"\x89".to_vec(),
        PREFACE.to_vec(),
        with(PREFACE.to_vec(), &[0xff; 1_000]),
        with(PREFACE.to_vec(), &[0; 1_000]),
        with(greeting(1), &[0xff; 64]),
        with(greeting(1), PREFACE),
        greeting(5),
    ] {
        assert!(intrude(&sim, &nodes[0], bytes.clone()).is_some(), "{bytes:x?} hangs");
    }
    // One of them came in another's name and took its place for a moment.
    assert!(sim.run_until(STEPS, || all_reach_all(&nodes)));
    let mut drawn = 1u64;
    for length in 0..200 {
        let mut draw = || {
            drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (drawn >> 56) as u8
        };
        let bytes = std::iter::repeat_with(&mut draw).take(length).collect::<Vec<_>>();
        assert!(intrude(&sim, &nodes[0], with(greeting(1), &bytes)).is_some(), "{bytes:x?} hangs");
    }
    assert!(sim.run_until(STEPS, || all_reach_all(&nodes)));
}

#[test]
fn an_etcd_at_the_other_end_is_told_apart() {
    let sim = Sim::new(1);
    let node = Node::new(&sim, 1, CLUSTER);
    let other = SimEnv::new(&sim, MemberId(2), SimDisk::new(&sim));
    let listener = other.listen(PORT);
    sim.spawn(MemberId(2), async move {
        while let Ok(mut socket) = listener.accept().await {
            let answer = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
            let mut buffer = [0; 64];
            poll_fn(|context| socket.poll_read(context, &mut buffer)).await.expect("it says something");
            poll_fn(|context| socket.poll_write(context, answer)).await.expect("there is room");
            while let Ok(1..) = poll_fn(|context| socket.poll_read(context, &mut buffer)).await {}
        }
    });
    let remote = Remote::new(MemberId(2), &[format!("http://{}", other.address(PORT))], false);
    let (peers, error) = (node.peers.clone(), Rc::new(RefCell::new(None)));
    let told = error.clone();
    sim.spawn(MemberId(1), async move {
        let dialed = dialing::dial(&peers, &remote, crate::pb::link::Purpose::Frames).await;
        *told.borrow_mut() = dialed.err();
    });
    assert!(sim.run_until(STEPS, || error.borrow().is_some()));
    let error = error.take().expect("just seen").to_string();
    assert!(error.contains("all members of a cluster must be of the same kind"), "{error}");
}

/// Takes a member's link as another one would, and notes what comes.
async fn take_link(machine: SimEnv, own: Own, came: Rc<RefCell<Vec<(Lane, usize)>>>) {
    let listener = machine.listen(PORT);
    let mut channel = channel::Channel::new(listener.accept().await.expect("somebody comes"));
    channel.expect_preface().await.expect("a preface");
    let hello = channel.next().await.expect("a greeting");
    assert_eq!(hello.kind, wire::Kind::Hello);
    channel.push(&own.answer(Ok(1), Level::FIRST));
    channel.flush().await.expect("it is taken");
    while let Ok(record) = channel.next().await {
        match record.kind {
            wire::Kind::Probe => channel.push(&wire::Record::new(wire::Kind::Echo, record.payload)),
            _ => came.borrow_mut().push((record.lane, record.payload.len())),
        }
        channel.flush().await.expect("it is taken");
    }
}

#[test]
fn a_heartbeat_does_not_wait_for_long_entries_on_a_slow_link() {
    let sim = Sim::new(1);
    let node = Node::new(&sim, 1, CLUSTER);
    let other = SimEnv::new(&sim, MemberId(2), SimDisk::new(&sim));
    let url = format!("http://{}", other.address(PORT));
    let came = Rc::new(RefCell::new(Vec::new()));
    let own = Own { cluster: CLUSTER, member: MemberId(2), level: Level::FIRST };
    sim.spawn(MemberId(2), take_link(other, own, came.clone()));
    node.peers.set_members(&[node.peer(), Peer { id: MemberId(2), urls: vec![url] }], &[]);
    assert!(sim.run_until(STEPS, || node.peers.active_since(MemberId(2)).is_some()));
    let slow = LinkFault::Slow(Duration::from_millis(40));
    sim.set_faults(Faults { links: [((1, 2), slow)].into(), ..Faults::default() });
    let send = |lane, bytes: usize| node.peers.send(MemberId(2), ShardId(0), lane, vec![1; bytes].into());
    const LONG: usize = 4 << 20;
    (0..2).for_each(|_| send(Lane::Entries, LONG));
    assert!(sim.run_until(STEPS, || !came.borrow().is_empty()), "the entries are on their way");
    let bytes =
        || came.borrow().iter().filter(|(lane, _)| *lane == Lane::Entries).map(|(_, b)| b).sum::<usize>();
    let before = bytes();
    send(Lane::Signals, 40);
    let beat = || came.borrow().iter().any(|(lane, _)| *lane == Lane::Signals);
    assert!(sim.run_until(STEPS, beat), "it never comes");
    // What was gathered, a part, and what a simulated stream holds.
    let ahead = limits::PEER_GATHERED_BYTES + 2 * limits::PEER_PART_BYTES + 64 * 1024;
    assert!(bytes() - before <= ahead, "{} bytes went ahead of it", bytes() - before);
    assert!(sim.run_until(STEPS, || bytes() == 2 * LONG), "and the entries come all the same");
}
