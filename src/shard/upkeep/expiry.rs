//! The end of leases: those whose time is over are revoked by their leader, many in an entry.
//!
//! A task beside the loop. Two batches are under way at a time, one that the log takes while the other is applied, and each
//! is small enough that a write which comes behind it waits no longer than for one more turn of the log. It also notes
//! from time to time what is left of long leases, if a flag says so.

use std::{future::Future, pin::Pin, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tracing::warn;

use super::Duty;
use crate::{
    env::Env,
    limits,
    pb::etcdserverpb as pb,
    shard::{Error, Shard, lease::Times},
    state::lease::{ExpireLeases, Expired, Place},
};

/// Leases that were to be revoked, and what came of it.
type Revoked = (Vec<Place>, Result<Expired, Error>);

pub struct LeaseExpiry<E: Env> {
    env: E,
    shard: Shard,
    times: Times,
    duty: Duty,
    /// Leases of the next batch: fewer, if the last ones had many keys.
    batch: usize,
    /// Batches that were proposed and are not applied yet.
    under_way: FuturesUnordered<Pin<Box<dyn Future<Output = Revoked>>>>,
}

impl<E: Env> LeaseExpiry<E> {
    pub fn new(env: E, shard: Shard, times: Times, duty: Duty) -> Self {
        let (batch, under_way) = (limits::LEASE_BATCH_MIN, FuturesUnordered::new());
        Self { env, shard, times, duty, batch, under_way }
    }

    /// Runs until the shard stops.
    pub async fn run(mut self) {
        while !self.shard.is_stopping() {
            let pause = match self.visit() {
                true => limits::BACKGROUND_PAUSE,
                false if self.note().await || self.expire().await => continue,
                false => self.pause(),
            };
            self.env.sleep(pause).await;
        }
    }

    /// A new leader gives leases their time. False if there are none without.
    fn visit(&self) -> bool {
        let now = self.env.now();
        self.shard.with_state(|state| self.times.visit(state.leases(), now, limits::LEASE_VISIT_PAGES))
    }

    /// Until something may be over. A lease that is granted meanwhile has more time than that.
    fn pause(&self) -> Duration {
        let now = self.env.now();
        let next = self.times.next().map_or(limits::LEASE_PAUSE, |next| next.since(now));
        next.clamp(limits::BACKGROUND_PAUSE, limits::LEASE_PAUSE)
    }

    /// Revokes what is over. False if there is nothing for the moment.
    async fn expire(&mut self) -> bool {
        while self.under_way.len() < limits::LEASE_BATCHES && self.begin().await {}
        let Some((over, result)) = self.under_way.next().await else { return false };
        match result {
            Ok(expired) => {
                self.shard.metrics().lease_expired.inc_by(expired.leases);
                if let Some(keys) = expired.keys.checked_div(expired.leases) {
                    let batch = limits::LEASE_BATCH_COST / (1 + limits::LEASE_KEY_COST * keys as usize);
                    self.batch = batch.clamp(limits::LEASE_BATCH_MIN, limits::LEASE_BATCH_COST);
                }
                true
            }
            Err(error) => {
                self.failed(&over, &error);
                false
            }
        }
    }

    /// Proposes to revoke a batch of what is over. False if there is nothing.
    async fn begin(&mut self) -> bool {
        // A leader that is none any more, and does not know it yet, must not have another end what is alive there.
        let Some(term) = self.duty.term() else { return false };
        let (now, mut over) = (self.env.now(), Vec::new());
        while over.len() < self.batch
            && self.times.take_over(now, limits::LEASE_VISITS, self.batch, &mut over)
        {
            if over.len() < self.batch {
                // Many were renewed: others have their turn.
                self.env.sleep(limits::BACKGROUND_PAUSE).await;
            }
        }
        // Some may be gone meanwhile, and their places be others'.
        over.retain(|place| self.times.ends(*place).is_some_and(|ends| ends <= now));
        let ids: Vec<_> = self.shard.with_state(|state| {
            over.iter().filter_map(|place| Some(state.leases().at(*place)?.id)).collect()
        });
        // An entry that does nothing would be in the log for it.
        if ids.is_empty() {
            return false;
        }
        let shard = self.shard.clone();
        let revoke = async move { (over, shard.write_leading(term, ExpireLeases { ids }).await) };
        self.under_way.push(Box::pin(revoke));
        true
    }

    /// They are revoked later.
    fn failed(&self, over: &[Place], error: &Error) {
        let pause = match error {
            Error::TooManyRequests => limits::LEASE_BUSY_PAUSE,
            Error::NoLeader | Error::Stopped => limits::LEASE_PAUSE,
            Error::Apply(_)
            | Error::Timeout
            | Error::NotProposed
            | Error::LeaderLost
            | Error::Unlinked
            | Error::NotHandedOver
            | Error::LearnerNotReady => {
                warn!(leases = over.len(), %error, "failed to revoke expired leases");
                limits::LEASE_RETRY
            }
        };
        let now = self.env.now();
        self.times.put_back(over, now.after(pause), now);
    }

    /// Notes in the log what is left of long leases. False if there is nothing for the moment.
    async fn note(&self) -> bool {
        let Some(term) = self.duty.term().filter(|_| self.times.notes()) else { return false };
        let now = self.env.now();
        let (visits, most) = (limits::LEASE_VISITS, limits::LEASE_NOTES_MAX);
        let notes = self.shard.with_state(|state| self.times.take_to_note(state.leases(), now, visits, most));
        if notes.is_empty() {
            return false;
        }
        let note = |(id, remaining_ttl)| pb::LeaseCheckpoint { id, remaining_ttl };
        let checkpoints = notes.into_iter().map(note).collect();
        let request = pb::LeaseCheckpointRequest { checkpoints };
        if let Err(error) = self.shard.write_leading(term, request).await {
            // They are noted again after the next interval.
            warn!(%error, "failed to note what is left of leases");
            return false;
        }
        true
    }
}
