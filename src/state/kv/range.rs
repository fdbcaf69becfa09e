//! Evaluation of one range request, whole or slice by slice (`executeRange` in etcd's etcdserver/txn/range.go).

use super::{
    filter::Filter,
    list::{self, List, Measure, RangeAnswer},
    pairs::{Leave, Pairs},
    sort::Sorter,
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
    types::Revision,
};

/// Work of building one pair, in units of counting one key.
const BUILD_COST: usize = 64;

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
        store.at(request.revision)?;
        let read = if request.revision > 0 { Revision(request.revision) } else { store.revision() };
        let range = Self::new(request, store.revision().0, with_total);
        Ok(Self { pin: Some(store.pin(read)), ..range })
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
            kept: 0,
            kept_max: None,
            filter: Filter::new(request),
            pin: None,
        }
    }

    /// With more than `bytes` of pairs, the answer is a [`List`] and none are kept. Where pairs are sorted they are
    /// needed, and the list is of those.
    pub fn keep_at_most(mut self, bytes: usize) -> Self {
        self.kept_max = Some(bytes);
        self
    }

    /// The whole response at once.
    pub fn run(mut self, view: &ReadView<'_>) -> pb::RangeResponse {
        let finished = self.advance(view, usize::MAX / BUILD_COST);
        assert!(finished, "the budget is boundless");
        self.finish_whole()
    }

    /// Goes on by about `budget` pairs, or many times as many keys that are only counted. True when nothing is left to
    /// do.
    pub fn step(&mut self, state: &StateMachine, budget: usize) -> Result<bool, Error> {
        let pin = self.pin.as_ref().expect("only what was begun with a pin goes step by step");
        let view = state.history().at_pin(pin)?;
        Ok(self.advance(&view, budget))
    }

    fn advance(&mut self, view: &ReadView<'_>, budget: usize) -> bool {
        if !self.seen {
            self.seen = self.look(view, budget);
        }
        self.seen && self.sort(budget)
    }

    fn sort(&mut self, budget: usize) -> bool {
        let Some(sorter) = &mut self.sorter else { return true };
        let (sorted, kept, keys_only) = (&mut self.sorted, &mut self.kept, self.request.keys_only);
        sorter.give(budget, |mut kv| {
            if keys_only {
                kv.value.clear();
            }
            *kept += list::pair_field_len(&kv);
            sorted.push(kv);
        })
    }

    fn look(&mut self, view: &ReadView<'_>, budget: usize) -> bool {
        let mut left = budget * BUILD_COST;
        let measured_from = self.kept_max.filter(|_| self.sorter.is_none());
        let key = if self.next_key.is_empty() { &self.request.key[..] } else { &self.next_key[..] };
        let mut last = None;
        let mut hits = view.scan(Span::new(key, &self.request.range_end));
        while let Some(hit) = hits.next() {
            if left == 0
                && let Some(last) = last
            {
                self.next_key = view.record(last).key.to_vec();
                self.next_key.push(0);
                return false;
            }
            last = Some(hit.pos);
            left = left.saturating_sub(1);
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
                let Counted { existing, last } = hits.count_on(left);
                self.total += existing as i64;
                let Some(last) = last else { return true };
                self.next_key = view.record(last).key.to_vec();
                self.next_key.push(0);
                return false;
            }
            left = left.saturating_sub(BUILD_COST - 1);
            if let Some(kept_max) = measured_from {
                let record = view.record(hit.pos);
                if !self.filter.passes(&record) {
                    continue;
                }
                let len = list::field_len(&list::shown(record, self.request.keys_only));
                if let Some(measure) = &mut self.measure {
                    measure.add(len, self.request.limit);
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
    pub fn finish(mut self) -> RangeAnswer<List> {
        let header = header(self.header_revision);
        if let Some(measure) = self.measure.take() {
            let measure = Measure { count: self.total, ..measure };
            let pin = self.pin.take().expect("a long answer keeps the revision");
            return RangeAnswer::Long(List::new(&self.request, header, measure, pin));
        }
        match &self.sorter {
            // Kept bytes above the bound were measured instead, unless they had to be sorted.
            Some(sorter) if self.kept_max.is_some_and(|max| self.kept > max) => {
                let (pairs, more) = (self.sorted.len() as i64, sorter.has_more());
                let measure = Measure { pairs, bytes: self.kept, more, count: self.total };
                RangeAnswer::Long(List::of(header, measure, self.sorted))
            }
            _ => RangeAnswer::Whole(self.finish_whole()),
        }
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
