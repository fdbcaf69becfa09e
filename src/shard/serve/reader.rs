//! Reads in slices on their caller's own task, and long answers on their way.

use std::future::{pending, poll_fn};

use bytes::Bytes;

use super::{handle::Shard, held::Held, turnstile::Slice};
use crate::{
    client::{Claim, Client, Permit, Revoked},
    limits,
    pb::{etcdserverpb as pb, mvccpb::KeyValue},
    shard::Error,
    state::{
        self,
        kv::{Answer, Choice, Evaluation, LongAnswer, Plan},
    },
};

/// What a long read under way has of its client: leave to go on beside others of it, and a claim on the memory of its
/// pairs.
#[derive(Default)]
pub(super) struct Stake {
    permit: Option<Permit>,
    claim: Option<Claim>,
    /// Bytes in memory beside pairs.
    kept: usize,
}

impl Stake {
    /// For a read that may have many pairs in memory, or not.
    pub(super) async fn take(client: Option<&Client>, many: bool) -> Self {
        let Some(client) = client else { return Self::default() };
        let permit = if many { client.sort().await } else { client.read().await };
        client.taken().await;
        Self { permit: Some(permit), claim: Some(client.claim()), kept: 0 }
    }

    /// For an answer that is short as a rule, and turned out not to be.
    pub(super) fn join(&mut self, client: Option<&Client>) {
        if self.claim.is_none() {
            self.claim = client.map(Client::claim);
        }
    }

    /// So many more bytes are in memory, for as long as the answer is.
    pub(super) fn keep(&mut self, bytes: usize) -> Result<(), Error> {
        self.kept += bytes;
        self.hold(0)
    }

    /// So many pairs are in memory now; a few are nobody's business.
    fn hold(&mut self, pairs: usize) -> Result<(), Error> {
        let Some(claim) = &mut self.claim else { return Ok(()) };
        let bytes = if pairs > limits::RANGE_FEW_PAIRS { pairs * size_of::<KeyValue>() } else { 0 };
        claim.set(self.kept + bytes).map_err(|Revoked| Error::TooManyRequests)
    }
}

impl Shard {
    /// Evaluates a read to its end: a short one at once, a long one in slices that let writes through between them.
    /// What it shows is fixed.
    pub(super) async fn evaluate<T: Evaluation>(&self, read: T) -> Result<(T, Stake), Error> {
        let many = read.takes_many();
        let mut read = Held::new(read, self);
        if read.step(&self.state.borrow(), limits::RANGE_AT_ONCE_KEYS)? {
            return Ok((read.end(), Stake::default()));
        }
        let mut stake = Stake::take(self.client(), many).await;
        let mut finished = false;
        while !finished {
            let _slice = self.pass().await;
            let state = self.state.borrow();
            finished = self.slice(|| read.step(&state, limits::RANGE_STEP_KEYS))?;
            stake.hold(read.held())?;
        }
        if !many {
            stake.permit = None;
        }
        Ok((read.end(), stake))
    }

    /// Waits for a slice of reading, which a client has only once it has taken what was read before.
    pub(super) async fn pass(&self) -> Slice<'_> {
        let Some(client) = self.client() else { return self.turnstile.pass().await };
        loop {
            client.taken().await;
            let slice = self.turnstile.pass_for(client).await;
            if client.has_taken() {
                return slice;
            }
        }
    }

    /// Makes a transaction's comparisons, in slices as other reads, unless they look at more than `keys_max` keys.
    pub(super) async fn choose(&self, request: &pb::TxnRequest, keys_max: u64) -> Result<Choice, Error> {
        let mut choice = Choice::begin(&self.state.borrow(), keys_max);
        if choice.step(request, &self.state.borrow(), limits::RANGE_AT_ONCE_KEYS)? {
            return Ok(choice);
        }
        let stake = Stake::take(self.client(), false).await;
        let mut finished = false;
        while !finished {
            let _slice = self.pass().await;
            let state = self.state.borrow();
            finished = self.slice(|| choice.step(request, &state, limits::RANGE_STEP_KEYS))?;
        }
        drop(stake);
        Ok(choice)
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
                let (plan, stake) = Box::pin(self.evaluate(*plan)).await?;
                Answer::Long(AnswerReader::new(self, plan.finish(), stake))
            }
        })
    }
}

/// A long answer under way. What it shows is held until it is dropped.
pub struct AnswerReader {
    shard: Shard,
    answer: Option<Box<Held<LongAnswer>>>,
    stake: Stake,
}

impl AnswerReader {
    pub(super) fn new(shard: &Shard, answer: LongAnswer, stake: Stake) -> Self {
        Self { shard: shard.clone(), answer: Some(Box::new(Held::new(answer, shard))), stake }
    }

    /// One that keeps no pairs.
    pub(super) fn without_pairs(shard: &Shard, answer: LongAnswer) -> Self {
        Self::new(shard, answer, Stake::default())
    }

    /// Returns once what it holds in memory was taken back: nothing more can be had of it.
    pub async fn revoked(&self) {
        match &self.stake.claim {
            Some(claim) => poll_fn(|context| claim.poll_revoked(context).map(|Revoked| ())).await,
            None => pending().await,
        }
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
        let step = answer.step(&self.shard.state.borrow(), limits::RANGE_PIECE_KEYS, bytes, pieces);
        let more = self.stake.hold(answer.held()).and(step.map_err(Error::from));
        if more != Ok(true) {
            self.answer = None;
        }
        more
    }
}
