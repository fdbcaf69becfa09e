//! The beginning of a log: the founders of a new cluster, already committed; or nothing yet but that it was begun, if its
//! member joins a cluster that is there.

use crate::{
    consensus::HardState,
    env::Env,
    pb::etcdserverpb as pb,
    shard::group::founding_entry,
    storage::wal::{Wal, WalError},
    types::{LogIndex, Term},
};

use super::{
    Replay,
    backlog::{entry_record, hard_state_record},
};

/// Writes the founders' entries, if any, and replays them.
pub async fn found<E: Env>(
    wal: &mut Wal<E>,
    replay: &mut Replay,
    founders: &[pb::Member],
) -> Result<(), WalError> {
    let entries: Vec<_> =
        (1..).zip(founders).map(|(index, member)| founding_entry(LogIndex(index), Term(1), member)).collect();
    let commit = LogIndex(entries.len() as u64);
    let term = Term(founders.len().min(1) as u64);
    let hard_state = HardState { term, commit, ..HardState::default() };
    let records = || entries.iter().map(entry_record).chain([hard_state_record(&hard_state)]);
    records().for_each(|record| wal.append(record));
    let write = wal.submit().expect("records are pending");
    let written = write.await?;
    wal.written(written);
    for record in records() {
        replay.take(record).map_err(|error| WalError::Replay(error.to_string()))?;
    }
    replay.settle().map_err(|error| WalError::Replay(error.to_string()))
}
