//! Members on the port that they are asked over HTTP on, over real sockets.

use super::*;
use crate::{
    env::{Links, Peer},
    net::serve_peers,
    peer::{self, Peers},
    types::{Level, MemberId},
};

fn options(member: MemberId) -> peer::Options {
    peer::Options {
        cluster: CLUSTER,
        member,
        urls: Vec::new(),
        read_timeout: limits::PEER_TIMEOUT_MIN,
        write_timeout: limits::PEER_TIMEOUT_MIN,
        checkpoint_bytes_per_second: 0,
        level: Level::FIRST,
    }
}

#[test]
fn they_share_it_with_http() {
    let (base, other) = (std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tmp"), MemberId(2));
    std::fs::create_dir_all(&base).expect("the build directory is writable");
    let dir = tempfile::tempdir_in(base).expect("the build directory is writable");
    let version = run_anywhere(async |env| {
        let (started, _locked) = open(&env, dir.path(), founders(1)).await;
        // Kept: without its loop the shard counts as stopped.
        let (shard, _still, counted) = (started.shard, started.run, metrics());
        let (here, there) = (
            Peers::new(env.clone(), options(MEMBER), counted.peers.clone()),
            Peers::new(env.clone(), options(other), metrics().peers.clone()),
        );
        here.attach(Keyspace::default().shard, &shard);
        let bound =
            Bound::bind(SocketAddr::from(([127, 0, 0, 1], 0)), Reuse::default()).expect("a free port");
        let address = bound.address().expect("bound");
        let listening = vec![Listening { listener: bound.listen(), offer: Offer::PEER }];
        let api = Api::new(&env, Keyspace::default(), shard, counted, Options::default());
        let (machine, serving, routes) = (env.clone(), here.clone(), Routes::new(&env, api));
        env.spawn(async move { serve_peers(&machine, listening, routes, serving).await });
        let url = |at: SocketAddr| vec![format!("http://localhost:{}", at.port())];
        there.set_members(
            &[Peer { id: MEMBER, urls: url(address) }, Peer { id: other, urls: Vec::new() }],
            &[],
        );
        while there.active_since(MEMBER).is_none() {
            env.sleep(Duration::from_millis(1)).await;
        }
        env.offload(move || get(address, "/version")).await
    });
    let version = version.expect("an executor");
    assert!(version.starts_with("HTTP/1.1 200 OK") && version.contains("etcdserver"), "{version}");
}

#[test]
fn where_only_clients_are_served_they_are_not() {
    let served = Served::start();
    let mut stream = TcpStream::connect(served.client).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    stream.write_all(peer::PREFACE).expect("sent");
    let mut answer = Vec::new();
    assert_eq!(stream.read_to_end(&mut answer).expect("closed"), 0, "{answer:?}");
    assert!(
        get(served.client, "/version").starts_with("HTTP/1.1 200 OK"),
        "and nothing is wrong with the port"
    );
}
