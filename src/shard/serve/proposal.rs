//! A command on its way through the log, and its caller: what is applied and what is answered are of one type, of which
//! the loop knows nothing.

use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use crate::{
    shard::{Error, reply::Slot},
    state::{self, Applied, Asked, BatchError, Command, Outcome, StateMachine, batch::Envelope},
};

/// The loop's end. Dropped without a word, it tells the caller so.
pub struct Proposal(Rc<dyn Exchanging>);

/// The caller's end. Dropped early, nobody wants the answer any more.
pub struct Answer<C: Command>(Rc<Exchange<C>>);

/// Both ends share it: one allocation for each command.
struct Exchange<C: Command>(Slot<Result<C::Answer, Error>>);

trait Exchanging {
    fn apply(
        self: Rc<Self>,
        envelope: Envelope,
        state: &mut StateMachine,
        keys: usize,
        outcome: &mut Outcome,
    ) -> Result<Applied, BatchError>;
    fn release(&self);
    fn refuse(&self, error: Error);
    fn close(&self);
}

/// Both ends for a command.
pub fn proposal<C: Command>() -> (Proposal, Answer<C>) {
    let exchange = Rc::new(Exchange::<C>(Slot::default()));
    (Proposal(exchange.clone()), Answer(exchange))
}

impl Proposal {
    /// The first step of the command, which is the one the envelope holds; about `keys` keys. The answer is kept until
    /// [`Proposal::answer`], which is due when the completion says so.
    pub fn apply(
        &self,
        envelope: Envelope,
        state: &mut StateMachine,
        keys: usize,
        outcome: &mut Outcome,
    ) -> Result<Applied, BatchError> {
        self.0.clone().apply(envelope, state, keys, outcome)
    }

    /// Gives the caller what the command came to.
    pub fn answer(self) {
        self.0.release();
    }

    pub fn refuse(self, error: Error) {
        self.0.refuse(error);
    }

    /// Whether somebody still waits for it.
    pub fn is_awaited(&self) -> bool {
        Rc::strong_count(&self.0) > 1
    }
}

impl Drop for Proposal {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<C: Command> Exchanging for Exchange<C> {
    fn apply(
        self: Rc<Self>,
        envelope: Envelope,
        state: &mut StateMachine,
        keys: usize,
        outcome: &mut Outcome,
    ) -> Result<Applied, BatchError> {
        assert_eq!(state.row(&envelope)?.kind, C::KIND, "a number of this run stands for one command");
        let Envelope { principal, body, .. } = envelope;
        // Besides the proposal and this call there is the caller.
        let answer_wanted = Rc::strong_count(&self) > 2;
        let hold = move |answer: Result<C::Answer, state::Error>| self.0.hold(answer.map_err(Error::from));
        Ok(Asked::new(C::decode(body)?, principal, answer_wanted, hold).apply(state, keys, outcome))
    }

    fn release(&self) {
        self.0.release();
    }

    fn refuse(&self, error: Error) {
        self.0.put(Err(error));
    }

    fn close(&self) {
        self.0.close();
    }
}

impl<C: Command> Future for Answer<C> {
    /// `None` if the loop ended.
    type Output = Option<Result<C::Answer, Error>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.0.poll(context)
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;
    use crate::{
        pb::etcdserverpb as pb,
        state::{Batch, Builder, Completion},
    };

    fn envelope(command: &impl Command) -> Envelope {
        let mut batch = Batch::decode(Builder::single(command)).unwrap();
        batch.next().unwrap().unwrap()
    }

    fn apply(
        proposal: &Proposal,
        command: &impl Command,
        state: &mut StateMachine,
        outcome: &mut Outcome,
    ) -> Completion {
        match proposal.apply(envelope(command), state, usize::MAX, outcome) {
            Ok(Applied::Done(completion)) => completion,
            _ => panic!("it is done at once"),
        }
    }

    #[test]
    fn an_answer_comes_when_it_is_released() {
        let (mut state, mut outcome) = (StateMachine::new(), Outcome::default());
        let (proposal, mut answer) = proposal::<pb::CompactionRequest>();
        let compact = pb::CompactionRequest { revision: 1, physical: true };
        let completion = apply(&proposal, &compact, &mut state, &mut outcome);
        assert_eq!(completion, Completion::Freed);
        assert!(block_on(poll_once(&mut answer)).is_none());
        proposal.answer();
        assert!(matches!(block_on(answer), Some(Ok(pb::CompactionResponse { .. }))));
    }

    #[test]
    fn a_refusal_is_an_answer_that_waits_for_nothing() {
        let (mut state, mut outcome) = (StateMachine::new(), Outcome::default());
        let (proposal, answer) = proposal::<pb::CompactionRequest>();
        let compact = pb::CompactionRequest { revision: 7, physical: true };
        let completion = apply(&proposal, &compact, &mut state, &mut outcome);
        assert_eq!(completion, Completion::Applied, "nothing is to be freed");
        proposal.answer();
        let refused = block_on(answer).expect("told").expect_err("there is no revision 7");
        assert_eq!(refused, Error::Apply(crate::state::Error::FutureRevision));
        assert_eq!(outcome, Outcome::default());
    }

    #[test]
    fn what_nobody_waits_for_is_applied_all_the_same() {
        let (mut state, mut outcome) = (StateMachine::new(), Outcome::default());
        let (proposal, answer) = proposal::<pb::PutRequest>();
        drop(answer);
        let put = pb::PutRequest { key: "k".into(), prev_kv: true, ..Default::default() };
        apply(&proposal, &put, &mut state, &mut outcome);
        assert_eq!((state.revision().0, outcome.operations.puts), (2, 1));
    }

    #[test]
    fn a_dropped_proposal_is_noticed() {
        let (proposal, answer) = proposal::<pb::PutRequest>();
        drop(proposal);
        assert!(block_on(answer).is_none());
    }
}
