//! Binds the listening sockets the flags ask for.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use tracing::info;

use super::StartError;
use crate::{
    config::{Config, Url},
    env::real::{Bound, Reuse},
    logging,
    protocol::Offer,
};

/// How long an address may stay in use before that is an error, and how often to look.
const IN_USE_PATIENCE: Duration = Duration::from_secs(3);
const IN_USE_PAUSE: Duration = Duration::from_millis(10);

/// Every listener, bound; what each offers depends on which flags are set, as in etcd.
pub fn bind(config: &Config) -> Result<Vec<(Bound, Offer)>, StartError> {
    let reuse = Reuse { port: config.socket_reuse_port, address: config.socket_reuse_address };
    if reuse.port || reuse.address {
        info!("reuse-address" = reuse.address, "reuse-port" = reuse.port, "configuring socket options");
    }
    let offer = match config.listen_client_http_urls[..] {
        [] => Offer::CLIENT,
        _ => Offer::CLIENT_GRPC,
    };
    info!("listen-peer-urls" = ?logging::list(&config.listen_peer_urls), "configuring peer listeners");
    info!("listen-client-urls" = ?logging::list(&config.listen_client_urls), "configuring client listeners");
    let groups = [
        (&config.listen_peer_urls, Offer::PEER),
        (&config.listen_client_urls, offer),
        (&config.listen_client_http_urls, Offer::CLIENT_HTTP),
        (&config.listen_metrics_urls, Offer::METRICS),
    ];
    let mut listeners = Vec::new();
    for (urls, offer) in groups {
        for url in urls {
            listeners.push((bind_one(address(url), reuse)?, offer));
        }
    }
    Ok(listeners)
}

/// The kernel takes a killed process's rings apart after the process is gone, and until then they keep its listening
/// socket: whoever starts the member again right after a `kill -9` would find the address in use.
fn bind_one(address: SocketAddr, reuse: Reuse) -> Result<Bound, StartError> {
    let started = Instant::now();
    loop {
        match Bound::bind(address, reuse) {
            Ok(socket) => return Ok(socket),
            Err(error) if error.kind() == ErrorKind::AddrInUse && started.elapsed() < IN_USE_PATIENCE => {
                thread::sleep(IN_USE_PAUSE);
            }
            Err(error) => return Err(explain(address, &error)),
        }
    }
}

/// The checks left only IP addresses and `localhost`, which is IPv4's as for Go's listener.
fn address(url: &Url) -> SocketAddr {
    let ip = match url.host().parse() {
        Ok(ip) => ip,
        Err(_) => {
            assert_eq!(url.host(), "localhost", "the configuration holds IP addresses or localhost");
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        }
    };
    SocketAddr::new(ip, url.port())
}

fn explain(address: SocketAddr, error: &io::Error) -> StartError {
    let (reason, advice) = match error.kind() {
        ErrorKind::AddrInUse => {
            ("address already in use".to_string(), "stop the other server or choose another port")
        }
        ErrorKind::PermissionDenied => (
            "permission denied".to_string(),
            "ports below 1024 need CAP_NET_BIND_SERVICE, choose a higher one",
        ),
        ErrorKind::AddrNotAvailable => {
            ("cannot assign requested address".to_string(), "choose an address of this machine")
        }
        _ => match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => (
                error.to_string(),
                "raise the limit of open files with `ulimit -n`, LimitNOFILE= or fs.file-max",
            ),
            Some(libc::EAFNOSUPPORT) => {
                (error.to_string(), "this machine has no addresses of that family, choose another")
            }
            _ => (error.to_string(), "choose another address"),
        },
    };
    StartError::Listen { address, reason, advice }
}
