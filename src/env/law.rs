//! Laws that a simulated machine can be told to break, one at a time: what the simulator's checks are for must be caught
//! by them. A real machine keeps all of them, and the compiler knows.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// A leader counts its own log write only once that is durable.
    LeaderDurable,
    /// A follower acknowledges entries only once they are durable.
    FollowerDurable,
    /// A vote is durable before it is given.
    Vote,
    /// A read asks the others whether this member still leads.
    ReadIndex,
    /// A checkpoint says of no entry that it holds it unless it does.
    Checkpoint,
}

impl Law {
    pub const ALL: [Law; 5] =
        [Law::LeaderDurable, Law::FollowerDurable, Law::Vote, Law::ReadIndex, Law::Checkpoint];
}
