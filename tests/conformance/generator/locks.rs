//! Locks and elections: two names, and those who hold, wait, give back, give up, and never had.

use bench_harness::pb::{etcdserverpb as pb, v3electionpb as election, v3lockpb as lock};
use bytes::Bytes;

use super::{Generator, Step, leases::LEASES};
use crate::conformance::{call::Call, waiting::key};

const NAMES: [&str; 2] = ["lock", "election"];

impl Generator {
    pub(super) fn lock_step(&mut self, client: usize, lot: u64) -> Step {
        let name = Bytes::from_static(self.rng.pick(&NAMES).as_bytes());
        let lease = self.holder();
        let key = key(&name, lease);
        let leader = |rev| {
            let (name, key) = (name.clone(), key.clone());
            Some(election::LeaderKey { name, key, rev, lease })
        };
        let call = match lot {
            0..250 => Call::Lock(lock::LockRequest { name, lease }),
            250..500 => Call::Unlock(lock::UnlockRequest { key }),
            500..650 => Call::Campaign(election::CampaignRequest { name, lease, value: self.value() }),
            650..730 => Call::Leader(election::LeaderRequest { name }),
            730..820 => {
                // Which revision the key has is known to who won only: most of these are of a leader that was.
                let rev = self.read_revision();
                let leader = if self.rng.percent(90) { leader(rev) } else { None };
                Call::Proclaim(election::ProclaimRequest { leader, value: self.value() })
            }
            820..900 => {
                let rev = self.read_revision();
                let leader = if self.rng.percent(90) { leader(rev) } else { None };
                Call::Resign(election::ResignRequest { leader })
            }
            900..910 => return Step::Observe { client, name },
            910..960 => Call::LeaseGrant(pb::LeaseGrantRequest { ttl: 3_000, id: lease }),
            _ => return Step::GiveUp,
        };
        Step::Call { client, call }
    }

    /// Never 0: the server would choose a lease, and name the key by it.
    fn holder(&mut self) -> i64 {
        if self.rng.percent(95) { self.rng.between(1, LEASES) } else { self.rng.pick(&[-1, 77]) }
    }
}
