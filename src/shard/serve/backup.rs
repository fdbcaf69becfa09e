//! A backup of the shard as of one moment, in etcd's format, made while the shard goes on.
//!
//! The revision is pinned; both passes of the writer go over the pinned history in slices, on the caller's task, as
//! other long reads do. The second pass goes no further than its pieces are taken. What there is beside versions, a million
//! leases perhaps, is laid out and written in one, beside the core.

use std::collections::VecDeque;

use bytes::Bytes;

use super::handle::Shard;
use crate::{
    backup::{Auth, Compaction, Lease, Metadata, Planner, Record, WriteError, Writer},
    limits,
    state::{
        self,
        lease::Leases,
        mvcc::{self, HistoryCursor},
    },
};

/// Why a backup cannot be begun or finished.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    State(#[from] mvcc::Error),
}

/// A backup under way. Dropping it lets go of the pinned revision.
pub struct Backup {
    shard: Shard,
    cursor: HistoryCursor,
    /// None after the last version.
    writer: Option<Writer>,
    /// What follows the last version.
    rest: VecDeque<Bytes>,
    bytes: u64,
}

impl Shard {
    /// Takes the state of this moment, whether other members know of newer ones or not, and goes over it once.
    /// `metadata` tells the versions of cluster and schema; the rest of it is filled in here.
    pub async fn backup(&self, metadata: Metadata) -> Result<Backup, BackupError> {
        let mut cursor = self.state.borrow().walk_history();
        let pages = self.state.borrow_mut().share_leases();
        let mut metadata = self.metadata(metadata, &cursor);
        for page in pages {
            let _slice = self.pass().await;
            metadata.leases.extend(Leases::read(&page).map(saved));
        }
        let mut planner = self.beside.run(move || Planner::new(&metadata)).await?;
        loop {
            let _slice = self.pass().await;
            let plan = |record: &Record<'_>| planner.version(record).map_err(BackupError::from);
            if self.state.borrow().history_step(&mut cursor, limits::BACKUP_SLICE_BYTES, plan)? {
                break;
            }
        }
        cursor.rewind();
        let begin = || planner.finish().map(|plan| (plan.bytes(), plan.write()));
        let (bytes, writer) = self.beside.run(begin).await?;
        Ok(Backup { shard: self.clone(), cursor, writer: Some(writer), rest: VecDeque::new(), bytes })
    }

    fn metadata(&self, metadata: Metadata, cursor: &HistoryCursor) -> Metadata {
        let state = self.state.borrow();
        let compacted = Some(cursor.compacted().0).filter(|compacted| *compacted >= 0);
        let alarms = state.alarms().list(0);
        let auth = state.auth();
        Metadata {
            revision: cursor.revision().0,
            // What a compaction would free is left out.
            compaction: Compaction { scheduled: compacted, finished: compacted },
            index: state.applied().0,
            term: self.standing.applied_term.get().0,
            members: self.standing.members(),
            removed: state.cluster().removed().collect(),
            alarms,
            auth: Auth {
                enabled: auth.is_enabled(),
                revision: auth.revision(),
                users: auth.users().cloned().collect(),
                roles: auth.roles().cloned().collect(),
            },
            ..metadata
        }
    }
}

fn saved(lease: state::lease::Lease) -> Lease {
    Lease { id: lease.id, ttl: lease.ttl, remaining_ttl: lease.remaining }
}

impl Backup {
    /// Size of the database.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The database in pieces of 32 KiB, the last one shorter, then its SHA-256.
    pub async fn next(&mut self) -> Option<Result<Bytes, BackupError>> {
        loop {
            let Some(writer) = &mut self.writer else { return self.rest.pop_front().map(Ok) };
            if let Some(piece) = writer.piece() {
                return Some(Ok(piece));
            }
            let shard = self.shard.clone();
            let _slice = shard.pass().await;
            if let Err(error) = self.step() {
                self.writer = None;
                return Some(Err(error));
            }
        }
    }

    fn step(&mut self) -> Result<(), BackupError> {
        let writer = self.writer.as_mut().expect("the last version was not reached");
        let write = |record: &Record<'_>| writer.version(record).map_err(BackupError::from);
        let state = self.shard.state.borrow();
        if state.history_step(&mut self.cursor, limits::BACKUP_SLICE_BYTES, write)? {
            let writer = self.writer.take().expect("just seen");
            let (pieces, digest) = writer.finish()?;
            self.rest = pieces.into();
            self.rest.push_back(Bytes::copy_from_slice(&digest));
        }
        Ok(())
    }
}
