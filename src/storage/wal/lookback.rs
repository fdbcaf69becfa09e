//! Reads back what is in the log already, beside its writes: forwards, in small pieces, checked as at a start.
//!
//! It goes up to what was durable when it was asked for, and may be asked again. It reads through files of its own. If a
//! segment leaves the log meanwhile, what comes of it is no worse than an error: a file that is used again has another
//! epoch.

use std::collections::VecDeque;

use super::{
    Record, Wal, WalError, WalOptions, reader,
    scan::{Scan, Step},
    segment::{self, FileOf, Segment},
};
use crate::{
    env::{Env, File},
    limits,
    types::LogIndex,
};

/// A segment, and up to where its batches go.
#[derive(Clone, Copy, Debug)]
struct Extent {
    sequence: u64,
    end: u64,
}

/// A place in the log, from which it is read on.
pub struct Lookback<E: Env> {
    env: E,
    options: WalOptions,
    /// What is still to be read; the first one is open, or the next to be.
    extents: VecDeque<Extent>,
    open: Option<(Segment<FileOf<E>>, Scan)>,
    next_batch: Option<u64>,
}

impl<E: Env> Wal<E> {
    /// From the segment on that has the newest record of this entry. Other records come as well, also such that were
    /// replaced: of each place that one counts that comes last, or any that is of the same term.
    pub fn look_back(&self, from: LogIndex) -> Lookback<E> {
        let first = match self.span.reaches(from) {
            true => self.current.header.sequence,
            false => {
                let found = self.older.iter().rfind(|segment| segment.span.reaches(from));
                found.map_or(self.current.header.sequence, |segment| segment.sequence)
            }
        };
        Lookback {
            env: self.env.clone(),
            options: self.options.clone(),
            extents: self.extents(first),
            open: None,
            next_batch: None,
        }
    }

    /// It may be read on, up to what is durable now. False if its segment left the log.
    pub fn may_go_on(&self, lookback: &mut Lookback<E>) -> bool {
        let Some(&Extent { sequence, .. }) = lookback.extents.front() else { return false };
        let extents = self.extents(sequence);
        let Some(first) = extents.front().filter(|first| first.sequence == sequence) else { return false };
        if let Some((_, scan)) = &mut lookback.open {
            scan.extend(first.end);
        }
        lookback.extents = extents;
        true
    }

    /// Whether the segment it is at is a part of the log still.
    pub fn has(&self, lookback: &Lookback<E>) -> bool {
        let oldest = self.older.front().map_or(self.current.header.sequence, |oldest| oldest.sequence);
        lookback.extents.front().is_some_and(|extent| extent.sequence >= oldest)
    }

    fn extents(&self, first: u64) -> VecDeque<Extent> {
        let older = self.older.iter().map(|kept| Extent { sequence: kept.sequence, end: kept.end });
        let current = Extent { sequence: self.current.header.sequence, end: self.end };
        older.chain([current]).filter(|extent| extent.sequence >= first).collect()
    }
}

impl<E: Env> Lookback<E> {
    /// Hands over the records of the next batch; false if there is none.
    pub async fn batch(&mut self, mut take: impl FnMut(Record<'_>)) -> Result<bool, WalError> {
        while let Some(&Extent { sequence, end }) = self.extents.front() {
            let (segment, scan) = match &mut self.open {
                Some(open) => open,
                none => {
                    let segment = segment::open(&self.env, &self.options, sequence).await?;
                    if end > segment.header.segment_bytes {
                        return Err(damaged(&segment, 0));
                    }
                    let scan = Scan::up_to(end, segment.header, self.next_batch);
                    none.insert((segment, scan))
                }
            };
            let step = scan.step(|record| {
                take(record);
                Ok(())
            })?;
            match step {
                Step::Batch => return Ok(true),
                Step::Read { offset, bytes } => {
                    let bytes = bytes.min(limits::READ_BACK_CHUNK_BYTES);
                    scan.supply(reader::read(segment, offset, bytes).await?.bytes());
                }
                Step::End(found) if found.tail != end => return Err(damaged(segment, found.tail)),
                // There may be more of the last one later.
                Step::End(_) if self.extents.len() == 1 => return Ok(false),
                Step::End(_) => {
                    self.next_batch = Some(scan.next_batch());
                    self.extents.pop_front();
                    self.close().await?;
                }
            }
        }
        Ok(false)
    }

    /// Closes its file.
    pub async fn close(&mut self) -> Result<(), WalError> {
        match self.open.take() {
            Some((Segment { file, path, .. }, _)) => {
                file.close().await.map_err(|e| WalError::from_io("close", &path, e))
            }
            None => Ok(()),
        }
    }
}

fn damaged<F>(segment: &Segment<F>, offset: u64) -> WalError {
    WalError::Unreadable { path: segment.path.clone(), offset }
}
