//! A received checkpoint in place of the log: what this member knew before it is made durable first, then the checkpoint
//! is put in place, then the log is told. Until then Raft is asked for nothing more.
//!
//! So a crash finds, in this order: nothing changed; the new state, and a log that ends before it; both.

use crate::consensus::{Baseline, Entry, HardState, Ready};
use crate::types::LogIndex;

pub enum Restoring {
    /// Term and vote become durable, with the commit index of before.
    Preparing(Baseline, Box<Ready>),
    /// The log is told.
    Logging(Baseline, Vec<Entry>, Vec<(u64, LogIndex)>),
}

/// What to log before a checkpoint is put in place: no log of before reaches up to what is committed after.
pub fn before(now: HardState, applied: LogIndex) -> HardState {
    HardState { commit: applied, ..now }
}
