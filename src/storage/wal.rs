//! The write-ahead log of one shard: Raft entries and hard states, durable in order.
//!
//! Owned by the shard's loop on one core. The loop appends records during its turn and submits them as
//! one aligned direct write at the turn's end if none is under way; else they wait for the next one.
//!
//! Invariants:
//! - one write in flight; `durable < next batch`; a sector that was acknowledged is never written again
//!   (batches are padded to the device's unit)
//! - files are full of zeros before they are used and are never extended, so that a write is data only
//! - a failed or short write is final: the log never accepts another one
//! - the hard state is repeated at the start of every segment, so that segments can be dropped from the
//!   front once their entries are in a checkpoint
//! - an opened log first writes a batch that fits into one sector, under the number of the batch that
//!   may have been torn: no other batch ever has that number, so no piece of the torn one is ever taken
//!   for a part of another
//!
//! It is not Raft's view of the log: it does not look into entries and keeps none in memory. What somebody needs of what is
//! durable is read back beside the writes ([`Lookback`]).

pub mod error;
mod extent;
pub mod format;
mod lookback;
mod preparation;
mod reader;
mod recovery;
mod retirement;
pub mod scan;
mod segment;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, future::Future, path::PathBuf, rc::Rc};

use prometheus::{Histogram, HistogramOpts, IntGauge};

pub use self::{error::WalError, format::Record, lookback::Lookback, recovery::Recovery};
use self::{
    extent::{Kept, Order, Span},
    format::{
        BATCH_HEADER_BYTES, BatchHeader, SegmentHeader, UNIT_BYTES_MAX, align_up, batch_bytes_max, salt,
    },
    preparation::Preparation,
    retirement::Retirement,
    segment::{FileOf, Segment, SegmentSpec},
};
use crate::{
    env::{Disk, Env, File, write_all},
    limits,
    types::{LogIndex, MemberId, Owner, ShardId, Term},
};

/// Smallest segment: a few batches of the largest unit.
const SEGMENT_BYTES_MIN: u64 = 16 * UNIT_BYTES_MAX as u64;

#[derive(Clone, Debug)]
pub struct WalOptions {
    /// Holds nothing but this shard's segments; locked by the caller, created if it is missing.
    pub dir: PathBuf,
    pub shard: ShardId,
    /// Whose log this is: every segment says so.
    pub owner: Owner,
    /// What is known of it before it is opened.
    pub known: Known,
    /// `--wal-segment-bytes`, a multiple of 64 KiB. Existing segments keep their size.
    pub segment_bytes: u64,
    /// `--wal-sector-size`; `None` takes what the device says, at least 4 KiB.
    pub sector_bytes: Option<u32>,
    /// False with `--unsafe-no-fsync`: completed writes may be lost with the machine.
    pub data_sync: bool,
    pub metrics: WalMetrics,
}

impl WalOptions {
    /// The defaults, with metrics nobody reads.
    pub fn new(dir: PathBuf, shard: ShardId) -> Self {
        Self {
            dir,
            shard,
            owner: Owner::default(),
            known: Known::default(),
            segment_bytes: limits::WAL_SEGMENT_BYTES,
            sector_bytes: None,
            data_sync: true,
            metrics: WalMetrics::unregistered(),
        }
    }

    fn spec(&self, sequence: u64, epoch: u64) -> SegmentSpec {
        SegmentSpec {
            dir: self.dir.clone(),
            shard: self.shard,
            owner: self.owner,
            sequence,
            epoch,
            segment_bytes: self.segment_bytes,
            sector_bytes: self.sector_bytes,
            data_sync: self.data_sync,
        }
    }

    fn check(&self) -> Result<(), WalError> {
        let step = UNIT_BYTES_MAX as u64;
        if self.segment_bytes >= SEGMENT_BYTES_MIN && self.segment_bytes.is_multiple_of(step) {
            return Ok(());
        }
        Err(WalError::Options(format!(
            "--wal-segment-bytes={}: must be a multiple of {step} and at least {SEGMENT_BYTES_MIN}",
            self.segment_bytes
        )))
    }
}

/// What somebody else remembers of a log. One that is shorter is refused.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// So many batches were durable; with none, there need not be a log.
    pub batches: u64,
    /// Where it was, for messages.
    pub place: String,
}

/// Series the log observes, one of each per write.
#[derive(Clone, Debug)]
pub struct WalMetrics {
    /// From submission until the write is durable.
    pub fsync_seconds: Histogram,
    /// Encoding and handing over, durability not awaited.
    pub write_seconds: Histogram,
    /// Bytes written, padding included.
    pub write_bytes: IntGauge,
}

impl WalMetrics {
    pub fn unregistered() -> Self {
        let histogram =
            |name| Histogram::with_opts(HistogramOpts::new(name, name)).expect("the name is valid");
        Self {
            fsync_seconds: histogram("wal_fsync_seconds"),
            write_seconds: histogram("wal_write_seconds"),
            write_bytes: IntGauge::new("wal_write_bytes", "wal_write_bytes").expect("the name is valid"),
        }
    }
}

/// The log of one shard.
pub struct Wal<E: Env> {
    env: E,
    options: WalOptions,
    current: Rc<Segment<FileOf<E>>>,
    /// Where the next batch goes.
    position: u64,
    /// Offset after the last batch in it.
    end: u64,
    next: Rc<Preparation<E>>,
    /// The segments before the current one, the oldest first.
    older: VecDeque<Kept>,
    retirement: Rc<Retirement<E>>,
    /// Entries submitted to the current segment, to the next one, and not submitted yet.
    span: Span,
    next_span: Span,
    pending_span: Span,
    order: Order,
    batch_bytes: u64,
    /// Space for the batch header, then encoded records without checksums.
    pending: Vec<u8>,
    /// Largest length `pending` may reach.
    pending_max: usize,
    pending_hard_state: Option<Record<'static>>,
    /// The latest hard state that was submitted.
    hard_state: Option<Record<'static>>,
    next_batch: u64,
    durable_batch: u64,
    in_flight: bool,
}

/// Proof that one batch is on stable storage. Give it to [`Wal::written`].
#[must_use = "the log accepts no further write until it has this"]
pub struct Written<E: Env> {
    batch: u64,
    /// Offset after the batch.
    end: u64,
    /// The segment it went to, if that is a new one.
    segment: Option<Rc<Segment<FileOf<E>>>>,
    /// Bytes written, padding included.
    pub bytes: usize,
}

/// Where a write goes.
enum Target<E: Env> {
    Current { segment: Rc<Segment<FileOf<E>>>, offset: u64, buffer: <FileOf<E> as File>::Buffer },
    Next { preparation: Rc<Preparation<E>>, content: Vec<u8> },
}

impl<E: Env> Wal<E> {
    /// Refuses if there should be a log and there is none, before anything is made. [`Wal::open`] does the same.
    pub async fn look(env: &E, options: &WalOptions) -> Result<(), WalError> {
        match env.disk().list(&options.dir).await {
            Ok(_) => recovery::look(env, options).await.map(drop),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => recovery::require(options, &[]),
            Err(error) => Err(WalError::from_io("list", &options.dir, error)),
        }
    }

    /// Opens the log, or creates it in an empty directory. Every record that survived is handed to
    /// `replay` in the order it was appended. An error of `replay` ends the opening.
    ///
    /// What the replay may expect:
    /// - An entry whose index is not above the one before it replaces the tail from there on; the last
    ///   hard state counts, and it may come more than once.
    /// - An entry's index is at most one above that of the entry before it, or exactly one above the
    ///   commit of the last hard state, if that is beyond all entries so far: then those before it do
    ///   not connect to it. Anything else is refused here.
    /// - The first entry may have any index. Every entry that was durable and is not below the highest
    ///   `keep_from` of [`Wal::cut`] comes; which lower ones come is open. The first one need not be the
    ///   lowest: a replaced tail may reach below it, and then nothing before it counts any more.
    /// - If the front of the log was cut, a hard state comes before the first entry (unless none was ever
    ///   appended before that). It is an earlier one, repeated: all entries up to its commit were appended
    ///   before it, so they may be missing and never follow it, and its commit may be below what a later
    ///   checkpoint holds.
    /// - There may be hard states only, whatever their commit: a log that begins after a checkpoint.
    pub async fn open(
        env: E,
        options: WalOptions,
        replay: impl FnMut(Record<'_>) -> Result<(), WalError>,
    ) -> Result<(Self, Recovery), WalError> {
        options.check()?;
        let dir = &options.dir;
        env.disk().create_dir(dir).await.map_err(|e| WalError::from_io("create the directory", dir, e))?;
        let resumed = recovery::recover(&env, &options, replay).await?;
        let current = resumed.current;
        let retirement = Retirement::new(&env, dir, options.segment_bytes);
        let next = resumed.prepared.unwrap_or_else(|| {
            let spec = options.spec(current.header.sequence + 1, env.random_u64());
            Preparation::start(&env, spec, &retirement)
        });
        let unit =
            segment::unit_for(options.sector_bytes, current.file.unit())?.max(current.header.unit as usize);
        let batch_max = batch_bytes_max(options.segment_bytes) as usize / unit * unit;
        // A hard state is added when the batch opens a segment.
        let pending_max = batch_max - HARD_STATE.encoded_bytes();
        let mut wal = Self {
            env,
            options,
            current,
            position: resumed.position,
            end: resumed.end,
            next,
            older: resumed.older,
            retirement,
            span: resumed.span,
            next_span: Span::default(),
            pending_span: Span::default(),
            order: resumed.order,
            batch_bytes: resumed.batch_bytes,
            pending: Vec::new(),
            pending_max,
            pending_hard_state: None,
            hard_state: resumed.hard_state,
            next_batch: resumed.next_batch,
            durable_batch: resumed.next_batch - 1,
            in_flight: false,
        };
        wal.reset_pending();
        if resumed.recovery.segments > 0 {
            let written = wal.submit_batch().await?;
            wal.written(written);
        }
        Ok((wal, resumed.recovery))
    }

    /// Adds a record to the pending batch. It must fit (see [`Wal::room`]) and come in an order that
    /// [`Wal::open`] accepts. The first entry of a log may have any index: that of a member that begins
    /// with a checkpoint follows a hard state with the checkpoint's index as its commit.
    pub fn append(&mut self, record: Record<'_>) {
        assert!(
            record.encoded_bytes() <= self.room(),
            "a record of {} bytes with room for {}",
            record.encoded_bytes(),
            self.room()
        );
        if let Record::HardState { term, vote, commit } = record {
            self.pending_hard_state = Some(Record::HardState { term, vote, commit });
        }
        let ordered = self.order.take(&record, &mut self.pending_span);
        assert!(ordered.is_ok(), "the log would not open again: {ordered:?}");
        format::encode_record(record, &mut self.pending);
    }

    /// Encoded bytes of records not yet submitted.
    pub fn pending_bytes(&self) -> usize {
        self.pending.len() - BATCH_HEADER_BYTES
    }

    /// Encoded bytes ([`Record::encoded_bytes`]) that can still be appended before the next submission.
    pub fn room(&self) -> usize {
        self.pending_max - self.pending.len()
    }

    /// The same when nothing is pending: no single record can be larger.
    pub fn room_max(&self) -> usize {
        self.pending_max - BATCH_HEADER_BYTES
    }

    pub fn in_flight(&self) -> bool {
        self.in_flight
    }

    /// Makes one write of everything pending; `None` if there is nothing or a write is in flight.
    ///
    /// The write leaves when the future is first polled. The future owns its buffer and borrows nothing.
    /// It must run to its end: dropped earlier, the log stays "in flight" and accepts no other write.
    /// After an error the shard must stop: what reached the disk is unknown.
    pub fn submit(&mut self) -> Option<impl Future<Output = Result<Written<E>, WalError>> + use<E>> {
        if self.in_flight || self.pending_bytes() == 0 {
            return None;
        }
        Some(self.submit_batch())
    }

    /// Accounts for a completed write: what was in it is durable, and the next one may be submitted.
    pub fn written(&mut self, written: Written<E>) {
        assert!(self.in_flight, "batch {} was never submitted", written.batch);
        assert_eq!(written.batch, self.durable_batch + 1, "batches become durable in order");
        assert_eq!(written.batch + 1, self.next_batch, "one write is in flight");
        self.in_flight = false;
        self.durable_batch = written.batch;
        if let Some(segment) = written.segment {
            assert_eq!(
                segment.header.sequence,
                self.current.header.sequence + 1,
                "segments follow each other"
            );
            let spec = self.options.spec(segment.header.sequence + 1, self.env.random_u64());
            let SegmentHeader { sequence, segment_bytes: bytes, .. } = self.current.header;
            self.older.push_back(Kept { sequence, bytes, end: self.end, span: self.span });
            self.span = std::mem::take(&mut self.next_span);
            self.current = segment;
            self.next = Preparation::start(&self.env, spec, &self.retirement);
            self.position = u64::from(self.current.header.unit);
        }
        assert!(written.end > self.position && written.end <= self.current.header.segment_bytes);
        (self.position, self.end) = (written.end, written.end);
        self.batch_bytes += written.bytes as u64;
    }

    /// Lets go of the segments that hold no entry from `keep_from` on: a checkpoint covers everything
    /// below it, durably, and those entries are committed. Whole segments go, from the front, and never
    /// the current one. Returns at once; in the background the files become the next segments, or their
    /// space is given back slowly. A crash may bring back what was cut, from some segment on.
    pub fn cut(&mut self, keep_from: LogIndex) {
        let released = extent::release(&mut self.older, keep_from);
        self.retirement.release(released);
    }

    /// The first entry that [`Wal::cut`] may keep for no more than so many bytes of full segments.
    pub fn first_within(&self, bytes: u64) -> LogIndex {
        extent::first_within(&self.older, bytes)
    }

    /// Bytes durably appended, padding included; only ever grows. It begins with what the log held when
    /// it was opened. The difference to an earlier value is what was appended since.
    pub fn appended_bytes(&self) -> u64 {
        self.batch_bytes
    }

    /// Batches that are durable. Remembered elsewhere, for [`WalOptions::known`], they bound the log from below.
    pub fn durable_batches(&self) -> u64 {
        self.durable_batch
    }

    /// Writes what is pending and closes the files; how many batches the log has then. No write may be in flight.
    ///
    /// The last batch is empty if nothing is pending: it proves that the one before it was durable, so
    /// that damage to it is found at the next start.
    pub async fn close(mut self) -> Result<u64, WalError> {
        assert!(!self.in_flight, "the log is closed after its last write");
        let written = self.submit_batch().await?;
        self.written(written);
        self.next.stop().await?;
        self.retirement.stop().await;
        segment::close(self.current).await?;
        Ok(self.durable_batch)
    }

    fn submit_batch(&mut self) -> impl Future<Output = Result<Written<E>, WalError>> + use<E> {
        assert!(!self.in_flight && self.durable_batch + 1 == self.next_batch);
        let submitted = self.env.now();
        let batch = self.next_batch;
        let target = self.target(batch);
        self.next_batch += 1;
        self.in_flight = true;
        let metrics = self.options.metrics.clone();
        metrics.write_seconds.observe(self.env.now().since(submitted).as_secs_f64());
        let (env, is_durable) = (self.env.clone(), self.options.data_sync);
        async move {
            let (segment, offset, buffer, is_new) = match target {
                Target::Current { segment, offset, buffer } => (segment, offset, buffer, false),
                Target::Next { preparation, content } => {
                    let segment = preparation.wait().await?;
                    let unit = u64::from(segment.header.unit);
                    let bytes = align_up(content.len() as u64, unit) as usize;
                    let buffer = segment.file.buffer(&content, bytes);
                    (segment, unit, buffer, true)
                }
            };
            let bytes = buffer.as_ref().len();
            write_all(&env, &segment.file, &segment.path, buffer, offset).await?;
            let took = env.now().since(submitted);
            metrics.fsync_seconds.observe(took.as_secs_f64());
            if is_durable && took > limits::SLOW_LOG_WRITE {
                tracing::warn!(?took, "expected-duration" = ?limits::SLOW_LOG_WRITE, "slow fdatasync");
            }
            metrics.write_bytes.add(bytes as i64);
            Ok(Written { batch, end: offset + bytes as u64, segment: is_new.then_some(segment), bytes })
        }
    }

    /// Seals the pending batch for the segment that has room for it.
    fn target(&mut self, batch: u64) -> Target<E> {
        let header = &self.current.header;
        let bytes = align_up(self.pending.len() as u64, u64::from(header.unit));
        let span = std::mem::take(&mut self.pending_span);
        let target = if self.position + bytes <= header.segment_bytes {
            self.span.extend(span);
            let segment = Rc::clone(&self.current);
            self.seal(batch, segment.header.epoch);
            let buffer = segment.file.buffer(&self.pending, bytes as usize);
            Target::Current { segment, offset: self.position, buffer }
        } else {
            self.repeat_hard_state();
            self.next_span = span;
            self.seal(batch, self.next.epoch());
            let content = std::mem::take(&mut self.pending);
            Target::Next { preparation: Rc::clone(&self.next), content }
        };
        self.hard_state = self.pending_hard_state.take().or(self.hard_state);
        self.reset_pending();
        target
    }

    /// Puts the hard state of earlier batches before the first record of a segment.
    fn repeat_hard_state(&mut self) {
        if let Some(record) = self.hard_state {
            let mut content = Vec::with_capacity(self.pending.len() + record.encoded_bytes());
            content.resize(BATCH_HEADER_BYTES, 0);
            format::encode_record(record, &mut content);
            content.extend_from_slice(&self.pending[BATCH_HEADER_BYTES..]);
            self.pending = content;
        }
    }

    fn seal(&mut self, batch: u64, epoch: u64) {
        let (header, records) = self.pending.split_at_mut(BATCH_HEADER_BYTES);
        let count = format::seal_records(records, salt(epoch, batch));
        let bytes = u32::try_from(records.len()).expect("a batch is bounded far below 4 GiB");
        let fields = BatchHeader { sequence: batch, durable: self.durable_batch, bytes, records: count };
        header.copy_from_slice(&fields.encode(epoch));
    }

    fn reset_pending(&mut self) {
        self.pending.clear();
        self.pending.resize(BATCH_HEADER_BYTES, 0);
    }
}

/// Any hard state: they all take the same space.
const HARD_STATE: Record<'static> =
    Record::HardState { term: Term(0), vote: MemberId(0), commit: LogIndex(0) };
