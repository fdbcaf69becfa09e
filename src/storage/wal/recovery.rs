//! Reads the log when it is opened: replays what is whole, cuts a torn tail, refuses corruption.
//!
//! Runs once per shard before it serves. Memory is bounded by one batch and a few chunks.

use std::{collections::VecDeque, rc::Rc};

use super::{
    Known, WalError, WalOptions,
    extent::{Kept, Order, Span},
    format::{Record, SegmentHeader, batch_bytes_max},
    preparation::Preparation,
    reader::Reader,
    scan::{End, Scan, Step},
    segment::{self, FileOf, Listing, Segment},
};
use crate::env::{Disk, Env, File};

/// What was found, for the start-up log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    pub segments: u64,
    pub batches: u64,
    pub records: u64,
    /// A write was cut off that was never acknowledged.
    pub torn_tail: bool,
}

/// Where the log goes on.
pub struct Resumed<E: Env> {
    pub current: Rc<Segment<FileOf<E>>>,
    pub position: u64,
    /// Offset after the last batch.
    pub end: u64,
    pub next_batch: u64,
    pub hard_state: Option<Record<'static>>,
    /// The segments before it, the oldest first.
    pub older: VecDeque<Kept>,
    /// Entries of the current segment.
    pub span: Span,
    pub order: Order,
    /// Bytes of all batches, padding included.
    pub batch_bytes: u64,
    /// The segment after it, if it was ready before the restart.
    pub prepared: Option<Rc<Preparation<E>>>,
    pub recovery: Recovery,
}

pub async fn recover<E: Env>(
    env: &E,
    options: &WalOptions,
    mut replay: impl FnMut(Record<'_>) -> Result<(), WalError>,
) -> Result<Resumed<E>, WalError> {
    let listing = look(env, options).await?;
    let (sequences, begun) = (listing.sequences.clone(), listing.begun());
    let mut recovery = Recovery::default();
    let mut hard_state = None;
    let Some((&first, &last)) = sequences.first().zip(sequences.last()) else {
        segment::remove_unfinished(env, &options.dir, &listing).await?;
        let current = Rc::new(segment::create(env, &options.spec(1, env.random_u64())).await?);
        let position = u64::from(current.header.unit);
        return Ok(Resumed {
            current,
            position,
            end: position,
            next_batch: 1,
            hard_state,
            older: VecDeque::new(),
            span: Span::default(),
            order: Order::default(),
            batch_bytes: 0,
            prepared: None,
            recovery,
        });
    };
    if let Some((_, missing)) = sequences.iter().zip(first..=last).find(|(have, want)| **have != *want) {
        return Err(WalError::Corrupt {
            path: segment::path(&options.dir, missing),
            offset: 0,
            what: "the segment is missing, later ones are there",
        });
    }

    if let Some(begun) = begun.filter(|begun| *begun > last + 1) {
        return Err(WalError::Corrupt {
            path: segment::path(&options.dir, begun - 1),
            offset: 0,
            what: "the segment is missing, one after it was begun",
        });
    }

    let (mut older, mut order, mut batch_bytes) = (VecDeque::new(), Order::default(), 0);
    let mut tail: Option<(Segment<FileOf<E>>, End)> = None;
    let mut tail_span = Span::default();
    let mut empty: Option<(Segment<FileOf<E>>, End)> = None;
    for sequence in sequences {
        let segment = segment::open(env, options, sequence).await?;
        let next_batch = match &tail {
            Some((_, end)) => Some(end.next_batch),
            None => (sequence == 1).then_some(1),
        };
        let mut scan = Scan::new(segment.header, next_batch, batch_bytes_max(segment.header.segment_bytes));
        let mut span = Span::default();
        let end = run(&segment, &mut scan, &mut recovery, |record| {
            order.take(&record, &mut span)?;
            if let Record::HardState { term, vote, commit } = record {
                hard_state = Some(Record::HardState { term, vote, commit });
            }
            replay(record)
        })
        .await?;
        recovery.segments += 1;
        recovery.batches += end.batches;
        batch_bytes += end.tail - u64::from(segment.header.unit);
        if let Some((unused, _)) = &empty {
            // A segment is prepared only after the one before it has a durable batch.
            return Err(corrupt_batch(unused, u64::from(unused.header.unit)));
        }
        let unused = tail.as_ref().filter(|_| end.batches == 0);
        if let (Some((before, at)), Some(evidence)) = (unused, end.evidence) {
            let first = u64::from(segment.header.unit);
            // Its own first batch is whole if that is the evidence: then the one before is damaged.
            return Err(if evidence == first {
                corrupt_batch(before, at.tail)
            } else {
                corrupt_batch(&segment, first)
            });
        }
        if unused.is_some() {
            empty = Some((segment, end));
            continue;
        }
        if end.evidence.is_some() || end.next_batch == 0 {
            return Err(corrupt_batch(&segment, end.tail));
        }
        let span_before = std::mem::replace(&mut tail_span, span);
        if let Some((previous, before)) = tail.replace((segment, end)) {
            let SegmentHeader { sequence, segment_bytes: bytes, .. } = previous.header;
            older.push_back(Kept { sequence, bytes, end: before.tail, span: span_before });
            let path = previous.path;
            previous.file.close().await.map_err(|e| WalError::from_io("close", &path, e))?;
        }
    }

    let (current, end) = tail.expect("there is at least one segment");
    let (begun_after, unused) =
        (begun.filter(|begun| *begun > 2), empty.as_ref().map(|(segment, _)| segment));
    if let (Some(_), Some(unused)) = (begun_after, unused) {
        // The same law: the segment after it was begun.
        return Err(corrupt_batch(unused, u64::from(unused.header.unit)));
    }
    let (found, batches) = (end.next_batch - 1, options.known.batches);
    if found < batches {
        return Err(WalError::Shorter { path: current.path, offset: end.tail, found, batches });
    }
    recovery.torn_tail = end.torn || empty.as_ref().is_some_and(|(_, end)| end.torn);
    segment::remove_unfinished(env, &options.dir, &listing).await?;
    let prepared = match empty {
        None => None,
        Some((segment, _)) => Some(Preparation::done(reuse(env, options, segment).await?)),
    };
    // The disk under the data may have changed to one with larger sectors, or batches may be larger from now on: go on in
    // a new segment.
    let usable = usable_unit(&current) && current.header.segment_bytes >= options.segment_bytes;
    let position = if usable { end.tail } else { current.header.segment_bytes };
    let current = Rc::new(current);
    let (end, next_batch, span) = (end.tail, end.next_batch, tail_span);
    Ok(Resumed {
        current,
        position,
        end,
        next_batch,
        hard_state,
        older,
        span,
        order,
        batch_bytes,
        prepared,
        recovery,
    })
}

/// What there is of the log, and something if there must be.
pub async fn look<E: Env>(env: &E, options: &WalOptions) -> Result<Listing, WalError> {
    let listing = segment::list(env, &options.dir).await?;
    require(options, &listing.sequences)?;
    Ok(listing)
}

pub fn require(options: &WalOptions, sequences: &[u64]) -> Result<(), WalError> {
    let Known { batches, place } = &options.known;
    if *batches == 0 || !sequences.is_empty() {
        return Ok(());
    }
    let (dir, owner) = (options.dir.clone(), options.owner);
    Err(WalError::Missing { dir, owner, place: place.clone(), batches: *batches })
}

async fn run<F: File>(
    segment: &Segment<F>,
    scan: &mut Scan,
    recovery: &mut Recovery,
    mut replay: impl FnMut(Record<'_>) -> Result<(), WalError>,
) -> Result<End, WalError> {
    let mut reader = Reader::new(segment);
    loop {
        let step = scan.step(|record| {
            recovery.records += 1;
            replay(record)
        })?;
        match step {
            Step::Batch => {}
            Step::End(end) => return Ok(end),
            Step::Read { offset, .. } => {
                assert_eq!(offset, reader.offset, "a scan reads on");
                scan.supply(reader.next().await?.bytes());
            }
        }
    }
}

/// Keeps a prepared segment if it still fits the options, else makes it again.
async fn reuse<E: Env>(
    env: &E,
    options: &WalOptions,
    segment: Segment<FileOf<E>>,
) -> Result<Segment<FileOf<E>>, WalError> {
    if usable_unit(&segment) && segment.header.segment_bytes >= options.segment_bytes {
        return Ok(segment);
    }
    let Segment { file, path, header: SegmentHeader { sequence, .. } } = segment;
    file.close().await.map_err(|e| WalError::from_io("close", &path, e))?;
    env.disk().remove(&path).await.map_err(|e| WalError::from_io("remove", &path, e))?;
    segment::create(env, &options.spec(sequence, env.random_u64())).await
}

fn usable_unit<F: File>(segment: &Segment<F>) -> bool {
    segment.header.unit as usize >= segment.file.unit()
}

fn corrupt_batch<F>(segment: &Segment<F>, offset: u64) -> WalError {
    WalError::Corrupt {
        path: segment.path.clone(),
        offset,
        what: "a batch is damaged, and a later one proves that it was durable",
    }
}
