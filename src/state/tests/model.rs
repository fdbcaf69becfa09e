//! The naive store: a list of everything that ever happened, replayed for each question.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::any::{Request, Response};
use crate::pb::{
    etcdserverpb::{
        self as pb,
        compare::{CompareResult, CompareTarget, TargetUnion},
        range_request::{SortOrder, SortTarget},
        request_op::Request as Op,
        response_op::Response as Answer,
    },
    mvccpb::KeyValue,
};
use crate::state::Error;

type State = BTreeMap<Bytes, KeyValue>;

#[derive(Clone)]
pub struct Model {
    /// Main revision, key, value (none: deleted).
    events: Vec<(i64, Bytes, Option<Bytes>)>,
    pub revision: i64,
    pub compacted: i64,
}

impl Default for Model {
    fn default() -> Self {
        Self { events: Vec::new(), revision: 1, compacted: -1 }
    }
}

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, ..Default::default() })
}

fn inside(key: &[u8], start: &[u8], end: &[u8]) -> bool {
    if end.is_empty() { key == start } else { key >= start && (end == b"\0" || key < end) }
}

impl Model {
    pub fn at(&self, revision: i64) -> State {
        let mut state = State::new();
        for (main, key, value) in self.events.iter().filter(|event| event.0 <= revision) {
            match value {
                None => {
                    state.remove(key).expect("only what exists is deleted");
                }
                Some(value) => {
                    let kv = state.entry(key.clone()).or_insert(KeyValue {
                        key: key.clone(),
                        create_revision: *main,
                        ..Default::default()
                    });
                    kv.mod_revision = *main;
                    kv.version += 1;
                    kv.value = value.clone();
                }
            }
        }
        state
    }

    pub fn apply(&mut self, request: &Request) -> Result<Response, Error> {
        let next = self.revision + 1;
        let before = self.events.len();
        let response = match request {
            Request::Put(put) => {
                self.check_put(put, &self.at(next))?;
                Response::Put(self.put(put))
            }
            Request::DeleteRange(delete) => Response::DeleteRange(self.delete(delete, before)),
            Request::Compact(compact) => {
                if compact.revision <= self.compacted {
                    return Err(Error::Compacted);
                }
                if compact.revision > self.revision {
                    return Err(Error::FutureRevision);
                }
                self.compacted = compact.revision;
                Response::Compact(pb::CompactionResponse { header: header(self.revision) })
            }
            Request::Txn(txn) => Response::Txn(self.txn(txn)?),
        };
        if self.events.len() > before {
            self.revision = next;
        }
        Ok(response)
    }

    pub fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        if request.revision > self.revision {
            return Err(Error::FutureRevision);
        }
        if request.revision > 0 && request.revision < self.compacted {
            return Err(Error::Compacted);
        }
        Ok(self.range_now(request, self.revision))
    }

    fn range_now(&self, request: &pb::RangeRequest, current: i64) -> pb::RangeResponse {
        let at = if request.revision <= 0 { current } else { request.revision };
        let mut kvs: Vec<KeyValue> = self
            .at(at)
            .into_values()
            .filter(|kv| inside(&kv.key, &request.key, &request.range_end))
            .collect();
        let count = kvs.len() as i64;
        if request.count_only {
            kvs.clear();
        }
        let order = SortOrder::try_from(request.sort_order).unwrap();
        let target = SortTarget::try_from(request.sort_target).unwrap();
        let plain = order == SortOrder::None || (target == SortTarget::Key && order == SortOrder::Ascend);
        let filters = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        if plain && filters == [0; 4] && request.limit > 0 {
            kvs.truncate(request.limit as usize + 1);
        }
        kvs.retain(|kv| filters[0] == 0 || kv.mod_revision >= filters[0]);
        kvs.retain(|kv| filters[1] == 0 || kv.mod_revision <= filters[1]);
        kvs.retain(|kv| filters[2] == 0 || kv.create_revision >= filters[2]);
        kvs.retain(|kv| filters[3] == 0 || kv.create_revision <= filters[3]);
        let number = |kv: &KeyValue| match target {
            SortTarget::Version => kv.version,
            SortTarget::Create => kv.create_revision,
            SortTarget::Mod => kv.mod_revision,
            _ => 0,
        };
        let bytes = |kv: &KeyValue| match target {
            SortTarget::Key => kv.key.clone(),
            SortTarget::Value => kv.value.clone(),
            _ => Bytes::new(),
        };
        let sign = if order == SortOrder::Descend { -1 } else { 1 };
        kvs.sort_by(|a, b| {
            let ascending = (number(a), bytes(a)).cmp(&(number(b), bytes(b)));
            if sign < 0 { ascending.reverse() } else { ascending }
        });
        let more = request.limit > 0 && kvs.len() as i64 > request.limit;
        if more {
            kvs.truncate(request.limit as usize);
        }
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        pb::RangeResponse { header: header(current), kvs, more, count }
    }

    fn check_put(&self, put: &pb::PutRequest, state: &State) -> Result<(), Error> {
        if put.lease != 0 {
            return Err(Error::LeaseNotFound);
        }
        if (put.ignore_value || put.ignore_lease) && !state.contains_key(&put.key) {
            return Err(Error::KeyNotFound);
        }
        Ok(())
    }

    fn put(&mut self, put: &pb::PutRequest) -> pb::PutResponse {
        let next = self.revision + 1;
        let prev = self.at(next).remove(&put.key);
        let value = if put.ignore_value { prev.clone().unwrap().value } else { put.value.clone() };
        self.events.push((next, put.key.clone(), Some(value)));
        pb::PutResponse { header: header(next), prev_kv: prev.filter(|_| put.prev_kv) }
    }

    fn delete(&mut self, delete: &pb::DeleteRangeRequest, before: usize) -> pb::DeleteRangeResponse {
        let next = self.revision + 1;
        let gone: Vec<KeyValue> = self
            .at(next)
            .into_values()
            .filter(|kv| inside(&kv.key, &delete.key, &delete.range_end))
            .collect();
        for kv in &gone {
            self.events.push((next, kv.key.clone(), None));
        }
        pb::DeleteRangeResponse {
            header: header(self.revision + i64::from(self.events.len() > before)),
            deleted: gone.len() as i64,
            prev_kvs: if delete.prev_kv { gone } else { Vec::new() },
        }
    }

    /// Also answers read-only transactions.
    pub fn txn(&mut self, txn: &pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        let before = self.clone();
        before.check_txn(txn, &mut Vec::new())?;
        let count = self.events.len();
        let mut response = self.execute(txn, &before, count);
        response.header = header(self.revision + i64::from(self.events.len() > count));
        Ok(response)
    }

    fn taken<'a>(&self, txn: &'a pb::TxnRequest) -> (bool, &'a [pb::RequestOp]) {
        let state = self.at(self.revision);
        let holds = |compare: &pb::Compare| {
            let kvs: Vec<&KeyValue> =
                state.values().filter(|kv| inside(&kv.key, &compare.key, &compare.range_end)).collect();
            if kvs.is_empty() {
                return compare.target != CompareTarget::Value as i32 && one(compare, &KeyValue::default());
            }
            kvs.iter().all(|kv| one(compare, kv))
        };
        if txn.compare.iter().all(holds) { (true, &txn.success) } else { (false, &txn.failure) }
    }

    fn check_txn(&self, txn: &pb::TxnRequest, deleted_from: &mut Vec<Bytes>) -> Result<(), Error> {
        for op in self.taken(txn).1 {
            match op.request.as_ref().unwrap() {
                Op::RequestRange(range) => {
                    if range.revision > self.revision {
                        return Err(Error::FutureRevision);
                    }
                    if range.revision != 0 && range.revision < self.compacted {
                        return Err(Error::Compacted);
                    }
                }
                Op::RequestPut(put) => {
                    let mut state = self.at(self.revision);
                    self.check_put(put, &state)?;
                    state.retain(|key, _| deleted_from.iter().all(|from| key < from));
                    self.check_put(put, &state)?;
                }
                Op::RequestDeleteRange(delete) => {
                    if delete.range_end == b"\0"[..] {
                        deleted_from.push(delete.key.clone());
                    }
                }
                Op::RequestTxn(txn) => self.check_txn(txn, deleted_from)?,
            }
        }
        Ok(())
    }

    fn execute(&mut self, txn: &pb::TxnRequest, before: &Model, count: usize) -> pb::TxnResponse {
        let (succeeded, ops) = before.taken(txn);
        let mut responses = Vec::new();
        for op in ops {
            let response = Some(match op.request.as_ref().unwrap() {
                Op::RequestRange(range) => {
                    let current = self.revision + i64::from(self.events.len() > count);
                    Answer::ResponseRange(self.range_now(range, current))
                }
                Op::RequestPut(put) => Answer::ResponsePut(self.put(put)),
                Op::RequestDeleteRange(delete) => Answer::ResponseDeleteRange(self.delete(delete, count)),
                Op::RequestTxn(txn) => Answer::ResponseTxn(self.execute(txn, before, count)),
            });
            responses.push(pb::ResponseOp { response });
        }
        pb::TxnResponse { header: header(0), succeeded, responses }
    }
}

fn one(compare: &pb::Compare, kv: &KeyValue) -> bool {
    let ordering = match (CompareTarget::try_from(compare.target).unwrap(), compare.target_union.clone()) {
        (CompareTarget::Version, Some(TargetUnion::Version(n))) => kv.version.cmp(&n),
        (CompareTarget::Version, _) => kv.version.cmp(&0),
        (CompareTarget::Create, Some(TargetUnion::CreateRevision(n))) => kv.create_revision.cmp(&n),
        (CompareTarget::Create, _) => kv.create_revision.cmp(&0),
        (CompareTarget::Mod, Some(TargetUnion::ModRevision(n))) => kv.mod_revision.cmp(&n),
        (CompareTarget::Mod, _) => kv.mod_revision.cmp(&0),
        (CompareTarget::Lease, Some(TargetUnion::Lease(n))) => kv.lease.cmp(&n),
        (CompareTarget::Lease, _) => kv.lease.cmp(&0),
        (CompareTarget::Value, Some(TargetUnion::Value(v))) => kv.value.cmp(&v),
        (CompareTarget::Value, _) => kv.value.cmp(&Bytes::new()),
    };
    match CompareResult::try_from(compare.result).unwrap() {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::NotEqual => ordering.is_ne(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
    }
}
