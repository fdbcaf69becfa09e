//! Which operation on which key comes next, and what its reply means.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::http2::Method;
use super::keys::{key_digits, write_key};
use super::list::Lists;
use super::message::{self, Malformed, Told};
use super::options::{Operation, Options};

/// Values are slices at random offsets of one random block: no cost per byte, and not compressible.
const VALUE_OFFSETS: usize = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Put,
    Get,
    Txn,
    List,
}

#[derive(Debug)]
pub struct Workload {
    options: Options,
    random: SmallRng,
    values: Vec<u8>,
    key: Vec<u8>,
    /// The next key when sequential, and how far to the one after: workers interleave.
    position: u64,
    stride: u64,
    /// The last known mod revision of each key, for txn only.
    revisions: Vec<u64>,
    lists: Lists,
}

impl Workload {
    /// `worker` of `workers` that share the key space.
    pub fn new(options: &Options, worker: u32, workers: u32) -> Self {
        let mut random = SmallRng::seed_from_u64(options.seed ^ (u64::from(worker) << 48));
        let mut values = vec![0; options.value_size + VALUE_OFFSETS];
        random.fill(&mut values[..]);
        let keys = if options.operation == Operation::Txn { options.key_space } else { 0 };
        Self {
            options: options.clone(),
            random,
            values,
            key: vec![b'k'; options.key_size],
            position: u64::from(worker) % options.key_space,
            stride: u64::from(workers),
            revisions: vec![0; usize::try_from(keys).expect("the key space fits memory")],
            lists: Lists::new(options.page),
        }
    }

    /// Chooses an operation and appends its request to `out`.
    pub fn next(&mut self, out: &mut Vec<u8>) -> (Kind, Method, u64) {
        let kind = match self.options.operation {
            Operation::Put => Kind::Put,
            Operation::Get => Kind::Get,
            Operation::Txn => Kind::Txn,
            Operation::List => return (Kind::List, Method::Range, self.lists.next(out)),
            Operation::Mixed if self.random.random_bool(self.options.reads) => Kind::Get,
            Operation::Mixed => Kind::Put,
        };
        let index = self.index();
        write_key(&mut self.key, index, key_digits(self.options.key_space));
        let offset = self.random.random_range(0..VALUE_OFFSETS);
        let value = &self.values[offset..offset + self.options.value_size];
        let method = match kind {
            Kind::Put => {
                message::put(out, &self.key, value);
                Method::Put
            }
            Kind::Get => {
                message::range(out, &self.key, self.options.serializable);
                Method::Range
            }
            Kind::Txn => {
                let revision = self.revisions[usize::try_from(index).expect("below the key space")];
                message::compare_and_put(out, &self.key, revision, value);
                Method::Txn
            }
            Kind::List => unreachable!("lists choose their own keys"),
        };
        (kind, method, index)
    }

    /// Reads a good reply; remembers what a txn told about its key.
    pub fn reply(&mut self, kind: Kind, index: u64, message: &[u8]) -> Result<Told, Malformed> {
        match kind {
            Kind::Put => Ok(Told::Done),
            Kind::Get if message::range_count(message)? == 0 => Ok(Told::NotFound),
            Kind::Get => Ok(Told::Done),
            Kind::Txn => {
                let reply = message::txn_reply(message)?;
                let known = &mut self.revisions[usize::try_from(index).expect("below the key space")];
                let now = if reply.succeeded { reply.revision } else { reply.current.unwrap_or(0) };
                *known = now.max(*known);
                Ok(if reply.succeeded { Told::Done } else { Told::Conflict })
            }
            Kind::List => self.lists.reply(index, message),
        }
    }

    /// A call that got no good reply.
    pub fn failed(&mut self, kind: Kind, index: u64) {
        if kind == Kind::List {
            self.lists.failed(index);
        }
    }

    fn index(&mut self) -> u64 {
        let keys = self.options.key_space;
        if self.options.sequential {
            let index = self.position;
            self.position = (self.position + self.stride) % keys;
            return index;
        }
        if self.options.zipf == 0.0 {
            return self.random.random_range(0..keys);
        }
        zipf(self.random.random(), keys, self.options.zipf)
    }
}

/// The inverse of Zipf's distribution function, taken as continuous: rank 0 is the most frequent.
fn zipf(uniform: f64, keys: u64, skew: f64) -> u64 {
    let end = keys as f64 + 1.0;
    let power = 1.0 - skew;
    let rank = if power.abs() < 1e-6 {
        end.powf(uniform)
    } else {
        ((end.powf(power) - 1.0) * uniform + 1.0).powf(power.recip())
    };
    (rank as u64 - 1).min(keys - 1)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::load::keys::key;
    use crate::pb::etcdserverpb as pb;

    fn options(operation: Operation) -> Options {
        Options { key_space: 300, ..Options::new(operation, "127.0.0.1:1".parse().unwrap()) }
    }

    #[test]
    fn keys_have_their_size_and_workers_share_the_space_without_gaps() {
        let options = Options { sequential: true, ..options(Operation::Put) };
        let mut seen = std::collections::BTreeSet::new();
        for worker in 0..3 {
            let mut workload = Workload::new(&options, worker, 3);
            for _ in 0..100 {
                let mut out = Vec::new();
                workload.next(&mut out);
                let request = pb::PutRequest::decode(&out[message::PREFIX..]).unwrap();
                assert_eq!((request.key.len(), request.value.len()), (8, 256));
                seen.insert(request.key);
            }
        }
        assert_eq!(seen.len(), 300);
        assert_eq!(&seen.first().unwrap()[..], b"kkkkk000");
        assert_eq!(&seen.last().unwrap()[..], key(8, 300, 299).as_bytes());
    }

    #[test]
    fn zipf_prefers_low_ranks_and_stays_in_the_space() {
        for skew in [0.5, 1.0, 1.2] {
            assert_eq!(zipf(0.0, 1000, skew), 0);
            assert_eq!(zipf(0.999_999_999, 1000, skew), 999);
            let low = (0..1000).filter(|part| zipf(f64::from(*part) / 1000.0, 1000, skew) < 100).count();
            assert!(low > 250, "{skew}: {low}");
        }
    }

    #[test]
    fn a_txn_learns_the_revision_from_a_success_and_from_a_conflict() {
        let mut workload = Workload::new(&options(Operation::Txn), 0, 1);
        let header = Some(pb::ResponseHeader { revision: 9, ..Default::default() });
        let done = pb::TxnResponse { header, succeeded: true, responses: vec![] }.encode_to_vec();
        assert_eq!(workload.reply(Kind::Txn, 5, &done), Ok(Told::Done));
        assert_eq!(workload.revisions[5], 9);
        let refused = pb::TxnResponse { header, succeeded: false, responses: vec![] }.encode_to_vec();
        assert_eq!(workload.reply(Kind::Txn, 6, &refused), Ok(Told::Conflict));
        assert_eq!(workload.revisions[6], 0);
    }

    #[test]
    fn a_mix_has_its_share_of_reads() {
        let options = Options { reads: 0.25, ..options(Operation::Mixed) };
        let mut workload = Workload::new(&options, 0, 1);
        let gets = (0..4000).filter(|_| workload.next(&mut Vec::new()).0 == Kind::Get).count();
        assert!((800..1200).contains(&gets), "{gets}");
    }
}
