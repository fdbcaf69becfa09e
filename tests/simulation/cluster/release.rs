//! Two releases that differ by one command, which the older one does not know: how a cluster goes from the one to the other,
//! member by member.

use std::{sync::LazyLock, task::Poll};

use pinion::{
    pb::etcdserverpb as pb,
    shard::Shard,
    state::{
        COMMANDS, Command, Commands, Context, Error, Outcome, Principal, Row, StateMachine,
        command::{Kind, Needs},
    },
    types::Level,
};
use prost::Message;

pub const NEWER: Level = Level(2);

/// A put by another name.
#[derive(Clone, PartialEq, Message)]
pub struct Mark {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

impl Mark {
    fn put(&self) -> pb::PutRequest {
        pb::PutRequest {
            key: self.key.clone().into(),
            value: self.value.clone().into(),
            ..pb::PutRequest::default()
        }
    }
}

impl Command for Mark {
    type Answer = <pb::PutRequest as Command>::Answer;
    type Progress = <pb::PutRequest as Command>::Progress;

    const KIND: Kind = Kind { number: u16::MAX, level: NEWER };

    fn needs(&self) -> Needs {
        self.put().needs()
    }

    fn permits(&self, state: &StateMachine, who: &Principal) -> Result<(), Error> {
        self.put().permits(state, who)
    }

    fn apply(
        &self,
        progress: &mut Self::Progress,
        state: &mut StateMachine,
        context: Context<'_>,
        outcome: &mut Outcome,
    ) -> Poll<Result<Self::Answer, Error>> {
        self.put().apply(progress, state, context, outcome)
    }
}

/// What the newer release knows; the older one is this one.
pub fn newer() -> Commands {
    static ROWS: LazyLock<Vec<Row>> =
        LazyLock::new(|| COMMANDS.iter().copied().chain([Row::of::<Mark>()]).collect());
    Commands::new(&ROWS)
}

/// Whether the member is of the newer release.
pub fn is_newer(shard: &Shard) -> bool {
    shard.with_state(|state| state.commands().newest() == NEWER)
}
