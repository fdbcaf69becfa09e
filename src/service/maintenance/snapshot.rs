//! `Maintenance.Snapshot`: a backup as a stream (`Snapshot` in etcd v3.7 `api/v3rpc/maintenance.go`).

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use prometheus::HistogramTimer;
use tracing::info;

use crate::{
    backup::Metadata,
    pb::etcdserverpb as pb,
    service::{Api, Caller, Error},
    shard::{Backup, BackupError, Shard},
    types::Size,
};

/// The database in pieces of 32 KiB, then its SHA-256.
pub fn snapshot(
    api: &Api,
    caller: &Caller,
    _: pb::SnapshotRequest,
) -> Result<impl Stream<Item = Result<pb::SnapshotResponse, Error>> + 'static + use<>, Error> {
    api.admin(caller)?;
    Ok(stream::try_unfold(
        Progress::Begin(api.shard_of(caller), api.cluster_version().to_string()),
        Progress::next,
    ))
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
enum Progress {
    /// With the version of cluster and schema.
    Begin(Shard, String),
    Under(Box<Sending>),
}

struct Sending {
    backup: Backup,
    version: String,
    /// Bytes of the database that are not sent yet.
    remaining: u64,
    /// Observed however the snapshot ends.
    took: HistogramTimer,
}

impl Progress {
    async fn next(self) -> Result<Option<(pb::SnapshotResponse, Self)>, Error> {
        let mut sending = match self {
            Progress::Begin(shard, version) => Box::new(Sending::begin(&shard, version).await?),
            Progress::Under(sending) => sending,
        };
        let Some(piece) = sending.backup.next().await else {
            sending.finished();
            return Ok(None);
        };
        Ok(Some((sending.response(piece?), Progress::Under(sending))))
    }
}

impl Sending {
    async fn begin(shard: &Shard, version: String) -> Result<Self, Error> {
        let took = shard.metrics().snapshot_seconds.start_timer();
        let metadata = Metadata {
            storage_version: Some(version.clone()),
            cluster_version: Some(version.clone()),
            ..Metadata::default()
        };
        let backup = shard.backup(metadata).await?;
        let total = backup.bytes();
        info!(
            "total-bytes" = total,
            "size" = Size(total).to_string(),
            "storage-version" = version,
            "sending database snapshot to client"
        );
        Ok(Self { backup, version, remaining: total, took })
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
        let version = self.version.clone();
        pb::SnapshotResponse { header: None, remaining_bytes: self.remaining, blob, version }
    }

    fn finished(self) {
        let total = self.backup.bytes();
        info!(
            "total-bytes" = total,
            "size" = Size(total).to_string(),
            took = ?Duration::from_secs_f64(self.took.stop_and_record()),
            "storage-version" = self.version,
            "successfully sent database snapshot to client"
        );
    }
}
