//! The answer of a write or a transaction, as far as it is known when its effects are: what is small is there, and what
//! may be long is put off.
//!
//! Applying only notes what is to be read, and pins the state that it must show, which may be one between two changes of
//! the transaction. The caller reads it afterwards, in slices: first everything is measured, which keeps a few pairs and
//! of all others the length alone; then the answer is put together from its end. So an answer takes little memory
//! however long it is, and an apply no time for it.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    answer::{Answer, Assembly, Evaluation, LongAnswer},
    field,
    pairs::{Leave, Pairs},
    range::{BEGIN_PAIRS, BUILD_COST, Evaluated, Range, header, key_value},
    sort,
};
use crate::{
    limits,
    pb::{
        etcdserverpb::{self as pb, response_op::Response},
        mvccpb::KeyValue,
    },
    state::{
        Error, StateMachine,
        mvcc::{Pin, ReadView, Span},
    },
};

/// Tags of a transaction's answer (etcd v3.7 rpc.proto).
const RESPONSES: u32 = 3;
const RESPONSE_RANGE: u32 = 1;
const RESPONSE_PUT: u32 = 2;
const RESPONSE_DELETE_RANGE: u32 = 3;
const RESPONSE_TXN: u32 = 4;

/// What there is of an answer, and what is missing.
pub struct Plan {
    stage: Stage,
    /// Of the operations, in their order.
    parts: VecDeque<Part>,
    /// The one being measured.
    current: Option<(usize, Range)>,
    measured: Vec<(usize, Evaluated)>,
    /// Pairs that were needed to measure a part.
    leaving: Pairs,
    /// Bytes of pairs that may still be kept; those measured so far, and how many may be sent.
    keep_left: usize,
    bytes: usize,
    bytes_max: usize,
}

enum Stage {
    Measure(Template),
    Assemble(Assembling),
    Done(LongAnswer),
    /// Between two stages.
    Moving,
}

/// The answer without what was put off.
enum Template {
    DeleteRange(pb::DeleteRangeResponse),
    /// And the number of its operations that are no transactions.
    Txn(pb::TxnResponse, usize),
}

/// What was put off.
struct Part {
    /// Which operation it belongs to, among all that are no transactions.
    op: usize,
    request: pb::RangeRequest,
    header_revision: i64,
    pin: Pin,
}

/// Gathers what is put off while something is applied or read.
pub(super) struct Planning {
    answer_wanted: bool,
    ops: usize,
    keep_left: usize,
    parts: VecDeque<Part>,
}

impl Planning {
    pub(super) fn new(answer_wanted: bool) -> Self {
        Self { answer_wanted, ops: 0, keep_left: limits::RANGE_KEPT_BYTES, parts: VecDeque::new() }
    }

    pub(super) fn answer_wanted(&self) -> bool {
        self.answer_wanted
    }

    /// Begins the next operation that is not a transaction.
    pub(super) fn op(&mut self) {
        self.ops += 1;
    }

    /// The answer of a range, which is the operation last begun: of one key at once. None if nobody wants it.
    pub(super) fn range(
        &mut self,
        request: &pb::RangeRequest,
        revision: i64,
        view: &ReadView<'_>,
        pin: impl FnOnce() -> Pin,
    ) -> Option<pb::RangeResponse> {
        if !self.answer_wanted {
            return None;
        }
        if let Span::One(_) = Span::new(&request.key, &request.range_end) {
            let response = Range::new(request, revision, true).run(view);
            if self.keeps(&response.kvs) {
                return Some(response);
            }
        }
        self.put_off(request.clone(), revision, pin());
        Some(pb::RangeResponse { header: Some(header(revision)), ..Default::default() })
    }

    /// What the key of the operation last begun held before. None if it is put off, or there was none.
    pub(super) fn previous(
        &mut self,
        key: &Bytes,
        view: &ReadView<'_>,
        pin: impl FnOnce() -> Pin,
    ) -> Option<KeyValue> {
        let found = view.find(key).map(|pos| key_value(view, pos, true));
        if found.as_ref().is_none_or(|kv| self.keeps(std::slice::from_ref(kv))) {
            return found;
        }
        self.put_off_pairs(key, &Bytes::new(), pin());
        None
    }

    /// What the keys of the operation last begun hold is to be added to its answer.
    pub(super) fn put_off_pairs(&mut self, key: &Bytes, range_end: &Bytes, pin: Pin) {
        let request =
            pb::RangeRequest { key: key.clone(), range_end: range_end.clone(), ..Default::default() };
        self.put_off(request, 0, pin);
    }

    fn put_off(&mut self, request: pb::RangeRequest, header_revision: i64, pin: Pin) {
        self.parts.push_back(Part { op: self.ops - 1, request, header_revision, pin });
    }

    /// Whether there is room for these pairs: for a few, or for a single one however long it is.
    fn keeps(&mut self, kvs: &[KeyValue]) -> bool {
        let bytes: usize = kvs.iter().map(field::pair_field_len).sum();
        let fits = bytes <= self.keep_left || self.keep_left == limits::RANGE_KEPT_BYTES;
        if fits {
            self.keep_left = self.keep_left.saturating_sub(bytes);
        }
        fits
    }

    pub(super) fn delete_range(
        self,
        response: pb::DeleteRangeResponse,
    ) -> Answer<pb::DeleteRangeResponse, Box<Plan>> {
        if self.parts.is_empty() {
            return Answer::Whole(response);
        }
        Answer::Long(self.plan(Template::DeleteRange(response)))
    }

    pub(super) fn txn(self, response: pb::TxnResponse) -> Answer<pb::TxnResponse, Box<Plan>> {
        let short = self.parts.is_empty() && self.ops <= limits::TXN_ENCODED_OPS;
        if short || !self.answer_wanted {
            return Answer::Whole(response);
        }
        let ops = self.ops;
        Answer::Long(self.plan(Template::Txn(response, ops)))
    }

    fn plan(self, template: Template) -> Box<Plan> {
        Box::new(Plan {
            stage: Stage::Measure(template),
            measured: Vec::new(),
            parts: self.parts,
            current: None,
            leaving: Pairs::default(),
            keep_left: self.keep_left,
            bytes: 0,
            bytes_max: limits::SEND_MESSAGE_BYTES_MAX,
        })
    }
}

impl Plan {
    /// The answer, once [`Evaluation::step`] was true.
    pub fn finish(self) -> LongAnswer {
        match self.stage {
            Stage::Done(answer) => answer,
            Stage::Measure(_) | Stage::Assemble(_) | Stage::Moving => unreachable!("there is more to do"),
        }
    }

    /// Bytes of pairs that are kept now.
    #[cfg(test)]
    pub fn kept_bytes(&self) -> usize {
        let kept = self.measured.iter().map(|(_, evaluated)| match evaluated {
            Evaluated::Kept(response) => response.kvs.iter().map(field::pair_field_len).sum(),
            Evaluated::Long(..) => 0,
        });
        kept.sum::<usize>() + self.current.as_ref().map_or(0, |(_, range)| range.kept())
    }

    /// In place of what answers keep.
    #[cfg(test)]
    pub fn keep_at_most(&mut self, bytes: usize) {
        self.keep_left = bytes;
    }

    /// In place of what gRPC can send.
    #[cfg(test)]
    pub fn send_at_most(&mut self, bytes: usize) {
        self.bytes_max = bytes;
    }

    /// True when all parts are measured.
    fn measure(&mut self, state: &StateMachine, left: &mut usize) -> Result<bool, Error> {
        while *left > 0 {
            if let Some((op, mut range)) = self.current.take() {
                if !range.step_within(state, left)? {
                    self.current = Some((op, range));
                    return Ok(false);
                }
                self.take(op, range)?;
            } else if self.leaving.len() > 0 {
                let pairs = left.div_ceil(BUILD_COST).min(self.leaving.len());
                self.leaving.give_up(pairs);
                *left = left.saturating_sub(pairs * BUILD_COST);
            } else {
                let Some(Part { op, request, header_revision, pin }) = self.parts.pop_front() else {
                    return Ok(true);
                };
                let range = Range::pinned(&request, header_revision, pin).keep_at_most(self.keep_left);
                self.current = Some((op, range));
                *left = left.saturating_sub(BEGIN_PAIRS * BUILD_COST);
            }
        }
        Ok(false)
    }

    fn take(&mut self, op: usize, range: Range) -> Result<(), Error> {
        let kept = range.kept();
        let (evaluated, leaving) = range.finish_part();
        self.leaving = leaving;
        match &evaluated {
            Evaluated::Kept(_) => {
                self.keep_left -= kept;
                self.bytes += kept;
            }
            Evaluated::Long(measure, _) => self.bytes += measure.bytes,
        }
        if self.bytes > self.bytes_max {
            return Err(Error::AnswerTooLong(self.bytes));
        }
        self.measured.push((op, evaluated));
        Ok(())
    }
}

impl Evaluation for Plan {
    fn step(&mut self, state: &StateMachine, budget: usize) -> Result<bool, Error> {
        let mut left = budget.saturating_mul(BUILD_COST);
        if let Stage::Measure(_) = self.stage {
            if !self.measure(state, &mut left)? {
                return Ok(false);
            }
            if let Stage::Measure(template) = std::mem::replace(&mut self.stage, Stage::Moving) {
                let assembling = Assembling::new(std::mem::take(&mut self.measured));
                self.stage = match template {
                    Template::DeleteRange(response) => Stage::Done(assembling.delete_range(response)),
                    Template::Txn(response, ops) => Stage::Assemble(assembling.txn(response, ops)),
                };
            }
        }
        if let Stage::Assemble(assembling) = &mut self.stage
            && let Some(answer) = assembling.step(left.div_ceil(BUILD_COST))
        {
            self.stage = Stage::Done(answer);
        }
        Ok(matches!(self.stage, Stage::Done(_)))
    }

    fn held(&self) -> usize {
        self.leaving.len() + self.current.as_ref().map_or(0, |(_, range)| range.held())
    }

    fn takes_many(&self) -> bool {
        self.parts.iter().any(|part| sort::takes_many(&part.request))
    }
}

impl Leave for Plan {
    fn leave(self) -> Pairs {
        match self.current {
            Some((_, range)) => range.leave(),
            None => self.leaving,
        }
    }
}

/// Puts the answer together, operation by operation, from the last to the first.
struct Assembling {
    /// Those of the transactions that enclose each other, from the outermost on.
    levels: Vec<Level>,
    /// What was put off, up to the operations that are still to come.
    measured: Vec<(usize, Evaluated)>,
    /// Operations that are still to come, but for transactions.
    ops: usize,
    assembly: Assembly,
}

struct Level {
    header: Option<pb::ResponseHeader>,
    succeeded: bool,
    ops: Vec<pb::ResponseOp>,
    /// Bytes there were when it began.
    len: usize,
}

impl Assembling {
    fn new(measured: Vec<(usize, Evaluated)>) -> Self {
        Self { levels: Vec::new(), measured, ops: 0, assembly: Assembly::default() }
    }

    fn delete_range(mut self, mut response: pb::DeleteRangeResponse) -> LongAnswer {
        let header = response.header.take();
        self.ops = 1;
        self.op(Response::ResponseDeleteRange(response));
        self.assembly.finish(header)
    }

    fn txn(mut self, response: pb::TxnResponse, ops: usize) -> Self {
        self.ops = ops;
        self.enter(response);
        self
    }

    fn enter(&mut self, response: pb::TxnResponse) {
        let pb::TxnResponse { header, succeeded, responses } = response;
        self.levels.push(Level { header, succeeded, ops: responses, len: self.assembly.len() });
    }

    /// Goes on by so many operations. The answer, once there are no more.
    fn step(&mut self, budget: usize) -> Option<LongAnswer> {
        for _ in 0..budget {
            let level = self.levels.last_mut().expect("a finished answer is not stepped");
            let len = self.assembly.len();
            match level.ops.pop() {
                Some(pb::ResponseOp { response: Some(Response::ResponseTxn(nested)) }) => self.enter(nested),
                Some(pb::ResponseOp { response: Some(response) }) => {
                    let tag = self.op(response);
                    self.assembly.enclose(tag, len);
                    self.assembly.enclose(RESPONSES, len);
                }
                Some(pb::ResponseOp { response: None }) => self.assembly.enclose(RESPONSES, len),
                None => {
                    let Level { header, succeeded, len, .. } = self.levels.pop().expect("it is there");
                    self.assembly.message(&pb::TxnResponse { succeeded, ..Default::default() });
                    if self.levels.is_empty() {
                        assert_eq!((self.ops, self.measured.len()), (0, 0), "each part has its operation");
                        return Some(std::mem::take(&mut self.assembly).finish(header));
                    }
                    self.assembly.header(header);
                    self.assembly.enclose(RESPONSE_TXN, len);
                    self.assembly.enclose(RESPONSES, len);
                }
            }
        }
        None
    }

    /// The answer of the last operation still to come. Which field it is.
    fn op(&mut self, response: Response) -> u32 {
        self.ops -= 1;
        let part = self.measured.pop_if(|(op, _)| *op == self.ops).map(|(_, part)| part);
        match response {
            Response::ResponseRange(response) => {
                if let Some(part) = &part {
                    self.assembly.message(&part.tail());
                }
                self.pairs(field::KVS, part);
                self.assembly.message(&response);
                RESPONSE_RANGE
            }
            Response::ResponsePut(response) => {
                self.pairs(field::PREV_KV, part);
                self.assembly.message(&response);
                RESPONSE_PUT
            }
            Response::ResponseDeleteRange(response) => {
                self.pairs(field::PREV_KVS, part);
                self.assembly.message(&response);
                RESPONSE_DELETE_RANGE
            }
            Response::ResponseTxn(_) => unreachable!("a transaction is a level"),
        }
    }

    fn pairs(&mut self, tag: u32, part: Option<Evaluated>) {
        match part {
            None => {}
            Some(Evaluated::Kept(response)) => self.assembly.pairs(tag, &response.kvs),
            Some(Evaluated::Long(_, list)) => self.assembly.list(list.tagged(tag)),
        }
    }
}
