//! One gRPC call that costs much: in its evaluation, in its answer, or in what it leaves in the log.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Until;
use super::raw::{Raw, WINDOW_MAX};
use super::requests;

/// Of an answer: nobody needs the rest.
const ENOUGH_BYTES: u64 = 1 << 30;
const LOOK: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, Debug)]
pub enum Call {
    /// A Txn of so many ranges over everything, and a put if it is to stay in the log.
    Ranges { count: usize, writes: bool },
    /// A Txn of Txns of compares over everything, see [`requests::compares`].
    Compares(&'static [usize]),
    /// Everything is deleted, and asked for.
    DeleteAll,
}

impl Call {
    pub fn run(&self, addr: SocketAddr, until: &Until) -> io::Result<String> {
        let (path, request) = self.request();
        let mut raw = Raw::connect(addr, WINDOW_MAX)?;
        raw.wait_for_settings(until)?;
        let since = Instant::now();
        raw.call(path, &request, until)?;
        raw.flush(until)?;
        loop {
            let heard = raw.heard();
            if heard.ended() > 0 || heard.closed || heard.bytes > ENOUGH_BYTES || !until.pause(LOOK) {
                let what = if until.over() { "given up" } else { "over" };
                let took = since.elapsed().as_secs_f64();
                return Ok(format!("{} bytes sent, {what} after {took:.1} s: {heard}", request.len()));
            }
        }
    }

    fn request(&self) -> (&'static str, Vec<u8>) {
        match self {
            Self::Ranges { count, writes } => {
                (requests::TXN, requests::framed(&requests::ranges(*count, *writes)))
            }
            Self::Compares(widths) => (requests::TXN, requests::framed(&requests::compares(widths))),
            Self::DeleteAll => (requests::DELETE, requests::framed(&requests::delete_all())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostile::{ATTACKS, How};

    /// What upstream admits: `--max-txn-ops` counts along the deepest path, `--max-request-bytes` the whole.
    #[test]
    fn every_call_is_one_that_a_server_takes() {
        for attack in ATTACKS {
            let How::Call(call) = &attack.how else { continue };
            let bytes = call.request().1.len();
            assert!(bytes <= 1_536 * 1_024, "{}: {bytes} bytes", attack.name);
            match call {
                Call::Ranges { count, writes } => assert!(count + usize::from(*writes) <= 128),
                Call::Compares(widths) => assert!(widths.iter().sum::<usize>() <= 128, "{}", attack.name),
                Call::DeleteAll => {}
            }
        }
    }

    #[test]
    fn one_txn_of_compares_is_short_and_one_as_long_as_a_request_may_be() {
        let bytes = |name| match &crate::hostile::attack(name).unwrap().how {
            How::Call(call) => call.request().1.len(),
            how => panic!("{how:?}"),
        };
        assert!((30_000..50_000).contains(&bytes("compares-3200")), "{}", bytes("compares-3200"));
        assert!(bytes("compares-135000") > 1_450_000, "{}", bytes("compares-135000"));
    }
}
