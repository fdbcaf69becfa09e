//! This member's part of the Raft group: the log's turns around the pipeline.
//!
//! Owned by the loop, which feeds it frames, ticks, batches and reads, and takes [`Progress`] from it: what is committed
//! and to be applied, in order, and which reads are confirmed. One log write is in flight at a time: what comes
//! meanwhile becomes the next one. It knows nothing of what is in a batch, nor of who waits for it.
//!
//! Invariants: nothing is given out as committed before it is durable here; a failed log write ends the shard before
//! anything depends on it.

mod backlog;
mod founding;
mod group;
mod replay;
#[cfg(test)]
mod tests;

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tracing::{info, warn};

use crate::{
    consensus::{Config, ConfigChange, Entry, Error, Outgoing, Pipeline, ProposeError, Ready, Role},
    env::{Env, Instant, Links},
    storage::wal::{Wal, WalError, Written},
    types::{LogIndex, MemberId, ShardId, Term},
};

use backlog::{Backlog, hard_state_record};

pub use backlog::entry_bytes_max;
pub use founding::found;
pub use group::config;
pub use replay::{EntryError, Replay};

/// What became known of the log.
#[derive(Debug, Default)]
pub struct Progress {
    /// To apply, in order: durable here and on a quorum.
    pub committed: Vec<Entry>,
    /// Numbers of read indexes, and what must be applied before they are answered.
    pub reads: Vec<(u64, LogIndex)>,
}

/// Whether this member leads has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    Gained(Term),
    Lost,
}

type Finished<E> = Result<Written<E>, WalError>;

struct InFlight<E: Env> {
    write: Pin<Box<dyn Future<Output = Finished<E>>>>,
    /// The newest ready that is complete on disk when the write is done.
    number: Option<u64>,
    started: Instant,
}

/// What a replica is put together from.
pub struct Parts<E: Env> {
    pub pipeline: Pipeline,
    pub wal: Wal<E>,
    /// Term of the last applied entry.
    pub applied_term: Term,
}

pub struct Replica<E: Env> {
    env: E,
    shard_id: ShardId,
    pipeline: Pipeline,
    wal: Wal<E>,
    backlog: Backlog,
    in_flight: Option<InFlight<E>>,
    finished: Option<Finished<E>>,
    applied_term: Term,
    /// As [`Replica::leadership`] last told.
    led: bool,
}

impl<E: Env> Replica<E> {
    pub fn new(env: E, shard_id: ShardId, parts: Parts<E>) -> Self {
        let Parts { pipeline, wal, applied_term } = parts;
        Replica {
            env,
            shard_id,
            pipeline,
            wal,
            backlog: Backlog::default(),
            in_flight: None,
            finished: None,
            applied_term,
            led: false,
        }
    }

    pub fn campaign_if_sole_voter(&mut self) -> Result<(), Error> {
        self.pipeline.campaign_if_sole_voter()
    }

    /// Drives the log write under way. True when it has ended: [`Replica::finish_write`] is due.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(in_flight) = &mut self.in_flight
            && let Poll::Ready(finished) = in_flight.write.as_mut().poll(cx)
        {
            self.finished = Some(finished);
            return true;
        }
        false
    }

    pub fn step(&mut self, frame: Bytes) {
        if let Err(error) = self.pipeline.step(frame, self.env.random_u64()) {
            warn!(%error, "ignored a frame of another member");
        }
    }

    pub fn tick(&mut self) {
        self.pipeline.tick(self.env.random_u64());
    }

    /// Takes in a log write that has ended, and begins the next if there is something left; how long it took.
    pub fn finish_write(&mut self, now: Instant) -> Result<Option<Duration>, WalError> {
        let Some(finished) = self.finished.take() else { return Ok(None) };
        let in_flight = self.in_flight.take().expect("only a write in flight can finish");
        // A write that failed or came back short stops the shard before anything depends on it.
        self.wal.written(finished?);
        if let Some(number) = in_flight.number {
            self.persisted(number);
        }
        // What did not fit into that write goes with the next one.
        self.submit();
        Ok(Some(now.since(in_flight.started)))
    }

    /// Whether a log write is in flight.
    pub fn is_writing(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Since when, if one is.
    pub fn writing_since(&self) -> Option<Instant> {
        self.in_flight.as_ref().map(|in_flight| in_flight.started)
    }

    /// Whether a batch that is proposed now would be written at once. While the log writes, the next one gathers.
    pub fn is_open(&self) -> bool {
        !self.wal.in_flight() && self.backlog.is_empty()
    }

    pub fn propose(&mut self, batch: Bytes) -> Result<(), ProposeError> {
        self.pipeline.propose(batch)
    }

    pub fn read_index(&mut self, number: u64) {
        self.pipeline.read_index(number);
    }

    /// What Raft has next, if anything: messages leave and the log write starts before anything is applied.
    pub fn next(&mut self) -> Option<Progress> {
        if !self.pipeline.has_ready() {
            return None;
        }
        let ready = self.pipeline.ready();
        self.send(ready.messages);
        let Ready { number, entries, hard_state, must_log, committed, reads, restored, .. } = ready;
        assert!(restored.is_none(), "the pipeline is given no checkpoint's frame");
        let hard_state = hard_state.filter(|_| must_log || !entries.is_empty());
        if self.backlog.add(number, entries, hard_state) {
            // Nothing to log: as durable as what was logged before it.
            match &mut self.in_flight {
                Some(in_flight) => in_flight.number = Some(number),
                None => self.persisted(number),
            }
        }
        self.submit();
        Some(Progress { committed, reads })
    }

    fn persisted(&mut self, number: u64) {
        let released = self.pipeline.persisted(number);
        self.send(released);
    }

    fn send(&self, messages: Vec<Outgoing>) {
        for Outgoing { to, frame, checkpoint } in messages {
            assert!(checkpoint.is_none(), "the pipeline is told of no checkpoint to send");
            self.env.links().send(to, self.shard_id, frame);
        }
    }

    /// Starts the log write, so that the disk works while this core applies.
    fn submit(&mut self) {
        if self.wal.in_flight() {
            return;
        }
        let number = self.backlog.drain_into(&mut self.wal);
        if let Some(write) = self.wal.submit() {
            assert!(self.in_flight.is_none(), "one log write at a time");
            let started = self.env.now();
            self.in_flight = Some(InFlight { write: Box::pin(write), number, started });
        }
    }

    /// Takes in a committed change of the group, and gives what the group is then; [`Replica::applied`] follows.
    pub fn apply_change(&mut self, change: &ConfigChange) -> Result<Config, Error> {
        self.pipeline.apply_change(change)
    }

    /// Everything up to this entry is applied.
    pub fn applied(&mut self, index: LogIndex, term: Term) {
        self.applied_term = term;
        self.pipeline.applied(index);
    }

    /// A checkpoint of everything up to `index` is durable: the log is not needed up to there, except for followers.
    pub fn cut(&mut self, index: LogIndex) {
        self.wal.cut(self.pipeline.first_kept().min(LogIndex(index.0 + 1)));
    }

    /// Bytes the log has taken since it was opened.
    pub fn log_bytes(&self) -> u64 {
        self.wal.appended_bytes()
    }

    /// Whether this member leads, if that is not as it was at the last call.
    pub fn leadership(&mut self) -> Option<Leadership> {
        let leads = self.leads();
        if std::mem::replace(&mut self.led, leads) == leads {
            return None;
        }
        Some(if leads { Leadership::Gained(self.pipeline.term()) } else { Leadership::Lost })
    }

    pub fn leads(&self) -> bool {
        self.pipeline.role() == Role::Leader
    }

    /// Whether a read index would be answered: before its term's first commit a leader cannot know what is committed.
    pub fn can_read(&self) -> bool {
        self.pipeline.committed_in_term()
    }

    pub fn leader(&self) -> MemberId {
        self.pipeline.leader()
    }

    pub fn term(&self) -> Term {
        self.pipeline.term()
    }

    pub fn committed(&self) -> LogIndex {
        self.pipeline.committed()
    }

    pub fn applied_term(&self) -> Term {
        self.applied_term
    }

    /// With nothing in flight.
    pub async fn close(mut self) -> Result<(), WalError> {
        // The commit index moved after the last write took it along.
        self.wal.append(hard_state_record(&self.pipeline.hard_state()));
        self.wal.close().await?;
        info!("closed the log");
        Ok(())
    }
}
