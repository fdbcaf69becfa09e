//! The load generator against upstream, and against a small server whose behaviour is known.

use std::net::SocketAddr;
use std::time::Duration;

use bench_harness::load::{self, Operation, Options, Phase, Summary};
use bench_harness::oracle;
use bench_harness::process::{Launch, Server};

fn etcd() -> (Server, tempfile::TempDir) {
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let server = Launch::etcd(oracle::program("etcd").unwrap(), scratch.path().join("data")).start().unwrap();
    (server, scratch)
}

fn run(options: &Options) -> Summary {
    let summary = load::run(options, &mut |_| {}).unwrap();
    assert_eq!(summary.errors, 0, "{summary}");
    summary
}

#[test]
fn all_operations_work_against_upstream() {
    let (server, _scratch) = etcd();
    let base = Options {
        connections: 3,
        clients: 20,
        key_space: 500,
        ..Options::new(Operation::Put, server.addr())
    };

    // Every key once: afterwards no get misses.
    let fill = Options { total: Some(500), sequential: true, threads: 2, value_size: 100, ..base.clone() };
    assert_eq!(run(&fill).completed, 500);

    let get = Options { operation: Operation::Get, total: Some(1000), ..base.clone() };
    let summary = run(&get);
    assert_eq!((summary.completed, summary.not_found), (1000, 0));
    let beyond = Options { key_space: 4096, serializable: true, ..get };
    assert!(run(&beyond).not_found > 500);

    // The first txn on a key conflicts, as its revision is not known, and later ones mostly succeed.
    let txn = Options { operation: Operation::Txn, total: Some(3000), ..base.clone() };
    let summary = run(&txn);
    assert!((300..1500).contains(&summary.conflicts), "{summary}");

    let mixed = Options { operation: Operation::Mixed, total: Some(1000), reads: 0.5, ..base.clone() };
    let summary = run(&mixed);
    let (reads, writes) = (summary.read_latency.unwrap(), summary.write_latency.unwrap());
    assert_eq!(reads.count + writes.count, 1000);
    assert!(reads.count > 400 && writes.count > 400);

    // Twelve lists of 500 keys each: whole, and in pages of which the last one is short.
    for (page, operations) in [(0, 12), (150, 48)] {
        let list = Options { operation: Operation::List, page, total: Some(operations), ..base.clone() };
        let list = Options { connections: 1, clients: 1, ..list };
        let listed = run(&list).listed;
        assert_eq!((listed.lists, listed.keys), (12, 6000));
        assert!(listed.bytes > 6000 * 100, "{listed:?}");
    }

    // Above every flow control window.
    let large = Options { value_size: 1 << 20, total: Some(20), ..base };
    assert_eq!(run(&large).completed, 20);
}

#[test]
fn refused_operations_are_counted_with_their_reason() {
    let (server, _scratch) = etcd();
    let options =
        Options { value_size: 2 << 20, total: Some(5), ..Options::new(Operation::Put, server.addr()) };
    let summary = load::run(&options, &mut |_| {}).unwrap();
    assert_eq!((summary.completed, summary.errors), (0, 5));
    assert!(summary.error_kinds.keys().all(|kind| kind.contains("larger than max")), "{summary}");
}

#[test]
fn a_lost_server_is_an_error_and_the_run_ends() {
    let (mut server, _scratch) = etcd();
    let options = Options {
        connections: 2,
        clients: 8,
        duration: Duration::from_secs(60),
        ..Options::new(Operation::Put, server.addr())
    };
    let mut server_killed = false;
    let summary = load::run(&options, &mut |phase| {
        if let Phase::Progress { live, .. } = phase
            && live.completed() > 50
            && !server_killed
        {
            server.kill().unwrap();
            server_killed = true;
        }
    })
    .unwrap();
    assert_eq!((summary.errors, summary.connections_lost), (8, 2), "{summary}");
    assert!(summary.measured_seconds < 30.0);
}

#[test]
fn no_server_is_an_error() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = Options { connections: 4, clients: 4, threads: 2, ..Options::new(Operation::Put, closed) };
    assert!(matches!(load::run(&options, &mut |_| {}), Err(load::Error::Connect { .. })));
}

/// A server that answers every call at once, but stops for `stall` after `after` calls.
fn stalling(after: u64, stall: Duration) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let (socket, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(socket).await.unwrap();
            let mut calls = 0;
            while let Some(call) = connection.accept().await {
                let Ok((_request, mut respond)) = call else { return };
                calls += 1;
                if calls == after {
                    std::thread::sleep(stall);
                }
                let response = http::Response::builder().header("content-type", "application/grpc");
                let mut body = respond.send_response(response.body(()).unwrap(), false).unwrap();
                body.send_data(bytes::Bytes::from_static(&[0; 5]), false).unwrap();
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                body.send_trailers(trailers).unwrap();
            }
        });
    });
    addr
}

#[test]
fn an_open_loop_charges_a_stall_to_everyone_who_had_to_wait() {
    let stall = Duration::from_millis(500);
    let base =
        Options { duration: Duration::from_secs(1), ..Options::new(Operation::Put, stalling(200, stall)) };

    // One client, 1000/s: about 500 of 1000 starts fall into the stall and wait 250 ms on average.
    let open = run(&Options { rate: Some(1000.0), ..base.clone() });
    assert_eq!(open.latency.count, 1001, "{open}");
    assert!(open.latency.max_us > 450e3, "{open}");
    assert!(open.latency.p90_us > 300e3, "{open}");
    assert!(open.latency.mean_us > 80e3, "{open}");

    // A closed loop sees one slow operation.
    let closed = run(&Options { endpoints: vec![stalling(200, stall)], ..base });
    assert!(closed.latency.max_us > 450e3, "{closed}");
    assert!(closed.latency.p90_us < 100e3, "{closed}");
}

#[test]
fn a_stopped_run_ends_early_and_knows_its_length() {
    let options = Options {
        duration: Duration::from_secs(60),
        rate: Some(500.0),
        trace: true,
        ..Options::new(Operation::Put, stalling(u64::MAX, Duration::ZERO))
    };
    let since = std::time::Instant::now();
    let summary = load::run(&options, &mut |phase| {
        if let Phase::Progress { live, .. } = phase
            && since.elapsed() > Duration::from_millis(400)
        {
            live.stop();
        }
    })
    .unwrap();
    assert_eq!((summary.errors, summary.latency.count), (0, summary.trace.len() as u64), "{summary}");
    assert!((0.35..5.0).contains(&summary.measured_seconds), "{summary}");
    assert!((summary.per_second - 500.0).abs() < 100.0, "{summary}");
    assert!(since.elapsed() < Duration::from_secs(20));
}

#[test]
fn the_warm_up_is_not_measured() {
    // The stall is over before the measured time starts.
    let endpoint = stalling(2, Duration::from_millis(300));
    let summary = run(&Options {
        warm_up: Duration::from_millis(600),
        duration: Duration::from_millis(400),
        ..Options::new(Operation::Put, endpoint)
    });
    assert!(summary.latency.max_us < 250e3, "{summary}");
    assert!((0.39..0.6).contains(&summary.measured_seconds), "{summary}");
}
