//! Writing a backup: the same versions twice, first for their lengths, then for their bytes.
//!
//! ```text
//! Planner::new(metadata) -> version ... -> finish -> Plan -> write -> version ... -> finish -> last pieces, digest
//!                                         bytes()                  piece() in between
//! ```
//! Between two calls anything may happen, as long as both passes see the same versions.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{Metadata, Record, schema::KEY};
use crate::backup::bbolt;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("version {main} lies beyond the current revision {revision}")]
    Revision { main: i64, revision: i64 },
    #[error(transparent)]
    File(#[from] bbolt::WriteError),
}

/// The first pass.
#[derive(Debug)]
pub struct Planner {
    file: bbolt::Placer,
    revision: i64,
    last: i64,
}

impl Planner {
    pub fn new(metadata: &Metadata) -> Result<Self, Error> {
        Ok(Self { file: bbolt::Placer::new(KEY, metadata.buckets())?, revision: metadata.revision, last: 1 })
    }

    /// The next version in revision order.
    pub fn version(&mut self, version: &Record<'_>) -> Result<(), Error> {
        let Record { main, .. } = *version;
        if main > self.revision {
            return Err(Error::Revision { main, revision: self.revision });
        }
        self.last = main;
        self.file.row(version.row_key().as_bytes(), version.row_value_bytes())?;
        Ok(())
    }

    pub fn finish(mut self) -> Result<Plan, Error> {
        // etcd takes the revision from the last row.
        let mark = (self.last < self.revision).then(|| Record::mark(self.revision));
        if let Some(mark) = mark {
            self.version(&mark)?;
        }
        Ok(Plan { file: self.file.finish(), mark })
    }
}

#[derive(Debug)]
pub struct Plan {
    file: bbolt::Placement,
    mark: Option<Record<'static>>,
}

impl Plan {
    /// Size of the database; the digest of 32 bytes comes on top.
    pub fn bytes(&self) -> u64 {
        self.file.bytes()
    }

    /// Begins the second pass.
    pub fn write(self) -> Writer {
        Writer { file: self.file.write(), mark: self.mark, digest: Sha256::new(), row: Vec::new() }
    }
}

/// The second pass.
#[derive(Debug)]
pub struct Writer {
    file: bbolt::Writer,
    mark: Option<Record<'static>>,
    digest: Sha256,
    row: Vec<u8>,
}

impl Writer {
    /// The next version, the same as in the first pass.
    pub fn version(&mut self, version: &Record<'_>) -> Result<(), Error> {
        self.row.clear();
        version.row_value(|bytes| self.row.extend_from_slice(bytes));
        self.file.row(version.row_key().as_bytes(), &self.row)?;
        Ok(())
    }

    /// The next [`PIECE_BYTES`](bbolt::PIECE_BYTES) of the database, if that many are ready.
    pub fn piece(&mut self) -> Option<Bytes> {
        let piece = self.file.piece()?;
        self.digest.update(&piece);
        Some(piece)
    }

    /// The pieces that [`Writer::piece`] has not returned, and the SHA-256 of the whole database, which follows it.
    pub fn finish(mut self) -> Result<(Vec<Bytes>, [u8; 32]), Error> {
        if let Some(mark) = self.mark {
            self.version(&mark)?;
        }
        let pieces = self.file.finish()?;
        pieces.iter().for_each(|piece| self.digest.update(piece));
        Ok((pieces, self.digest.finalize().into()))
    }
}
