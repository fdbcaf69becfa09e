//! Settings as they are found in the open, on the real program.

use std::fs;

use bench_harness::pb::etcdserverpb::{self as pb, kv_client::KvClient};
use tonic::transport::Channel;

use super::{READY, Server, free_port, pinion, serving, temp_dir};

const SAMPLE: &str = include_str!("../../src/config/tests/etcd.conf.yml");

/// etcd's own sample, on ports that are free.
#[test]
fn the_sample_of_etcd_starts() {
    let dir = temp_dir();
    let text = SAMPLE.replace("localhost:2379", &format!("localhost:{}", free_port()));
    let peers = "listen-peer-urls: http://localhost";
    let text = text.replace(&format!("{peers}:2380"), &format!("{peers}:{}", free_port()));
    fs::write(dir.path().join("etcd.yml"), text).expect("writable");
    let mut server = Server::start(pinion(dir.path()).args(["--config-file", "etcd.yml"]));
    server.line("\"flag-name\":\"discovery-fallback\"");
    server.line(READY);
    assert!(dir.path().join("default.etcd/member").is_dir());
}

/// A member that was made with small segments takes larger requests as soon as it is asked to.
#[test]
fn larger_requests_fit_into_a_log_that_was_made_for_smaller_ones() {
    let (dir, port) = (temp_dir(), free_port());
    let value_bytes = 33_000_000;
    for (args, fits) in [
        (&[][..], false),
        (&["--max-request-bytes=33554432"], true),
        (&["--max-request-bytes=33554432"], true),
    ] {
        let mut server = Server::start(serving(dir.path(), port).args(args));
        server.line(READY);
        let put =
            pb::PutRequest { key: "k".into(), value: vec![b'v'; value_bytes].into(), ..Default::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let answer = runtime.block_on(async {
            let channel = Channel::from_shared(format!("http://127.0.0.1:{port}")).expect("an endpoint");
            let mut kv = KvClient::new(channel.connect().await.expect("connect"));
            kv.put(put).await
        });
        assert_eq!(answer.is_ok(), fits, "{args:?}: {answer:?}");
        server.signal(libc::SIGTERM);
        server.line("closed etcd server");
    }
}
