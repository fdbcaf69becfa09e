//! What comes to the port where members listen for each other: bytes as they are, after a preface, after a greeting, and
//! records that are whole. Whatever it is ends its own connection at most: a decent member is welcome afterwards.
#![no_main]

use std::{future::poll_fn, rc::Rc, time::Duration};

use libfuzzer_sys::fuzz_target;
use pinion::{
    env::{
        Env, Links, Listener, Peer, Socket,
        sim::{Sim, SimEnv, disk::SimDisk},
    },
    metrics::{self, Metrics},
    pb::link,
    peer::{self, Peers},
    types::{ClusterId, MemberId},
};
use prost::Message;

const PORT: u16 = 2380;
const CLUSTER: ClusterId = ClusterId(7);
const STEPS_MAX: u64 = 100_000;

fn member(sim: &Sim, id: u64) -> (SimEnv, Peers<SimEnv>, Peer) {
    let env = SimEnv::new(sim, MemberId(id), SimDisk::new(sim));
    let metrics = Rc::new(Metrics::new(&metrics::Options::default()).expect("names are distinct"));
    let urls = vec![format!("http://{}", env.address(PORT))];
    let options = peer::Options {
        cluster: CLUSTER,
        member: MemberId(id),
        urls: urls.clone(),
        read_timeout: Duration::from_millis(400),
        write_timeout: Duration::from_millis(400),
        checkpoint_bytes_per_second: 0,
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
    (env, peers, Peer { id: MemberId(id), urls })
}

/// A record with the right checksum.
fn record(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_le_bytes();
    let told = [kind, flags, 0, 0, 0, 0, 0, 0];
    let sum = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&length), &told), payload);
    [&length[..], &sum.to_le_bytes(), &told, payload].concat()
}

fn greeting(purpose: link::Purpose) -> Vec<u8> {
    let hello = link::Hello {
        oldest: 1,
        newest: 1,
        cluster: CLUSTER.0,
        from: 2,
        to: 1,
        purpose: purpose as i32,
        ..Default::default()
    };
    [&peer::PREFACE[..], &record(1, 1, &hello.encode_to_vec())].concat()
}

/// Records with a length before each.
fn records(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let [kind, flags, length, after @ ..] = rest {
        let (payload, after) = after.split_at(after.len().min(usize::from(*length)));
        out.extend(record(*kind, *flags, payload));
        rest = after;
    }
    out
}

fuzz_target!(|bytes: &[u8]| {
    let Some((how, rest)) = bytes.split_first() else { return };
    let sent = match how % 6 {
        0 => rest.to_vec(),
        1 => [&peer::PREFACE[..], rest].concat(),
        2 => [&greeting(link::Purpose::Frames)[..], rest].concat(),
        3 => [&greeting(link::Purpose::Frames)[..], &records(rest)].concat(),
        4 => [&greeting(link::Purpose::Checkpoint)[..], &records(rest)].concat(),
        _ => [&peer::PREFACE[..], &records(rest)].concat(),
    };
    let sim = Sim::new(1);
    let (env, peers, own) = member(&sim, 1);
    let (world, at, done) = (sim.clone(), env.address(PORT), Rc::new(std::cell::Cell::new(false)));
    let over = done.clone();
    sim.spawn(MemberId(99), async move {
        let mut socket = world.connect(MemberId(99), at).await.expect("it listens");
        let mut left = sent.as_slice();
        while !left.is_empty() {
            match poll_fn(|context| socket.poll_write(context, left)).await {
                Ok(taken) => left = &left[taken..],
                Err(_) => break,
            }
        }
        drop(poll_fn(|context| socket.poll_close(context)).await);
        let mut buffer = [0; 256];
        while let Ok(1..) = poll_fn(|context| socket.poll_read(context, &mut buffer)).await {}
        over.set(true);
    });
    assert!(sim.run_until(STEPS_MAX, || done.get()), "the connection hangs");
    let (_, other, known) = member(&sim, 3);
    other.set_members(&[own, known], &[]);
    assert!(sim.run_until(STEPS_MAX, || other.active_since(MemberId(1)).is_some()), "nobody is welcome any more");
    [peers, other].iter().for_each(Peers::close);
});
