//! Commands of several types, where a test draws one of them.

use bytes::Bytes;
use prost::Message;

use crate::{
    pb::etcdserverpb as pb,
    state::{
        Batch, Builder, Command, Context, Error, Operations, Outcome, Principal, StateMachine,
        kv::{Answer, Evaluation, LongAnswer, Plan},
    },
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

/// A write of which parts of the answer may be put off.
pub fn apply_long<M: Message + Default>(
    state: &mut StateMachine,
    command: &impl Command<Answer = Answer<M, Box<Plan>>>,
) -> Result<M, Error> {
    apply(state, command).map(|answer| whole(state, answer))
}

/// A transaction of ranges.
pub fn read_txn(state: &StateMachine, request: &pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
    let answer = state.read_txn(request, &mut Operations::default())?;
    Ok(whole(state, answer))
}

/// The answer with what was put off.
pub fn whole<M: Message + Default>(state: &StateMachine, answer: Answer<M, Box<Plan>>) -> M {
    match answer {
        Answer::Whole(message) => message,
        Answer::Long(plan) => {
            let mut slow = Slow::new(plan);
            while slow.step(state, 7, 100) {}
            M::decode(&slow.bytes()[..]).expect("an answer")
        }
    }
}

/// A long answer that comes step by step.
pub struct Slow {
    plan: Option<Box<Plan>>,
    answer: Option<LongAnswer>,
    len: usize,
    pieces: Vec<Bytes>,
}

impl Slow {
    pub fn new(plan: Box<Plan>) -> Self {
        Self { plan: Some(plan), answer: None, len: 0, pieces: Vec::new() }
    }

    /// False when there is no more.
    pub fn step(&mut self, state: &StateMachine, keys: usize, bytes: usize) -> bool {
        const PINNED: &str = "the state that was pinned";
        if let Some(mut plan) = self.plan.take() {
            if plan.step(state, keys).expect(PINNED) {
                let answer = plan.finish();
                self.len = answer.encoded_len();
                self.answer = Some(answer);
            } else {
                self.plan = Some(plan);
            }
            return true;
        }
        let Some(answer) = &mut self.answer else { return false };
        let more = answer.step(state, keys, bytes, &mut self.pieces).expect(PINNED);
        if !more {
            self.answer = None;
        }
        more
    }

    /// In place of what answers keep.
    pub fn keep_at_most(&mut self, bytes: usize) {
        self.plan.as_mut().expect("it was not begun").keep_at_most(bytes);
    }

    pub fn kept_bytes(&self) -> usize {
        self.plan.as_ref().map_or(0, |plan| plan.kept_bytes())
    }

    pub fn bytes(self) -> Vec<u8> {
        let bytes = self.pieces.concat();
        assert_eq!(bytes.len(), self.len, "it is as long as it was said to be");
        bytes
    }
}

impl Response {
    pub fn encode_to_vec(&self) -> Vec<u8> {
        match self {
            Self::Put(response) => response.encode_to_vec(),
            Self::DeleteRange(response) => response.encode_to_vec(),
            Self::Txn(response) => response.encode_to_vec(),
            Self::Compact(response) => response.encode_to_vec(),
        }
    }
}

/// What somebody gets who waits.
pub enum Got {
    Whole(Response),
    Slow(Slow),
}

impl Got {
    pub fn of<M>(answer: Answer<M, Box<Plan>>, response: fn(M) -> Response) -> Self {
        match answer {
            Answer::Whole(message) => Self::Whole(response(message)),
            Answer::Long(plan) => Self::Slow(Slow::new(plan)),
        }
    }
}

impl Request {
    pub fn apply(&self, state: &mut StateMachine, outcome: &mut Outcome) -> Result<Got, Error> {
        let principal = Principal::default();
        let context = Context::asked_by(&principal);
        Ok(match self {
            Self::Put(put) => Got::Whole(Response::Put(state.apply(put, context, outcome)?)),
            Self::DeleteRange(delete) => {
                Got::of(state.apply(delete, context, outcome)?, Response::DeleteRange)
            }
            Self::Txn(txn) => Got::of(state.apply(txn, context, outcome)?, Response::Txn),
            Self::Compact(compact) => Got::Whole(Response::Compact(state.apply(compact, context, outcome)?)),
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
