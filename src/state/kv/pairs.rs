//! Many pairs in pieces: half a million of them in one piece of memory would stop the core while it grows or goes.

use std::{
    collections::{VecDeque, btree_set},
    vec,
};

use super::sort::Ordered;
use crate::pb::mvccpb::KeyValue;

/// Pairs of a piece.
pub const RUN_PAIRS: usize = 256;

/// A queue of pairs.
#[derive(Default)]
pub struct Pairs {
    runs: VecDeque<Run>,
    /// Those added last.
    open: Vec<KeyValue>,
    len: usize,
}

/// A piece, as whoever gave it up had it.
enum Run {
    Plain(vec::IntoIter<KeyValue>),
    Ordered(vec::IntoIter<Ordered>),
    Sorted(btree_set::IntoIter<Ordered>),
}

impl Run {
    fn len(&self) -> usize {
        match self {
            Run::Plain(run) => run.len(),
            Run::Ordered(run) => run.len(),
            Run::Sorted(run) => run.len(),
        }
    }

    fn next(&mut self) -> Option<KeyValue> {
        match self {
            Run::Plain(run) => run.next(),
            Run::Ordered(run) => run.next().map(|pair| pair.kv),
            Run::Sorted(run) => run.next().map(|pair| pair.kv),
        }
    }
}

/// A read that may be left before its end, with what it has gathered by then.
pub trait Leave {
    fn leave(self) -> Pairs;
}

impl Pairs {
    pub fn push(&mut self, kv: KeyValue) {
        self.open.push(kv);
        self.len += 1;
        if self.open.len() == RUN_PAIRS {
            self.close_run();
        }
    }

    /// Adds pairs at the end.
    pub fn push_run(&mut self, run: vec::IntoIter<KeyValue>) {
        self.add(Run::Plain(run));
    }

    pub(super) fn push_ordered(&mut self, run: vec::IntoIter<Ordered>) {
        self.add(Run::Ordered(run));
    }

    pub(super) fn push_sorted(&mut self, run: btree_set::IntoIter<Ordered>) {
        self.add(Run::Sorted(run));
    }

    fn add(&mut self, run: Run) {
        self.close_run();
        self.len += run.len();
        if run.len() > 0 {
            self.runs.push_back(run);
        }
    }

    fn close_run(&mut self) {
        if !self.open.is_empty() {
            self.runs.push_back(Run::Plain(std::mem::take(&mut self.open).into_iter()));
        }
    }

    /// Drops the first so many pairs. True when none are left.
    pub fn give_up(&mut self, pairs: usize) -> bool {
        self.take(pairs).for_each(drop);
        self.len == 0
    }
}

impl Iterator for Pairs {
    type Item = KeyValue;

    fn next(&mut self) -> Option<KeyValue> {
        if self.runs.is_empty() {
            self.close_run();
        }
        let run = self.runs.front_mut()?;
        let kv = run.next().expect("a run that is kept is not empty");
        self.len -= 1;
        if run.len() == 0 {
            self.runs.pop_front();
        }
        Some(kv)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len, Some(self.len))
    }
}

impl ExactSizeIterator for Pairs {}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(number: usize) -> KeyValue {
        KeyValue { version: number as i64, ..Default::default() }
    }

    #[test]
    fn pairs_come_back_in_order_from_runs_and_between_them() {
        let mut pairs = Pairs::default();
        let mut numbers = 0..2000;
        for run in [3, 0, RUN_PAIRS, 1] {
            pairs.push_run(numbers.by_ref().take(run).map(kv).collect::<Vec<_>>().into_iter());
            numbers.by_ref().take(run + 7).for_each(|number| pairs.push(kv(number)));
        }
        let all = pairs.len();
        let mut found = Vec::new();
        // Taking and adding take turns.
        while let Some(kv) = pairs.next() {
            found.push(kv.version);
            if found.len() == all - 1 {
                pairs.push(self::kv(all));
            }
            assert_eq!(pairs.len(), all + usize::from(found.len() >= all - 1) - found.len());
        }
        assert_eq!(found, (0..=all as i64).collect::<Vec<_>>());
    }

    #[test]
    fn pairs_go_as_many_at_a_time_as_asked() {
        let mut pairs = Pairs::default();
        (0..8).for_each(|number| pairs.push(kv(number)));
        let mut left = vec![pairs.len()];
        while !pairs.give_up(3) {
            left.push(pairs.len());
        }
        assert_eq!(left, [8, 5, 2]);
        assert!(Pairs::default().give_up(0));
    }
}
