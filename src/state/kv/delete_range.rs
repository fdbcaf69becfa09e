//! `DeleteRange` (etcd v3.7 server/etcdserver/txn/delete.go).

use super::{
    answer::Answer,
    plan::{Plan, Planning},
    range::header,
};
use crate::{
    pb::etcdserverpb as pb,
    state::{
        Error, StateMachine,
        command::{Command, Context, Kind, Needs},
        mvcc::{Span, Write},
        outcome::{Change, Operations, Outcome},
    },
};

impl Command for pb::DeleteRangeRequest {
    type Answer = Answer<pb::DeleteRangeResponse, Box<Plan>>;
    const KIND: Kind = Kind::first(2);

    fn needs(&self) -> Needs {
        Needs::Integrity
    }

    fn apply(
        &self,
        state: &mut StateMachine,
        context: Context<'_>,
        outcome: &mut Outcome,
    ) -> Result<Self::Answer, Error> {
        let mut write = state.history_mut().write();
        let mut planning = Planning::new(context.answer_wanted);
        let response = execute(&mut write, self, &mut planning, &mut outcome.operations);
        outcome.changes.extend(write.end().map(Change::Versions));
        Ok(planning.delete_range(response))
    }
}

pub fn execute(
    write: &mut Write<'_>,
    request: &pb::DeleteRangeRequest,
    planning: &mut Planning,
    operations: &mut Operations,
) -> pb::DeleteRangeResponse {
    operations.deletes += 1;
    operations.ranges += u64::from(request.prev_kv);
    planning.op();
    let span = Span::new(&request.key, &request.range_end);
    let (mut prev_kvs, mut before) = (Vec::new(), None);
    if request.prev_kv && planning.answer_wanted() {
        match span {
            Span::One(_) => {
                prev_kvs.extend(planning.previous(&request.key, &write.now(), || write.pin()));
            }
            Span::From(_) | Span::Between(..) => before = Some(write.pin()),
        }
    }
    let deleted = write.delete(span, usize::MAX).count;
    if let Some(before) = before
        && deleted > 0
    {
        planning.put_off_pairs(&request.key, &request.range_end, before);
    }
    pb::DeleteRangeResponse { header: Some(header(write.revision())), deleted, prev_kvs }
}
