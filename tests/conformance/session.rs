//! One seed against one fresh pair of servers: calls and what happens beside them, then the whole state.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use bench_harness::pb::etcdserverpb as pb;
use futures_util::future::join_all;
use tonic::Code;

use super::{
    call::{Answer, Call, shown},
    compare::{Verdict, compare},
    generator::{Area, BRIEF, Generator, ROOT, STREAMS, Step},
    observing::Observers,
    pair::{NOBODY, Pair},
    waiting::Waiting,
    watches::Stream,
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
/// Calls between two looks at whether all watches saw the same.
const CALLS_PER_LOOK: usize = 100;
/// For a lease of some seconds to end by itself.
const EXPIRY_MAX: Duration = Duration::from_secs(60);
/// No lease ends sooner.
const TTL_MIN: Duration = Duration::from_secs(2);

/// What is said to whoever has no token, or one that is none any more.
fn is_of_auth(code: Code) -> bool {
    matches!(code, Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument)
}

/// Two answers to one call that are not the same, and not known to differ.
#[derive(Debug)]
pub struct Difference {
    pub seed: u64,
    pub step: usize,
    pub client: usize,
    pub call: Call,
    pub upstream: Answer,
    pub tested: Answer,
    pub detail: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} step {}: {}", self.seed, self.step, self.detail)?;
        writeln!(f, "  call:     by client {}: {}", self.client, shown(&self.call))?;
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
    /// Steps that are no calls, by kind.
    pub beside: BTreeMap<&'static str, usize>,
    /// The session could not be finished: a server ended, or watches and waiters did not see the same.
    pub broken: Option<String>,
}

pub struct Session<'a> {
    seed: u64,
    pair: &'a mut Pair,
    generator: Generator,
    step: usize,
    streams: [Option<Stream>; STREAMS],
    waiting: Option<Waiting>,
    observers: Option<Observers>,
    looked: usize,
    /// The newest revision then.
    looked_at: i64,
    /// When the lease was granted that is to be revoked before it ends.
    brief: Instant,
    outcome: Outcome,
}

impl<'a> Session<'a> {
    pub fn new(seed: u64, areas: &[Area], pair: &'a mut Pair) -> Self {
        Self {
            seed,
            pair,
            generator: Generator::new(seed, areas),
            step: 0,
            streams: Default::default(),
            waiting: None,
            observers: None,
            looked: 0,
            looked_at: 0,
            brief: Instant::now(),
            outcome: Outcome::default(),
        }
    }

    pub async fn run(mut self, calls: usize) -> Outcome {
        let mut reads: Vec<(usize, Call)> = Vec::new();
        let mut hashes_at = CALLS_PER_HASHES;
        while self.step + reads.len() < calls && !self.finished() {
            match self.generator.next_step() {
                Step::Call { client, call } if call.is_read() => {
                    reads.push((client, call));
                    if reads.len() == READS_IN_FLIGHT {
                        self.all_at_once(std::mem::take(&mut reads)).await;
                    }
                }
                step => {
                    self.all_at_once(std::mem::take(&mut reads)).await;
                    if let Err(why) = self.take(step.clone()).await {
                        let step = shown(&step);
                        self.broken(format!("{why}\n  at {step}"));
                    }
                    if self.step >= hashes_at && !self.finished() {
                        self.hashes().await;
                        hashes_at = self.step + CALLS_PER_HASHES;
                    }
                }
            }
        }
        self.all_at_once(reads).await;
        if !self.finished() {
            self.hashes().await;
            self.whole_state().await;
        }
        if !self.finished()
            && let Err(why) = self.look().await
        {
            self.broken(why);
        }
        if self.pair.alive().is_err() {
            self.broken("at the end".to_owned());
        }
        self.outcome
    }

    fn broken(&mut self, why: String) {
        let (seed, step) = (self.seed, self.step);
        let ended = self.pair.alive().err().unwrap_or_default();
        self.outcome.broken.get_or_insert(format!("seed {seed} step {step}: {why}\n{ended}"));
    }

    fn finished(&self) -> bool {
        self.outcome.differences.len() >= DIFFERENCES_MAX || self.outcome.broken.is_some()
    }

    fn count(&mut self, what: &'static str) {
        *self.outcome.beside.entry(what).or_default() += 1;
    }

    async fn take(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Call { client, call } if call.may_wait() => return self.wait_for(client, call).await,
            Step::Call { client, call } => {
                // What a watch that is behind still gets depends on what was compacted meanwhile.
                if matches!(call, Call::Compact(_)) || self.step >= self.looked + CALLS_PER_LOOK {
                    self.look().await?;
                }
                if matches!(&call, Call::LeaseGrant(request) if request.id == BRIEF) {
                    self.brief = Instant::now();
                }
                self.all_at_once(vec![(client, self.sparing_who_waits(call))]).await;
                return self.give_way().await;
            }
            Step::Token { client, token } => {
                self.pair.both().iter().for_each(|peer| peer.give_token(client, token));
            }
            Step::Open { place, client } => {
                self.look().await?;
                self.streams[place] = Some(Stream::open(self.pair, client));
                self.count("stream");
            }
            Step::Watch { place, request } => self.watch(place, request).await?,
            Step::Cancel { place, nth } => self.cancel(place, nth).await?,
            Step::CancelNothing { place, id } => {
                if let Some(stream) = &self.streams[place]
                    && !stream.ids().0.contains(&id)
                {
                    stream.cancel_nothing(id);
                }
            }
            Step::Expiry(lease) => self.expiry(lease).await?,
            Step::Observe { client, name } => {
                self.observers = Some(Observers::open(self.pair, client, name));
                self.count("observer");
            }
            Step::GiveUp => self.give_up().await?,
            Step::Restart { in_order } => {
                self.look().await?;
                self.streams = Default::default();
                self.pair.restart(in_order).await?;
                self.count("restart");
            }
        }
        Ok(())
    }

    /// Upstream's waiters read on from where they came, up to a tenth of a second later, and fail if that was compacted
    /// meanwhile.
    fn sparing_who_waits(&self, call: Call) -> Call {
        match (call, &self.waiting) {
            (Call::Compact(request), Some(waiting)) if !waiting.follows() => {
                let revision = request.revision.min(waiting.since());
                Call::Compact(pb::CompactionRequest { revision, ..request })
            }
            (call, _) => call,
        }
    }

    async fn watch(&mut self, place: usize, request: pb::WatchCreateRequest) -> Result<(), String> {
        if self.streams[place].is_none() {
            self.streams[place] = Some(Stream::open(self.pair, NOBODY));
        }
        let compacted = self.generator.compacted();
        let Some(stream) = &mut self.streams[place] else { unreachable!("opened above") };
        stream.create(request, compacted).await?;
        self.count("watch");
        Ok(())
    }

    async fn cancel(&mut self, place: usize, nth: usize) -> Result<(), String> {
        // What has happened has come before: what comes at the same time may or may not.
        self.look().await?;
        if let Some(stream) = &mut self.streams[place] {
            // Beside a watch that is yet to begin, nobody says whether all has come to the others.
            let quiet = stream.yet_to_begin(self.looked_at);
            let open = if quiet.is_empty() { stream.ids().0 } else { quiet };
            if !open.is_empty() {
                stream.cancel(open[nth % open.len()]).await?;
                self.count("cancel");
            }
        }
        Ok(())
    }

    /// Everything has come on all streams, and was the same.
    async fn look(&mut self) -> Result<(), String> {
        self.looked = self.step;
        if let Some(observers) = &self.observers
            && !observers.settled(self.pair, self.reader()).await?
        {
            self.observers = None;
            self.count("observer ended");
        }
        if self.streams.iter().all(Option::is_none) {
            return Ok(());
        }
        let revision = self.revision_now().await?;
        self.looked_at = revision;
        for (place, stream) in self.streams.iter_mut().enumerate() {
            if let Some(stream) = stream
                && stream.settled(revision).await.map_err(|why| format!("stream {place}: {why}"))?
            {
                stream.forget();
            }
        }
        self.count("look");
        Ok(())
    }

    /// Whose calls are answered, whether auth is on or not.
    fn reader(&self) -> usize {
        if self.generator.auth_is_on() { ROOT } else { NOBODY }
    }

    /// As the servers have it now: what nobody asked for, as the end of a lease, may have made revisions too.
    async fn revision_now(&mut self) -> Result<i64, String> {
        let call = Call::Range(pb::RangeRequest { key: "\0".into(), count_only: true, ..Default::default() });
        match self.pair.answers(self.reader(), &call).await {
            (upstream, tested) if upstream == tested => match (upstream.revision(), &upstream) {
                (Some(revision), _) => Ok(revision),
                // Nobody may ask: root itself has no token, or one from before its user changed.
                (None, Answer::Refused { code, .. }) if is_of_auth(*code) => Ok(self.generator.revision()),
                (None, _) => Err(format!("the newest revision: {}", shown(&upstream))),
            },
            (upstream, tested) => {
                Err(format!("the newest revision: {} and {}", shown(&upstream), shown(&tested)))
            }
        }
    }

    /// Waits until a lease has ended on both.
    async fn expiry(&mut self, lease: i64) -> Result<(), String> {
        let call = Call::LeaseTimeToLive(pb::LeaseTimeToLiveRequest { id: lease, keys: false });
        let since = Instant::now();
        loop {
            let (upstream, tested) = self.pair.answers(self.reader(), &call).await;
            // One that is there still and a second late has -1 seconds left, too.
            let ended = |answer: &Answer| match answer {
                Answer::LeaseTimeToLive(left) => (left.ttl, left.granted_ttl) == (-1, 0),
                _ => false,
            };
            if ended(&upstream) && ended(&tested) {
                self.count("expiry");
                // Its end is a revision, which whoever reads what this member has may not see before.
                let newest = pb::RangeRequest { key: "\0".into(), count_only: true, ..Default::default() };
                self.all_at_once(vec![(self.reader(), Call::Range(newest))]).await;
                return self.give_way().await;
            }
            if since.elapsed() > EXPIRY_MAX {
                return Err(format!("a lease ended: {} and {}", shown(&upstream), shown(&tested)));
            }
            // Root's token may be none any more.
            if matches!(upstream, Answer::Refused { .. }) && self.reader() == ROOT {
                self.all_at_once(vec![(ROOT, self.generator.login(ROOT))]).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A call that may wait for others: only one does at a time.
    async fn wait_for(&mut self, client: usize, call: Call) -> Result<(), String> {
        if self.waiting.is_some() {
            return Ok(());
        }
        self.waiting = Some(Waiting::begin(self.pair, client, call).await?);
        self.give_way().await
    }

    /// Takes the answers of who waited, if there is nobody before them now.
    async fn give_way(&mut self) -> Result<(), String> {
        if let Some(waiting) = &self.waiting
            && !waiting.must_wait(self.pair, self.reader()).await
        {
            let Some(waiting) = self.waiting.take() else { unreachable!("there was one") };
            let (client, call, upstream, tested) = waiting.end(self.pair).await?;
            self.judge(client, call, upstream, tested);
            self.count("waited");
        }
        Ok(())
    }

    async fn give_up(&mut self) -> Result<(), String> {
        self.observers = None;
        if let Some(waiting) = self.waiting.take() {
            waiting.give_up(self.pair).await?;
            self.count("gave up");
        }
        Ok(())
    }

    async fn all_at_once(&mut self, calls: Vec<(usize, Call)>) {
        let pair = &*self.pair;
        let answers = join_all(calls.iter().map(|(client, call)| pair.answers(*client, call))).await;
        for ((client, call), (upstream, tested)) in calls.into_iter().zip(answers) {
            self.judge(client, call, upstream, tested);
        }
    }

    fn judge(&mut self, client: usize, call: Call, upstream: Answer, tested: Answer) {
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
        self.generator.observe(client, &call, &upstream);
        let detail = match compare(&call, &upstream, &tested) {
            Verdict::Same => return,
            Verdict::Explained => {
                self.outcome.explained += 1;
                return;
            }
            // On a slow machine it may have ended by itself, on one of them.
            Verdict::Different(_)
                if matches!(&call, Call::LeaseRevoke(request) if request.id == BRIEF)
                    && self.brief.elapsed() > TTL_MIN =>
            {
                self.outcome.explained += 1;
                return;
            }
            Verdict::Different(detail) => detail,
        };
        if self.pair.alive().is_err() {
            let call = shown(&call);
            self.broken(format!("  at {call}"));
        }
        let (seed, step) = (self.seed, self.step);
        self.outcome.differences.push(Difference { seed, step, client, call, upstream, tested, detail });
    }

    /// Hashes of the versions up to the newest revision, old ones and none that exists. Not of revisions that were
    /// compacted to: of those upstream may remember the hash from before.
    async fn hashes(&mut self) {
        let (compacted, last) = (self.generator.compacted(), self.generator.revision());
        let step = ((last - compacted) / OLD_HASHES).max(1);
        let old = (compacted + 1..=last).step_by(step as usize);
        let revisions = old.chain([0, -1, last, last + 1]).filter(|revision| *revision != compacted);
        let reader = self.reader();
        let call = |revision| (reader, Call::HashKv(pb::HashKvRequest { revision }));
        self.all_at_once(revisions.map(call).collect()).await;
    }

    /// Everything there is, now and at old revisions.
    async fn whole_state(&mut self) {
        let reader = self.reader();
        let all = |revision| {
            let (key, range_end) = ("\0".into(), "\0".into());
            (reader, Call::Range(pb::RangeRequest { key, range_end, revision, ..Default::default() }))
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
