//! Evaluation of one range request, whole or slice by slice (`executeRange` in etcd's etcdserver/txn/range.go).

use bytes::Bytes;

use super::{
    answer::{Answer, Assembly, Evaluation, LongAnswer},
    field,
    filter::Filter,
    list::{List, Measure},
    pairs::{Leave, Pairs},
    sort::{self, Sorter},
    validate::{has_revision_filters, in_key_order},
};
use crate::{
    pb::{
        etcdserverpb::{self as pb, range_request::SortTarget},
        mvccpb::KeyValue,
    },
    state::{
        Error, StateMachine,
        mvcc::{Counted, Pin, Pos, ReadView, Span},
    },
};

/// Work of building one pair, in units of counting one key.
pub(super) const BUILD_COST: usize = 64;
/// Work of finding a pinned state and the first key, in pairs.
pub(super) const BEGIN_PAIRS: usize = 8;

/// A range under way.
pub struct Range {
    request: pb::RangeRequest,
    header_revision: i64,
    /// Where to go on; the request's key at first.
    next_key: Vec<u8>,
    /// Pairs the response can need; 0 and below: all.
    keep_max: i64,
    /// Stop at this many keys (0: never) unless the total is asked for.
    limit: i64,
    with_total: bool,
    kvs: Vec<KeyValue>,
    /// The pairs go through it, and to `sorted` once all were seen; none: they are answered as they come.
    sorter: Option<Sorter>,
    sorted: Pairs,
    /// Every pair was seen.
    seen: bool,
    total: i64,
    /// Instead of the pairs, where there would be too many bytes of them.
    measure: Option<Measure>,
    /// The first key that the limit leaves out, where pairs are measured.
    left_out: Option<Bytes>,
    /// Bytes of pairs kept so far, and how many are too many; none: however many there are, they are kept.
    kept: usize,
    kept_max: Option<usize>,
    filter: Filter,
    /// Holds back the freeing of the revision that is read; none if all of it is done at once.
    pin: Option<Pin>,
}

impl Range {
    /// Fixes the revision: the state the answer shows is that of this moment. Without `with_total` the answer's count
    /// is of no use unless `count_only` is set.
    pub fn begin(state: &StateMachine, request: &pb::RangeRequest, with_total: bool) -> Result<Self, Error> {
        let store = state.history();
        let pin = store.pin_at(request.revision)?;
        let range = Self::new(request, store.revision().0, with_total);
        Ok(Self { pin: Some(pin), ..range })
    }

    /// A range over what was pinned, whatever revision it asks for.
    pub(super) fn pinned(request: &pb::RangeRequest, header_revision: i64, pin: Pin) -> Self {
        Self { pin: Some(pin), ..Self::new(request, header_revision, true) }
    }

    /// `header_revision` is the revision the response shows: the newest one, whatever revision is read. Without
    /// `with_total` the count ends at the limit.
    pub fn new(request: &pb::RangeRequest, header_revision: i64, with_total: bool) -> Self {
        // etcd reads one more than the limit to know about `more`, and everything if the result is filtered or sorted
        // later. The order "none" with a target other than the key counts as unsorted here, and is sorted later all
        // the same: the first keys in key order, sorted by the target (`rangeLimit`, `sortRangeResults`).
        let limit = if !in_key_order(request) || has_revision_filters(request) {
            0
        } else if request.limit > 0 {
            request.limit.saturating_add(1)
        } else {
            0
        };
        let sorter = Sorter::new(request);
        let keep_max = if limit == 0 && request.limit > 0 && sorter.is_none() {
            request.limit.saturating_add(1)
        } else {
            limit
        };
        Self {
            request: request.clone(),
            header_revision,
            next_key: Vec::new(),
            keep_max,
            limit,
            with_total: with_total || request.count_only,
            kvs: Vec::new(),
            sorter,
            sorted: Pairs::default(),
            seen: false,
            total: 0,
            measure: None,
            left_out: None,
            kept: 0,
            kept_max: None,
            filter: Filter::new(request),
            pin: None,
        }
    }

    /// With more than `bytes` of pairs, the answer is a [`LongAnswer`] and none are kept. Where pairs are sorted they
    /// are needed, and it is made of those.
    pub fn keep_at_most(mut self, bytes: usize) -> Self {
        self.kept_max = Some(bytes);
        self
    }

    /// The whole response at once.
    pub fn run(mut self, view: &ReadView<'_>) -> pb::RangeResponse {
        let mut boundless = usize::MAX;
        let finished = self.advance(view, &mut boundless);
        assert!(finished, "the budget is boundless");
        self.finish_whole()
    }

    /// Like [`Evaluation::step`], by up to `left` keys that are only counted; what it has done is subtracted.
    pub(super) fn step_within(&mut self, state: &StateMachine, left: &mut usize) -> Result<bool, Error> {
        let pin = self.pin.as_ref().expect("only what was begun with a pin goes step by step");
        let view = state.history().at_pin(pin)?;
        Ok(self.advance(&view, left))
    }

    fn advance(&mut self, view: &ReadView<'_>, left: &mut usize) -> bool {
        if !self.seen {
            self.seen = self.look(view, left);
        }
        if !self.seen || self.sorter.is_none() {
            return self.seen;
        }
        self.sort(std::mem::take(left).div_ceil(BUILD_COST))
    }

    fn sort(&mut self, budget: usize) -> bool {
        let Some(sorter) = &mut self.sorter else { return true };
        let (sorted, kept, keys_only) = (&mut self.sorted, &mut self.kept, self.request.keys_only);
        sorter.give(budget, |mut kv| {
            if keys_only {
                kv.value.clear();
            }
            *kept += field::pair_field_len(&kv);
            sorted.push(kv);
        })
    }

    fn look(&mut self, view: &ReadView<'_>, left: &mut usize) -> bool {
        let measured_from = self.kept_max.filter(|_| self.sorter.is_none());
        let key = if self.next_key.is_empty() { &self.request.key[..] } else { &self.next_key[..] };
        let mut last = None;
        let mut hits = view.scan(Span::new(key, &self.request.range_end));
        while let Some(hit) = hits.next() {
            if *left == 0
                && let Some(last) = last
            {
                self.next_key = view.record(last).key.to_vec();
                self.next_key.push(0);
                return false;
            }
            last = Some(hit.pos);
            *left = left.saturating_sub(1);
            if !hit.exists {
                continue;
            }
            let wanted =
                !self.request.count_only && (self.keep_max <= 0 || self.wanted_so_far() < self.keep_max);
            if !wanted && self.limit > 0 && !self.with_total {
                return true;
            }
            self.total += 1;
            if !wanted {
                // Nor are those to come.
                let Counted { seen, existing, last } = hits.count_on(*left);
                self.total += existing as i64;
                *left = left.saturating_sub(seen);
                let Some(last) = last else { return true };
                self.next_key = view.record(last).key.to_vec();
                self.next_key.push(0);
                return false;
            }
            *left = left.saturating_sub(BUILD_COST - 1);
            if let Some(kept_max) = measured_from {
                let record = view.record(hit.pos);
                if !self.filter.passes(&record) {
                    continue;
                }
                let len = field::field_len(&field::shown(record, self.request.keys_only));
                if let Some(measure) = &mut self.measure {
                    measure.add(len, self.request.limit);
                    if measure.more && self.left_out.is_none() {
                        self.left_out = Some(view.share(hit.pos, record.key));
                    }
                    continue;
                }
                self.kept += len;
                if self.kept > kept_max {
                    let mut measure = Measure {
                        pairs: self.kvs.len() as i64,
                        bytes: self.kept - len,
                        ..Measure::default()
                    };
                    measure.add(len, self.request.limit);
                    self.left_out = measure.more.then(|| view.share(hit.pos, record.key));
                    self.measure = Some(measure);
                    self.kvs = Vec::new();
                    continue;
                }
            }
            if let Some(kv) = self.build(view, hit.pos) {
                match &mut self.sorter {
                    Some(sorter) => sorter.take(kv),
                    None => self.kvs.push(kv),
                }
            }
        }
        true
    }

    fn wanted_so_far(&self) -> i64 {
        match (&self.measure, &self.sorter) {
            (Some(measure), _) => measure.pairs + i64::from(measure.more),
            (None, Some(sorter)) => sorter.taken() as i64,
            (None, None) => self.kvs.len() as i64,
        }
    }

    /// The answer, once [`Range::step`] was true.
    pub fn finish(mut self) -> Answer<pb::RangeResponse, LongAnswer> {
        let header = Some(header(self.header_revision));
        let measure = match self.measured() {
            Some(measure) => measure,
            None => return Answer::Whole(self.finish_whole()),
        };
        let list = match self.measure {
            Some(_) => self.stored(measure),
            None => List::kept(self.sorted, measure),
        };
        let mut assembly = Assembly::default();
        assembly.message(&tail(measure.more, measure.count));
        assembly.list(list);
        Answer::Long(assembly.finish(header))
    }

    /// The newest revision when it was begun.
    pub(super) fn header_revision(&self) -> i64 {
        self.header_revision
    }

    /// The first key that the limit left out; known where the answer was too long to be kept.
    pub(super) fn left_out(&self) -> Option<&Bytes> {
        self.left_out.as_ref()
    }

    /// The same as a part of an answer that has more of them. It keeps no pairs beyond the bound; those there are are
    /// left behind.
    pub(super) fn finish_part(mut self) -> (Evaluated, Pairs) {
        let Some(measure) = self.measured() else {
            return (Evaluated::Kept(self.finish_whole()), Pairs::default());
        };
        if self.measure.is_some() {
            return (Evaluated::Long(measure, self.stored(measure)), Pairs::default());
        }
        let pin = self.pin.take().expect("a part keeps its state");
        let again = Self::pinned(&self.request, self.header_revision, pin);
        (Evaluated::Long(measure, List::unsorted(again, measure)), self.leave())
    }

    /// What it came to, if that is more than was to be kept.
    fn measured(&self) -> Option<Measure> {
        match (&self.measure, &self.sorter) {
            (Some(measure), _) => Some(Measure { count: self.total, ..*measure }),
            // Kept bytes above the bound were measured instead, unless they had to be sorted.
            (None, Some(sorter)) if self.kept_max.is_some_and(|max| self.kept > max) => {
                let (pairs, more) = (self.sorted.len() as i64, sorter.has_more());
                Some(Measure { pairs, bytes: self.kept, more, count: self.total })
            }
            (None, _) => None,
        }
    }

    fn stored(&mut self, measure: Measure) -> List {
        let pin = self.pin.take().expect("a long answer keeps its state");
        List::stored(&self.request, measure, pin)
    }

    /// Its pairs, if it was one that sorts.
    pub(super) fn into_sorted(self) -> Pairs {
        assert!(self.sorter.is_some(), "pairs that need no order are not kept");
        self.sorted
    }

    /// Bytes of pairs kept so far.
    pub(super) fn kept(&self) -> usize {
        if self.measure.is_some() { 0 } else { self.kept }
    }

    fn finish_whole(self) -> pb::RangeResponse {
        let Self { request, header_revision, mut kvs, sorter, sorted, total, measure, .. } = self;
        assert!(measure.is_none(), "the pairs were not kept");
        let too_many = request.limit > 0 && kvs.len() as i64 > request.limit;
        if too_many {
            kvs.truncate(request.limit as usize);
        }
        let more = too_many || sorter.is_some_and(|sorter| sorter.has_more());
        kvs.extend(sorted);
        pb::RangeResponse { header: Some(header(header_revision)), kvs, more, count: total }
    }

    fn build(&self, view: &ReadView<'_>, pos: Pos) -> Option<KeyValue> {
        let request = &self.request;
        let record = view.record(pos);
        if !self.filter.passes(&record) {
            return None;
        }
        let mut kv =
            key_value(view, pos, !request.keys_only || request.sort_target == SortTarget::Value as i32);
        if request.keys_only && request.sort_target != SortTarget::Value as i32 {
            // etcd answers these from its index, which does not know the lease (`FastKeysOnly`).
            kv.lease = 0;
        }
        Some(kv)
    }
}

/// A part of an answer that was put off.
pub(super) enum Evaluated {
    Kept(pb::RangeResponse),
    Long(Measure, List),
}

impl Evaluated {
    /// What follows the pairs in the answer of a range.
    pub(super) fn tail(&self) -> pb::RangeResponse {
        match self {
            Self::Kept(response) => tail(response.more, response.count),
            Self::Long(measure, _) => tail(measure.more, measure.count),
        }
    }
}

pub(super) fn tail(more: bool, count: i64) -> pb::RangeResponse {
    pb::RangeResponse { more, count, ..pb::RangeResponse::default() }
}

impl Evaluation for Range {
    fn step(&mut self, state: &StateMachine, budget: usize) -> Result<bool, Error> {
        self.step_within(state, &mut budget.saturating_mul(BUILD_COST))
    }

    fn held(&self) -> usize {
        self.kvs.len() + self.sorted.len() + self.sorter.as_ref().map_or(0, Sorter::held)
    }

    fn takes_many(&self) -> bool {
        sort::takes_many(&self.request)
    }
}

impl Leave for Range {
    fn leave(self) -> Pairs {
        let mut pairs = self.sorted;
        if let Some(sorter) = self.sorter {
            sorter.leave(&mut pairs);
        }
        pairs.push_run(self.kvs.into_iter());
        pairs
    }
}

pub fn header(revision: i64) -> pb::ResponseHeader {
    pb::ResponseHeader { revision, ..pb::ResponseHeader::default() }
}

/// The record at `pos` as the API shows it.
pub fn key_value(view: &ReadView<'_>, pos: Pos, with_value: bool) -> KeyValue {
    let record = view.record(pos);
    KeyValue {
        key: view.share(pos, record.key),
        create_revision: record.create,
        mod_revision: record.main,
        version: record.version,
        value: if with_value { view.share(pos, record.value) } else { Default::default() },
        lease: record.lease,
    }
}
