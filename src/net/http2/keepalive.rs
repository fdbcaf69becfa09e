//! Asks an idle client for a sign of life, and gives it up without one.

use std::{cell::Cell, rc::Rc, time::Duration};

use futures_lite::future::or;
use h2::{Ping, PingPong};

use super::wire::Wire;
use crate::env::{self, Env, Instant};

#[derive(Clone, Copy, Debug)]
pub(super) struct Keepalive {
    /// Without a byte from the client for so long, it is asked.
    pub(super) interval: Duration,
    /// It may answer, or say anything else, for so long.
    pub(super) timeout: Duration,
}

impl Keepalive {
    /// Watches a connection; sets `lost` once it counts as dead.
    pub(super) async fn watch<E: Env, S: env::Socket>(
        self,
        wire: Wire<E, S>,
        mut pings: PingPong,
        lost: Rc<Cell<bool>>,
    ) {
        loop {
            let asked = self.idle(&wire).await;
            let answered = async {
                // Any error is the connection's end, which its driver sees as well.
                pings.ping(Ping::opaque()).await.is_ok()
            };
            let timeout = async {
                wire.env().sleep(self.timeout).await;
                wire.heard() > asked
            };
            if !or(answered, timeout).await {
                lost.set(true);
                return;
            }
        }
    }

    /// Until the client has said nothing for the interval.
    async fn idle<E: Env, S: env::Socket>(&self, wire: &Wire<E, S>) -> Instant {
        loop {
            let now = wire.env().now();
            let left = self.interval.saturating_sub(now.since(wire.heard()));
            if left.is_zero() {
                return now;
            }
            wire.env().sleep(left).await;
        }
    }
}
