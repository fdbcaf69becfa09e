//! A member whose others are lost for good goes on without them (`--force-new-cluster`): the log says that they left, as
//! if all had agreed.
//!
//! What is in the log counts, all of it: what was acknowledged last may be known as committed to those only that are gone. A
//! term of its own keeps what is written here apart from what the others may have at the same place.

use tracing::info;

use crate::{
    consensus::{ConfigChange, HardState},
    env::Env,
    shard::group::{Change, Seat},
    state::{
        Builder,
        cluster::{Cluster, PromoteMember, RemoveMember},
    },
    storage::wal::{Wal, WalError},
    types::{LogIndex, MemberId, Term},
};

use super::{
    Replay,
    backlog::{entry_record, hard_state_record},
};

/// Writes the changes after which `member` is the only one, with a vote, and replays them; none if it is.
pub async fn go_alone<E: Env>(
    wal: &mut Wal<E>,
    replay: &mut Replay,
    member: MemberId,
) -> Result<(), WalError> {
    let (known, applied, last) = (replay.window.hard_state(), replay.applied, replay.window.last());
    let all = HardState { commit: last, ..known };
    let failed = |error: super::replay::ReplayError| WalError::Replay(error.to_string());
    replay.take(hard_state_record(&all)).and_then(|()| replay.settle()).map_err(failed)?;
    let changes = changes(replay.state.cluster(), member);
    if changes.is_empty() {
        return Ok(());
    }
    info!(
        "local-member-id" = format!("{:x}", member.0),
        "commit-index" = applied,
        "last-index" = last.0,
        "forcing restart member"
    );
    let term = Term(known.term.0 + 1);
    let entries: Vec<_> = (last.0 + 1..)
        .zip(changes)
        .map(|(index, change)| ConfigChange::from(change).entry(LogIndex(index), term))
        .collect();
    let commit = LogIndex(last.0 + entries.len() as u64);
    let hard_state = HardState { term, commit, ..HardState::default() };
    let records = || entries.iter().map(entry_record).chain([hard_state_record(&hard_state)]);
    records().for_each(|record| wal.append(record));
    let write = wal.submit().expect("records are pending");
    let written = write.await?;
    wal.written(written);
    records().try_for_each(|record| replay.take(record)).and_then(|()| replay.settle()).map_err(failed)
}

fn changes(cluster: &Cluster, own: MemberId) -> Vec<Change> {
    let Some(known) = cluster.member(own) else { return Vec::new() };
    let vote =
        Change { seat: Seat::Vote, member: own, command: Builder::single(&PromoteMember { id: own.0 }) };
    let others = cluster.members().map(|member| member.id).filter(|id| *id != own.0);
    let leave = |id| Change {
        seat: Seat::Leave,
        member: MemberId(id),
        command: Builder::single(&RemoveMember { id }),
    };
    known.is_learner.then_some(vote).into_iter().chain(others.map(leave)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::etcdserverpb as pb;

    #[test]
    fn a_learner_gets_the_vote_before_the_last_one_goes() {
        let member = |id, is_learner| pb::Member { id, is_learner, ..pb::Member::default() };
        let seats = |members: Vec<pb::Member>, own| {
            let changes = changes(&Cluster::new(members, &[]), MemberId(own));
            changes.iter().map(|change| (change.seat, change.member.0)).collect::<Vec<_>>()
        };
        assert_eq!(
            seats(vec![member(1, false), member(2, true), member(3, false)], 2),
            [(Seat::Vote, 2), (Seat::Leave, 1), (Seat::Leave, 3)]
        );
        assert_eq!(seats(vec![member(1, false)], 1), []);
        assert_eq!(seats(vec![member(1, false)], 2), [], "a stranger");
    }
}
