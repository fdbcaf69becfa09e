//! TCP through the executor's ring.

use std::{
    future::Future,
    io,
    net::{Ipv6Addr, SocketAddr, TcpListener as StdListener},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_lite::{AsyncRead, AsyncWrite, StreamExt};
use futures_util::stream::FuturesUnordered;
use glommio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, SockRef, TcpKeepalive, Type};

use super::disk::os_error;
use crate::{
    env::{Listener, Socket},
    limits,
};

/// `--socket-reuse-port` and `--socket-reuse-address`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reuse {
    pub port: bool,
    pub address: bool,
}

/// A bound socket. It may be made on any thread, before the executor runs.
#[derive(Debug)]
pub struct Bound(StdListener);

impl Bound {
    /// Port 0 takes any free one. "All addresses", of whichever family, are those of both families where the machine
    /// has both, as with Go's listeners.
    pub fn bind(address: SocketAddr, reuse: Reuse) -> io::Result<Self> {
        if !address.ip().is_unspecified() {
            return Self::bind_exactly(address, reuse);
        }
        let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, address.port()));
        match Self::bind_exactly(both, reuse) {
            Err(error) if address.is_ipv4() && is_without_ipv6(&error) => Self::bind_exactly(address, reuse),
            bound => bound,
        }
    }

    fn bind_exactly(address: SocketAddr, reuse: Reuse) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // As Go's listeners do: a restart need not wait for old connections to time out.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(reuse.port)?;
        // Connections inherit it.
        let keepalive =
            TcpKeepalive::new().with_time(limits::TCP_KEEPALIVE).with_interval(limits::TCP_KEEPALIVE);
        socket.set_tcp_keepalive(&keepalive)?;
        socket.bind(&address.into())?;
        socket.listen(limits::LISTEN_BACKLOG)?;
        Ok(Self(StdListener::from(socket)))
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Takes connections in, on the executor that calls it.
    pub fn listen(self) -> RealListener {
        // SAFETY: the descriptor is a listening TCP socket and has no other owner from here on.
        RealListener(unsafe { TcpListener::from_raw_fd(self.0.into_raw_fd()) })
    }
}

/// The machine's kernel has no IPv6, or no address of it.
fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// A listening socket of an executor.
#[derive(Debug)]
pub struct RealListener(TcpListener);

impl Listener for RealListener {
    type Socket = RealSocket;

    async fn accept(&self) -> io::Result<RealSocket> {
        loop {
            // Polled only when there is something to accept: each time it is polled, the executor keeps one more waker of
            // whoever waits, and who waits here is woken for much else.
            let mut accepted: FuturesUnordered<_> = std::iter::once(self.0.accept()).collect();
            let stream = accepted.next().await.expect("there is one").map_err(os_error)?;
            match stream.set_nodelay(true).and_then(|()| stream.peer_addr()) {
                Ok(peer) => return Ok(RealSocket { stream, peer: canonical(peer) }),
                // The peer is gone already.
                Err(error) => tracing::debug!(%error, "dropping a new connection"),
            }
        }
    }
}

/// Tries one address after another, and gives the last error if nobody listens at any.
pub(super) async fn connect(
    addresses: impl Future<Output = io::Result<Vec<SocketAddr>>>,
) -> io::Result<RealSocket> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses.await?.into_iter().take(limits::ADDRESSES_TRIED) {
        match TcpStream::connect_timeout(address, limits::CONNECT_WAIT).await.map_err(os_error) {
            Ok(stream) => {
                let keepalive =
                    TcpKeepalive::new().with_time(limits::TCP_KEEPALIVE).with_interval(limits::TCP_KEEPALIVE);
                borrowed(&stream, |socket| socket.set_tcp_keepalive(&keepalive))?;
                stream.set_nodelay(true)?;
                return Ok(RealSocket { stream, peer: canonical(address) });
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn borrowed<T>(stream: &TcpStream, with: impl FnOnce(SockRef<'_>) -> T) -> T {
    // SAFETY: the stream owns the descriptor and outlives the borrow.
    let socket = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    with(SockRef::from(&socket))
}

/// A client's own address, where it came to a socket of both families.
fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// A TCP connection.
#[derive(Debug)]
pub struct RealSocket {
    stream: TcpStream,
    peer: SocketAddr,
}

impl Socket for RealSocket {
    fn peer(&self) -> Option<SocketAddr> {
        Some(self.peer)
    }

    fn give_up_after(&self, timeout: Duration) -> io::Result<()> {
        borrowed(&self.stream, |socket| socket.set_tcp_user_timeout(Some(timeout)))
    }

    fn keep_unsent_below(&self, bytes: u32) -> io::Result<()> {
        borrowed(&self.stream, |socket| socket.set_tcp_notsent_lowat(bytes))
    }

    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        net::{Ipv4Addr, TcpStream},
    };

    use futures_lite::future::or;

    use super::*;
    use crate::env::{Env, real::run_anywhere};

    /// Whether this machine has IPv6 at all.
    fn has_ipv6() -> bool {
        StdListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
    }

    #[test]
    fn all_addresses_are_those_of_both_families() {
        for all in
            [SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))]
        {
            if all.is_ipv6() && !has_ipv6() {
                continue;
            }
            run_anywhere(async move |_| {
                let bound = Bound::bind(all, Reuse::default()).expect("a free port");
                let port = bound.address().expect("bound").port();
                let listener = bound.listen();
                let mut from = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))];
                if has_ipv6() {
                    from.push(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
                }
                for to in from {
                    let client = TcpStream::connect(to).expect("the listener takes it");
                    let socket = listener.accept().await.expect("accepted");
                    assert_eq!(socket.peer(), Some(client.local_addr().expect("connected")), "{to}");
                }
            })
            .expect("an executor");
        }
    }

    fn check_options(stream: &glommio::net::TcpStream) {
        borrowed(stream, |options| {
            assert!(options.keepalive().expect("a socket") && options.tcp_nodelay().expect("a socket"));
            assert_eq!(options.tcp_keepalive_time().expect("a socket"), limits::TCP_KEEPALIVE);
            assert_eq!(options.tcp_keepalive_interval().expect("a socket"), limits::TCP_KEEPALIVE);
        });
    }

    #[test]
    fn a_name_is_connected_to_by_whichever_address_listens() {
        run_anywhere(async |env| {
            let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let bound = Bound::bind(loopback, Reuse::default()).expect("a free port");
            let address = bound.address().expect("bound");
            let listener = bound.listen();
            for host in ["localhost", "127.0.0.1"] {
                let mut socket = env.connect(host, address.port()).await.expect("somebody listens");
                assert_eq!(socket.peer(), Some(address));
                check_options(&socket.stream);
                let mut other = listener.accept().await.expect("accepted");
                let sent = poll_fn(|context| socket.poll_write(context, b"word")).await.expect("sent");
                let mut buffer = [0; 8];
                let read = poll_fn(|context| other.poll_read(context, &mut buffer)).await.expect("read");
                assert_eq!((sent, &buffer[..read]), (4, b"word".as_slice()));
            }
            drop(listener);
            let refused = env.connect("127.0.0.1", address.port()).await.expect_err("nobody listens");
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        })
        .expect("an executor");
    }

    #[test]
    fn a_connection_that_is_given_up_leaves_nothing_behind() {
        // Whoever comes after the first ones is not answered.
        let full = socket2::Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        full.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
        full.listen(0).expect("it listens");
        let port = full.local_addr().expect("bound").as_socket().expect("an address").port();
        run_anywhere(async move |env| {
            let mut taken = Vec::new();
            let attempt = || {
                let late = async {
                    env.sleep(Duration::from_millis(20)).await;
                    None
                };
                or(async { Some(env.connect("127.0.0.1", port).await) }, late)
            };
            while let Some(connected) = attempt().await {
                taken.push(connected.expect("there is room"));
            }
            for _ in 0..20 {
                assert!(attempt().await.is_none(), "it is full");
            }
            let bound = Bound::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), Reuse::default());
            let bound = bound.expect("a free port");
            let address = bound.address().expect("bound");
            let listener = bound.listen();
            env.connect("127.0.0.1", address.port()).await.expect("somebody listens");
            listener.accept().await.expect("accepted");
        })
        .expect("an executor");
    }

    #[test]
    fn a_connection_is_watched_by_the_kernel() {
        run_anywhere(async |_| {
            let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let bound = Bound::bind(loopback, Reuse::default()).expect("a free port");
            let address = bound.address().expect("bound");
            let listener = bound.listen();
            let _client = TcpStream::connect(address).expect("the listener takes it");
            let socket = listener.accept().await.expect("accepted");
            socket.give_up_after(Duration::from_secs(20)).expect("a socket");
            check_options(&socket.stream);
            socket.keep_unsent_below(1 << 16).expect("a socket");
            let unsent = borrowed(&socket.stream, |options| options.tcp_notsent_lowat());
            assert_eq!(unsent.expect("a socket"), 1 << 16);
            let patience = borrowed(&socket.stream, |options| options.tcp_user_timeout());
            assert_eq!(patience.expect("a socket"), Some(Duration::from_secs(20)));
        })
        .expect("an executor");
    }
}
