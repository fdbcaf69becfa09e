//! Checkpoints: the state on disk, brought up to date in the background, so that the log can be cut.
//!
//! Owned by the loop, which polls the write under way and gives each step a slice of a turn: taking the changes,
//! giving up the heap's copies for the mapped ones, removing old files. A checkpoint that fails leaves the one
//! before it whole; it is tried again, and the log grows until then.

use std::{future::Future, pin::Pin, task::Context, task::Poll, time::Duration};

use bytes::Bytes;
use tracing::{info, warn};

use crate::{
    block::BlockId,
    consensus::{Baseline, LogPosition, Received},
    env::{Env, Instant},
    limits,
    shard::{reply::Reply, serve::Arriving},
    state::{Commands, StateMachine},
    storage::checkpoint::{Checkpoint, CheckpointError, CheckpointStore, HeldCheckpoint, Saved, Summary},
    types::LogIndex,
};

use super::incoming::{self, Arrived, Incoming, ReceiveError};

/// Pause after a checkpoint that failed.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// When a checkpoint is due: whatever comes first since the last one.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// Applied entries (`--snapshot-count`).
    pub entries: u64,
    /// Bytes of versions that are in the log only: they would have to be replayed.
    pub bytes: usize,
    /// Bytes of the log.
    pub log_bytes: u64,
}

/// The state as it is to be on disk.
struct Taken {
    baseline: Baseline,
    began: Instant,
}

/// What came to its end.
pub enum Step {
    /// A checkpoint of this member's own is durable.
    Written(Baseline),
    /// A received one is what counts: its state takes the place of what was here.
    Installed(Box<StateMachine>, Reply<()>),
}

type Background<E> = Pin<Box<dyn Future<Output = (CheckpointStore<E>, Outcome<E>)>>>;

enum Outcome<E: Env> {
    Written(Result<Saved, CheckpointError>),
    Swept(Result<(), CheckpointError>),
    Released(Result<(), CheckpointError>),
    Received(Result<Box<Arrived<E>>, ReceiveError>),
    Installed(Result<Summary, CheckpointError>),
}

/// A shard's checkpoints.
pub struct Checkpoints<E: Env> {
    due: Due,
    /// What this release knows.
    commands: Commands,
    /// Away while a task works with it.
    store: Option<CheckpointStore<E>>,
    task: Option<Background<E>>,
    finished: Option<(CheckpointStore<E>, Outcome<E>)>,
    taken: Option<Taken>,
    /// Blocks whose body on disk is still to take the place of the heap's.
    placing: std::vec::IntoIter<(BlockId, Bytes)>,
    /// Files may have become superfluous.
    to_sweep: bool,
    /// Applied index of the newest checkpoint.
    newest: LogIndex,
    /// The newest checkpoint, for other members.
    held: Option<HeldCheckpoint>,
    incoming: Incoming<E>,
    /// A member needs a newer one than there is.
    wanted: bool,
    bytes_on_disk: u64,
    /// Bytes the log had taken when the last checkpoint began.
    log_mark: u64,
    retry_at: Option<Instant>,
    /// The next one rewrites every file that has a dead part.
    whole: bool,
    /// Such a one is asked for or under way, and the files it makes superfluous are still there.
    rewriting: bool,
}

impl<E: Env> Checkpoints<E> {
    /// `newest`: applied index of the checkpoint the store was opened with.
    pub fn new(store: CheckpointStore<E>, due: Due, newest: LogIndex, commands: Commands) -> Self {
        let held = store.hold();
        Checkpoints {
            due,
            commands,
            bytes_on_disk: store.bytes_on_disk(),
            store: Some(store),
            task: None,
            finished: None,
            taken: None,
            placing: Vec::new().into_iter(),
            // What earlier runs left.
            to_sweep: true,
            newest,
            held,
            incoming: Incoming::None,
            wanted: false,
            log_mark: 0,
            retry_at: None,
            whole: false,
            rewriting: false,
        }
    }

    pub fn bytes_on_disk(&self) -> u64 {
        self.bytes_on_disk
    }

    /// Makes a checkpoint due that leaves no dead bytes in files.
    pub fn rewrite(&mut self) {
        self.whole = true;
        self.rewriting = true;
    }

    /// Whether files are still being rewritten.
    pub fn is_rewriting(&self) -> bool {
        self.rewriting
    }

    /// Whether there is work for the next turn even if nothing arrives.
    pub fn is_busy(&self) -> bool {
        self.placing.len() > 0
    }

    /// Whether physical compaction should wait: the disk has to catch up with what it rewrote.
    pub fn is_behind(&self, state: &StateMachine) -> bool {
        self.task.is_some() && state.unsaved().bytes / 2 > self.due.bytes
    }

    /// Drives the task under way. True when it has ended.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(task) = &mut self.task else { return false };
        let Poll::Ready(finished) = task.as_mut().poll(cx) else { return false };
        self.task = None;
        self.finished = Some(finished);
        true
    }

    /// A slice of work. An error says that nobody knows which state a restart would find.
    pub fn step(&mut self, state: &mut StateMachine, now: Instant) -> Result<Option<Step>, CheckpointError> {
        let done = self.finish(state, now)?;
        for (block, mapped) in self.placing.by_ref().take(limits::CHECKPOINT_SLICE_BLOCKS) {
            state.place(block, mapped);
        }
        self.begin_to_receive();
        if self.to_sweep && self.placing.len() == 0 && self.is_free() {
            self.to_sweep = false;
            self.start(async |store| Outcome::Swept(store.sweep().await));
        }
        Ok(done)
    }

    /// Whether the store may be used for a checkpoint of this member's own: a received one lies in its directory.
    fn is_free(&self) -> bool {
        self.store.is_some() && matches!(self.incoming, Incoming::None | Incoming::Waiting(_))
    }

    fn finish(&mut self, state: &mut StateMachine, now: Instant) -> Result<Option<Step>, CheckpointError> {
        let Some((store, outcome)) = self.finished.take() else { return Ok(None) };
        self.store = Some(store);
        Ok(match outcome {
            Outcome::Written(Ok(saved)) => {
                let taken = self.taken.take().expect("a checkpoint was under way");
                state.saved();
                let index = taken.baseline.position.index;
                self.hold(index);
                self.bytes_on_disk = saved.bytes_on_disk;
                self.placing = saved.placed.into_iter();
                info!(
                    "snapshot-index" = index.0,
                    "bytes-written" = saved.written_bytes,
                    "bytes-merged" = saved.carried_bytes,
                    "bytes-on-disk" = saved.bytes_on_disk,
                    took = ?now.since(taken.began),
                    "saved snapshot"
                );
                Some(Step::Written(taken.baseline))
            }
            Outcome::Written(Err(error)) => {
                self.taken = None;
                self.rewriting = self.whole;
                state.not_saved();
                self.retry_at = Some(Instant(now.0 + RETRY_PAUSE.as_nanos() as u64));
                warn!(%error, "failed to save a snapshot; trying again, the log grows until then");
                None
            }
            Outcome::Swept(result) => {
                self.bytes_on_disk = self.store.as_ref().expect("just put back").bytes_on_disk();
                self.rewriting = self.whole;
                if let Err(error) = result {
                    warn!(%error, "failed to remove old snapshot files; trying again after the next snapshot");
                }
                None
            }
            Outcome::Released(result) => {
                if let Err(error) = result {
                    warn!(%error, "failed to give back mapped pages");
                }
                None
            }
            Outcome::Received(result) => {
                let Incoming::Receiving(frame, reply) = std::mem::take(&mut self.incoming) else {
                    unreachable!("it was being received");
                };
                match result {
                    Ok(arrived) => self.incoming = Incoming::Arrived(frame, arrived, reply),
                    Err(error) => warn!(%error, "failed to receive a snapshot of another member"),
                }
                None
            }
            Outcome::Installed(result) => {
                let summary = result?;
                let Incoming::Installing(state, reply) = std::mem::take(&mut self.incoming) else {
                    unreachable!("it was being installed");
                };
                self.hold(summary.applied);
                self.bytes_on_disk = self.store.as_ref().expect("just put back").bytes_on_disk();
                info!("snapshot-index" = summary.applied.0, "applied snapshot");
                Some(Step::Installed(state, reply))
            }
        })
    }

    /// The newest checkpoint is of this entry, from now on.
    fn hold(&mut self, newest: LogIndex) {
        self.newest = newest;
        self.held = self.store.as_ref().expect("just put back").hold();
        self.to_sweep = true;
    }

    /// The newest checkpoint, if it is of this entry.
    pub fn held(&self, index: LogIndex) -> Option<HeldCheckpoint> {
        self.held.clone().filter(|held| held.summary().applied == index)
    }

    /// Somebody needs a newer checkpoint than there is.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// Takes in another member's checkpoint, unless one is on its way already.
    pub fn receive(&mut self, arriving: Arriving) {
        if !matches!(self.incoming, Incoming::None | Incoming::Waiting(_)) {
            return;
        }
        match Received::from(arriving.sender, arriving.frame.clone()) {
            Ok(Received::Frame(frame)) if frame.checkpoint().is_some() => {
                self.incoming = Incoming::Waiting(arriving);
            }
            Ok(_) => warn!("ignored a checkpoint whose frame tells of none"),
            Err(error) => warn!(%error, "ignored a checkpoint of another member"),
        }
    }

    fn begin_to_receive(&mut self) {
        if self.store.is_none() || self.placing.len() > 0 || self.to_sweep {
            return;
        }
        match std::mem::take(&mut self.incoming) {
            Incoming::Waiting(Arriving { frame, mut export, reply, .. }) => {
                self.incoming = Incoming::Receiving(frame, reply);
                let commands = self.commands;
                self.start(async move |store| {
                    Outcome::Received(incoming::receive(store, export.as_mut(), commands).await)
                });
            }
            other => self.incoming = other,
        }
    }

    /// A received checkpoint that is whole: Raft is to be asked whether it wants it.
    pub fn arrived(&mut self) -> Option<(Bytes, Baseline)> {
        match std::mem::take(&mut self.incoming) {
            Incoming::Arrived(frame, arrived, reply) => {
                let baseline = arrived.baseline.clone();
                self.incoming = Incoming::Offered(arrived, reply);
                Some((frame, baseline))
            }
            other => {
                self.incoming = other;
                None
            }
        }
    }

    /// Raft was asked, and does not want it.
    pub fn discard(&mut self) {
        match std::mem::take(&mut self.incoming) {
            Incoming::Offered(_, reply) => reply.send(()),
            other => self.incoming = other,
        }
    }

    /// Raft wants it, and everything before it is settled.
    pub fn install(&mut self) {
        if self.store.is_none() {
            return;
        }
        match std::mem::take(&mut self.incoming) {
            Incoming::Offered(arrived, reply) => {
                let Arrived { received, state, .. } = *arrived;
                self.incoming = Incoming::Installing(Box::new(state), reply);
                self.start(async move |store| Outcome::Installed(store.install(received).await));
            }
            other => self.incoming = other,
        }
    }

    /// Called with every tick of the clock.
    pub fn tick(&mut self) {
        if self.store.as_ref().is_some_and(CheckpointStore::release_is_due) && self.is_free() {
            self.start(async |store| Outcome::Released(store.release().await));
        }
    }

    /// Whether a checkpoint should begin now; `log_bytes` is what the log has taken since it was opened.
    pub fn is_due(&self, state: &StateMachine, log_bytes: u64, now: Instant) -> bool {
        if !self.is_free() || self.placing.len() > 0 || self.to_sweep {
            return false;
        }
        if self.retry_at.is_some_and(|at| now < at) {
            return false;
        }
        let Due { entries, bytes, log_bytes: log_bytes_max } = self.due;
        let unsaved = state.unsaved();
        self.whole
            || self.wanted
            || state.applied().0 - self.newest.0 >= entries
            || unsaved.bytes >= bytes
            || unsaved.blocks >= limits::CHECKPOINT_BLOCKS
            || log_bytes - self.log_mark >= log_bytes_max
    }

    /// Begins to write a checkpoint that was just taken.
    pub fn begin(&mut self, checkpoint: Checkpoint, baseline: Baseline, log_bytes: u64, now: Instant) {
        self.taken = Some(Taken { baseline, began: now });
        self.wanted = false;
        self.log_mark = log_bytes;
        self.retry_at = None;
        let whole = std::mem::take(&mut self.whole);
        self.start(async move |store| Outcome::Written(store.write(checkpoint, whole).await));
    }

    fn start(&mut self, work: impl AsyncFnOnce(&mut CheckpointStore<E>) -> Outcome<E> + 'static) {
        let mut store = self.store.take().expect("one task at a time");
        self.task = Some(Box::pin(async move {
            let outcome = work(&mut store).await;
            (store, outcome)
        }));
    }
}

/// A checkpoint of the state after this entry: everything that changed since the last one.
pub fn take(state: &mut StateMachine, position: LogPosition) -> Checkpoint {
    let LogPosition { index: applied, term } = position;
    let (changes, facts) = state.changes();
    Checkpoint { summary: Summary { applied, term, facts, received: false }, changes }
}
