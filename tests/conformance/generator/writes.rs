//! Put, DeleteRange and Compact.

use bench_harness::pb::etcdserverpb as pb;
use bytes::Bytes;

use super::{Generator, VALUES};

/// `--max-request-bytes` by default.
const REQUEST_BYTES_MAX: usize = 1536 * 1024;
/// What gRPC takes on top of it.
const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;
/// The request is measured as it enters the log, with an envelope whose size depends on the request's number. So
/// nothing is generated this close to the limit.
const ENVELOPE_BYTES: usize = 64;

/// Keys made by a transaction with very many operations.
pub(super) const CROWD: &[u8] = b"n";

pub(super) fn delete_crowd() -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: Bytes::from_static(CROWD),
        range_end: Bytes::from_static(b"o"),
        prev_kv: false,
    }
}

impl Generator {
    pub(super) fn put(&mut self) -> pb::PutRequest {
        let key = self.key();
        let mut put = self.small_put(key);
        match self.rng.below(10_000) {
            0..4 => self.enlarge(&mut put),
            4..400 => put.value = vec![b'v'; self.rng.between(100, 3_000) as usize].into(),
            _ => (),
        }
        put
    }

    pub(super) fn small_put(&mut self, key: Bytes) -> pb::PutRequest {
        let ignore_value = self.rng.percent(9);
        let ignore_lease = self.rng.percent(9);
        let lease = match self.rng.below(100) {
            0..93 => 0,
            93..97 => self.rng.between(1, 5),
            _ => self.rng.pick(&[-1, i64::MIN, i64::MAX]),
        };
        let value = if ignore_value && self.rng.percent(85) { Bytes::new() } else { self.value() };
        pb::PutRequest { key, value, lease, prev_kv: self.rng.percent(40), ignore_value, ignore_lease }
    }

    pub(super) fn value(&mut self) -> Bytes {
        if self.rng.percent(70) {
            Bytes::from_static(self.rng.pick(&VALUES))
        } else {
            Bytes::from(self.rng.below(10_000).to_string())
        }
    }

    /// Around the limit for requests, and around the limit of gRPC messages.
    fn enlarge(&mut self, put: &mut pb::PutRequest) {
        let limit = self.rng.pick(&[REQUEST_BYTES_MAX, REQUEST_BYTES_MAX + GRPC_OVERHEAD_BYTES]);
        let shift = ENVELOPE_BYTES + put.key.len() + self.rng.below(500) as usize;
        let size = if self.rng.percent(50) { limit - shift } else { limit + shift };
        put.value = vec![b'L'; size].into();
        (put.ignore_value, put.ignore_lease, put.lease) = (false, false, 0);
        self.large.push(put.key.clone());
    }

    pub(super) fn delete_range(&mut self) -> pb::DeleteRangeRequest {
        let (key, range_end) = self.key_range(35);
        pb::DeleteRangeRequest { key, range_end, prev_kv: self.rng.percent(50) }
    }

    pub(super) fn compact(&mut self) -> pb::CompactionRequest {
        let revision = match self.rng.below(100) {
            0..45 => self.rng.between((self.revision - 100).max(0), self.revision),
            45..55 => self.revision,
            55..70 => self.rng.between(self.compacted.min(self.revision), self.revision),
            70..78 => self.compacted,
            78..84 => self.rng.between(0, self.compacted.max(1)),
            84..90 => self.revision + self.rng.between(1, 1_000),
            90..94 => 0,
            _ => self.rng.pick(&[-1, -2, i64::MIN, i64::MAX]),
        };
        pb::CompactionRequest { revision, physical: self.rng.percent(30) }
    }
}
