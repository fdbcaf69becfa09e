use std::time::Duration;

use super::*;
use crate::env::{
    Env,
    sim::{Faults, SimEnv, disk::SimDisk},
};

const SERVER: MemberId = MemberId(1);
const CLIENT: MemberId = MemberId(0x1_0203);

fn machine(sim: &Sim, member: MemberId) -> SimEnv {
    SimEnv::new(sim, member, SimDisk::new(sim))
}

async fn read(socket: &mut SimSocket, len: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; len];
    let read = poll_fn(|context| socket.poll_read(context, &mut buffer)).await?;
    buffer.truncate(read);
    Ok(buffer)
}

async fn write(socket: &mut SimSocket, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let taken = poll_fn(|context| socket.poll_write(context, bytes)).await?;
        bytes = &bytes[taken..];
    }
    Ok(())
}

/// Runs what a server and a client do with the two ends of a connection.
fn converse(
    seed: u64,
    server: impl AsyncFnOnce(&Sim, SimSocket) + 'static,
    client: impl AsyncFnOnce(&Sim, SimSocket) + 'static,
) -> Sim {
    let sim = Sim::new(seed);
    let left = Rc::new(Cell::new(2));
    let (here, listener) = (sim.clone(), machine(&sim, SERVER).listen(2379));
    let done = left.clone();
    sim.spawn(SERVER, async move {
        let socket = listener.accept().await.expect("somebody comes");
        server(&here, socket).await;
        done.set(done.get() - 1);
    });
    let (here, done) = (sim.clone(), left.clone());
    sim.spawn(CLIENT, async move {
        let to = address(SERVER, 2379);
        let socket = here.connect(CLIENT, to).await.expect("somebody listens");
        client(&here, socket).await;
        done.set(done.get() - 1);
    });
    assert!(sim.run_until(1_000_000, || left.get() == 0), "seed {seed}: somebody waits in vain");
    sim
}

#[test]
fn bytes_arrive_in_order_however_they_are_cut() {
    let ends: Vec<u64> = (0..20)
        .map(|seed| {
            let sent: Vec<u8> = (0..300_000u32).map(|at| (at / 7) as u8).collect();
            let expected = sent.clone();
            let sim = converse(
                seed,
                async move |_, mut socket| {
                    assert_eq!(socket.peer().expect("an address").ip().to_string(), "10.1.2.3");
                    let mut got = Vec::new();
                    loop {
                        let some = read(&mut socket, 10_000).await.expect("nothing goes wrong");
                        if some.is_empty() {
                            break;
                        }
                        got.extend(some);
                    }
                    assert!(got == expected);
                    write(&mut socket, b"whole").await.expect("the other direction goes on");
                },
                async move |_, mut socket| {
                    write(&mut socket, &sent).await.expect("nothing goes wrong");
                    poll_fn(|context| socket.poll_close(context)).await.expect("closed");
                    let refused = write(&mut socket, b"x").await.expect_err("closed");
                    assert_eq!(refused.kind(), io::ErrorKind::BrokenPipe);
                    assert_eq!(read(&mut socket, 1).await.expect("answered"), b"w");
                },
            );
            sim.now().0
        })
        .collect();
    assert_ne!(ends[0], ends[1], "drawn from the seed");
}

#[test]
fn who_does_not_read_holds_up_who_writes() {
    converse(
        1,
        async |sim, mut socket| {
            sim.sleep(Duration::from_secs(1)).await;
            while !read(&mut socket, 10_000).await.expect("nothing goes wrong").is_empty() {}
        },
        async |sim, mut socket| {
            write(&mut socket, &vec![1; PIPE_BYTES]).await.expect("fits");
            assert!(sim.now().0 < 100_000_000, "nobody had to read");
            write(&mut socket, &[1]).await.expect("room is made");
            assert!(sim.now().0 >= 1_000_000_000, "once somebody reads");
        },
    );
}

#[test]
fn dropping_an_end_is_noticed_at_the_other() {
    converse(
        1,
        async |sim, socket| {
            sim.sleep(Duration::from_secs(1)).await;
            drop(socket);
        },
        async |_, mut socket| {
            write(&mut socket, b"never read").await.expect("taken");
            let lost = read(&mut socket, 1).await.expect_err("what was sent is lost");
            assert_eq!(lost.kind(), io::ErrorKind::ConnectionReset);
            assert!(write(&mut socket, b"x").await.is_err());
        },
    );
    converse(
        1,
        async |_, socket| drop(socket),
        async |_, mut socket| {
            assert_eq!(read(&mut socket, 1).await.expect("nothing is lost"), b"");
            assert!(write(&mut socket, b"x").await.is_err());
        },
    );
}

#[test]
fn a_crash_takes_the_members_sockets_with_it() {
    let sim = Sim::new(1);
    let (listener, seen) = (machine(&sim, SERVER).listen(2379), Rc::new(RefCell::new(Vec::new())));
    sim.spawn(SERVER, async move {
        let mut socket = listener.accept().await.expect("somebody comes");
        read(&mut socket, 1).await.expect("nothing is ever sent");
    });
    let (here, told) = (sim.clone(), seen.clone());
    sim.spawn(CLIENT, async move {
        let mut socket = here.connect(CLIENT, address(SERVER, 2379)).await.expect("somebody listens");
        told.borrow_mut().push(Ok(vec![1]));
        let end = read(&mut socket, 1).await.map_err(|error| error.kind());
        told.borrow_mut().push(end);
        let again = here.connect(CLIENT, address(SERVER, 2379)).await;
        told.borrow_mut().push(again.map(|_| Vec::new()).map_err(|error| error.kind()));
    });
    assert!(!sim.run_until(1_000, || seen.borrow().len() > 1), "nothing happens on a quiet connection");
    sim.crash(SERVER);
    assert!(sim.run_until(1_000, || seen.borrow().len() == 3));
    assert_eq!(seen.take(), [Ok(vec![1]), Ok(Vec::new()), Err(io::ErrorKind::ConnectionRefused)]);
}

#[test]
fn offloaded_work_is_done_later() {
    let sim = Sim::new(1);
    let (env, done) = (machine(&sim, SERVER), Rc::new(Cell::new(0)));
    let seen = done.clone();
    sim.spawn(SERVER, async move { seen.set(env.offload(|| 7).await) });
    assert!(sim.run_until(1_000, || done.get() == 7));
    assert!(sim.now().0 > 0, "it takes time");
}

/// A member's connection, from whatever it gives as the host.
fn connect_as(sim: &Sim, from: MemberId, host: String) -> Rc<RefCell<Option<io::Result<SimSocket>>>> {
    let got = Rc::new(RefCell::new(None));
    let (machine, told) = (machine(sim, from), got.clone());
    sim.spawn(from, async move {
        let connected = machine.connect(&host, 2380).await;
        *told.borrow_mut() = Some(connected);
    });
    got
}

#[test]
fn members_are_found_by_name_and_by_address() {
    let sim = Sim::new(1);
    let there = machine(&sim, SERVER);
    let _listener = there.listen(2380);
    let ip = there.address(2380).ip();
    sim.set_name("one", ip);
    for (host, found) in [("one".to_owned(), true), (ip.to_string(), true), ("two".to_owned(), false)] {
        let got = connect_as(&sim, MemberId(2), host.clone());
        assert!(sim.run_until(1_000, || got.borrow().is_some()));
        assert_eq!(got.take().expect("just seen").is_ok(), found, "{host}");
    }
}

#[test]
fn nothing_passes_between_members_that_are_cut_off_and_all_of_it_later() {
    for seed in 0..20 {
        let sim = Sim::new(seed);
        let there = machine(&sim, SERVER);
        let listener = there.listen(2380);
        let host = there.address(2380).ip().to_string();
        let cut = || sim.set_faults(Faults { isolated: [SERVER.0].into(), ..Faults::default() });
        let first = connect_as(&sim, MemberId(2), host.clone());
        assert!(sim.run_until(1_000, || first.borrow().is_some()));
        let heard = Rc::new(RefCell::new(Vec::new()));
        let told = heard.clone();
        sim.spawn(SERVER, async move {
            let mut socket = listener.accept().await.expect("somebody comes");
            while let Ok(bytes) = read(&mut socket, 100).await
                && !bytes.is_empty()
            {
                told.borrow_mut().extend(bytes);
            }
            told.borrow_mut().push(b'.');
        });
        let mut socket = first.take().expect("just seen").expect("somebody listens");
        cut();
        let second = connect_as(&sim, MemberId(2), host);
        sim.spawn(MemberId(2), async move { write(&mut socket, b"word").await.expect("there is room") });
        assert!(!sim.run_until(5_000, || !heard.borrow().is_empty() || second.borrow().is_some()));
        sim.set_faults(Faults::default());
        let both = || second.borrow().is_some() && heard.borrow().as_slice() == b"word.";
        assert!(sim.run_until(5_000, both), "seed {seed}: {:?}", heard.borrow());
    }
}

#[test]
fn a_reset_ends_all_that_is_between_two_members() {
    for seed in 0..20 {
        let sim = Sim::new(seed);
        let there = machine(&sim, SERVER);
        let listener = there.listen(2380);
        let host = there.address(2380).ip().to_string();
        let (one, other) = (connect_as(&sim, MemberId(2), host.clone()), connect_as(&sim, MemberId(3), host));
        assert!(sim.run_until(1_000, || one.borrow().is_some() && other.borrow().is_some()));
        let ended = Rc::new(RefCell::new(Vec::new()));
        for _ in 0..2 {
            let accepted = Rc::new(RefCell::new(None));
            let taken = accepted.clone();
            futures_lite::future::block_on(async { *taken.borrow_mut() = listener.accept().await.ok() });
            let (mut socket, ended) = (accepted.take().expect("somebody comes"), ended.clone());
            sim.spawn(SERVER, async move {
                let from = socket.peer().expect("an address").ip().to_string();
                let came = read(&mut socket, 1).await.map_err(|error| error.kind());
                ended.borrow_mut().push((from, came));
            });
        }
        sim.run_until(1_000, || false);
        assert!(ended.borrow().is_empty());
        sim.reset_connections(SERVER, MemberId(2));
        sim.run_until(1_000, || false);
        assert_eq!(*ended.borrow(), [("10.0.0.2".to_owned(), Err(io::ErrorKind::ConnectionReset))]);
        let mut socket = one.take().expect("just seen").expect("connected");
        let refused = futures_lite::future::block_on(write(&mut socket, b"x")).expect_err("reset");
        assert_eq!(refused.kind(), io::ErrorKind::BrokenPipe);
    }
}
