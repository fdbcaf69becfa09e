//! `Maintenance.Snapshot`: a backup as a stream (`Snapshot` in etcd v3.7 `api/v3rpc/maintenance.go`).

use bytes::Bytes;
use futures_util::{Stream, stream};
use std::time::Instant;
use tracing::info;

use crate::{
    api::{Api, Backup, CLUSTER_VERSION, Error, Keyspace, STORAGE_VERSION},
    backup::Facts,
    metrics::Metrics,
    pb::etcdserverpb as pb,
    shard::BackupError,
    types::Size,
};

impl<K: Keyspace> Api<K> {
    /// The database in pieces of 32 KiB, then its SHA-256.
    pub fn snapshot(
        &self,
        _request: pb::SnapshotRequest,
    ) -> Result<impl Stream<Item = Result<pb::SnapshotResponse, Error>> + use<K>, Error> {
        Ok(stream::try_unfold(Progress::Begin(self.clone()), Progress::next))
    }
}

impl From<BackupError> for Error {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Write(error) => Error::Backup(error),
            BackupError::State(error) => Error::Apply(error.into()),
        }
    }
}

/// Where a snapshot stands.
enum Progress<K: Keyspace> {
    Begin(Api<K>),
    Under(Sending<K>),
}

struct Sending<K: Keyspace> {
    backup: K::Backup,
    /// Bytes of the database that are not sent yet.
    remaining: u64,
    took: Took,
}

/// Observed however the snapshot ends.
struct Took {
    metrics: std::rc::Rc<Metrics>,
    since: Instant,
}

impl Drop for Took {
    fn drop(&mut self) {
        self.metrics.snapshot_seconds.observe(self.since.elapsed().as_secs_f64());
    }
}

impl<K: Keyspace> Progress<K> {
    async fn next(self) -> Result<Option<(pb::SnapshotResponse, Self)>, Error> {
        let mut sending = match self {
            Progress::Begin(api) => Sending::begin(&api).await?,
            Progress::Under(sending) => sending,
        };
        let Some(piece) = sending.backup.next().await else {
            sending.finished();
            return Ok(None);
        };
        Ok(Some((sending.response(piece?), Progress::Under(sending))))
    }
}

impl<K: Keyspace> Sending<K> {
    async fn begin(api: &Api<K>) -> Result<Self, Error> {
        let took = Took { metrics: api.metrics().clone(), since: Instant::now() };
        let facts = Facts {
            storage_version: Some(STORAGE_VERSION.into()),
            cluster_version: Some(CLUSTER_VERSION.into()),
            ..Facts::default()
        };
        let backup = api.keyspace().backup(facts).await?;
        let total = backup.bytes();
        info!(
            "total-bytes" = total,
            "size" = Size(total).to_string(),
            "storage-version" = STORAGE_VERSION,
            "sending database snapshot to client"
        );
        Ok(Self { backup, remaining: total, took })
    }

    fn response(&mut self, blob: Bytes) -> pb::SnapshotResponse {
        if self.remaining == 0 {
            info!(
                "total-bytes" = self.backup.bytes(),
                "checksum-size" = blob.len(),
                "sending database sha256 checksum to client"
            );
        } else {
            self.remaining -= blob.len() as u64;
        }
        let version = STORAGE_VERSION.into();
        pb::SnapshotResponse { header: None, remaining_bytes: self.remaining, blob, version }
    }

    fn finished(&self) {
        let total = self.backup.bytes();
        info!(
            "total-bytes" = total,
            "size" = Size(total).to_string(),
            took = ?self.took.since.elapsed(),
            "storage-version" = STORAGE_VERSION,
            "successfully sent database snapshot to client"
        );
    }
}
