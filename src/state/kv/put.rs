//! `Put` (etcd v3.7 server/etcdserver/txn/put.go).

use std::task::Poll;

use super::{
    plan::Planning,
    range::{header, key_value},
    work::Work,
};
use crate::{
    pb::{etcdserverpb as pb, loggable},
    state::{
        Error, StateMachine,
        command::{Command, Context, Kind, Needs, Principal},
        lease::Leases,
        mvcc::{ReadView, Write},
        outcome::{Change, Operations, Outcome},
    },
};

impl Command for pb::PutRequest {
    type Answer = pb::PutResponse;
    type Progress = ();
    const KIND: Kind = Kind::first(1);

    fn shown(&self) -> String {
        format!("put:<{}>", loggable::put(self))
    }

    fn needs(&self) -> Needs {
        Needs::Space
    }

    fn permits(&self, state: &StateMachine, who: &Principal) -> Result<(), Error> {
        Ok(state.asking(who).put(self)?)
    }

    fn apply(
        &self,
        (): &mut (),
        state: &mut StateMachine,
        context: Context<'_>,
        outcome: &mut Outcome,
    ) -> Poll<Result<Self::Answer, Error>> {
        let (history, leases) = state.keys_mut();
        check(&history.now(), leases, self)?;
        Work::new(context.keys, &mut outcome.visited).spend_bytes(self.value.len());
        let mut write = history.write();
        let mut planning = Planning::new(context.answer_wanted);
        let response = execute(&mut write, leases, self, &mut planning, &mut outcome.operations);
        outcome.changes.extend(write.end().map(Change::Versions));
        Poll::Ready(Ok(response))
    }
}

/// Refuses what could not be executed.
pub fn check(state: &ReadView<'_>, leases: &Leases, request: &pb::PutRequest) -> Result<(), Error> {
    check_lease(leases, request.lease)?;
    if !request.ignore_value && !request.ignore_lease {
        return Ok(());
    }
    let pos = state.find(&request.key).ok_or(Error::KeyNotFound)?;
    if request.ignore_lease {
        // A backup may hold keys of leases that it does not hold. etcd stops with a panic here.
        check_lease(leases, state.record(pos).lease)?;
    }
    Ok(())
}

fn check_lease(leases: &Leases, lease: i64) -> Result<(), Error> {
    if lease == 0 || leases.contains(lease) { Ok(()) } else { Err(Error::LeaseNotFound) }
}

/// A put that was checked.
pub fn execute(
    write: &mut Write<'_>,
    leases: &mut Leases,
    request: &pb::PutRequest,
    planning: &mut Planning,
    operations: &mut Operations,
) -> pb::PutResponse {
    let keeps = request.ignore_value || request.ignore_lease;
    operations.puts += 1;
    operations.put_bytes += (request.key.len() + request.value.len()) as u64;
    operations.ranges += u64::from(request.prev_kv || keeps);
    planning.op();
    let mut prev_kv = None;
    if request.prev_kv && planning.answer_wanted() {
        prev_kv = planning.previous(&request.key, &write.now(), || write.pin());
    }
    let kept = keeps.then(|| {
        let now = write.now();
        let pos = now.find(&request.key);
        key_value(&now, pos.expect("a put that keeps something was checked to have a predecessor"), true)
    });
    let (mut value, mut lease) = (&request.value, request.lease);
    if let Some(kept) = &kept {
        if request.ignore_value {
            value = &kept.value;
        }
        if request.ignore_lease {
            lease = kept.lease;
        }
    }
    let before = write.put(&request.key, value, lease);
    leases.attach(before, lease, &request.key);
    pb::PutResponse { header: Some(header(write.next_revision())), prev_kv }
}
