//! The end of nodes whose time is over, as their leader found: each by itself, with an event of its own, the first to end
//! first.

use std::task::Poll;

use prost::Message;

use super::{Action, Event, free::Freeing};
use crate::{
    limits,
    state::{
        Error, StateMachine,
        command::{Command, Context, Kind, Needs, Principal},
        outcome::Outcome,
    },
};

#[derive(Clone, PartialEq, Message)]
pub struct Expire {
    /// What ends by then.
    #[prost(sfixed64, tag = "1")]
    pub time: i64,
}

/// How far one has come.
#[derive(Default)]
pub struct Progress {
    ended: usize,
    freeing: Freeing,
}

impl Command for Expire {
    /// How many have ended. If it is [`limits::V2_EXPIRED_TOGETHER`], there may be more.
    type Answer = usize;
    type Progress = Progress;
    const KIND: Kind = Kind::first(81);

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    /// It is the member's own.
    fn permits(&self, _: &StateMachine, _: &Principal) -> Result<(), Error> {
        Ok(())
    }

    fn apply(
        &self,
        progress: &mut Progress,
        state: &mut StateMachine,
        context: Context<'_>,
        outcome: &mut Outcome,
    ) -> Poll<Result<usize, Error>> {
        let tree = state.v2_mut();
        let until = outcome.visited.saturating_add(context.keys.max(1) as u64);
        loop {
            let left = until.saturating_sub(outcome.visited).max(1) as usize;
            let (freed, is_done) = tree.free(&mut progress.freeing, left);
            outcome.visited += freed as u64;
            if !is_done {
                return Poll::Pending;
            }
            let over = tree.ending.first().filter(|(expires, _)| *expires <= self.time);
            let Some((_, id)) = over.copied().filter(|_| progress.ended < limits::V2_EXPIRED_TOGETHER) else {
                return Poll::Ready(Ok(progress.ended));
            };
            if outcome.visited >= until {
                return Poll::Pending;
            }
            let event = tree.ended(id, Event::of(Action::Expire), self.time, &mut progress.freeing);
            outcome.events.push(event);
            tree.counts.expired += 1;
            outcome.visited += 1;
            progress.ended += 1;
        }
    }
}
