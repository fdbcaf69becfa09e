//! Sorting of range results, a little at a time: the pairs of a long range come in short runs, which are merged from
//! their least pairs on.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, VecDeque},
    vec,
};

use super::pairs::{Pairs, RUN_PAIRS};
use crate::pb::{
    etcdserverpb::{
        self as pb,
        range_request::{SortOrder, SortTarget},
    },
    mvccpb::KeyValue,
};

/// Whether a response must be sorted: by another target than the key, where no order means ascending
/// (`sortRangeResults` in etcd's etcdserver/txn/range.go), or descending.
pub fn is_needed(request: &pb::RangeRequest) -> bool {
    request.sort_target != SortTarget::Key as i32 || request.sort_order == SortOrder::Descend as i32
}

/// Takes pairs in key order and gives them back in the order of a request. Equal ones stay in key order.
pub struct Sorter {
    order: Order,
    /// Pairs that are wanted back.
    limit: usize,
    taken: usize,
    given: usize,
    run: Vec<KeyValue>,
    /// Sorted, and not looked at yet.
    runs: VecDeque<Vec<KeyValue>>,
    /// The next pair of each run.
    heads: BinaryHeap<Head>,
    opened: usize,
}

impl Sorter {
    /// None if pairs are answered as they come.
    pub fn new(request: &pb::RangeRequest) -> Option<Self> {
        if !is_needed(request) {
            return None;
        }
        let limit =
            if request.limit > 0 { usize::try_from(request.limit).unwrap_or(usize::MAX) } else { usize::MAX };
        Some(Self {
            order: Order {
                target: SortTarget::try_from(request.sort_target).expect("validated"),
                descending: request.sort_order == SortOrder::Descend as i32,
            },
            limit,
            taken: 0,
            given: 0,
            run: Vec::new(),
            runs: VecDeque::new(),
            heads: BinaryHeap::new(),
            opened: 0,
        })
    }

    /// Pairs taken so far.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Whether it took more than are wanted back.
    pub fn has_more(&self) -> bool {
        self.taken > self.limit
    }

    pub fn take(&mut self, kv: KeyValue) {
        self.taken += 1;
        self.run.push(kv);
        if self.run.len() == RUN_PAIRS {
            self.end_run();
        }
    }

    fn end_run(&mut self) {
        let mut run = std::mem::take(&mut self.run);
        let order = self.order;
        run.sort_by(|a, b| order.compare(a, b));
        run.truncate(self.limit);
        self.runs.push_back(run);
    }

    /// Adds what was taken and not given back, in no order.
    pub fn leave(self, pairs: &mut Pairs) {
        self.runs.into_iter().chain([self.run]).for_each(|run| pairs.push_run(run.into_iter()));
        for Head { kv, rest, .. } in self.heads {
            pairs.push(kv);
            pairs.push_run(rest);
        }
    }

    /// Once all were taken: hands over up to about `budget` pairs, the next in order. True when there are no more.
    pub fn give(&mut self, budget: usize, mut to: impl FnMut(KeyValue)) -> bool {
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
            let rest = run.into_iter();
            self.heads.extend(Head::of(rest, self.opened, self.order));
            self.opened += 1;
        }
        while let Some(mut head) = self.heads.pop() {
            if left == 0 {
                self.heads.push(head);
                return false;
            }
            if self.given == self.limit {
                // Nothing of the run is wanted; giving up its memory takes time too.
                left = left.saturating_sub(head.rest.len() + 1);
                continue;
            }
            left -= 1;
            self.given += 1;
            let next = head.rest.next();
            match next {
                Some(next) => {
                    to(std::mem::replace(&mut head.kv, next));
                    self.heads.push(head);
                }
                None => to(head.kv),
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
        if self.descending { ascending.reverse() } else { ascending }
    }
}

/// A run by its first pair. The least is the greatest, as the heap wants it.
struct Head {
    kv: KeyValue,
    rest: vec::IntoIter<KeyValue>,
    run: usize,
    order: Order,
}

impl Head {
    fn of(mut rest: vec::IntoIter<KeyValue>, run: usize, order: Order) -> Option<Self> {
        Some(Self { kv: rest.next()?, rest, run, order })
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        let order = self.order.compare(&self.kv, &other.kv).then(self.run.cmp(&other.run));
        order.reverse()
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
                kvs.iter().for_each(|kv| sorter.take(kv.clone()));
                let order = sorter.order;
                let mut expected = kvs;
                expected.sort_by(|a, b| order.compare(a, b));
                let wanted = if limit == 0 { usize::MAX } else { limit as usize };
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
            }
        }
    }
}
