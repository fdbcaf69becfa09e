//! From a data directory to a running shard: replay the log, restore the group, make the loop.

use std::{cell::RefCell, rc::Rc, time::Duration};

use tracing::info;

use super::{
    Fatal, Shard,
    backlog::{entry_record, hard_state_record},
    batch::{Batch, BatchError},
    inbox::{Inbox, Taker},
    run::{Loop, Pace, Turns},
    view::View,
};
use crate::{
    apply::StateMachine,
    env::Env,
    limits,
    metrics::Metrics,
    raft::{
        self, ConfChange, ConfState, Entry, EntryType, HardState, LogWindow, Member, Membership,
        MembershipError, Pipeline,
    },
    types::{ClusterId, LogIndex, MemberId},
    wal::{Record, Wal, WalError, WalOptions},
};

/// What a shard needs to know at its start.
pub struct Options {
    pub cluster_id: ClusterId,
    pub member_id: MemberId,
    /// The members a new log begins with, this one among them.
    pub founders: Vec<Member>,
    /// What this member tells the others of itself.
    pub name: String,
    pub client_urls: Vec<String>,
    pub wal: WalOptions,
    pub heartbeat: Duration,
    pub election: Duration,
    pub pre_vote: bool,
    pub catchup_entries: usize,
    /// Applying an entry for longer is worth a warning.
    pub slow_apply: Duration,
}

/// A shard that is ready to run.
pub struct Started<E: Env> {
    pub shard: Shard,
    /// Whether the log was made just now.
    pub is_new: bool,
    pub run: Loop<E>,
}

/// A whole record that makes no sense where it stands.
#[derive(Debug, thiserror::Error)]
enum ReplayError {
    #[error("entry {index} replaces one that was committed (up to {commit})")]
    BelowCommit { index: u64, commit: u64 },
    #[error("commit index {commit} is beyond the last entry, {last}")]
    BeyondLog { commit: u64, last: u64 },
    #[error("entry {index} follows entry {last}")]
    Gap { index: u64, last: u64 },
    #[error("entry {index} is of kind {kind}, which this version does not know")]
    Kind { index: u64, kind: u8 },
    #[error("entry {index}: {reason}")]
    Entry { index: u64, reason: BatchError },
    #[error(transparent)]
    Membership(#[from] MembershipError),
}

/// State rebuilt from the log, entry by entry.
struct Replay {
    state: StateMachine,
    membership: Membership,
    /// The newest entries, those not known to be committed among them, and the last hard state.
    window: LogWindow,
    /// Index of the last applied entry.
    applied: u64,
    catchup_entries: usize,
}

impl Replay {
    fn take(&mut self, record: Record<'_>) -> Result<(), ReplayError> {
        match record {
            Record::Entry { term, index, kind, data } => {
                let (index, last) = (index.0, self.window.last());
                if index <= self.applied {
                    return Err(ReplayError::BelowCommit { index, commit: self.applied });
                }
                if index > last + 1 {
                    return Err(ReplayError::Gap { index, last });
                }
                let entry_type = match kind {
                    0 => EntryType::EntryNormal,
                    1 => EntryType::EntryConfChange,
                    2 => EntryType::EntryConfChangeV2,
                    _ => return Err(ReplayError::Kind { index, kind }),
                };
                let data = bytes::Bytes::copy_from_slice(data);
                self.window.append([Entry { entry_type, term: term.0, index, data, ..Entry::default() }]);
            }
            Record::HardState { term, vote, commit } => {
                let (commit, last) = (commit.0, self.window.last());
                if commit > last {
                    return Err(ReplayError::BeyondLog { commit, last });
                }
                let hard_state = HardState { term: term.0, vote: vote.0, commit, ..HardState::default() };
                self.window.set_hard_state(hard_state);
                while self.applied < commit {
                    let entry = self.window.get(self.applied + 1).clone();
                    self.apply(&entry)?;
                }
                self.window.trim(self.applied, self.catchup_entries, limits::CATCHUP_BYTES);
            }
        }
        Ok(())
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), ReplayError> {
        let index = LogIndex(entry.index);
        if entry.entry_type != EntryType::EntryNormal {
            self.membership.apply(&ConfChange::decode(entry)?);
            self.state.mark_applied(index);
        } else if entry.data.is_empty() {
            self.state.mark_applied(index);
        } else {
            let failed = |reason| ReplayError::Entry { index: entry.index, reason };
            for request in Batch::decode(entry.data.clone()).map_err(failed)? {
                // Its caller had the outcome, error or not, when it was first applied.
                drop(self.state.apply(index, &request.map_err(failed)?));
            }
        }
        self.applied = entry.index;
        Ok(())
    }
}

/// Opens the shard's log and makes everything ready; nothing runs yet.
pub async fn start<E: Env>(env: E, options: Options, metrics: Rc<Metrics>) -> Result<Started<E>, Fatal> {
    let began = env.now();
    let mut replay = Replay {
        state: StateMachine::new(),
        membership: Membership::default(),
        window: LogWindow::new((0, 0), HardState::default(), ConfState::default()),
        applied: 0,
        catchup_entries: options.catchup_entries,
    };
    let (mut wal, recovery) = Wal::open(env.clone(), options.wal.clone(), |record| {
        replay.take(record).map_err(|error| WalError::Replay(error.to_string()))
    })
    .await?;

    let is_new = replay.window.last() == 0;
    if is_new {
        found(&mut wal, &mut replay, &options.founders).await?;
    } else {
        let took_ms = env.now().since(began).as_millis() as u64;
        let (applied, revision) = (replay.applied, replay.state.revision().0);
        let (segments, torn_tail) = (recovery.segments, recovery.torn_tail);
        info!(applied, revision, segments, torn_tail, took_ms, "replayed the log");
    }
    let member_id = options.member_id;
    replay.membership.publish(member_id, &options.name, &options.client_urls);

    let mut window = replay.window;
    window.set_conf_state(replay.membership.conf_state());
    let pace = Pace {
        tick: options.heartbeat,
        // etcd's request timeout: five seconds and two elections.
        patience: Duration::from_secs(5) + 2 * options.election,
        slow_apply: options.slow_apply,
    };
    let raft = raft::Options {
        id: member_id,
        election_ticks: (options.election.as_millis() / options.heartbeat.as_millis().max(1)).max(2) as usize,
        heartbeat_ticks: 1,
        pre_vote: options.pre_vote,
        uncommitted_bytes_max: limits::UNCOMMITTED_BYTES_MAX,
        committed_bytes_max: limits::COMMITTED_BYTES_MAX,
        catchup_entries: options.catchup_entries,
        catchup_bytes: limits::CATCHUP_BYTES,
    };
    let pipeline = Pipeline::new(raft, window, LogIndex(replay.applied), env.random_u64())?;
    let inbox = Rc::new(Inbox::new(env.random_u64(), entry_bytes_max(&wal)));
    let state = Rc::new(RefCell::new(replay.state));
    let view = Rc::new(View::default());
    view.set_membership(&replay.membership);
    let clock = {
        let env = env.clone();
        Rc::new(move || env.now())
    };
    let shard = Shard {
        inbox: inbox.clone(),
        state: state.clone(),
        view: view.clone(),
        clock,
        cluster_id: options.cluster_id,
        member_id,
    };
    let membership = replay.membership;
    let (inbox, turns) = (Taker(inbox), Turns::default());
    let run = Loop { env, pace, inbox, state, view, metrics, pipeline, membership, wal, turns };
    Ok(Started { shard, is_new, run })
}

/// Payload of the largest entry: it shares a log write with a hard state.
fn entry_bytes_max<E: Env>(wal: &Wal<E>) -> usize {
    let none = entry_record(&Entry::default()).encoded_bytes();
    wal.room_max() - none - hard_state_record(&HardState::default()).encoded_bytes()
}

/// Writes the first entries of a new cluster: its founders, already committed.
async fn found<E: Env>(wal: &mut Wal<E>, replay: &mut Replay, founders: &[Member]) -> Result<(), Fatal> {
    let entries: Vec<_> =
        (1..).zip(founders).map(|(index, member)| raft::first_entry(index, 1, member)).collect();
    let commit = entries.len() as u64;
    let hard_state = HardState { term: 1, commit, ..HardState::default() };
    let records = || entries.iter().map(entry_record).chain([hard_state_record(&hard_state)]);
    records().for_each(|record| wal.append(record));
    let write = wal.submit().expect("records are pending");
    let written = write.await?;
    wal.written(written);
    for record in records() {
        replay.take(record).map_err(|error| WalError::Replay(error.to_string()))?;
    }
    Ok(())
}
