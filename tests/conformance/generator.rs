//! Draws what happens from a seed: calls with every option, forms that collide often, and arguments no sane client would
//! send, by clients who are or are not who they say; watches beside them; and ends of the servers in their midst.
//!
//! The only thing taken from the servers is the newest and the compacted revision, so that old, compacted and future
//! revisions can be aimed at. Both are the same in every run of a seed as long as upstream answers the same.

mod auth;
mod cluster;
mod leases;
mod locks;
mod reads;
mod txns;
mod watches;
mod writes;

use std::collections::VecDeque;

use bench_harness::pb::etcdserverpb as pb;
use bytes::Bytes;

use super::{
    call::{Answer, Call},
    pair::CLIENTS,
    seeded::Rng,
};

pub use auth::ROOT;
pub use leases::BRIEF;

/// A part of the API, and words for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    Kv,
    Cluster,
    Maintenance,
    Lease,
    Lock,
    Auth,
    Watch,
    Restart,
}

impl Area {
    pub const ALL: [(&'static str, Area); 8] = [
        ("kv", Area::Kv),
        ("cluster", Area::Cluster),
        ("maintenance", Area::Maintenance),
        ("lease", Area::Lease),
        ("lock", Area::Lock),
        ("auth", Area::Auth),
        ("watch", Area::Watch),
        ("restart", Area::Restart),
    ];

    pub fn named(name: &str) -> Self {
        let known = Self::ALL.iter().find(|(word, _)| *word == name);
        known.unwrap_or_else(|| panic!("no area {name:?}")).1
    }
}

/// What happens next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Call {
        client: usize,
        call: Call,
    },
    /// Replaces what a client has for a token.
    Token {
        client: usize,
        token: Option<&'static str>,
    },
    /// Opens a stream for watches in a place where there may be one.
    Open {
        place: usize,
        client: usize,
    },
    Watch {
        place: usize,
        request: pb::WatchCreateRequest,
    },
    /// One of the stream's watches, the n-th of however many there are.
    Cancel {
        place: usize,
        nth: usize,
    },
    CancelNothing {
        place: usize,
        id: i64,
    },
    /// A lease comes to its end by itself.
    Expiry(i64),
    /// Somebody is to be told of each leader, in place of who was before.
    Observe {
        client: usize,
        name: Bytes,
    },
    /// Who waits for a lock does not any more, nor does who observes.
    GiveUp,
    Restart {
        in_order: bool,
    },
}

/// Keys in play: few, so that calls meet. Awkward ones included: zero bytes, the largest byte, a key that is a prefix
/// of others.
const KEYS: [&[u8]; 36] = [
    b"a",
    b"a/",
    b"a/1",
    b"a/2",
    b"a/3",
    b"a/4",
    b"a/5",
    b"a/6",
    b"a/7",
    b"a/8",
    b"a/9",
    b"a0",
    b"b",
    b"b\0",
    b"b\0\0",
    b"b1",
    b"b2",
    b"b3",
    b"b4",
    b"b5",
    b"c",
    b"d",
    b"e",
    b"f",
    b"g",
    b"h",
    b"k1",
    b"k2",
    b"k3",
    b"k4",
    b"\0",
    b"\0\0",
    b"\0\x01",
    b"\xff",
    b"\xff\xff",
    b"z",
];
const VALUES: [&[u8]; 8] =
    [b"", b"0", b"1", b"1", b"2", b"\0", b"\xff\xfe", b"a longer value, to be seen in answers"];
const PREFIXES: [&[u8]; 6] = [b"a/", b"b", b"a", b"k", b"\xff", b"\0"];

/// A session is to be some time under way before servers end.
const CALLS_BEFORE_RESTART: u32 = 2_000;
/// Streams of watches that are open at the same time.
pub const STREAMS: usize = 3;

pub struct Generator {
    rng: Rng,
    areas: Vec<Area>,
    /// What must come next.
    plan: VecDeque<Step>,
    auth: auth::Auth,
    /// Since the last one.
    calls_since_restart: u32,
    /// Newest revision seen in an answer.
    revision: i64,
    /// Highest revision compacted with success.
    compacted: i64,
    /// Keys that hold a large value and shall soon hold a small one, lest every answer grow to megabytes.
    large: Vec<Bytes>,
    /// A transaction left many keys behind.
    crowded: bool,
}

impl Generator {
    pub fn new(seed: u64, areas: &[Area]) -> Self {
        Self {
            rng: Rng::new(seed),
            areas: areas.to_vec(),
            plan: VecDeque::new(),
            auth: auth::Auth::default(),
            calls_since_restart: 0,
            revision: 1,
            compacted: 0,
            large: Vec::new(),
            crowded: false,
        }
    }

    fn has(&self, area: Area) -> bool {
        self.areas.contains(&area)
    }

    /// Whether calls are checked for who makes them.
    pub fn auth_is_on(&self) -> bool {
        self.auth.on
    }

    /// Takes note of how upstream answered.
    pub fn observe(&mut self, client: usize, call: &Call, answer: &Answer) {
        self.observe_auth(client, call, answer);
        if let Some(revision) = answer.revision() {
            self.revision = self.revision.max(revision);
            if let Call::Compact(request) = call {
                self.compacted = self.compacted.max(request.revision);
            }
        }
    }

    pub fn revision(&self) -> i64 {
        self.revision
    }

    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// Many steps are calls; those that are not cost time.
    pub fn next_step(&mut self) -> Step {
        if let Some(step) = self.plan.pop_front() {
            return step;
        }
        self.calls_since_restart += 1;
        if self.has(Area::Restart)
            && self.calls_since_restart > CALLS_BEFORE_RESTART
            && self.rng.below(8_000) == 0
        {
            self.calls_since_restart = 0;
            self.plan_restart();
        } else if self.has(Area::Auth) {
            self.plan_auth();
        }
        if let Some(step) = self.plan.pop_front() {
            return step;
        }
        let client = self.rng.below(CLIENTS as u64) as usize;
        let (area, lot) = (self.rng.below(1_000), self.rng.below(1_000));
        match area {
            0..90 if self.has(Area::Lease) => self.lease_step(client, lot),
            90..110 if self.has(Area::Lock) && !self.auth.on => self.lock_step(client, lot),
            110..160 if self.has(Area::Auth) => self.auth_step(lot),
            160..185 if self.has(Area::Watch) => self.watch_step(client, lot),
            185..195 if self.has(Area::Cluster) => Step::Call { client, call: self.cluster_call(lot) },
            195..205 if self.has(Area::Maintenance) => {
                Step::Call { client, call: self.maintenance_call(lot) }
            }
            _ => Step::Call { client, call: self.kv_call() },
        }
    }

    fn plan_restart(&mut self) {
        self.plan.push_back(Step::GiveUp);
        self.plan.push_back(Step::Restart { in_order: self.rng.percent(30) });
        // Tokens may or may not be known still.
        self.plan_logins();
    }

    pub fn kv_call(&mut self) -> Call {
        if self.crowded && self.rng.percent(10) {
            self.crowded = false;
            return Call::DeleteRange(writes::delete_crowd());
        }
        if !self.large.is_empty() && self.rng.percent(20) {
            let key = self.large.swap_remove(0);
            return Call::Put(self.small_put(key));
        }
        match self.rng.below(1000) {
            0..330 => Call::Range(self.range()),
            330..400 => Call::RangeStream(self.range_stream()),
            400..690 => Call::Put(self.put()),
            690..760 => Call::DeleteRange(self.delete_range()),
            760..988 => Call::Txn(self.txn()),
            _ => Call::Compact(self.compact()),
        }
    }

    fn key(&mut self) -> Bytes {
        match self.rng.below(100) {
            0 => Bytes::new(),
            1 => {
                let length = self.rng.between(1, 4);
                (0..length).map(|_| self.rng.next() as u8).collect()
            }
            _ => Bytes::from_static(self.rng.pick(&KEYS)),
        }
    }

    /// Key and range end: single keys, prefixes, everything, from-key, empty and backward ranges.
    fn key_range(&mut self, ranged_percent: u64) -> (Bytes, Bytes) {
        let (key, end) = self.any_key_range(ranged_percent);
        // Whether somebody may ask for nothing depends there on how ranges were granted, not only on which.
        if self.auth.on && !end.is_empty() && *end != *b"\0" && end <= key {
            let end = [&key[..], b"\0"].concat();
            return (key, end.into());
        }
        (key, end)
    }

    fn any_key_range(&mut self, ranged_percent: u64) -> (Bytes, Bytes) {
        let key = self.key();
        if !self.rng.percent(ranged_percent) {
            return (key, Bytes::new());
        }
        match self.rng.below(20) {
            0..5 => {
                let prefix = self.rng.pick(&PREFIXES);
                (Bytes::from_static(prefix), prefix_end(prefix))
            }
            5..8 => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
            8..11 => (key, Bytes::from_static(b"\0")),
            11 => {
                let end = [&key[..], b"\0"].concat();
                (key, end.into())
            }
            12 => (key.clone(), key),
            13 => (key, Bytes::from_static(b"\xff")),
            _ => {
                let end = self.key();
                // Mostly forward, sometimes backward.
                if end < key && self.rng.percent(80) { (end, key) } else { (key, end) }
            }
        }
    }

    /// A revision to read at. 0 is the newest.
    fn read_revision(&mut self) -> i64 {
        match self.rng.below(100) {
            0..50 => 0,
            50..66 => self.rng.between(self.compacted.min(self.revision), self.revision),
            66..80 => self.rng.between((self.revision - 20).max(0), self.revision),
            80..84 => self.compacted,
            84..88 => self.compacted - 1,
            88..90 => self.rng.between(0, self.compacted.max(1)),
            90..93 => self.revision + self.rng.between(1, 3),
            93 => self.revision + 1_000_000,
            94..97 => -self.rng.between(1, 3),
            97 => i64::MIN,
            98 => i64::MAX,
            _ => self.revision,
        }
    }
}

/// The smallest key greater than every key with the prefix; `\0` (no end) if there is none.
fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(b"\0")
}

#[cfg(test)]
mod tests {
    use super::*;

    const AREAS: [Area; 8] = [
        Area::Kv,
        Area::Cluster,
        Area::Maintenance,
        Area::Lease,
        Area::Lock,
        Area::Auth,
        Area::Watch,
        Area::Restart,
    ];

    #[test]
    fn a_seed_gives_the_same_steps_again() {
        let draw = |seed| {
            let mut generator = Generator::new(seed, &AREAS);
            (0..500).map(|_| generator.next_step()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn every_kind_of_call_and_step_appears() {
        let mut generator = Generator::new(1, &AREAS);
        let (mut steps, mut calls) = (std::collections::HashSet::new(), std::collections::BTreeSet::new());
        for _ in 0..200_000 {
            let step = generator.next_step();
            steps.insert(std::mem::discriminant(&step));
            if let Step::Call { client, call } = step {
                // Auth comes on and goes off.
                let answer = match call {
                    Call::AuthEnable(_) => Answer::AuthEnable(Default::default()),
                    Call::AuthDisable(_) => Answer::AuthDisable(Default::default()),
                    _ => Answer::Malformed(String::new()),
                };
                generator.observe(client, &call, &answer);
                calls.insert(call.name());
            }
        }
        assert_eq!((steps.len(), calls.len()), (10, 47), "{calls:?}");
    }
}
