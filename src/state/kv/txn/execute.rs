//! Execution along the branches chosen. It cannot fail any more.

use std::task::Poll;

use super::walk::{Chosen, Met, Place, Walk};
use crate::{
    pb::etcdserverpb::{self as pb, request_op::Request as Op, response_op::Response},
    state::{
        kv::{delete_range::Deletion, plan::Planning, put, range::header, work::Work},
        lease::Leases,
        mvcc::{Pin, Store, Write},
        outcome::Operations,
    },
};

/// What a transaction is executed on.
pub enum On<'a, 'w> {
    /// The state that is pinned, which was the newest one, and its revision.
    Read {
        store: &'a Store,
        now: &'a Pin,
        revision: i64,
    },
    Write(&'a mut Write<'w>, &'a mut Leases),
}

/// The execution under way.
pub struct Executing {
    pub planning: Planning,
    place: Option<Place>,
    /// Of the operation met last.
    deletion: Option<Deletion>,
    /// Of the transaction that was entered last, and of those around it.
    response: pb::TxnResponse,
    around: Vec<pb::TxnResponse>,
}

impl Executing {
    pub fn new(answer_wanted: bool) -> Self {
        Self {
            planning: Planning::new(answer_wanted),
            place: None,
            deletion: None,
            response: pb::TxnResponse::default(),
            around: Vec::new(),
        }
    }

    /// Goes on; the response when all is done.
    pub fn step(
        &mut self,
        chosen: Chosen<'_>,
        on: &mut On<'_, '_>,
        operations: &mut Operations,
        work: &mut Work<'_>,
    ) -> Option<pb::TxnResponse> {
        let place = self.place.take();
        let mut walk = chosen.walk(place.as_ref());
        if place.is_none() {
            self.response = self.begin(chosen.path[0], &walk);
        }
        loop {
            if work.is_over() {
                self.place = Some(walk.place());
                return None;
            }
            let response = match walk.next() {
                Some(Met::Op(op)) => match self.op(op, on, operations, work) {
                    Poll::Ready(response) => response,
                    Poll::Pending => {
                        walk.step_back();
                        continue;
                    }
                },
                Some(Met::Nested(nested)) => {
                    work.spend(1);
                    let succeeded = chosen.enter(&mut walk, nested);
                    let response = self.begin(succeeded, &walk);
                    self.around.push(std::mem::replace(&mut self.response, response));
                    continue;
                }
                Some(Met::Left) => {
                    let around = self.around.pop().expect("what is left was entered");
                    Some(Response::ResponseTxn(std::mem::replace(&mut self.response, around)))
                }
                Some(Met::Nothing) => None,
                None => return Some(std::mem::take(&mut self.response)),
            };
            if self.planning.answer_wanted() {
                self.response.responses.push(pb::ResponseOp { response });
            }
        }
    }

    /// The response of the transaction just entered. Only the outermost one gets a revision; nested ones keep an empty
    /// header.
    fn begin(&self, succeeded: bool, walk: &Walk<'_>) -> pb::TxnResponse {
        let responses = Vec::with_capacity(if self.planning.answer_wanted() { walk.len() } else { 0 });
        pb::TxnResponse { header: Some(header(0)), succeeded, responses }
    }

    /// Pending if there is more of the operation to do.
    fn op(
        &mut self,
        op: &Op,
        on: &mut On<'_, '_>,
        operations: &mut Operations,
        work: &mut Work<'_>,
    ) -> Poll<Option<Response>> {
        let planning = &mut self.planning;
        Poll::Ready(match op {
            Op::RequestRange(request) => {
                work.spend(1);
                operations.ranges += 1;
                range(request, on, planning).map(Response::ResponseRange)
            }
            Op::RequestPut(request) => {
                work.spend_bytes(request.value.len());
                let (write, leases) = on.write();
                Some(Response::ResponsePut(put::execute(write, leases, request, planning, operations)))
            }
            Op::RequestDeleteRange(request) => {
                let deletion = self.deletion.get_or_insert_default();
                let (write, leases) = on.write();
                if !deletion.step(write, leases, request, planning, work) {
                    return Poll::Pending;
                }
                let deletion = self.deletion.take().expect("it is under way");
                let response = deletion.finish(write, request, planning, operations);
                Some(Response::ResponseDeleteRange(response))
            }
            Op::RequestTxn(_) => unreachable!("a nested transaction is no operation of its own"),
        })
    }
}

impl<'w> On<'_, 'w> {
    fn write(&mut self) -> (&mut Write<'w>, &mut Leases) {
        match self {
            On::Write(write, leases) => (write, leases),
            On::Read { .. } => unreachable!("a read-only transaction has only ranges"),
        }
    }
}

/// None if nobody wants to know: a range has no effect.
fn range(request: &pb::RangeRequest, on: &On<'_, '_>, planning: &mut Planning) -> Option<pb::RangeResponse> {
    const CHECKED: &str = "the revision was checked before the transaction";
    planning.op();
    if !planning.answer_wanted() {
        return None;
    }
    let read = request.revision;
    match on {
        On::Read { store, now, revision } if read <= 0 => {
            let view = store.at_pin(now).expect(CHECKED);
            planning.range(request, *revision, &view, || store.pin_again(now).expect(CHECKED))
        }
        On::Read { store, revision, .. } => {
            let view = store.at(read).expect(CHECKED);
            planning.range(request, *revision, &view, || store.pin_at(read).expect(CHECKED))
        }
        On::Write(write, _) => {
            let view = write.at(read).expect(CHECKED);
            planning.range(request, write.revision(), &view, || write.pin_at(read).expect(CHECKED))
        }
    }
}
