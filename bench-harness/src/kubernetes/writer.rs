//! Controllers and kubelets: each has objects of its own, which nobody else writes, and changes one after the other.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;
use tonic::transport::Channel;

use super::Shared;
use super::housekeeping::Leases;
use super::objects::{self, Kind};
use crate::pb::etcdserverpb as pb;
use pb::kv_client::KvClient;

/// Of a hundred writes: updates of heartbeats and of the rest, then creations and deletions as they are needed, events.
const HEARTBEATS: u32 = 35;
const UPDATES: u32 = 80;
const EVENTS: u32 = 90;

pub struct Writer {
    number: usize,
    shared: Shared,
    random: SmallRng,
    /// By kind: key and revision.
    objects: [Vec<(String, i64)>; 3],
    next: u64,
}

const STORED: [Kind; 3] = [Kind::Pods, Kind::Leases, Kind::ConfigMaps];

impl Writer {
    pub fn new(number: usize, shared: &Shared) -> Self {
        let random = SmallRng::seed_from_u64(number as u64);
        Self { number, shared: shared.clone(), random, objects: Default::default(), next: 0 }
    }

    /// How many objects of a kind are its.
    fn share(&self) -> usize {
        let pattern = &self.shared.pattern;
        (pattern.objects / pattern.writers).max(1)
    }

    pub async fn fill(&mut self, mut kv: KvClient<Channel>) -> Result<(), tonic::Status> {
        for (at, kind) in STORED.into_iter().enumerate() {
            for _ in 0..self.share() {
                let (key, value) = self.new_object(kind);
                let response = kv.txn(objects::create(&key, value, 0)).await?.into_inner();
                self.objects[at].push((key, revision(&response)));
            }
        }
        Ok(())
    }

    fn new_object(&mut self, kind: Kind) -> (String, bytes::Bytes) {
        self.next += 1;
        (kind.key(self.number, self.next), self.value())
    }

    fn value(&self) -> bytes::Bytes {
        objects::value(self.shared.nanos(), self.shared.pattern.value_size)
    }

    /// For so long: the first transaction when it is due, and then one after the other or so many a second.
    pub async fn write(
        &mut self,
        mut kv: KvClient<Channel>,
        leases: Leases,
        (first, every): (Duration, Option<Duration>),
        duration: Duration,
    ) {
        let began = Instant::now();
        let mut due = began + first;
        while due.duration_since(began) < duration {
            tokio::time::sleep_until(due).await;
            let written = self.write_one(&mut kv, &leases).await;
            let latency = due.elapsed();
            self.shared.see(|seen| match written {
                Ok(succeeded) => {
                    seen.transactions += 1;
                    seen.conflicts += u64::from(!succeeded);
                    seen.latencies.push(latency);
                }
                Err(status) => seen.failed("a transaction", &status),
            });
            due = match every {
                Some(every) => due + every,
                None => Instant::now(),
            };
        }
    }

    async fn write_one(
        &mut self,
        kv: &mut KvClient<Channel>,
        leases: &Leases,
    ) -> Result<bool, tonic::Status> {
        let draw = self.random.random_range(0..100);
        if draw < UPDATES {
            let kind = if draw < HEARTBEATS { 1 } else { 2 * self.random.random_range(0..2) };
            return self.update(kv, kind).await;
        }
        if draw < EVENTS {
            let lease = leases.lease().await?;
            let (key, value) = self.new_object(Kind::Events);
            return Ok(kv.txn(objects::create(&key, value, lease)).await?.into_inner().succeeded);
        }
        // Pods come and go.
        let pods = self.objects[0].len();
        if pods > self.share() || pods > 1 && self.random.random_bool(0.5) {
            self.delete(kv).await
        } else {
            self.create(kv).await
        }
    }

    async fn update(&mut self, kv: &mut KvClient<Channel>, kind: usize) -> Result<bool, tonic::Status> {
        if self.objects[kind].is_empty() {
            return self.create(kv).await;
        }
        let at = self.random.random_range(0..self.objects[kind].len());
        let (key, known) = self.objects[kind][at].clone();
        let response = kv.txn(objects::update(&key, known, self.value())).await?.into_inner();
        let now = if response.succeeded { Some(revision(&response)) } else { objects::found(&response) };
        match now {
            Some(now) => self.objects[kind][at].1 = now,
            None => {
                self.objects[kind].swap_remove(at);
                self.shared.see(|seen| seen.fault(|| format!("{key} is gone, and nobody has deleted it")));
            }
        }
        Ok(response.succeeded)
    }

    async fn create(&mut self, kv: &mut KvClient<Channel>) -> Result<bool, tonic::Status> {
        let (key, value) = self.new_object(Kind::Pods);
        let response = kv.txn(objects::create(&key, value, 0)).await?.into_inner();
        self.objects[0].push((key, revision(&response)));
        Ok(response.succeeded)
    }

    async fn delete(&mut self, kv: &mut KvClient<Channel>) -> Result<bool, tonic::Status> {
        let at = self.random.random_range(0..self.objects[0].len());
        let (key, known) = self.objects[0][at].clone();
        let response = kv.txn(objects::delete(&key, known)).await?.into_inner();
        match objects::found(&response) {
            Some(now) if !response.succeeded => self.objects[0][at].1 = now,
            _ => drop(self.objects[0].swap_remove(at)),
        }
        Ok(response.succeeded)
    }
}

fn revision(response: &pb::TxnResponse) -> i64 {
    response.header.as_ref().map_or(0, |header| header.revision)
}
