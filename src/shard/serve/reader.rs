//! Reads in slices on their caller's own task, and long answers on their way.

use bytes::Bytes;

use super::{handle::Shard, held::Held};
use crate::{
    limits,
    pb::etcdserverpb as pb,
    shard::Error,
    state::{
        self,
        kv::{Answer, Evaluation, LongAnswer, Plan},
    },
};

impl Shard {
    /// Evaluates a read to its end: a short one at once, a long one in slices that let writes through between them.
    /// What it shows is fixed.
    pub(super) async fn evaluate<T: Evaluation>(&self, read: T) -> Result<T, Error> {
        let mut read = Held::new(read, self);
        let mut finished = read.step(&self.state.borrow(), limits::RANGE_AT_ONCE_KEYS)?;
        while !finished {
            let _slice = self.pass().await;
            let state = self.state.borrow();
            finished = self.slice(|| read.step(&state, limits::RANGE_STEP_KEYS))?;
        }
        Ok(read.end())
    }

    /// Repeats a step for as long as a slice lasts. True once a step says that it was the last.
    pub(super) fn slice(
        &self,
        mut step: impl FnMut() -> Result<bool, state::Error>,
    ) -> Result<bool, state::Error> {
        let began = (self.clock)();
        for _ in 0..limits::RANGE_SLICE_STEPS {
            if step()? {
                return Ok(true);
            }
            if (self.clock)().since(began) >= limits::RANGE_SLICE {
                break;
            }
        }
        Ok(false)
    }

    /// Reads what an answer still needs.
    pub(super) async fn complete<M>(
        &self,
        answer: Answer<M, Box<Plan>>,
    ) -> Result<Answer<M, AnswerReader>, Error> {
        Ok(match answer {
            Answer::Whole(answer) => Answer::Whole(answer),
            Answer::Long(plan) => {
                // Boxed: rare, and every call would have to have room for it.
                let plan = Box::pin(self.evaluate(*plan)).await?;
                Answer::Long(AnswerReader::new(self, plan.finish()))
            }
        })
    }
}

/// A long answer under way. What it shows is held until it is dropped.
pub struct AnswerReader {
    shard: Shard,
    answer: Option<Box<Held<LongAnswer>>>,
}

impl AnswerReader {
    pub(super) fn new(shard: &Shard, answer: LongAnswer) -> Self {
        Self { shard: shard.clone(), answer: Some(Box::new(Held::new(answer, shard))) }
    }

    /// To be completed before the first piece.
    pub fn header_mut(&mut self) -> &mut Option<pb::ResponseHeader> {
        self.answer.as_mut().expect("nothing was taken yet").header_mut()
    }

    /// Length of the answer: of all pieces together. To be asked before the first piece.
    pub fn encoded_len(&self) -> usize {
        self.answer.as_ref().expect("nothing was taken yet").encoded_len()
    }

    /// Appends what comes next of the encoded answer, about `bytes` of it. False when that was all. After an error the
    /// answer cannot be completed.
    pub async fn next(&mut self, bytes: usize, pieces: &mut Vec<Bytes>) -> Result<bool, Error> {
        let Some(answer) = &mut self.answer else { return Ok(false) };
        let _slice = if answer.reads() { Some(self.shard.pass().await) } else { None };
        let more = answer.step(&self.shard.state.borrow(), limits::RANGE_PIECE_KEYS, bytes, pieces);
        if more != Ok(true) {
            self.answer = None;
        }
        Ok(more?)
    }
}
