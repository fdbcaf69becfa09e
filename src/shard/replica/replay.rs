//! The state of a shard from its newest checkpoint and the log behind it.
//!
//! The log begins at or before the entry after the checkpoint, because it is cut only behind a durable one. What it
//! has of the time before is not applied again; it fills the window that followers catch up from.
//!
//! Only effects are computed: callers had their answers. What is committed is applied step by step after the last record,
//! unless too much of it gathers before.

use bytes::Bytes;

use crate::{
    consensus::{Config, ConfigError, Entry, EntryKind, HardState, LogPosition, LogWindow, Payload},
    limits,
    shard::group::config,
    state::{Applied, Batch, BatchError, Commands, Outcome, StateMachine, Unfinished},
    storage::checkpoint::Summary,
    storage::wal::Record,
    types::{LogIndex, Term},
};

/// An entry that this version cannot apply.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("after it the group is {group:?}, and the state knows {known:?}")]
    Group { group: Config, known: Config },
}

/// A whole record that makes no sense where it stands.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("entry {index} replaces one that was committed (up to {commit})")]
    BelowCommit { index: u64, commit: u64 },
    #[error("commit index {commit} is beyond the last entry, {last}")]
    BeyondLog { commit: u64, last: u64 },
    #[error("entry {index} follows entry {last}")]
    Gap { index: u64, last: u64 },
    #[error("entry {index} is of kind {kind}, which this version does not know")]
    Kind { index: u64, kind: u8 },
    #[error("entry {index}: {reason}")]
    Entry { index: LogIndex, reason: EntryError },
    #[error(
        "the checkpoint holds the state at entry {applied}, and there is no log. Was it removed, or --wal-dir \
         changed? Put it back: without it this member may have forgotten its vote"
    )]
    NoLog { applied: u64 },
    #[error(
        "the checkpoint holds the state at entry {applied}, and the log ends at entry {last}. Was its end lost, or an \
         older copy of it put back?"
    )]
    Behind { applied: u64, last: u64 },
    #[error(
        "the log goes on from entry {from}, and the checkpoint here holds the state at entry {applied} only: what is \
         between was cut from the log behind a newer checkpoint. Is that missing, or was an older one put back?"
    )]
    Ahead { applied: u64, from: u64 },
    #[error(
        "the log goes on after a checkpoint that was received, at entry {baseline}, and the checkpoint here holds the \
         state at entry {applied}. Was an older one put back?"
    )]
    Older { applied: u64, baseline: u64 },
}

/// Takes the log's records one by one.
pub struct Replay {
    pub state: StateMachine,
    /// The newest entries, those not known to be committed among them, and the last hard state.
    pub window: LogWindow,
    /// Index of the last applied entry.
    pub applied: u64,
    /// Index and term the checkpoint ends with; 0 and 0 if there is none.
    checkpoint: (u64, u64),
    /// It came from another member, and the log was not told of it before the end.
    pub is_untold: bool,
    /// The newest commit index the log tells of.
    committed: u64,
    has_entries: bool,
    has_hard_state: bool,
    catchup_entries: usize,
    /// Payload bytes of entries in the window.
    gathered: usize,
    under_way: Option<UnderWay>,
    outcome: Outcome,
}

/// An entry that is applied in part.
struct UnderWay {
    index: LogIndex,
    batch: Batch,
    unfinished: Option<Box<dyn Unfinished>>,
}

impl Replay {
    /// Starts from a checkpoint, or from nothing.
    pub fn new(
        commands: Commands,
        restored: Option<(Summary, StateMachine)>,
        catchup_entries: usize,
    ) -> Self {
        let mut state = StateMachine::of(commands);
        let (mut checkpoint, mut received) = ((0, 0), false);
        if let Some((summary, restored)) = restored {
            checkpoint = (summary.applied.0, summary.term.0);
            received = summary.received;
            state = restored;
        }
        let base = LogPosition { index: LogIndex(checkpoint.0), term: Term(checkpoint.1) };
        let window = LogWindow::new(base, HardState::default(), config(state.cluster()));
        Replay {
            state,
            window,
            applied: checkpoint.0,
            checkpoint,
            is_untold: received,
            committed: 0,
            has_entries: false,
            has_hard_state: false,
            catchup_entries,
            gathered: 0,
            under_way: None,
            outcome: Outcome::default(),
        }
    }

    /// Whether there was neither a checkpoint nor a log.
    pub fn is_new(&self) -> bool {
        self.applied == 0 && !self.has_entries && !self.has_hard_state
    }

    pub fn take(&mut self, record: Record<'_>) -> Result<(), ReplayError> {
        match record {
            Record::Entry { term, index, kind, data } => {
                let kind = EntryKind::from_byte(kind).ok_or(ReplayError::Kind { index: index.0, kind })?;
                self.append(LogPosition { index, term }, kind, data)
            }
            Record::HardState { term, vote, commit } => self.commit(HardState { term, vote, commit }),
            Record::Baseline { term, index } => self.baseline(LogPosition { index, term }),
        }
    }

    fn append(&mut self, at: LogPosition, kind: EntryKind, data: &[u8]) -> Result<(), ReplayError> {
        let (index, last) = (at.index.0, self.window.last().0);
        if index <= self.committed {
            return Err(ReplayError::BelowCommit { index, commit: self.committed });
        }
        if index > last + 1 && !self.has_entries {
            return Err(ReplayError::Ahead { applied: self.checkpoint.0, from: index });
        }
        if index > last + 1 {
            return Err(ReplayError::Gap { index, last });
        }
        // The log has older entries than the checkpoint: the window begins after the first of them.
        let begins = !self.has_entries && index <= self.checkpoint.0;
        let needless = index < self.checkpoint.0 && self.window.is_alone();
        if begins || needless || index <= self.window.base().index.0 {
            self.window = LogWindow::new(at, self.window.hard_state(), config(self.state.cluster()));
        } else {
            self.gathered += data.len();
            let data = Bytes::copy_from_slice(data);
            self.window.append([Entry { index: at.index, term: at.term, kind, data }]);
        }
        self.has_entries = true;
        Ok(())
    }

    /// A checkpoint that was received took the place of all that was logged before.
    fn baseline(&mut self, at: LogPosition) -> Result<(), ReplayError> {
        self.settle()?;
        let (baseline, applied) = (at.index.0, self.applied);
        if baseline > applied {
            return Err(ReplayError::Older { applied, baseline });
        }
        self.window = LogWindow::new(at, self.window.hard_state(), config(self.state.cluster()));
        self.committed = self.committed.max(baseline);
        self.has_entries = true;
        self.is_untold &= baseline != self.checkpoint.0;
        Ok(())
    }

    /// The checkpoint, for the log to be told of.
    pub fn base(&self) -> LogPosition {
        LogPosition { index: LogIndex(self.checkpoint.0), term: Term(self.checkpoint.1) }
    }

    fn commit(&mut self, hard_state: HardState) -> Result<(), ReplayError> {
        let (commit, last) = (hard_state.commit.0, self.window.last().0.max(self.checkpoint.0));
        if commit > last && !self.has_entries {
            return Err(ReplayError::Ahead { applied: self.checkpoint.0, from: commit + 1 });
        }
        if commit > last {
            return Err(ReplayError::BeyondLog { commit, last });
        }
        self.has_hard_state = true;
        self.committed = self.committed.max(commit);
        self.window.set_hard_state(hard_state);
        if self.gathered > limits::UNAPPLIED_BYTES_MAX { self.settle() } else { Ok(()) }
    }

    /// Applies everything that is committed.
    pub fn settle(&mut self) -> Result<(), ReplayError> {
        while !self.step(usize::MAX)? {}
        Ok(())
    }

    /// Goes on with applying what is committed, by about `keys` keys. True when nothing is left.
    pub fn step(&mut self, keys: usize) -> Result<bool, ReplayError> {
        self.outcome.clear();
        while self.outcome.visited < keys as u64 {
            let left = keys - self.outcome.visited as usize;
            let done = match self.under_way.take() {
                Some(under_way) => self.go_on(under_way, left),
                None if self.applied < self.committed => self.begin(LogIndex(self.applied + 1)),
                None => {
                    self.window.trim(LogIndex(self.applied), self.catchup_entries, limits::CATCHUP_BYTES);
                    self.gathered = 0;
                    return Ok(true);
                }
            };
            let index = LogIndex(self.applied + 1);
            if done.map_err(|reason| ReplayError::Entry { index, reason })? {
                self.state.mark_applied(index);
                self.applied = index.0;
            }
        }
        Ok(false)
    }

    /// True when the entry is applied, because nothing is in it.
    fn begin(&mut self, index: LogIndex) -> Result<bool, EntryError> {
        let data = match self.window.get(index).payload()? {
            Payload::Config(change) => change.context,
            Payload::Empty => return Ok(true),
            Payload::Data(data) => data,
        };
        self.under_way = Some(UnderWay { index, batch: Batch::decode(data)?, unfinished: None });
        Ok(false)
    }

    /// The next step of the entry under way. True when it is applied.
    fn go_on(&mut self, mut under_way: UnderWay, keys: usize) -> Result<bool, EntryError> {
        if let Some(mut unfinished) = under_way.unfinished.take() {
            if unfinished.step(&mut self.state, keys, &mut self.outcome).is_none() {
                under_way.unfinished = Some(unfinished);
            }
        } else if let Some(envelope) = under_way.batch.next() {
            let applied = envelope?.begin(&mut self.state, keys, &mut self.outcome)?;
            if let Applied::Partly(unfinished) = applied {
                under_way.unfinished = Some(unfinished);
            }
        } else {
            if self.window.get(under_way.index).kind == EntryKind::Config {
                self.window.set_config(config(self.state.cluster()));
            }
            return Ok(true);
        }
        self.under_way = Some(under_way);
        Ok(false)
    }

    /// Checks that checkpoint and log belong together, after the last record.
    pub fn finish(&mut self) -> Result<(), ReplayError> {
        if self.is_untold {
            self.window = LogWindow::new(self.base(), self.window.hard_state(), config(self.state.cluster()));
        }
        let (applied, last) = (self.checkpoint.0, self.window.last().0);
        if applied == 0 {
            return Ok(());
        }
        if !self.has_hard_state {
            return Err(ReplayError::NoLog { applied });
        }
        if last < applied {
            return Err(ReplayError::Behind { applied, last });
        }
        // The checkpoint knows of commits the log was not told of before the end.
        let mut hard_state = self.window.hard_state();
        hard_state.commit = hard_state.commit.max(LogIndex(applied));
        self.window.set_hard_state(hard_state);
        Ok(())
    }
}
