//! Which branch each transaction takes: all comparisons are made on the state before the first change.

use super::walk::{Met, Place, Walk};
use crate::{
    pb::etcdserverpb as pb,
    state::{
        kv::{compare::Comparing, work::Work},
        mvcc::ReadView,
    },
};

/// The choice under way.
#[derive(Debug, Default)]
pub struct Choosing {
    /// Which branch each transaction takes, in the order they are met on the branches taken.
    pub path: Vec<bool>,
    /// Behind the nested transaction that is being compared; none: it is the outermost one.
    place: Option<Place>,
    comparing: Comparisons,
}

impl Choosing {
    /// Goes on, on the same state. True when all branches are chosen.
    pub fn step(&mut self, request: &pb::TxnRequest, state: &ReadView<'_>, work: &mut Work<'_>) -> bool {
        let mut walk = self.place.take().map(|place| Walk::at(request, &place));
        let mut at = walk.as_ref().map_or(request, Walk::nested);
        loop {
            let Some(succeeded) = self.comparing.step(&at.compare, state, work) else {
                self.place = walk.map(|walk| walk.place());
                return false;
            };
            self.path.push(succeeded);
            let walk = match &mut walk {
                None => walk.insert(Walk::new(at, succeeded)),
                Some(walk) => {
                    walk.enter(at, succeeded);
                    walk
                }
            };
            at = loop {
                match walk.next() {
                    Some(Met::Nested(nested)) => break nested,
                    Some(Met::Op(_) | Met::Nothing | Met::Left) => {}
                    None => return true,
                }
            };
        }
    }
}

/// Comparisons of one transaction: all must hold.
#[derive(Debug, Default)]
struct Comparisons {
    next: usize,
    comparing: Comparing,
}

impl Comparisons {
    fn step(&mut self, compares: &[pb::Compare], state: &ReadView<'_>, work: &mut Work<'_>) -> Option<bool> {
        let mut all = true;
        while all && let Some(compare) = compares.get(self.next) {
            all = self.comparing.step(state, compare, work)?;
            self.comparing = Comparing::default();
            self.next += 1;
        }
        self.next = 0;
        Some(all)
    }
}
