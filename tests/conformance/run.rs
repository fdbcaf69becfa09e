//! Many sessions on several pairs of servers at the same time, and the sum of what they found.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    generator::Area,
    pair::Pair,
    session::{Difference, Outcome, Session},
};
use crate::tested;

const CALLS_DEFAULT: usize = 60_000;
const SESSION_CALLS: usize = 25_000;
const PAIRS_DEFAULT: usize = 3;

/// Runs a future to its end on this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("build a runtime").block_on(future)
}

/// A number from the environment.
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text}: not a number")))
}

#[derive(Debug)]
pub struct Plan {
    first_seed: u64,
    /// Calls of each session.
    sessions: Vec<usize>,
    pairs: usize,
    areas: Vec<Area>,
}

impl Plan {
    pub fn from_env() -> Self {
        let seed = number("PINION_SEED");
        let default = if seed.is_some() { SESSION_CALLS } else { CALLS_DEFAULT };
        let calls = number("PINION_CALLS").map_or(default, |calls| calls as usize);
        let mut sessions = vec![SESSION_CALLS; calls / SESSION_CALLS];
        if !calls.is_multiple_of(SESSION_CALLS) {
            sessions.push(calls % SESSION_CALLS);
        }
        let pairs = number("PINION_PAIRS").map_or(PAIRS_DEFAULT, |pairs| pairs as usize);
        let areas = match std::env::var("PINION_AREAS") {
            Ok(names) => names.split_whitespace().map(Area::named).collect(),
            Err(_) => Area::ALL.map(|(_, area)| area).into(),
        };
        Self { first_seed: seed.unwrap_or(1), pairs: pairs.min(sessions.len()), sessions, areas }
    }
}

#[derive(Debug)]
pub struct Report {
    outcomes: Vec<Outcome>,
    first_seed: u64,
    planned: usize,
    took: Duration,
}

impl Report {
    pub fn clean(&self) -> bool {
        self.outcomes.iter().all(|outcome| outcome.differences.is_empty() && outcome.broken.is_none())
            && self.outcomes.len() == self.planned
    }

    /// What is wrong. Not among the counts: of a long text, whoever keeps logs may keep the end only.
    pub fn found(&self) -> String {
        let mut found = Vec::new();
        for outcome in &self.outcomes {
            found.extend(outcome.differences.iter().map(Difference::to_string));
            found.extend(outcome.broken.as_ref().map(|broken| format!("session broken: {broken}")));
        }
        if self.outcomes.len() < self.planned {
            found.push(format!("{} of {} sessions ran", self.outcomes.len(), self.planned));
        }
        found.join("\n")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |part: fn(&Outcome) -> usize| self.outcomes.iter().map(part).sum::<usize>();
        writeln!(
            f,
            "{} calls ({} accepted, {} refused by upstream), seeds {}..={}, {:.0?}: {} differences, {} explained",
            sum(|o| o.calls),
            sum(|o| o.accepted),
            sum(|o| o.refused),
            self.first_seed,
            self.first_seed + self.planned as u64 - 1,
            self.took,
            sum(|o| o.differences.len()),
            sum(|o| o.explained),
        )?;
        let mut beside = BTreeMap::new();
        for (what, count) in self.outcomes.iter().flat_map(|outcome| &outcome.beside) {
            *beside.entry(what).or_insert(0) += count;
        }
        writeln!(f, "  beside the calls: {beside:?}")?;
        let mut refusals = BTreeMap::new();
        for (kind, count) in self.outcomes.iter().flat_map(|outcome| &outcome.refusals) {
            *refusals.entry(kind).or_insert(0) += count;
        }
        for (kind, count) in refusals {
            writeln!(f, "  refused {count:>7}  {kind}")?;
        }
        Ok(())
    }
}

/// Runs sessions until all are done, or one found something.
pub fn run(plan: &Plan) -> Report {
    let started = Instant::now();
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<Outcome>> = Mutex::new(Vec::new());
    let worker = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(&calls) = plan.sessions.get(place) else { return };
            let outcome = session(plan.first_seed + place as u64, &plan.areas, calls);
            if !outcome.differences.is_empty() || outcome.broken.is_some() {
                next.store(plan.sessions.len(), Ordering::Relaxed);
            }
            outcomes.lock().expect("no worker panics with the lock").push(outcome);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..plan.pairs {
            scope.spawn(worker);
        }
    });
    let outcomes = outcomes.into_inner().expect("no worker panics with the lock");
    Report { outcomes, first_seed: plan.first_seed, planned: plan.sessions.len(), took: started.elapsed() }
}

/// Every other session has signed tokens, which are another matter after each change of users and roles.
fn session(seed: u64, areas: &[Area], calls: usize) -> Outcome {
    let secret = tempfile::NamedTempFile::new().expect("make a file");
    std::fs::write(secret.path(), "a secret that both servers know").expect("write a file");
    let signed = format!("--auth-token=jwt,sign-method=HS256,ttl=1h,priv-key={}", secret.path().display());
    let mut options = Vec::new();
    if areas.contains(&Area::Auth) {
        // Passwords are hashed as cheaply as can be.
        options.push("--bcrypt-cost=4");
        if seed.is_multiple_of(2) {
            options.push(&signed);
        }
    }
    block_on(async {
        match Pair::start_with(tested::program(), &options).await {
            Ok(mut pair) => Session::new(seed, areas, &mut pair).run(calls).await,
            Err(why) => Outcome { broken: Some(why), ..Outcome::default() },
        }
    })
}
