//! Addresses of machines by their names: asked of the system, on a thread of its own for each question.
//!
//! The system's resolver blocks for as long as its servers are silent, which may be half a minute; neither the core nor
//! what else is done beside it waits for that.

use std::{
    future::{Future, ready},
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use futures_util::future::Either;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::done::done;
use crate::limits;

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Where such a thread may run; none for wherever whoever asks runs.
    cores: Option<CpuSet>,
    under_way: Arc<AtomicUsize>,
}

impl Names {
    /// To be called by a thread that may still run anywhere.
    pub fn beside(core: usize) -> io::Result<Self> {
        let mut cores = sched_getaffinity(None)?;
        cores.unset(core);
        Ok(Self { cores: (cores.count() > 0).then_some(cores), ..Self::default() })
    }

    /// Where a port of a machine is, in the order in which they should be tried. What is an address already is not asked for.
    pub fn addresses(
        &self,
        host: &str,
        port: u16,
    ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + use<> + 'static {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Either::Left(ready(Ok(vec![SocketAddr::new(address, port)])));
        }
        match self.ask(host.to_owned(), port) {
            Ok(asked) => Either::Right(asked),
            Err(error) => Either::Left(ready(Err(error))),
        }
    }

    fn ask(
        &self,
        host: String,
        port: u16,
    ) -> io::Result<impl Future<Output = io::Result<Vec<SocketAddr>>> + use<> + 'static> {
        // Whoever does not wait any longer leaves a thread behind, until the system gives up.
        let place = Place::take(&self.under_way)?;
        let (teller, asked) = done();
        let cores = self.cores;
        thread::Builder::new().name("pinion-names".to_owned()).spawn(move || {
            if let Some(cores) = cores
                && let Err(error) = sched_setaffinity(None, &cores)
            {
                tracing::debug!(%error, "names are looked up on the core that serves");
            }
            let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
            drop(place);
            teller.tell(found);
        })?;
        Ok(asked)
    }
}

/// One of the questions that may be under way.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(under_way: &Arc<AtomicUsize>) -> io::Result<Self> {
        if under_way.fetch_add(1, Ordering::Relaxed) >= limits::NAMES_ASKED_MAX {
            under_way.fetch_sub(1, Ordering::Relaxed);
            return Err(io::Error::other("too many names are being looked up, and nobody answers"));
        }
        Ok(Self(under_way.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn names_and_addresses_are_found() {
        let names = Names::default();
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 2380));
        assert_eq!(block_on(names.addresses("127.0.0.1", 2380)).expect("an address"), [loopback]);
        assert!(
            block_on(names.addresses("localhost", 2380)).expect("every machine has it").contains(&loopback)
        );
        assert!(block_on(names.addresses("no name has blanks", 2380)).is_err());
        assert_eq!(names.under_way.load(Ordering::Relaxed), 0, "nothing is left under way");
    }

    #[test]
    fn only_so_many_are_asked_for_at_once() {
        let names = Names::default();
        let places: Vec<_> = (0..limits::NAMES_ASKED_MAX)
            .map(|_| Place::take(&names.under_way).expect("one is free"))
            .collect();
        assert!(block_on(names.addresses("localhost", 2380)).is_err());
        drop(places);
        assert!(block_on(names.addresses("localhost", 2380)).is_ok());
    }
}
