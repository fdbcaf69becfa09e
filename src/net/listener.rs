//! Listening sockets and the loops that accept from them.

use std::rc::Rc;

use futures_lite::future::or;

use super::{connection::Server, connections::Connections};
use crate::{
    env::{Env, Instant, Listener},
    limits,
    protocol::{Offer, Surface},
};

/// A listening socket, and what is served there.
pub struct Listening<L> {
    pub listener: L,
    pub offer: Offer,
}

impl<L: Listener> Listening<L> {
    /// Accepts until the member stops.
    pub(super) async fn accept<E>(self, server: &Rc<Server<E>>, connections: &Rc<Connections>)
    where
        E: Env<Listener = L>,
    {
        // Whoever looks after the member is let in when clients have taken all there is.
        let beyond = match self.offer.http {
            Some(Surface::Metrics) => limits::METRICS_CONNECTIONS,
            Some(Surface::Client | Surface::Peer) | None => 0,
        };
        let mut complaints = Complaints::default();
        let mut taken = 0;
        loop {
            if connections.is_full(beyond) {
                complaints.say(server.env().now(), |missed| {
                    let open = connections.open();
                    tracing::warn!(
                        open,
                        missed,
                        "too many open connections, new ones wait for others to end"
                    );
                });
            }
            if !connections.vacant(beyond).await {
                return;
            }
            let stopping = async {
                connections.stopping().await;
                None
            };
            match or(stopping, async { Some(self.listener.accept().await) }).await {
                None => return,
                Some(Ok(socket)) => {
                    // Another listener may have taken the last one meanwhile.
                    if !connections.vacant(beyond).await {
                        return;
                    }
                    let permit = connections.enter();
                    server.env().spawn(server.clone().serve(socket, self.offer, permit));
                    taken += 1;
                    if taken % limits::ACCEPT_BURST == 0 {
                        server.env().sleep(limits::TURN_PAUSE).await;
                    }
                }
                Some(Err(error)) => {
                    complaints.say(server.env().now(), |missed| {
                        tracing::warn!(%error, missed, "failed to accept a connection");
                    });
                    server.env().sleep(limits::ACCEPT_RETRY).await;
                }
            }
        }
    }
}

/// What would be said many times a second is said now and then, with how often it was not.
#[derive(Default)]
struct Complaints {
    last: Option<Instant>,
    missed: u64,
}

impl Complaints {
    fn say(&mut self, now: Instant, say: impl FnOnce(u64)) {
        if self.last.is_some_and(|last| now.since(last) < limits::ACCEPT_COMPLAINT) {
            self.missed += 1;
            return;
        }
        self.last = Some(now);
        say(std::mem::take(&mut self.missed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_heard_now_and_then() {
        let mut complaints = Complaints::default();
        let mut heard = Vec::new();
        for millis in (0..=25_000).step_by(50) {
            complaints.say(Instant(millis * 1_000_000), |missed| heard.push((millis, missed)));
        }
        assert_eq!(heard, [(0, 0), (10_000, 199), (20_000, 199)]);
    }
}
