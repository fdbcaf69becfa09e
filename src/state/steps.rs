//! Commands step by step: what was begun and is not done yet.
//!
//! Whoever applies the log says how many keys a step may look at. Most commands are done in one, and cost nothing for
//! it; what is left of the others is kept until the next step. Meanwhile the state is as it was before the command.

use std::task::{Poll, ready};

use super::{
    Error, StateMachine,
    command::{Command, Completion, Context, Principal},
    outcome::Outcome,
};

/// How far a command has come.
pub struct Steps<C: Command> {
    progress: C::Progress,
    /// Operations that were counted before it, once it was begun.
    counted: Option<u64>,
}

impl<C: Command> Default for Steps<C> {
    fn default() -> Self {
        Self { progress: C::Progress::default(), counted: None }
    }
}

impl StateMachine {
    /// Applies a committed command as a whole. An error changes nothing.
    pub fn apply<C: Command>(
        &mut self,
        command: &C,
        context: Context<'_>,
        outcome: &mut Outcome,
    ) -> Result<C::Answer, Error> {
        let mut steps = Steps::default();
        loop {
            if let Poll::Ready(answer) = self.step(command, &mut steps, context, outcome) {
                return answer;
            }
        }
    }

    /// Goes on with a command, or begins it. No other is applied before it is done.
    pub fn step<C: Command>(
        &mut self,
        command: &C,
        steps: &mut Steps<C>,
        context: Context<'_>,
        outcome: &mut Outcome,
    ) -> Poll<Result<C::Answer, Error>> {
        let counted = match steps.counted {
            Some(counted) => counted,
            None => {
                self.permits(context.principal, command)?;
                *steps.counted.insert(outcome.operations.count())
            }
        };
        let answer = ready!(command.apply(&mut steps.progress, self, context, outcome))?;
        outcome.operations.txns += u64::from(outcome.operations.count() > counted + 1);
        Poll::Ready(Ok(answer))
    }
}

/// What became of a command in its first step.
pub enum Applied {
    Done(Completion),
    Partly(Box<dyn Unfinished>),
}

/// A command that is not done yet. It must not be dropped before, except with the state.
pub trait Unfinished {
    /// Goes on by about `keys` keys; when its caller is to be answered, once it is done.
    fn step(&mut self, state: &mut StateMachine, keys: usize, outcome: &mut Outcome) -> Option<Completion>;
    /// As a log line shows it.
    fn shown(&self) -> String;
}

/// A command, who asked for it, and what becomes of its answer.
pub struct Asked<C: Command, T> {
    command: C,
    principal: Principal,
    answer_wanted: bool,
    tell: Option<T>,
    steps: Steps<C>,
}

impl<C: Command, T: FnOnce(Result<C::Answer, Error>) + 'static> Asked<C, T> {
    pub fn new(command: C, principal: Principal, answer_wanted: bool, tell: T) -> Self {
        Self { command, principal, answer_wanted, tell: Some(tell), steps: Steps::default() }
    }

    /// The first step, of about `keys` keys.
    pub fn apply(mut self, state: &mut StateMachine, keys: usize, outcome: &mut Outcome) -> Applied {
        match self.step(state, keys, outcome) {
            Some(completion) => Applied::Done(completion),
            None => Applied::Partly(Box::new(self)),
        }
    }
}

impl<C: Command, T: FnOnce(Result<C::Answer, Error>)> Unfinished for Asked<C, T> {
    fn step(&mut self, state: &mut StateMachine, keys: usize, outcome: &mut Outcome) -> Option<Completion> {
        let Self { command, principal, answer_wanted, tell, steps } = self;
        let context = Context { principal, answer_wanted: *answer_wanted, keys };
        let Poll::Ready(answer) = state.step(command, steps, context, outcome) else { return None };
        let completion = if answer.is_ok() { command.completion() } else { Completion::Applied };
        tell.take().expect("a command is done once")(answer);
        Some(completion)
    }

    fn shown(&self) -> String {
        self.command.shown()
    }
}
