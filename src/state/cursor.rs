//! A long range, resumed slice by slice at its fixed revision so that it never holds up writes.

use super::{Error, Leave, Pairs, Ranged, StateMachine, range::Evaluation};
use crate::{pb::etcdserverpb as pb, state::mvcc::Pin, types::Revision};

/// A range under way. Holds back the freeing of its revision until dropped.
pub struct RangeCursor {
    evaluation: Evaluation,
    pin: Pin,
    finished: bool,
}

impl RangeCursor {
    /// Fixes the revision: the state the response shows is that of this moment.
    pub fn new(state: &StateMachine, request: &pb::RangeRequest) -> Result<Self, Error> {
        Self::with_total(state, request, true)
    }

    /// Without `with_total` the response's count is of no use unless `count_only` is set.
    pub(super) fn with_total(
        state: &StateMachine,
        request: &pb::RangeRequest,
        with_total: bool,
    ) -> Result<Self, Error> {
        let store = state.store();
        store.at(request.revision)?;
        let read = if request.revision > 0 { Revision(request.revision) } else { store.revision() };
        let evaluation = Evaluation::new(request, store.revision().0, with_total);
        Ok(Self { evaluation, pin: store.pin(read), finished: false })
    }

    /// With more than `bytes` of pairs, the answer is long and its pairs are only measured.
    pub fn keep_at_most(self, bytes: usize) -> Self {
        Self { evaluation: self.evaluation.keep_at_most(bytes), ..self }
    }

    /// Goes on by about `budget` pairs. True when there is nothing left, and only once.
    pub fn step(&mut self, state: &StateMachine, budget: usize) -> bool {
        assert!(!self.finished, "a finished range is not stepped");
        let snapshot = state.store().at_pin(&self.pin);
        self.finished = self.evaluation.advance(&snapshot, budget);
        self.finished
    }

    /// The answer, once [`RangeCursor::step`] was true.
    pub fn finish(self) -> Ranged {
        assert!(self.finished, "an unfinished range has no answer");
        self.evaluation.finish_ranged(self.pin)
    }
}

impl Leave for RangeCursor {
    fn leave(self) -> Pairs {
        self.evaluation.leave()
    }
}
