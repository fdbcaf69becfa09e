//! Sorting of range results, a little at a time.
//!
//! With a limit no more pairs are kept than are wanted, in a tree that grows and goes node by node. Without one all are:
//! they come in short runs, which are merged from their least pairs on.

use std::{
    cmp::Ordering,
    collections::{BTreeSet, BinaryHeap, VecDeque},
    vec,
};

use super::pairs::{Pairs, RUN_PAIRS};
use crate::{
    limits,
    pb::{
        etcdserverpb::{
            self as pb,
            range_request::{SortOrder, SortTarget},
        },
        mvccpb::KeyValue,
    },
};

/// Whether a response must be sorted: by another target than the key, where no order means ascending
/// (`sortRangeResults` in etcd's etcdserver/txn/range.go), or descending.
pub fn is_needed(request: &pb::RangeRequest) -> bool {
    request.sort_target != SortTarget::Key as i32 || request.sort_order == SortOrder::Descend as i32
}

/// Whether many pairs may have to be kept for it.
pub fn takes_many(request: &pb::RangeRequest) -> bool {
    let few =
        usize::try_from(request.limit).is_ok_and(|limit| (1..=limits::RANGE_FEW_PAIRS).contains(&limit));
    is_needed(request) && !few
}

/// Takes pairs and gives them back in the order of a request, equal ones in key order.
pub struct Sorter {
    order: Order,
    taken: usize,
    kept: Kept,
}

enum Kept {
    All(Runs),
    /// Those that come first of all taken so far, and how many may be wanted.
    Least(BTreeSet<Ordered>, usize),
}

impl Sorter {
    /// None if pairs are answered as they come.
    pub fn new(request: &pb::RangeRequest) -> Option<Self> {
        if !is_needed(request) {
            return None;
        }
        let order = Order {
            target: SortTarget::try_from(request.sort_target).expect("validated"),
            descending: request.sort_order == SortOrder::Descend as i32,
        };
        let kept = if request.limit > 0 {
            let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
            Kept::Least(BTreeSet::new(), limit)
        } else {
            Kept::All(Runs::default())
        };
        Some(Self { order, taken: 0, kept })
    }

    /// Pairs taken so far.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Pairs in memory.
    pub fn held(&self) -> usize {
        match &self.kept {
            Kept::All(runs) => runs.held,
            Kept::Least(least, _) => least.len(),
        }
    }

    /// Whether it took more than are wanted back.
    pub fn has_more(&self) -> bool {
        match self.kept {
            Kept::All(_) => false,
            Kept::Least(_, limit) => self.taken > limit,
        }
    }

    pub fn take(&mut self, kv: KeyValue) {
        self.taken += 1;
        let pair = Ordered { kv, order: self.order };
        match &mut self.kept {
            Kept::All(runs) => runs.take(pair),
            Kept::Least(least, limit) => {
                if least.len() == *limit {
                    if least.last().is_some_and(|last| pair > *last) {
                        return;
                    }
                    least.pop_last();
                }
                least.insert(pair);
            }
        }
    }

    /// Adds what was taken and not given back, in no order.
    pub fn leave(self, pairs: &mut Pairs) {
        match self.kept {
            Kept::All(runs) => runs.leave(pairs),
            Kept::Least(least, _) => pairs.push_sorted(least.into_iter()),
        }
    }

    /// Once all were taken: hands over up to about `budget` pairs, the next in order. True when there are no more.
    pub fn give(&mut self, budget: usize, mut to: impl FnMut(KeyValue)) -> bool {
        match &mut self.kept {
            Kept::All(runs) => runs.give(budget, to),
            Kept::Least(least, _) => {
                for _ in 0..budget {
                    let Some(pair) = least.pop_first() else { break };
                    to(pair.kv);
                }
                least.is_empty()
            }
        }
    }
}

/// All pairs.
#[derive(Default)]
struct Runs {
    held: usize,
    run: Vec<Ordered>,
    /// Sorted, and not looked at yet.
    runs: VecDeque<Vec<Ordered>>,
    /// The next pair of each run.
    heads: BinaryHeap<Head>,
}

impl Runs {
    fn take(&mut self, pair: Ordered) {
        self.held += 1;
        self.run.push(pair);
        if self.run.len() == RUN_PAIRS {
            self.end_run();
        }
    }

    fn end_run(&mut self) {
        let mut run = std::mem::take(&mut self.run);
        run.sort();
        self.runs.push_back(run);
    }

    fn leave(self, pairs: &mut Pairs) {
        self.runs.into_iter().chain([self.run]).for_each(|run| pairs.push_ordered(run.into_iter()));
        for Head { pair, rest } in self.heads {
            pairs.push(pair.kv);
            pairs.push_ordered(rest);
        }
    }

    fn give(&mut self, budget: usize, mut to: impl FnMut(KeyValue)) -> bool {
        if !self.run.is_empty() {
            self.end_run();
        }
        let mut left = budget;
        while let Some(run) = self.runs.pop_front() {
            if left == 0 {
                self.runs.push_front(run);
                return false;
            }
            left -= 1;
            self.heads.extend(Head::of(run.into_iter()));
        }
        while let Some(mut head) = self.heads.pop() {
            if left == 0 {
                self.heads.push(head);
                return false;
            }
            left -= 1;
            self.held -= 1;
            match head.rest.next() {
                Some(next) => {
                    to(std::mem::replace(&mut head.pair, next).kv);
                    self.heads.push(head);
                }
                None => to(head.pair.kv),
            }
        }
        true
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Order {
    target: SortTarget,
    descending: bool,
}

impl Order {
    fn compare(self, a: &KeyValue, b: &KeyValue) -> Ordering {
        let ascending = match self.target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        };
        let ordering = if self.descending { ascending.reverse() } else { ascending };
        ordering.then_with(|| a.key.cmp(&b.key))
    }
}

/// A pair in its place.
pub(super) struct Ordered {
    pub(super) kv: KeyValue,
    order: Order,
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order.compare(&self.kv, &other.kv)
    }
}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ordered {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ordered {}

/// A run by its first pair. The least is the greatest, as the heap wants it.
struct Head {
    pair: Ordered,
    rest: vec::IntoIter<Ordered>,
}

impl Head {
    fn of(mut rest: vec::IntoIter<Ordered>) -> Option<Self> {
        Some(Self { pair: rest.next()?, rest })
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        other.pair.cmp(&self.pair)
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_come_together_as_one_sorted_list_step_by_step() {
        for pairs in [0, 1, RUN_PAIRS - 1, RUN_PAIRS, 3 * RUN_PAIRS + 7] {
            for (limit, target, descending) in
                [(0, 1, true), (0, 4, false), (1, 1, false), (300, 4, true), (5000, 0, true)]
            {
                let request = pb::RangeRequest {
                    limit,
                    sort_target: target,
                    sort_order: if descending { 2 } else { 1 },
                    ..Default::default()
                };
                let kvs: Vec<KeyValue> = (0..pairs)
                    .map(|at| KeyValue {
                        key: format!("{at:08}").into(),
                        version: (at * 7919 % 13) as i64,
                        value: format!("{}", at * 104_729 % 1009).into(),
                        ..Default::default()
                    })
                    .collect();
                let mut sorter = Sorter::new(&request).expect("it is needed");
                let wanted = if limit == 0 { usize::MAX } else { limit as usize };
                for kv in &kvs {
                    sorter.take(kv.clone());
                    assert_eq!(sorter.held(), sorter.taken().min(wanted), "no more is kept than is wanted");
                }
                let order = sorter.order;
                let mut expected = kvs;
                expected.sort_by(|a, b| order.compare(a, b));
                assert_eq!((sorter.taken(), sorter.has_more()), (pairs, pairs > wanted));
                expected.truncate(wanted);
                let mut given = Vec::new();
                for step in 1.. {
                    let before = given.len();
                    let ended = sorter.give(64, |kv| given.push(kv));
                    assert!(given.len() - before <= 64 && step <= pairs / 32 + 2, "{step} steps");
                    if ended {
                        break;
                    }
                }
                assert!(given == expected, "{pairs} pairs, limit {limit}, target {target}");
                assert_eq!(sorter.held(), 0);
            }
        }
    }
}
