//! Leases: few ids, so that calls meet; times that are long, so that none ends while calls go on, save those that shall.

use bench_harness::pb::etcdserverpb as pb;

use super::{Generator, Step};
use crate::conformance::call::Call;

/// Those that keys are attached to: the ids that puts name.
pub(super) const LEASES: i64 = 5;
/// Ends at once after it is granted, and never has keys.
pub const BRIEF: i64 = 9;
/// Ends by itself, with its keys.
const ENDING: i64 = 10;
/// Seconds in which it gets its keys, also where the machine is slow.
const ENDING_TTL: i64 = 5;
const TTL_MAX: i64 = 9_000_000_000;

impl Generator {
    pub(super) fn lease_step(&mut self, client: usize, lot: u64) -> Step {
        let call = match lot {
            0..260 => Call::LeaseGrant(self.grant()),
            260..290 => return self.brief_lease(client),
            290..330 => Call::AnyLease(self.rng.pick(&[60, 600, 0, -1, TTL_MAX, TTL_MAX + 1])),
            330..450 => Call::LeaseRevoke(pb::LeaseRevokeRequest { id: self.lease_id() }),
            450..700 => {
                let (id, keys) = (self.lease_id(), self.rng.percent(60));
                Call::LeaseTimeToLive(pb::LeaseTimeToLiveRequest { id, keys })
            }
            700..780 => Call::LeaseLeases(pb::LeaseLeasesRequest {}),
            780..998 => {
                let beats = self.rng.below(5);
                let beats = (0..beats).map(|_| pb::LeaseKeepAliveRequest { id: self.lease_id() });
                Call::LeaseKeepAlive(beats.collect())
            }
            _ => return self.ending_lease(client),
        };
        Step::Call { client, call }
    }

    pub(super) fn lease_id(&mut self) -> i64 {
        match self.rng.below(100) {
            0..88 => self.rng.between(1, LEASES),
            88..92 => 0,
            92..96 => self.rng.between(6, 8),
            _ => self.rng.pick(&[-1, i64::MIN, i64::MAX]),
        }
    }

    fn grant(&mut self) -> pb::LeaseGrantRequest {
        let ttl = match self.rng.below(100) {
            0..85 => self.rng.between(3_000, 100_000),
            85..90 => TTL_MAX,
            90..95 => TTL_MAX + 1,
            _ => i64::MAX,
        };
        let id = match self.rng.below(100) {
            0..90 => self.rng.between(1, LEASES + 2),
            _ => self.rng.pick(&[-1, i64::MIN, i64::MAX]),
        };
        pb::LeaseGrantRequest { ttl, id }
    }

    /// A time to live that is none, which the servers raise to their least.
    fn brief_lease(&mut self, client: usize) -> Step {
        let ttl = self.rng.pick(&[0, 1, 2, -1, i64::MIN]);
        let call = Call::LeaseRevoke(pb::LeaseRevokeRequest { id: BRIEF });
        self.plan.push_back(Step::Call { client, call });
        Step::Call { client, call: Call::LeaseGrant(pb::LeaseGrantRequest { ttl, id: BRIEF }) }
    }

    /// One that ends by itself while watches look on.
    fn ending_lease(&mut self, client: usize) -> Step {
        for _ in 0..self.rng.below(4) {
            let (key, value) = (self.key(), self.value());
            let put = pb::PutRequest { key, value, lease: ENDING, ..Default::default() };
            self.plan.push_back(Step::Call { client, call: Call::Put(put) });
        }
        if self.rng.percent(30) {
            let put = pb::PutRequest { key: self.key(), ..Default::default() };
            self.plan.push_back(Step::Call { client, call: Call::Put(put) });
        }
        self.plan.push_back(Step::Expiry(ENDING));
        Step::Call { client, call: Call::LeaseGrant(pb::LeaseGrantRequest { ttl: ENDING_TTL, id: ENDING }) }
    }
}
