//! A checkpoint on its way from one member to another: held as it is while newer ones are made, and put in place of all
//! that the other had.
//!
//! Who receives asks for pieces, so whoever carries them may take up a lost connection where it was. What was not brought
//! to its end begins anew, save segments that are here already. Received segments lie beside those that count, under names
//! that no other has; the manifest switches to them in one rename. A crash before it finds the old state whole, a crash
//! after it the new one.

use std::{collections::BTreeMap, future::Future, pin::Pin};

use bytes::Bytes;

use super::{
    CheckpointError, CheckpointStore, Restore, Retired, Segment, Summary,
    catalog::Catalog,
    files::{self, Writer},
    format::{Manifest, SegmentRef},
    load,
};
use crate::{
    env::{Env, Mapping},
    limits,
    types::ShardId,
};

/// What comes next of a segment, once it is there.
pub type Piece<'a> = Pin<Box<dyn Future<Output = Option<Bytes>> + 'a>>;

/// Another member's checkpoint, to be read in pieces.
pub trait Export {
    /// The manifest's file.
    fn manifest(&self) -> Bytes;

    /// Bytes of the segment from `offset` on, at least one and at most [`limits::CHECKPOINT_PIECE_BYTES`]; none if the
    /// other member is gone or has given up.
    fn read<'a>(&'a mut self, segment: &'a SegmentRef, offset: u64) -> Piece<'a>;
}

/// A finished checkpoint that stays as it is, whatever is written meanwhile, until it is dropped.
#[derive(Clone, Debug)]
pub struct HeldCheckpoint {
    summary: Summary,
    manifest: Bytes,
    /// Whole files by sequence: nothing is removed that is mapped.
    segments: BTreeMap<u64, Bytes>,
}

impl HeldCheckpoint {
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Bytes of a segment from `offset` on, as many as go at a time; none beyond its end.
    pub fn piece(&self, sequence: u64, offset: u64) -> Option<Bytes> {
        let file = self.segments.get(&sequence)?;
        let start = usize::try_from(offset).ok().filter(|start| *start < file.len())?;
        Some(file.slice(start..file.len().min(start.saturating_add(limits::CHECKPOINT_PIECE_BYTES))))
    }
}

impl Export for HeldCheckpoint {
    fn manifest(&self) -> Bytes {
        self.manifest.clone()
    }

    fn read<'a>(&'a mut self, segment: &'a SegmentRef, offset: u64) -> Piece<'a> {
        Box::pin(std::future::ready(self.piece(segment.sequence, offset)))
    }
}

impl<E: Env> CheckpointStore<E> {
    /// The newest finished checkpoint; none before the first.
    pub fn hold(&self) -> Option<HeldCheckpoint> {
        let summary = self.summary.clone()?;
        let manifest = Manifest {
            owner: self.options.owner,
            generation: self.generation,
            summary: Some(summary.clone()),
            segments: self.segments.values().map(|segment| segment.reference).collect(),
            blocks: self.catalog.count(),
            body_bytes: self.catalog.body_bytes(),
        };
        let whole = |segment: &Segment<E>| segment.mapping.slice(0..segment.mapping.bytes().len());
        Some(HeldCheckpoint {
            summary,
            manifest: manifest.encode(self.options.shard, 1).into(),
            segments: self.segments.iter().map(|(sequence, segment)| (*sequence, whole(segment))).collect(),
        })
    }

    /// Brings another member's checkpoint here, verified; nothing counts yet.
    ///
    /// May be awaited while the core serves. What an error leaves is removed by the next write.
    pub async fn receive(&mut self, export: &mut dyn Export) -> Result<Received<E>, CheckpointError> {
        // A file that goes on being removed must not be one that is received.
        self.sweep().await?;
        let dir = self.options.dir.clone();
        let (path, shard) = (dir.join("received"), self.options.shard);
        let manifest = Manifest::decode(&export.manifest(), shard);
        let manifest = manifest.map_err(|fault| load::refuse(&path, fault, shard))?;
        if manifest.owner.cluster != self.options.owner.cluster {
            return Err(CheckpointError::Corrupt { path, offset: 0, what: "it is of another cluster" });
        }
        if manifest.summary.is_none() {
            return Err(CheckpointError::Corrupt { path, offset: 0, what: "it is of no checkpoint" });
        }
        let mut catalog = Catalog::default();
        let mut segments = BTreeMap::new();
        for reference in &manifest.segments {
            if !self.has(reference) {
                self.receive_segment(reference, export).await?;
            }
            let segment = load::map_segment(&self.env, &dir, reference).await?;
            load::verify(&segment, shard).await?;
            catalog.add(reference, load::table(&segment, shard)?);
            segments.insert(reference.sequence, segment);
        }
        if (catalog.count(), catalog.body_bytes()) != (manifest.blocks, manifest.body_bytes) {
            let what = "the segments do not give the blocks that the manifest counts";
            return Err(CheckpointError::Corrupt { path, offset: 0, what });
        }
        files::sync_dir(&self.env, &dir).await?;
        Ok(Received { manifest, catalog, segments, shard })
    }

    /// Whether the very same segment is here already, maybe one that only readers keep.
    fn has(&self, reference: &SegmentRef) -> bool {
        let path = files::segment_path(&self.options.dir, reference.sequence, reference.epoch);
        self.segments.get(&reference.sequence).is_some_and(|segment| segment.reference == *reference)
            || self.retired.iter().any(|retired| retired.path == path)
    }

    async fn receive_segment(
        &mut self,
        reference: &SegmentRef,
        export: &mut dyn Export,
    ) -> Result<(), CheckpointError> {
        let path = files::segment_path(&self.options.dir, reference.sequence, reference.epoch);
        self.unfinished.push(path.clone());
        let commit_seconds = &self.options.metrics.commit_seconds;
        let mut writer = Writer::create(&self.env, path, &self.pace, commit_seconds).await?;
        writer.allocate(reference.bytes.next_multiple_of(writer.unit() as u64)).await?;
        let mut offset = 0;
        while offset < reference.bytes {
            let piece = export.read(reference, offset).await;
            let piece = piece.filter(|piece| !piece.is_empty()).ok_or(CheckpointError::CutOff)?;
            let left = usize::try_from(reference.bytes - offset).unwrap_or(usize::MAX);
            let piece = piece.slice(..piece.len().min(left));
            writer.append(&piece).await?;
            offset += piece.len() as u64;
        }
        // Written in units of another disk.
        writer.finish_at(reference.bytes).await
    }

    /// Makes a received checkpoint the one that counts, in one step: the manifest's rename. From then on the state that
    /// was here is gone. After an error nobody knows which of the two a restart finds, and the member must not go on.
    pub async fn install(&mut self, received: Received<E>) -> Result<Summary, CheckpointError> {
        let Received { mut manifest, catalog, segments, .. } = received;
        // From now on it is the one of the log here.
        manifest.owner = self.options.owner;
        manifest.generation = manifest.generation.max(self.generation) + 1;
        let summary = manifest.summary.as_mut().expect("looked at when it was received");
        summary.received = true;
        let summary = summary.clone();
        self.manifest_bytes = self.write_manifest(&manifest).await?;
        self.generation = manifest.generation;
        self.summary = Some(summary.clone());
        self.catalog = catalog;
        self.next_sequence = manifest.segments.last().map_or(1, |last| last.sequence + 1);
        self.unfinished.clear();
        self.retired.retain(|retired| segments.values().all(|segment| segment.path != retired.path));
        for (sequence, old) in std::mem::replace(&mut self.segments, segments) {
            let kept = self.segments.get(&sequence).is_some_and(|new| new.reference == old.reference);
            if !kept {
                let Segment { reference, path, mapping } = old;
                self.retired.push(Retired { path, bytes: reference.bytes, mapping: Some(mapping) });
            }
        }
        Ok(summary)
    }
}

/// Another member's checkpoint, whole and verified, beside what counts here.
pub struct Received<E: Env> {
    manifest: Manifest,
    catalog: Catalog,
    segments: BTreeMap<u64, Segment<E>>,
    shard: ShardId,
}

impl<E: Env> Received<E> {
    pub fn summary(&self) -> &Summary {
        self.manifest.summary.as_ref().expect("looked at when it was received")
    }

    /// Hands over its blocks.
    pub async fn read(&self, restore: &mut impl Restore) -> Result<(), CheckpointError> {
        restore.expect(self.catalog.body_bytes());
        load::read(&self.segments, &self.catalog, self.shard, restore).await
    }
}

#[cfg(test)]
mod tests;
