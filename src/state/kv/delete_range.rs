//! `DeleteRange` (etcd v3.7 server/etcdserver/txn/delete.go).

use super::range::{header, key_value};
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
    type Answer = pb::DeleteRangeResponse;
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
        let response = execute(&mut write, self, context.answer_wanted, &mut outcome.operations);
        outcome.changes.extend(write.end().map(Change::Versions));
        Ok(response)
    }
}

pub fn execute(
    write: &mut Write<'_>,
    request: &pb::DeleteRangeRequest,
    answer_wanted: bool,
    operations: &mut Operations,
) -> pb::DeleteRangeResponse {
    operations.deletes += 1;
    operations.ranges += u64::from(request.prev_kv);
    let span = Span::new(&request.key, &request.range_end);
    let mut prev_kvs = Vec::new();
    if request.prev_kv && answer_wanted {
        let now = write.now();
        prev_kvs =
            now.scan(span).filter(|hit| hit.exists).map(|hit| key_value(&now, hit.pos, true)).collect();
    }
    let deleted = write.delete(span);
    pb::DeleteRangeResponse { header: Some(header(write.revision())), deleted, prev_kvs }
}
