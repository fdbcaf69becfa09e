//! From a backup to a new store: what is refused, what changes on the way, in which order it arrives.

use super::{Backup, Error, Keep, Metadata, Record, metadata::Compaction};

/// Takes a restored state: the metadata, then every version in revision order, then the end. Nothing counts before
/// [`RestoreTarget::finish`] has returned; what was begun and not finished is removed by whoever began it.
pub trait RestoreTarget {
    type Error;

    /// `metadata` is as the new store shall be: compaction is finished, and members are those of the old cluster.
    fn begin(&mut self, metadata: &Metadata) -> Result<(), Self::Error>;
    fn version(&mut self, version: &Record<'_>) -> Result<(), Self::Error>;
    fn finish(&mut self) -> Result<(), Self::Error>;
}

/// By how much the revision grows, so that clients that saw later revisions than the backup holds never see one twice.
/// What was there before is compacted (`--bump-revision`, `--mark-compacted`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bump(pub u64);

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub revision: i64,
    pub versions: u64,
    pub live_keys: u64,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure<E> {
    #[error("the revision {revision} cannot grow by {by}")]
    Bump { revision: i64, by: u64 },
    #[error(transparent)]
    Backup(#[from] Error),
    #[error("{0}")]
    Target(E),
}

/// Hands a backup to a target. Whatever is refused is refused before the target hears of it.
pub fn restore<T: RestoreTarget>(
    backup: &Backup<'_>,
    bump: Option<Bump>,
    target: &mut T,
) -> Result<Outcome, Failure<T::Error>> {
    let old = backup.metadata();
    let metadata = bumped(old, bump)?;
    let compacted = metadata.compaction.revision();
    let keep = match old.compaction.finished == compacted {
        true => None,
        false => compacted.map(|compacted| {
            let mut keep = Keep::new(compacted);
            backup.versions().try_for_each(|version| version.map(|version| keep.version(&version)))?;
            Ok::<_, Error>((compacted, keep.kept_by_compaction()))
        }),
    };
    let keep = keep.transpose()?;

    target.begin(&metadata).map_err(Failure::Target)?;
    let mut versions = 0;
    for version in backup.versions() {
        let version = version?;
        let is_freed = keep.as_ref().is_some_and(|(compacted, keep)| {
            version.main <= *compacted && !keep.contains(&(version.main, version.sub))
        });
        if !version.is_mark() && !is_freed {
            target.version(&version).map_err(Failure::Target)?;
            versions += 1;
        }
    }
    target.finish().map_err(Failure::Target)?;
    Ok(Outcome { revision: metadata.revision, versions, live_keys: backup.live_keys() })
}

fn bumped<E>(old: &Metadata, bump: Option<Bump>) -> Result<Metadata, Failure<E>> {
    let mut metadata = old.clone();
    let mut compacted = old.compaction.revision();
    if let Some(Bump(by)) = bump {
        let refusal = Failure::Bump { revision: old.revision, by };
        metadata.revision = old.revision.checked_add_unsigned(by).ok_or(refusal)?;
        compacted = Some(metadata.revision);
    }
    metadata.compaction = Compaction { scheduled: compacted, finished: compacted };
    Ok(metadata)
}
