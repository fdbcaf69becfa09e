//! `Compact`: revisions below one can no longer be read.

use std::task::Poll;

use super::range::header;
use crate::{
    pb::etcdserverpb as pb,
    state::{
        Error, StateMachine,
        command::{Command, Completion, Context, Kind, Needs, Principal},
        outcome::{Change, Outcome},
    },
    types::Revision,
};

impl Command for pb::CompactionRequest {
    type Answer = pb::CompactionResponse;
    type Progress = ();
    const KIND: Kind = Kind::first(4);

    fn needs(&self) -> Needs {
        Needs::Integrity
    }

    fn completion(&self) -> Completion {
        if self.physical { Completion::Freed } else { Completion::Applied }
    }

    /// Members do it by themselves, and who else may is seen where it is admitted.
    fn permits(&self, _: &StateMachine, _: &Principal) -> Result<(), Error> {
        Ok(())
    }

    fn apply(
        &self,
        (): &mut (),
        state: &mut StateMachine,
        _: Context<'_>,
        outcome: &mut Outcome,
    ) -> Poll<Result<Self::Answer, Error>> {
        state.history_mut().compact(self.revision)?;
        outcome.changes.push(Change::Compacted(Revision(self.revision)));
        Poll::Ready(Ok(pb::CompactionResponse { header: Some(header(state.revision().0)) }))
    }
}
