//! A command on its way through the log, and its caller: what is applied and what is answered are of one type, of which
//! the loop knows nothing.

use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context as Waiting, Poll},
};

use crate::{
    shard::{Error, reply::Slot},
    state::{BatchError, Command, Completion, Context, Outcome, StateMachine, batch::Envelope},
};

/// The loop's end. Dropped without a word, it tells the caller so.
pub struct Proposal(Rc<dyn Asked>);

/// The caller's end. Dropped early, nobody wants the answer any more.
pub struct Answer<C: Command>(Rc<Exchange<C>>);

/// Both ends share it: one allocation for each command.
struct Exchange<C: Command>(Slot<Result<C::Answer, Error>>);

trait Asked {
    fn apply(
        &self,
        envelope: Envelope,
        answer_wanted: bool,
        state: &mut StateMachine,
        outcome: &mut Outcome,
    ) -> Result<Completion, BatchError>;
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
    /// Applies the command, which is the one the envelope holds, and keeps the answer until [`Proposal::answer`], which
    /// is due when the completion says so.
    pub fn apply(
        &self,
        envelope: Envelope,
        state: &mut StateMachine,
        outcome: &mut Outcome,
    ) -> Result<Completion, BatchError> {
        self.0.apply(envelope, Rc::strong_count(&self.0) > 1, state, outcome)
    }

    /// Gives the caller what the command came to.
    pub fn answer(self) {
        self.0.release();
    }

    pub fn refuse(self, error: Error) {
        self.0.refuse(error);
    }
}

impl Drop for Proposal {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<C: Command> Asked for Exchange<C> {
    fn apply(
        &self,
        envelope: Envelope,
        answer_wanted: bool,
        state: &mut StateMachine,
        outcome: &mut Outcome,
    ) -> Result<Completion, BatchError> {
        assert_eq!(envelope.row()?.kind, C::KIND, "a number of this run stands for one command");
        let command = C::decode(envelope.body)?;
        let context = Context { principal: &envelope.principal, answer_wanted };
        let answer = state.apply(&command, context, outcome);
        let completion = if answer.is_ok() { command.completion() } else { Completion::Applied };
        self.0.hold(answer.map_err(Error::from));
        Ok(completion)
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

    fn poll(self: Pin<&mut Self>, context: &mut Waiting<'_>) -> Poll<Self::Output> {
        self.0.0.poll(context)
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;
    use crate::{
        pb::etcdserverpb as pb,
        state::{Batch, Builder},
    };

    fn envelope(command: &impl Command) -> Envelope {
        let mut batch = Batch::decode(Builder::single(command)).unwrap();
        batch.next().unwrap().unwrap()
    }

    #[test]
    fn an_answer_comes_when_it_is_released() {
        let (mut state, mut outcome) = (StateMachine::new(), Outcome::default());
        let (proposal, mut answer) = proposal::<pb::CompactionRequest>();
        let compact = pb::CompactionRequest { revision: 1, physical: true };
        let completion = proposal.apply(envelope(&compact), &mut state, &mut outcome);
        assert_eq!(completion, Ok(Completion::Freed));
        assert!(block_on(poll_once(&mut answer)).is_none());
        proposal.answer();
        assert!(matches!(block_on(answer), Some(Ok(pb::CompactionResponse { .. }))));
    }

    #[test]
    fn a_refusal_is_an_answer_that_waits_for_nothing() {
        let (mut state, mut outcome) = (StateMachine::new(), Outcome::default());
        let (proposal, answer) = proposal::<pb::CompactionRequest>();
        let compact = pb::CompactionRequest { revision: 7, physical: true };
        assert_eq!(
            proposal.apply(envelope(&compact), &mut state, &mut outcome),
            Ok(Completion::Applied),
            "nothing is to be freed"
        );
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
        proposal.apply(envelope(&put), &mut state, &mut outcome).unwrap();
        assert_eq!((state.revision().0, outcome.operations.puts), (2, 1));
    }

    #[test]
    fn a_dropped_proposal_is_noticed() {
        let (proposal, answer) = proposal::<pb::PutRequest>();
        drop(proposal);
        assert!(block_on(answer).is_none());
    }
}
