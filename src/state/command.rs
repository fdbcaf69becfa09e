//! Writes as the log carries them: a command and its answer are one thing in the type system.
//!
//! A command is a protobuf message with a number, in a file of its own. Whoever proposes one gets its own answer back,
//! without a look at what else there is. Replay, and members that did not propose it, go by the number: see
//! [`Commands`](super::Commands).

use std::task::Poll;

use bytes::Bytes;
use prost::Message;

use super::{Error, StateMachine, outcome::Outcome};
use crate::types::Level;

/// What stands for a command's type in a log entry. Never used again for anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub number: u16,
    /// The first level that has it: it is not proposed while a member may not know it.
    pub level: Level,
}

impl Kind {
    /// A kind of the first release.
    pub const fn first(number: u16) -> Self {
        Self { number, level: Level::FIRST }
    }
}

/// What must be in order for a command to be applied (alarms in etcd v3.7 `etcdserver/apply`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    /// No member is known to be corrupt.
    Integrity,
    /// That, and every member has space.
    Space,
}

/// When whoever proposed a command is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// It is applied.
    Applied,
    /// And nothing is left to free.
    Freed,
}

/// Who asks for a command. Empty while authentication is off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Principal {
    /// Name of the user.
    pub user: Bytes,
    /// Revision of the auth store when the request was admitted.
    pub auth_revision: u64,
}

/// The circumstances in which a command is applied. Only `principal` is the same on every member, and nothing but the
/// answer depends on the others.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub principal: &'a Principal,
    /// Somebody waits for the answer. Otherwise only effects count, and what is only read need not be.
    pub answer_wanted: bool,
    /// After about so many keys the rest is left to the next step.
    pub keys: usize,
}

impl<'a> Context<'a> {
    /// Somebody waits for the answer, and it is to be done in one step.
    pub fn asked_by(principal: &'a Principal) -> Self {
        Self { principal, answer_wanted: true, keys: usize::MAX }
    }

    /// Nobody waits.
    pub fn unasked(principal: &'a Principal) -> Self {
        Self { principal, answer_wanted: false, keys: usize::MAX }
    }

    /// The same in steps of about so many keys.
    pub fn in_steps_of(self, keys: usize) -> Self {
        Self { keys, ..self }
    }
}

/// A write. It is evaluated when its entry is committed, in the order of the log; the outcome depends on nothing but the
/// state and the command, and not on where its steps end.
pub trait Command: Message + Default + 'static {
    /// What the caller gets. Its header, if it has one, carries only the revision.
    type Answer: 'static;
    /// How far one has come that may take several steps; `()` where one is enough.
    type Progress: Default + 'static;

    const KIND: Kind;

    fn needs(&self) -> Needs;

    /// As a log line shows it: who sees the log may not see values or passwords.
    fn shown(&self) -> String {
        let name = std::any::type_name::<Self>();
        name.rsplit("::").next().unwrap_or(name).to_owned()
    }

    fn completion(&self) -> Completion {
        Completion::Applied
    }

    /// Whether whoever asks for it may, in the state before it. The member's own requests are nobody's.
    fn permits(&self, state: &StateMachine, who: &Principal) -> Result<(), Error>;

    /// A step, from no progress at first. While it is pending the state is as before it, and no other command is applied.
    /// What is refused changes nothing.
    fn apply(
        &self,
        progress: &mut Self::Progress,
        state: &mut StateMachine,
        context: Context<'_>,
        outcome: &mut Outcome,
    ) -> Poll<Result<Self::Answer, Error>>;
}
