//! `DeleteRange` (etcd v3.7 server/etcdserver/txn/delete.go).

use std::task::Poll;

use super::{
    answer::Answer,
    plan::{Plan, Planning},
    range::header,
    work::Work,
};
use crate::{
    pb::{etcdserverpb as pb, loggable, mvccpb::KeyValue},
    state::{
        Error, StateMachine,
        command::{Command, Context, Kind, Needs, Principal},
        lease::Leases,
        mvcc::{Pin, Span, Write, Writing},
        outcome::{Change, Operations, Outcome},
    },
};

/// How far a command has come, once it was begun.
#[derive(Default)]
pub struct Progress(Option<(Deletion, Planning, Writing)>);

impl Command for pb::DeleteRangeRequest {
    type Answer = Answer<pb::DeleteRangeResponse, Box<Plan>>;
    type Progress = Progress;
    const KIND: Kind = Kind::first(2);

    fn shown(&self) -> String {
        format!("delete_range:<{}>", loggable::delete_range(self))
    }

    fn needs(&self) -> Needs {
        Needs::Integrity
    }

    fn permits(&self, state: &StateMachine, who: &Principal) -> Result<(), Error> {
        Ok(state.asking(who).delete_range(self)?)
    }

    fn apply(
        &self,
        progress: &mut Progress,
        state: &mut StateMachine,
        context: Context<'_>,
        outcome: &mut Outcome,
    ) -> Poll<Result<Self::Answer, Error>> {
        let (store, leases) = state.keys_mut();
        let (mut deletion, mut planning, mut write) = match progress.0.take() {
            Some((deletion, planning, writing)) => (deletion, planning, store.resume(writing)),
            None => (Deletion::default(), Planning::new(context.answer_wanted), store.write()),
        };
        let mut work = Work::new(context.keys, &mut outcome.visited);
        if !deletion.step(&mut write, leases, self, &mut planning, &mut work) {
            progress.0 = Some((deletion, planning, write.pause()));
            return Poll::Pending;
        }
        let response = deletion.finish(&write, self, &mut planning, &mut outcome.operations);
        outcome.changes.extend(write.end().map(Change::Versions));
        Poll::Ready(Ok(planning.delete_range(response)))
    }
}

/// A deletion under way.
#[derive(Default)]
pub struct Deletion {
    begun: bool,
    /// The key to go on with.
    next: Option<Vec<u8>>,
    deleted: i64,
    /// What was there before, as far as it is wanted: one pair, or the state that has them.
    prev_kv: Option<KeyValue>,
    before: Option<Pin>,
}

impl Deletion {
    /// Goes on. True when nothing is left to delete.
    pub fn step(
        &mut self,
        write: &mut Write<'_>,
        leases: &mut Leases,
        request: &pb::DeleteRangeRequest,
        planning: &mut Planning,
        work: &mut Work<'_>,
    ) -> bool {
        if work.is_over() {
            return false;
        }
        let span = Span::new(self.next.as_deref().unwrap_or(&request.key), &request.range_end);
        if !std::mem::replace(&mut self.begun, true) {
            planning.op();
            if request.prev_kv && planning.answer_wanted() {
                match span {
                    Span::One(_) => {
                        self.prev_kv = planning.previous(&request.key, &write.now(), || write.pin());
                    }
                    Span::From(_) | Span::Between(..) => self.before = Some(write.pin()),
                }
            }
        }
        let deleted = write.delete(span, work.left());
        work.spend(deleted.seen.max(1));
        self.deleted += deleted.count;
        for (lease, key) in &deleted.leased {
            leases.attach(*lease, 0, key);
        }
        self.next = deleted.next;
        self.next.is_none()
    }

    /// The answer once it is done.
    pub fn finish(
        self,
        write: &Write<'_>,
        request: &pb::DeleteRangeRequest,
        planning: &mut Planning,
        operations: &mut Operations,
    ) -> pb::DeleteRangeResponse {
        operations.deletes += 1;
        operations.ranges += u64::from(request.prev_kv);
        let Self { deleted, prev_kv, before, .. } = self;
        if let Some(before) = before
            && deleted > 0
        {
            planning.put_off_pairs(&request.key, &request.range_end, before);
        }
        let prev_kvs = prev_kv.into_iter().collect();
        pb::DeleteRangeResponse { header: Some(header(write.revision())), deleted, prev_kvs }
    }
}
