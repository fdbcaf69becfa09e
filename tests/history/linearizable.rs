//! Whether what clients were told can be explained by one thing happening after another, each between its call and its
//! answer: the search of Wing and Gong with Lowe's memory of what was tried, as Porcupine does it.
//!
//! It knows nothing of what is called: a [`Model`] says what each call does to a state, and whether its answer fits. What
//! was never answered may have happened at any time after its call, or not at all.

use std::{collections::HashSet, fmt::Debug, hash::Hash};

/// What clients talk to, as one thing that does one thing at a time.
pub trait Model {
    type State: Clone + Debug + Eq + Hash;
    type Operation;

    fn initial(&self) -> Self::State;
    /// The state after it; none if it cannot have happened in this state.
    fn step(&self, state: &Self::State, operation: &Self::Operation) -> Option<Self::State>;
    /// What is tried first if several may be next: the lowest. A hint, which changes no verdict.
    fn rank(&self, operation: &Self::Operation) -> u64;
}

/// What a client did. Moments are numbers, none of which is there twice.
pub struct Call<O> {
    pub called: u64,
    /// None: nobody knows what became of it.
    pub answered: Option<u64>,
    pub operation: O,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    /// No order explains it. The longest explanation that was found ends in a state before these calls, by their
    /// position, none of which fits.
    Impossible {
        state: String,
        next: Vec<usize>,
    },
    /// Not found out in so many steps.
    Undecided,
}

/// The end of the list of those that are not placed yet.
const END: usize = usize::MAX;

/// A call or its answer, in the order of time.
#[derive(Clone, Copy)]
struct Moment {
    call: usize,
    is_answer: bool,
    before: usize,
    after: usize,
}

/// Moments of calls that have no place in the order yet. Those taken out remember where they stood.
struct Open {
    moments: Vec<Moment>,
    first: usize,
    /// Of each call: where it and its answer stand.
    of: Vec<(usize, Option<usize>)>,
}

impl Open {
    fn new<O>(calls: &[Call<O>]) -> Self {
        let mut times: Vec<_> = (0..).zip(calls).map(|(at, call)| (call.called, at, false)).collect();
        times.extend((0..).zip(calls).filter_map(|(at, call)| Some((call.answered?, at, true))));
        times.sort_unstable();
        assert!(times.windows(2).all(|pair| pair[0].0 < pair[1].0), "two moments are the same");
        let mut of = vec![(END, None); calls.len()];
        let mut moments = Vec::with_capacity(times.len());
        for (at, (_, call, is_answer)) in times.iter().copied().enumerate() {
            let after = if at + 1 < times.len() { at + 1 } else { END };
            moments.push(Moment { call, is_answer, before: at.wrapping_sub(1), after });
            match is_answer {
                true => of[call].1 = Some(at),
                false => of[call].0 = at,
            }
        }
        let first = if moments.is_empty() { END } else { 0 };
        Open { moments, first, of }
    }

    fn take(&mut self, at: usize) {
        let Moment { before, after, .. } = self.moments[at];
        match before {
            END => self.first = after,
            _ => self.moments[before].after = after,
        }
        if after != END {
            self.moments[after].before = before;
        }
    }

    fn put_back(&mut self, at: usize) {
        let Moment { before, after, .. } = self.moments[at];
        match before {
            END => self.first = at,
            _ => self.moments[before].after = at,
        }
        if after != END {
            self.moments[after].before = at;
        }
    }

    /// The call has its place.
    fn place(&mut self, call: usize) {
        let (called, answered) = self.of[call];
        self.take(called);
        answered.into_iter().for_each(|at| self.take(at));
    }

    /// It has none: the last that was placed comes first.
    fn displace(&mut self, call: usize) {
        let (called, answered) = self.of[call];
        answered.into_iter().for_each(|at| self.put_back(at));
        self.put_back(called);
    }

    /// Calls before the first answer that is still to be explained; none if all answers are.
    fn next(&self) -> Option<Vec<usize>> {
        let (mut at, mut found) = (self.first, Vec::new());
        while at != END {
            let moment = self.moments[at];
            if moment.is_answer {
                return Some(found);
            }
            found.push(moment.call);
            at = moment.after;
        }
        None
    }
}

/// A place in the order, and which calls are still to be tried there.
struct Place<S> {
    state: S,
    candidates: std::vec::IntoIter<usize>,
    /// The one that is there now.
    taken: Option<usize>,
}

/// Looks for an order, for at most so many steps.
pub fn check<M: Model>(model: &M, calls: &[Call<M::Operation>], steps_max: u64) -> Verdict {
    let mut open = Open::new(calls);
    let mut placed = vec![0u64; calls.len().div_ceil(64)];
    let mut tried = HashSet::new();
    let sorted = |mut next: Vec<usize>| {
        next.sort_by_key(|call| model.rank(&calls[*call].operation));
        next.into_iter()
    };
    let Some(next) = open.next() else { return Verdict::Linearizable };
    let mut places = vec![Place { state: model.initial(), candidates: sorted(next), taken: None }];
    let mut furthest = (0, Verdict::Undecided);
    let mut steps = 0;
    while let (depth, Some(place)) = (places.len(), places.last_mut()) {
        if let Some(call) = place.taken.take() {
            // It led nowhere.
            open.displace(call);
            placed[call / 64] &= !(1 << (call % 64));
        }
        let Some(call) = place.candidates.next() else {
            if furthest.0 < depth {
                let next = open.next().unwrap_or_default();
                let state = format!("{:?}", place.state);
                furthest = (depth, Verdict::Impossible { state, next });
            }
            places.pop();
            continue;
        };
        steps += 1;
        if steps > steps_max {
            return Verdict::Undecided;
        }
        let Some(state) = model.step(&place.state, &calls[call].operation) else { continue };
        placed[call / 64] |= 1 << (call % 64);
        if !tried.insert((placed.clone(), state.clone())) {
            placed[call / 64] &= !(1 << (call % 64));
            continue;
        }
        place.taken = Some(call);
        open.place(call);
        let Some(next) = open.next() else { return Verdict::Linearizable };
        places.push(Place { state, candidates: sorted(next), taken: None });
    }
    furthest.1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that is written and read.
    struct Register;

    #[derive(Clone, Copy)]
    enum Did {
        Write(u64),
        Read(u64),
    }

    impl Model for Register {
        type State = u64;
        type Operation = Did;

        fn initial(&self) -> u64 {
            0
        }

        fn step(&self, state: &u64, did: &Did) -> Option<u64> {
            match *did {
                Did::Write(value) => Some(value),
                Did::Read(value) => (value == *state).then_some(*state),
            }
        }

        fn rank(&self, _: &Did) -> u64 {
            0
        }
    }

    fn verdict(calls: &[(u64, Option<u64>, Did)]) -> Verdict {
        let calls: Vec<_> =
            calls.iter().map(|&(called, answered, operation)| Call { called, answered, operation }).collect();
        check(&Register, &calls, 10_000)
    }

    use Did::{Read, Write};

    #[test]
    fn what_one_after_another_explains_is_linearizable() {
        assert_eq!(verdict(&[]), Verdict::Linearizable);
        assert_eq!(verdict(&[(1, Some(2), Write(1)), (3, Some(4), Read(1))]), Verdict::Linearizable);
        // Beside each other, in either order.
        let beside = |value| verdict(&[(1, Some(4), Write(1)), (2, Some(3), Read(value))]);
        assert_eq!((beside(0), beside(1)), (Verdict::Linearizable, Verdict::Linearizable));
        // Two that read beside a write, the second after the first.
        let reads = |a, b| verdict(&[(1, Some(9), Write(1)), (2, Some(3), Read(a)), (4, Some(5), Read(b))]);
        assert_eq!(reads(0, 1), Verdict::Linearizable);
        assert!(matches!(reads(1, 0), Verdict::Impossible { .. }));
    }

    #[test]
    fn an_old_value_is_impossible_after_the_new_one_was_answered() {
        let told = verdict(&[(1, Some(2), Write(1)), (3, Some(4), Read(0))]);
        assert_eq!(told, Verdict::Impossible { state: "1".into(), next: vec![1] });
    }

    #[test]
    fn what_was_never_answered_happened_any_time_or_never() {
        let lost = (1, None, Write(7));
        for reads in [[0, 0], [0, 7], [7, 7]] {
            let calls = [lost, (2, Some(3), Read(reads[0])), (4, Some(5), Read(reads[1]))];
            assert_eq!(verdict(&calls), Verdict::Linearizable, "{reads:?}");
        }
        let calls = [lost, (2, Some(3), Read(7)), (4, Some(5), Read(0))];
        assert!(matches!(verdict(&calls), Verdict::Impossible { .. }));
        // Not before it was called.
        let calls = [(1, Some(2), Read(7)), (3, None, Write(7))];
        assert!(matches!(verdict(&calls), Verdict::Impossible { .. }));
    }

    #[test]
    fn a_search_without_end_is_given_up() {
        // Any of these may have been the last before each read.
        let mut calls: Vec<_> = (0..40).map(|n| (n, None, Write(n))).collect();
        calls.extend([(50, Some(51), Read(100))]);
        assert_eq!(verdict(&calls), Verdict::Undecided);
    }

    /// Many orders that were drawn and then pulled apart, each with and without one answer changed.
    #[test]
    fn drawn_histories_are_judged_right() {
        let mut seed = 7u64;
        let mut below = |bound: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % bound
        };
        for _ in 0..300 {
            let (mut value, mut calls) = (0, Vec::new());
            for moment in 0..30u64 {
                // It happens at its moment, is called before and answered after.
                let (called, answered) =
                    (moment * 100 - below(moment.min(4) * 100 + 1), moment * 100 + below(400));
                let did = if below(2) == 0 {
                    value = 1 + moment;
                    Write(value)
                } else {
                    Read(value)
                };
                calls.push((called * 1_000 + 2 * moment, Some(answered * 1_000 + 2 * moment + 1), did));
            }
            assert_eq!(verdict(&calls), Verdict::Linearizable);
            let Some(read) = calls.iter_mut().rev().find(|call| matches!(call.2, Read(_))) else { continue };
            read.2 = Read(1_000);
            assert!(matches!(verdict(&calls), Verdict::Impossible { .. }));
        }
    }
}
