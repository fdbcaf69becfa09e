//! The store: log and index together, the current revision and reads at a revision.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use bytes::Bytes;

use super::{
    Record, Span,
    compaction::Sweep,
    index::{Builder, Hits, Index},
    log::{self, Log, Pos},
    write::Written,
};
use crate::{
    block::{Block, BlockChange, SpaceId},
    state::space::{Space, Unsaved},
    types::Revision,
};

/// The history's own.
pub const SPACE: SpaceId = SpaceId(1);

/// A revision that cannot be read or compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("required revision has been compacted")]
    Compacted,
    #[error("required revision is a future revision")]
    FutureRevision,
    /// The pin is of another store, in whose place this one was put.
    #[error("the store was replaced")]
    Replaced,
}

/// What a checkpoint has of a store besides chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub revision: i64,
    /// [`Store::compacted`].
    pub compacted: i64,
    /// The revision up to which compaction has freed everything it may.
    pub freed: i64,
    /// Id the next chunk of versions will have.
    pub next_chunk: u64,
}

impl Mark {
    const BYTES: usize = 32;

    /// Its four numbers, little-endian.
    pub fn encode(&self) -> Vec<u8> {
        let Self { revision, compacted, freed, next_chunk } = *self;
        [revision, compacted, freed, next_chunk as i64].into_iter().flat_map(i64::to_le_bytes).collect()
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let (numbers, _) = bytes.as_chunks::<8>();
        let [revision, compacted, freed, next_chunk] =
            std::array::from_fn(|at| i64::from_le_bytes(numbers[at]));
        Some(Self { revision, compacted, freed, next_chunk: next_chunk as u64 })
    }
}

/// Every version of every key since the last compaction.
pub struct Store {
    pub(super) log: Log,
    pub(super) index: Index,
    pub(super) sweep: Sweep,
    pub(super) revision: i64,
    /// -1 until the first compaction, as in etcd (storage/mvcc/kvstore.go): revision 0 can be compacted, once.
    compacted: i64,
    pub(super) live_keys: u64,
    /// Where the newest state ends: a write that pauses has gone on behind it.
    pub(super) until: Pos,
    /// A write pauses.
    pub(super) is_paused: bool,
    pins: Rc<RefCell<BTreeMap<i64, usize>>>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            log: Log::default(),
            index: Index::default(),
            sweep: Sweep::default(),
            revision: 1,
            compacted: -1,
            live_keys: 0,
            until: Pos::END,
            is_paused: false,
            pins: Rc::default(),
        }
    }
}

/// A store on its way from a checkpoint's blocks to one that can be used.
#[derive(Default)]
pub struct Loading {
    log: log::Loading,
    index: Builder,
    /// Versions that name a lease.
    leased: Vec<Pos>,
}

impl Loading {
    /// `bytes`: of all blocks to come.
    pub fn expect(&mut self, bytes: usize) {
        self.index.expect(bytes);
    }

    /// Adds a block, in any order. Reads every record of it once.
    pub fn take(&mut self, block: &Block) -> Result<(), &'static str> {
        let Self { log, index, leased } = self;
        log.take(block, |pos, record| {
            index.take(pos, record.key);
            if record.lease != 0 {
                leased.push(pos);
            }
        })
    }

    /// Where the versions lie that name a lease; see [`Store::attachment`].
    pub fn take_leased(&mut self) -> Vec<Pos> {
        std::mem::take(&mut self.leased)
    }

    /// The store the checkpoint was made of.
    pub fn finish(self, mark: Mark) -> Store {
        let log = self.log.finish(mark.next_chunk);
        let (index, live_keys) = self.index.finish(&log);
        Store {
            sweep: Sweep::from(mark.freed),
            revision: mark.revision,
            compacted: mark.compacted,
            live_keys,
            log,
            index,
            ..Store::default()
        }
    }
}

impl Store {
    /// What a checkpoint of this moment needs besides blocks.
    pub fn mark(&self) -> Mark {
        assert!(!self.is_paused, "a checkpoint has no half of a write");
        Mark {
            revision: self.revision,
            compacted: self.compacted,
            freed: self.sweep.done(),
            next_chunk: self.log.next_chunk(),
        }
    }

    pub fn revision(&self) -> Revision {
        Revision(self.revision)
    }

    /// The revision of the last accepted compaction, -1 before the first.
    pub fn compacted(&self) -> Revision {
        Revision(self.compacted)
    }

    /// Keys that exist now.
    pub fn live_keys(&self) -> u64 {
        self.live_keys
    }

    /// Bytes of all versions, those included that wait to be freed.
    pub fn bytes(&self) -> usize {
        self.log.bytes()
    }

    /// Bytes of the versions that can still be read.
    pub fn bytes_in_use(&self) -> usize {
        self.log.bytes() - self.log.dead_bytes()
    }

    /// The newest state. What a write has done that pauses is not part of it.
    #[inline]
    pub fn now(&self) -> ReadView<'_> {
        self.before(self.until)
    }

    /// The state at a revision; 0 and below mean the newest (`rangeKeys` in etcd's storage/mvcc/kvstore_txn.go).
    pub fn at(&self, revision: i64) -> Result<ReadView<'_>, Error> {
        self.at_within(revision, self.revision, self.until)
    }

    /// The same where the newest state is that of revision `current` and ends at `until`.
    pub(super) fn at_within(&self, revision: i64, current: i64, until: Pos) -> Result<ReadView<'_>, Error> {
        if revision > current {
            return Err(Error::FutureRevision);
        }
        if revision <= 0 || revision == current {
            return Ok(self.before(until));
        }
        if revision < self.compacted {
            return Err(Error::Compacted);
        }
        Ok(self.before(self.log.after(revision)))
    }

    /// What the records before `until` make.
    #[inline]
    pub(super) fn before(&self, until: Pos) -> ReadView<'_> {
        ReadView { store: self, until }
    }

    /// The state that was pinned, even if its revision was compacted since.
    pub fn at_pin(&self, pin: &Pin) -> Result<ReadView<'_>, Error> {
        self.check_pin(pin)?;
        let (main, sub) = pin.until;
        let until = if main > self.revision { self.until } else { self.log.seek(main, sub) };
        Ok(self.before(until))
    }

    /// A pin holds on to one store: what it was taken of in another says nothing about this one.
    pub(super) fn check_pin(&self, pin: &Pin) -> Result<(), Error> {
        if Rc::ptr_eq(&self.pins, &pin.pins) { Ok(()) } else { Err(Error::Replaced) }
    }

    /// The versions that [`Write::end`](super::Write::end) told of, in order. Only until compaction goes on.
    pub fn versions(&self, written: Written) -> impl Iterator<Item = Record<'_>> {
        let mut records = self.log.records(written.first);
        (0..written.count).map(move |_| {
            let (_, record) = records.next().expect("what was just written is there");
            assert_eq!(record.main, written.revision.0, "versions of one revision follow each other");
            record
        })
    }

    /// Lease and key of the version at `pos`, which names one, if it is its key's newest.
    pub fn attachment(&self, pos: Pos) -> Option<(i64, &[u8])> {
        let record = self.log.get(pos);
        let versions = self.index.get(&self.log, record.key)?;
        (versions.newest() == pos).then_some((record.lease, record.key))
    }

    /// All versions from `pos` on, in order of revision, as far as the state reaches. From [`Store::seek`] or
    /// [`Written::first`]: good until compaction goes on.
    pub fn versions_from(&self, pos: Pos) -> impl Iterator<Item = (Pos, Record<'_>)> {
        self.log.records(pos).take_while(|(_, record)| record.main <= self.revision)
    }

    /// Where the first version lies that has this main and sub revision or later ones. What was written at the compacted
    /// revision and after it is there, whether compaction has freed the rest or not.
    pub fn seek(&self, main: i64, sub: i64) -> Pos {
        self.log.seek(main, sub)
    }

    /// What the key of the version at `pos` was before that version's revision: none if it did not exist, or if nobody
    /// may know any more.
    pub fn prior(&self, pos: Pos, version: &Record<'_>) -> Option<Record<'_>> {
        if version.main <= self.compacted {
            return None;
        }
        let mut before = self.index.get(&self.log, version.key)?.before(pos)?;
        loop {
            let record = self.log.get(before);
            if record.main < version.main {
                return (!record.tombstone).then_some(record);
            }
            before = self.index.get(&self.log, version.key)?.before(before)?;
        }
    }

    /// Keeps the versions visible at `revision` until the pin is dropped.
    pub fn pin(&self, revision: Revision) -> Pin {
        self.pin_until(revision, (revision.0 + 1, 0))
    }

    /// Pins what [`Store::at`] shows.
    pub fn pin_at(&self, revision: i64) -> Result<Pin, Error> {
        self.at(revision)?;
        Ok(self.pin(if revision > 0 { Revision(revision) } else { self.revision() }))
    }

    /// One more pin of what this one shows.
    pub fn pin_again(&self, pin: &Pin) -> Result<Pin, Error> {
        self.check_pin(pin)?;
        *self.pins.borrow_mut().get_mut(&pin.revision).expect("it is counted") += 1;
        Ok(Pin { revision: pin.revision, until: pin.until, pins: self.pins.clone() })
    }

    pub(super) fn pin_until(&self, revision: Revision, until: (i64, i64)) -> Pin {
        assert!(
            revision.0 <= self.revision && revision.0 >= self.compacted,
            "only a readable revision is pinned"
        );
        *self.pins.borrow_mut().entry(revision.0).or_default() += 1;
        Pin { revision: revision.0, until, pins: self.pins.clone() }
    }

    /// Makes revisions below `revision` unreadable. [`Store::compact_step`] frees them.
    pub fn compact(&mut self, revision: i64) -> Result<(), Error> {
        assert!(!self.is_paused, "one write after the other");
        if revision <= self.compacted {
            return Err(Error::Compacted);
        }
        if revision > self.revision {
            return Err(Error::FutureRevision);
        }
        self.compacted = revision;
        Ok(())
    }

    /// The revision below which versions may be freed now.
    pub(super) fn floor(&self) -> i64 {
        let pinned = self.pins.borrow().keys().next().copied();
        pinned.map_or(self.compacted, |pinned| pinned.min(self.compacted))
    }
}

/// Chunks are the blocks; see `unsaved`.
impl Space for Store {
    fn id(&self) -> SpaceId {
        SPACE
    }

    fn unsaved(&self) -> Unsaved {
        Unsaved { bytes: self.log.unsaved_bytes(), blocks: self.log.unsaved_chunks() }
    }

    fn changes(&mut self) -> Vec<BlockChange> {
        assert!(!self.is_paused, "a checkpoint has no half of a write");
        self.log.changes()
    }

    fn saved(&mut self) {
        self.log.saved();
    }

    fn not_saved(&mut self) {
        self.log.not_saved();
    }

    fn place(&mut self, number: u64, mapped: Bytes) {
        self.log.place(number, mapped);
    }

    fn facts(&self) -> Vec<u8> {
        self.mark().encode()
    }
}

/// A state that stays readable: holds back the freeing of versions. Dropping it lets go.
///
/// What is visible at a revision is not freed while compaction stays at it or before, and neither is anything newer. So
/// a moment within a transaction needs no more than the revision before.
#[derive(Debug)]
pub struct Pin {
    revision: i64,
    /// Main and sub revision of the first version that it does not show: positions change when chunks are rewritten.
    until: (i64, i64),
    pins: Rc<RefCell<BTreeMap<i64, usize>>>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.pins.borrow_mut();
        let count = pins.get_mut(&self.revision).expect("a pin is counted while it lives");
        *count -= 1;
        if *count == 0 {
            pins.remove(&self.revision);
        }
    }
}

/// The store as of one revision.
#[derive(Clone, Copy)]
pub struct ReadView<'a> {
    store: &'a Store,
    until: Pos,
}

impl<'a> ReadView<'a> {
    /// Where the key's version lies, if it exists.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<Pos> {
        self.store.index.get(&self.store.log, key)?.before(self.until).filter(|pos| !pos.is_tombstone())
    }

    pub fn get(&self, key: &[u8]) -> Option<Record<'a>> {
        self.find(key).map(|pos| self.record(pos))
    }

    /// The span's keys in order, keys included that do not exist at this revision. Looks at no record.
    pub fn scan(&self, span: Span<'a>) -> Hits<'a> {
        self.store.index.scan(&self.store.log, span, self.until)
    }

    #[inline]
    pub fn record(&self, pos: Pos) -> Record<'a> {
        self.store.log.get(pos)
    }

    /// A part of the record at `pos`, shared where possible.
    pub fn share(&self, pos: Pos, part: &[u8]) -> Bytes {
        self.store.log.share(pos, part)
    }
}
