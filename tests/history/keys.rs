//! What clients were told of keys, and what explains it: a store as etcd is one, whose revision each write raises.
//!
//! Keys come in groups, and whatever is asked concerns one group, so each is explained by itself; that revisions fit into
//! one order for all of them is seen apart. Every value is written once, so that who reads it knows who wrote it, and what
//! was not answered and nobody has read is nothing to explain.

use std::collections::{BTreeMap, BTreeSet};

use super::linearizable::{self, Call, Model, Verdict};

/// Steps in which a history of a group is explained, or is not.
const STEPS_MAX: u64 = 200_000;

/// What is asked in one go: reads, then writes if the comparison holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// This key has this value, or is not there. It is among the reads.
    pub compare: Option<(String, Option<u64>)>,
    /// As they are before the writes.
    pub reads: Vec<String>,
    /// Values, or none to delete.
    pub writes: Vec<(String, Option<u64>)>,
}

/// A key as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    pub value: u64,
    pub mod_revision: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of the header.
    pub revision: i64,
    pub succeeded: bool,
    pub read: Vec<Option<Pair>>,
}

impl Answer {
    /// Whether it says that this request raised the revision.
    fn has_written(&self, request: &Request) -> bool {
        self.succeeded && request.writes.iter().any(|(_, value)| value.is_some())
    }
}

struct Entry {
    group: u64,
    called: u64,
    answered: Option<(u64, Answer)>,
    request: Request,
}

/// Everything that was asked and told.
#[derive(Default)]
pub struct History {
    /// Moments so far.
    now: u64,
    entries: Vec<Entry>,
}

impl History {
    /// A client asks.
    pub fn call(&mut self, group: u64, request: Request) -> usize {
        let compared = request.compare.iter().all(|(key, _)| request.reads.contains(key));
        assert!(compared, "what is compared must be read, or what was not answered may matter unseen");
        self.now += 1;
        self.entries.push(Entry { group, called: self.now, answered: None, request });
        self.entries.len() - 1
    }

    /// It is told.
    pub fn answer(&mut self, call: usize, answer: Answer) {
        self.now += 1;
        let entry = &mut self.entries[call];
        assert!(entry.answered.is_none() && answer.read.len() == entry.request.reads.len());
        entry.answered = Some((self.now, answer));
    }

    /// Calls that were answered.
    pub fn answered(&self) -> impl Iterator<Item = (&Request, &Answer)> {
        self.entries.iter().filter_map(|entry| Some((&entry.request, &entry.answered.as_ref()?.1)))
    }

    /// Why it cannot be explained.
    pub fn check(&self) -> Result<(), String> {
        self.check_revisions()?;
        let groups: BTreeSet<u64> = self.entries.iter().map(|entry| entry.group).collect();
        groups.into_iter().try_for_each(|group| self.check_group(group))
    }

    /// No revision is given twice, and none is below what somebody was told before.
    fn check_revisions(&self) -> Result<(), String> {
        let mut moments: Vec<(u64, usize, bool)> = Vec::new();
        for (at, entry) in self.entries.iter().enumerate() {
            if let Some((answered, _)) = &entry.answered {
                moments.extend([(entry.called, at, false), (*answered, at, true)]);
            }
        }
        moments.sort_unstable();
        let (mut told, mut floors, mut given) = (0, BTreeMap::new(), BTreeMap::new());
        for (_, at, is_answer) in moments {
            let Entry { request, answered, .. } = &self.entries[at];
            if !is_answer {
                floors.insert(at, told);
                continue;
            }
            let answer = &answered.as_ref().expect("only those were taken").1;
            let floor = floors[&at] + i64::from(answer.has_written(request));
            if answer.revision < floor {
                return Err(format!("{request:?} gave {answer:?}, and it began at revision {told} or later"));
            }
            if answer.has_written(request)
                && let Some(other) = given.insert(answer.revision, request)
            {
                return Err(format!("{request:?} and {other:?} have the same revision {}", answer.revision));
            }
            told = told.max(answer.revision);
        }
        Ok(())
    }

    fn check_group(&self, group: u64) -> Result<(), String> {
        let entries: Vec<_> = self.entries.iter().filter(|entry| entry.group == group).collect();
        let seen = seen(&entries);
        let explained: Vec<_> = entries.iter().filter_map(|entry| to_explain(entry, &seen)).collect();
        match linearizable::check(&Group, &explained, STEPS_MAX) {
            Verdict::Linearizable => Ok(()),
            Verdict::Undecided => Err(format!("group {group}: no explanation in {STEPS_MAX} steps")),
            Verdict::Impossible { state, next } => {
                let next: Vec<_> = next.iter().map(|at| &explained[*at].operation).collect();
                Err(format!("group {group}: after {state} none of these fits: {next:#?}"))
            }
        }
    }
}

/// Values of which is known that they were there, and the revisions of those that somebody has read.
fn seen(entries: &[&Entry]) -> BTreeMap<u64, Option<i64>> {
    let mut seen = BTreeMap::new();
    for (_, answer) in entries.iter().filter_map(|entry| entry.answered.as_ref()) {
        seen.extend(answer.read.iter().flatten().map(|pair| (pair.value, Some(pair.mod_revision))));
    }
    // Who has written because another value was there has seen that as well, told or not. That one may again have been
    // written because of one before.
    loop {
        let count = seen.len();
        for entry in entries.iter().filter(|entry| entry.answered.is_none()) {
            let has_written =
                entry.request.writes.iter().any(|(_, value)| value.is_some_and(|v| seen.contains_key(&v)));
            if let (true, Some((_, Some(expected)))) = (has_written, &entry.request.compare) {
                seen.entry(*expected).or_insert(None);
            }
        }
        if seen.len() == count {
            return seen;
        }
    }
}

/// None if nobody can tell whether it has happened.
fn to_explain(entry: &Entry, seen: &BTreeMap<u64, Option<i64>>) -> Option<Call<Told>> {
    let Entry { called, answered, request, .. } = entry;
    let answer = answered.as_ref().map(|(_, answer)| answer.clone());
    let wrote = answer.as_ref().filter(|answer| answer.has_written(request)).map(|answer| answer.revision);
    let read = request.writes.iter().find_map(|(_, value)| *seen.get(&(*value)?)?);
    let is_seen = request.writes.iter().any(|(_, value)| value.is_none_or(|value| seen.contains_key(&value)));
    if answer.is_none() && !is_seen {
        return None;
    }
    let told = Told { request: request.clone(), answer, wrote: wrote.or(read) };
    Some(Call { called: *called, answered: answered.as_ref().map(|(at, _)| *at), operation: told })
}

/// What was asked and told of one group, with what others were told of it.
#[derive(Debug)]
struct Told {
    request: Request,
    answer: Option<Answer>,
    /// The revision it is known to have made.
    wrote: Option<i64>,
}

/// One group of keys.
struct Group;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    /// At least this revision.
    revision: i64,
    pairs: BTreeMap<String, Pair>,
}

impl Model for Group {
    type State = State;
    type Operation = Told;

    fn initial(&self) -> State {
        State::default()
    }

    fn step(&self, state: &State, told: &Told) -> Option<State> {
        let Told { request, answer, wrote } = told;
        let holds = request
            .compare
            .as_ref()
            .is_none_or(|(key, value)| state.pairs.get(key).map(|pair| pair.value) == *value);
        if let Some(answer) = answer {
            let read: Vec<_> = request.reads.iter().map(|key| state.pairs.get(key).copied()).collect();
            if answer.succeeded != holds || answer.read != read || answer.revision < state.revision {
                return None;
            }
        }
        let mut after = state.clone();
        after.revision = answer.as_ref().map_or(state.revision, |answer| answer.revision);
        if !holds {
            // What others have read of it was written.
            return wrote.is_none().then_some(after);
        }
        if let Some(wrote) = *wrote {
            if wrote <= state.revision {
                return None;
            }
            after.revision = wrote;
        }
        for (key, value) in &request.writes {
            match value {
                // Without a revision nobody has read it.
                Some(value) => {
                    let pair = Pair { value: *value, mod_revision: wrote.unwrap_or(-1) };
                    after.pairs.insert(key.clone(), pair);
                }
                None => drop(after.pairs.remove(key)),
            }
        }
        Some(after)
    }

    fn rank(&self, told: &Told) -> u64 {
        let revision = told.wrote.or(told.answer.as_ref().map(|answer| answer.revision));
        // Who reads at a revision does so after it was made.
        let order = revision.map(|revision| 2 * revision as u64 + u64::from(told.wrote.is_none()));
        order.unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(value: u64) -> Request {
        Request { writes: vec![("k".into(), Some(value))], ..Request::default() }
    }

    fn get() -> Request {
        Request { reads: vec!["k".into()], ..Request::default() }
    }

    fn told(revision: i64, read: &[Option<(u64, i64)>]) -> Answer {
        let pair = |pair: &Option<(u64, i64)>| pair.map(|(value, mod_revision)| Pair { value, mod_revision });
        Answer { revision, succeeded: true, read: read.iter().map(pair).collect() }
    }

    /// One after another.
    fn history(calls: &[(Request, Option<Answer>)]) -> History {
        let mut history = History::default();
        for (request, answer) in calls {
            let call = history.call(0, request.clone());
            if let Some(answer) = answer {
                history.answer(call, answer.clone());
            }
        }
        history
    }

    #[test]
    fn what_was_written_is_read() {
        let wrote = (put(1), Some(told(2, &[])));
        assert_eq!(history(&[wrote.clone(), (get(), Some(told(2, &[Some((1, 2))])))]).check(), Ok(()));
        for wrong in
            [told(2, &[None]), told(2, &[Some((3, 2))]), told(1, &[Some((1, 2))]), told(3, &[Some((1, 3))])]
        {
            assert!(history(&[wrote.clone(), (get(), Some(wrong.clone()))]).check().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_was_not_answered_is_there_or_not_but_does_not_go_again() {
        let (wrote, lost) = ((put(1), Some(told(2, &[]))), (put(2), None));
        let read = |revision, pair| (get(), Some(told(revision, &[Some(pair)])));
        let lives = [wrote.clone(), lost.clone(), read(2, (1, 2)), read(5, (2, 4))];
        assert_eq!(history(&lives).check(), Ok(()));
        let never = [wrote.clone(), lost.clone(), read(2, (1, 2)), read(9, (1, 2))];
        assert_eq!(history(&never).check(), Ok(()));
        let goes = [wrote, lost, read(5, (2, 4)), read(6, (1, 2))];
        assert!(history(&goes).check().is_err());
    }

    #[test]
    fn a_deletion_that_was_not_answered_may_have_happened() {
        let delete = Request { writes: vec![("k".into(), None)], ..Request::default() };
        let wrote = (put(1), Some(told(2, &[])));
        for read in [told(2, &[Some((1, 2))]), told(3, &[None])] {
            let calls = [wrote.clone(), (delete.clone(), None), (get(), Some(read.clone()))];
            assert_eq!(history(&calls).check(), Ok(()), "{read:?}");
        }
        let back =
            [wrote, (delete, None), (get(), Some(told(3, &[None]))), (get(), Some(told(3, &[Some((1, 2))])))];
        assert!(history(&back).check().is_err());
    }

    #[test]
    fn a_comparison_holds_or_not() {
        let swap = |from, to| Request {
            compare: Some(("k".into(), from)),
            reads: vec!["k".into()],
            writes: vec![("k".into(), Some(to))],
        };
        let refused = |revision, read| Answer { succeeded: false, ..told(revision, &[read]) };
        let calls = [
            (swap(None, 1), Some(told(2, &[None]))),
            (swap(None, 2), Some(refused(2, Some((1, 2))))),
            (swap(Some(1), 3), Some(told(3, &[Some((1, 2))]))),
        ];
        assert_eq!(history(&calls).check(), Ok(()));
        // Both cannot have held.
        let twice = [calls[0].clone(), (swap(None, 2), Some(told(3, &[None])))];
        assert!(history(&twice).check().is_err());
    }

    #[test]
    fn what_nobody_was_told_of_may_have_been_compared_with() {
        let swap = Request {
            compare: Some(("k".into(), Some(2))),
            reads: vec!["k".into()],
            writes: vec![("k".into(), Some(3))],
        };
        // Neither was answered, and somebody has read what the second one wrote.
        let read = (get(), Some(told(5, &[Some((3, 5))])));
        let calls = [(put(1), Some(told(2, &[]))), (put(2), None), (swap.clone(), None), read.clone()];
        assert_eq!(history(&calls).check(), Ok(()));
        let never = [(put(1), Some(told(2, &[]))), (swap, None), read];
        assert!(history(&never).check().is_err());
    }

    #[test]
    fn revisions_are_given_once_and_do_not_go_back() {
        let mut history = History::default();
        let calls = [history.call(0, put(1)), history.call(1, put(2))];
        calls.into_iter().for_each(|call| history.answer(call, told(2, &[])));
        assert!(history.check().is_err_and(|why| why.contains("the same revision 2")));
        let mut history = History::default();
        let call = history.call(0, put(1));
        history.answer(call, told(5, &[]));
        let call = history.call(1, put(2));
        history.answer(call, told(4, &[]));
        assert!(history.check().is_err_and(|why| why.contains("began at revision 5")));
    }
}
