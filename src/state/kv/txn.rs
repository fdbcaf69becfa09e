//! `Txn`: comparisons, and the operations of the branch they choose (etcd v3.7 server/etcdserver/txn/txn.go).
//!
//! A transaction is compared, nested ones included, and checked against the state before it; only then it is
//! executed, and executing cannot fail. Each of the three goes step by step, and the last one as a write that pauses: so
//! nothing changes under any of them, and nobody sees half of it.

mod check;
mod choice;
mod choose;
mod execute;
mod walk;

use std::task::{Poll, ready};

use super::{answer::Answer, cost, plan::Plan, range::header, work::Work};
use crate::{
    pb::{etcdserverpb as pb, loggable},
    state::{
        Error, StateMachine,
        command::{Command, Context, Kind, Needs, Principal},
        lease::Leases,
        mvcc::{Store, Writing},
        outcome::{Change, Outcome},
    },
};
use check::Checking;
use choose::Choosing;
use execute::{Executing, On};
use walk::Chosen;

pub use choice::Choice;

/// How far a transaction has come.
#[derive(Default)]
pub struct Progress {
    choosing: Choosing,
    stage: Stage,
}

#[derive(Default)]
enum Stage {
    #[default]
    Choosing,
    Checking(Checking),
    Executing(Box<(Executing, Writing)>),
    Done,
}

impl Command for pb::TxnRequest {
    type Answer = Answer<pb::TxnResponse, Box<Plan>>;
    type Progress = Progress;
    const KIND: Kind = Kind::first(3);

    fn shown(&self) -> String {
        format!("txn:<{}>", loggable::txn(self))
    }

    fn needs(&self) -> Needs {
        if cost::txn(self) > 0 { Needs::Space } else { Needs::Integrity }
    }

    fn permits(&self, state: &StateMachine, who: &Principal) -> Result<(), Error> {
        Ok(state.asking(who).txn(self)?)
    }

    fn apply(
        &self,
        progress: &mut Progress,
        state: &mut StateMachine,
        context: Context<'_>,
        outcome: &mut Outcome,
    ) -> Poll<Result<Self::Answer, Error>> {
        let mut work = Work::new(context.keys, &mut outcome.visited);
        let (store, leases) = state.keys_mut();
        if !matches!(progress.stage, Stage::Executing(..)) {
            ready!(progress.prepare(self, store, leases, &mut work))?;
        }
        let (mut executing, mut write) = match std::mem::replace(&mut progress.stage, Stage::Done) {
            Stage::Executing(under_way) => {
                let (executing, writing) = *under_way;
                (executing, store.resume(writing))
            }
            _ => (Executing::new(context.answer_wanted), store.write()),
        };
        let chosen = Chosen { request: self, path: &progress.choosing.path };
        let on = &mut On::Write(&mut write, leases);
        let Some(mut response) = executing.step(chosen, on, &mut outcome.operations, &mut work) else {
            progress.stage = Stage::Executing(Box::new((executing, write.pause())));
            return Poll::Pending;
        };
        response.header = Some(header(write.revision()));
        outcome.changes.extend(write.end().map(Change::Versions));
        Poll::Ready(Ok(executing.planning.txn(response)))
    }
}

impl Progress {
    /// What comes before execution.
    fn prepare(
        &mut self,
        request: &pb::TxnRequest,
        store: &Store,
        leases: &Leases,
        work: &mut Work<'_>,
    ) -> Poll<Result<(), Error>> {
        if let Stage::Choosing = self.stage {
            if !self.choosing.step(request, &store.now(), work) {
                return Poll::Pending;
            }
            self.stage = Stage::Checking(Checking::new(store.revision().0));
        }
        let Stage::Checking(checking) = &mut self.stage else { unreachable!("it is not executed yet") };
        let chosen = Chosen { request, path: &self.choosing.path };
        match checking.step(chosen, store, leases, work)? {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }
}
