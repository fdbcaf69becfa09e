//! One seed against one fresh pair of servers: calls, then the whole state.

use std::{collections::BTreeMap, fmt};

use bench_harness::pb::etcdserverpb as pb;
use futures_util::future::join_all;

use super::{
    call::{Answer, Call, shown},
    compare::{Verdict, compare},
    generator::Generator,
    pair::Pair,
};

/// Reads between two writes that are in flight at the same time.
const READS_IN_FLIGHT: usize = 16;
/// A session stops after so many differences: what follows would be their consequences.
const DIFFERENCES_MAX: usize = 5;
/// Old revisions at which the whole state is compared in the end.
const OLD_REVISIONS: i64 = 30;
/// Calls between two comparisons of hashes.
const CALLS_PER_HASHES: usize = 500;
/// Old revisions whose hashes are compared each time.
const OLD_HASHES: i64 = 6;

/// Two answers to one call that are not the same, and not known to differ.
#[derive(Debug)]
pub struct Difference {
    pub seed: u64,
    pub step: usize,
    pub call: Call,
    pub upstream: Answer,
    pub tested: Answer,
    pub detail: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} step {}: {}", self.seed, self.step, self.detail)?;
        writeln!(f, "  call:     {}", shown(&self.call))?;
        writeln!(f, "  upstream: {}", shown(&self.upstream))?;
        writeln!(f, "  tested:   {}", shown(&self.tested))?;
        write!(f, "  replay:   PINION_SEED={} cargo test --test conformance", self.seed)
    }
}

#[derive(Debug, Default)]
pub struct Outcome {
    pub calls: usize,
    /// Calls that upstream answered with success, and those it refused.
    pub accepted: usize,
    pub refused: usize,
    /// Upstream's refusals by kind of call, code and text.
    pub refusals: BTreeMap<String, usize>,
    /// Answers that differ in a way [`super::compare`] explains.
    pub explained: usize,
    pub differences: Vec<Difference>,
    /// The session could not be finished.
    pub broken: Option<String>,
}

pub struct Session<'a> {
    seed: u64,
    pair: &'a mut Pair,
    generator: Generator,
    step: usize,
    outcome: Outcome,
}

impl<'a> Session<'a> {
    pub fn new(seed: u64, pair: &'a mut Pair) -> Self {
        Self { seed, pair, generator: Generator::new(seed), step: 0, outcome: Outcome::default() }
    }

    pub async fn run(mut self, calls: usize) -> Outcome {
        let mut reads: Vec<Call> = Vec::new();
        let mut hashes_at = CALLS_PER_HASHES;
        while self.step + reads.len() < calls && !self.finished() {
            let call = self.generator.next_call();
            if call.is_read() {
                reads.push(call);
                if reads.len() == READS_IN_FLIGHT {
                    self.all_at_once(std::mem::take(&mut reads)).await;
                }
            } else {
                self.all_at_once(std::mem::take(&mut reads)).await;
                self.all_at_once(vec![call]).await;
                if self.step >= hashes_at {
                    self.hashes().await;
                    hashes_at = self.step + CALLS_PER_HASHES;
                }
            }
        }
        self.all_at_once(reads).await;
        if !self.finished() {
            self.hashes().await;
            self.whole_state().await;
        }
        if let Err(ended) = self.pair.alive() {
            self.outcome.broken = Some(format!("seed {} step {}: {ended}", self.seed, self.step));
        }
        self.outcome
    }

    fn finished(&self) -> bool {
        self.outcome.differences.len() >= DIFFERENCES_MAX || self.outcome.broken.is_some()
    }

    async fn all_at_once(&mut self, calls: Vec<Call>) {
        let pair = &*self.pair;
        let answers = join_all(calls.iter().map(|call| pair.answers(call))).await;
        for (call, (upstream, tested)) in calls.into_iter().zip(answers) {
            self.judge(call, upstream, tested);
        }
    }

    fn judge(&mut self, call: Call, upstream: Answer, tested: Answer) {
        self.step += 1;
        self.outcome.calls += 1;
        match &upstream {
            Answer::Refused { code, message } => {
                self.outcome.refused += 1;
                // Without the sizes that some texts end with.
                let text = message.split(" (").next().unwrap_or(message);
                let kind = format!("{} {code:?}: {text}", call.name());
                *self.outcome.refusals.entry(kind).or_default() += 1;
            }
            _ => self.outcome.accepted += 1,
        }
        self.generator.observe(&call, &upstream);
        let detail = match compare(&call, &upstream, &tested) {
            Verdict::Same => return,
            Verdict::Explained => {
                self.outcome.explained += 1;
                return;
            }
            Verdict::Different(detail) => detail,
        };
        if let Err(ended) = self.pair.alive() {
            let call = shown(&call);
            self.outcome.broken =
                Some(format!("seed {} step {}: {ended}\n  at {call}", self.seed, self.step));
        }
        let (seed, step) = (self.seed, self.step);
        self.outcome.differences.push(Difference { seed, step, call, upstream, tested, detail });
    }

    /// Hashes of the versions up to the newest revision, old ones and none that exists. Not of revisions that were
    /// compacted to: of those upstream may remember the hash from before.
    async fn hashes(&mut self) {
        let (compacted, last) = (self.generator.compacted(), self.generator.revision());
        let step = ((last - compacted) / OLD_HASHES).max(1);
        let old = (compacted + 1..=last).step_by(step as usize);
        let revisions = old.chain([0, -1, last, last + 1]).filter(|revision| *revision != compacted);
        let calls = revisions.map(|revision| Call::HashKv(pb::HashKvRequest { revision })).collect();
        self.all_at_once(calls).await;
    }

    /// Everything there is, now and at old revisions.
    async fn whole_state(&mut self) {
        let all = |revision| {
            Call::Range(pb::RangeRequest {
                key: "\0".into(),
                range_end: "\0".into(),
                revision,
                ..Default::default()
            })
        };
        self.all_at_once(vec![all(0)]).await;
        let (first, last) = (self.generator.compacted(), self.generator.revision());
        let step = ((last - first) / OLD_REVISIONS).max(1);
        let mut revision = first;
        while revision <= last && !self.finished() {
            self.all_at_once(vec![all(revision)]).await;
            revision += step;
        }
    }
}
