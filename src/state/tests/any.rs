//! Commands of several types, where a test draws one of them.

use crate::{
    pb::etcdserverpb as pb,
    state::{Batch, Builder, Command, Context, Error, Outcome, Principal, StateMachine},
};

#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    Put(pb::PutRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact(pb::CompactionRequest),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    Put(pb::PutResponse),
    DeleteRange(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    Compact(pb::CompactionResponse),
}

/// Applies a command that somebody waits for.
pub fn apply<C: Command>(state: &mut StateMachine, command: &C) -> Result<C::Answer, Error> {
    state.apply(command, Context::asked_by(&Principal::default()), &mut Outcome::default())
}

impl Request {
    pub fn apply(&self, state: &mut StateMachine, outcome: &mut Outcome) -> Result<Response, Error> {
        let principal = Principal::default();
        let context = Context::asked_by(&principal);
        Ok(match self {
            Self::Put(put) => Response::Put(state.apply(put, context, outcome)?),
            Self::DeleteRange(delete) => Response::DeleteRange(state.apply(delete, context, outcome)?),
            Self::Txn(txn) => Response::Txn(state.apply(txn, context, outcome)?),
            Self::Compact(compact) => Response::Compact(state.apply(compact, context, outcome)?),
        })
    }

    /// As another member does, or a restart.
    pub fn replay(&self, state: &mut StateMachine) {
        let entry = match self {
            Self::Put(put) => Builder::single(put),
            Self::DeleteRange(delete) => Builder::single(delete),
            Self::Txn(txn) => Builder::single(txn),
            Self::Compact(compact) => Builder::single(compact),
        };
        for envelope in Batch::decode(entry).expect("a batch") {
            let envelope = envelope.expect("an envelope");
            envelope.apply(state, &mut Outcome::default()).expect("a command of this release");
        }
    }
}
