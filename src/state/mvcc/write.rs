//! Write transactions: all changes of one get one main revision and ascending sub revisions.
//!
//! What a write does is visible to its own reads at once, and to everybody else when it ends. There is no rollback, so
//! everything that can be refused is refused before the first change.
//!
//! A long write pauses ([`Write::pause`]) and is taken up again ([`Store::resume`]). Meanwhile the store is as it was
//! before it: its records lie in the log behind what a view of the newest state looks at. No other write begins, nothing
//! is freed or moved, and no checkpoint takes what changed.

use super::{
    Record, Span,
    index::{Place, Versions},
    log::Pos,
    store::{Error, Pin, ReadView, Store},
};
use crate::types::Revision;

/// A write transaction under way, with the store at hand.
pub struct Write<'a> {
    store: &'a mut Store,
    writing: Writing,
}

/// A write transaction that pauses. Until it ends, no other may begin.
#[derive(Debug)]
#[must_use = "a write that was begun is ended"]
pub struct Writing {
    next: i64,
    changes: i64,
    first: Option<Pos>,
    /// Keys that exist since it began, less those that do not any more.
    appeared: i64,
}

/// The versions of one revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    pub revision: Revision,
    /// Where the first one lies; the others follow it.
    pub(super) first: Pos,
    pub count: i64,
}

impl Written {
    /// Where the first version lies, until compaction goes on.
    pub fn first(&self) -> Pos {
        self.first
    }
}

/// How far a deletion has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Keys that were deleted.
    pub count: i64,
    /// Keys that were looked at.
    pub seen: usize,
    /// The key to go on with; none: nothing of the span is left.
    pub next: Option<Vec<u8>>,
    /// Those that named a lease, and which.
    pub leased: Vec<(i64, Vec<u8>)>,
}

impl Store {
    /// Begins a write transaction at the next revision.
    pub fn write(&mut self) -> Write<'_> {
        assert!(!self.is_paused, "one write after the other");
        let writing = Writing { next: self.revision + 1, changes: 0, first: None, appeared: 0 };
        Write { store: self, writing }
    }

    /// Goes on with a write that pauses.
    pub fn resume(&mut self, writing: Writing) -> Write<'_> {
        assert!(self.is_paused && writing.next == self.revision + 1, "it is this store's write that pauses");
        (self.until, self.is_paused) = (Pos::END, false);
        Write { store: self, writing }
    }

    /// Whether a write pauses: what it did is in the log, and not part of the state.
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }
}

impl Write<'_> {
    /// The revision the transaction's reads and responses see: the next one as soon as something changed.
    pub fn revision(&self) -> i64 {
        if self.writing.changes == 0 { self.writing.next - 1 } else { self.writing.next }
    }

    /// The revision that puts get.
    pub fn next_revision(&self) -> i64 {
        self.writing.next
    }

    /// The newest state, own changes included.
    pub fn now(&self) -> ReadView<'_> {
        self.store.before(Pos::END)
    }

    /// Like [`Store::at`], with the transaction's own changes at [`Write::revision`].
    pub fn at(&self, revision: i64) -> Result<ReadView<'_>, Error> {
        self.store.at_within(revision, self.revision(), Pos::END)
    }

    /// Pins what [`Write::now`] shows: no change that follows will be seen.
    pub fn pin(&self) -> Pin {
        self.store.pin_until(self.store.revision(), (self.writing.next, self.writing.changes))
    }

    /// Pins what [`Write::at`] shows.
    pub fn pin_at(&self, revision: i64) -> Result<Pin, Error> {
        if revision > 0 && revision < self.writing.next {
            return self.store.pin_at(revision);
        }
        self.at(revision)?;
        Ok(self.pin())
    }

    /// Gives the lease that the version before names; 0 if there was none.
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: i64) -> i64 {
        let place = self.store.index.locate(&self.store.log, key);
        let newest = self.store.index.at(place).map(Versions::newest).filter(|pos| !pos.is_tombstone());
        let main = self.writing.next;
        let (create, version, before) = match newest.map(|pos| self.store.log.get(pos)) {
            Some(prior) => (prior.create, prior.version + 1, prior.lease),
            None => (main, 1, 0),
        };
        let sub = self.writing.changes;
        let record = Record { main, sub, create, version, lease, tombstone: false, key, value };
        let pos = self.append(&record);
        self.store.index.push(&self.store.log, place, key, pos);
        self.writing.appeared += i64::from(newest.is_none());
        before
    }

    fn append(&mut self, record: &Record<'_>) -> Pos {
        let pos = self.store.log.append(record);
        self.writing.first.get_or_insert(pos);
        self.writing.changes += 1;
        pos
    }

    /// Deletes what exists in the span, in key order, as far as `keys` keys reach (one at least).
    pub fn delete(&mut self, span: Span<'_>, keys: usize) -> Deleted {
        let (mut doomed, mut seen, mut next) = (Vec::new(), 0, None);
        let view = self.now();
        for hit in view.scan(span) {
            if seen == keys.max(1) {
                next = Some(view.record(hit.pos).key.to_vec());
                break;
            }
            seen += 1;
            doomed.extend(hit.exists.then_some(hit.pos));
        }
        let (mut key, mut leased) = (Vec::new(), Vec::new());
        for pos in &doomed {
            key.clear();
            key.extend_from_slice(self.store.log.key(*pos));
            if let Some(lease) = self.store.log.lease(*pos) {
                leased.push((lease, key.clone()));
            }
            let place = self.store.index.locate(&self.store.log, &key);
            self.bury(&key, place);
        }
        Deleted { count: doomed.len() as i64, seen, next, leased }
    }

    /// Deletes a key, if it exists.
    pub fn delete_key(&mut self, key: &[u8]) {
        let place = self.store.index.locate(&self.store.log, key);
        if self.store.index.at(place).is_some_and(|versions| !versions.newest().is_tombstone()) {
            self.bury(key, place);
        }
    }

    /// A key that exists does not any more.
    fn bury(&mut self, key: &[u8], place: Place) {
        let (main, sub) = (self.writing.next, self.writing.changes);
        let tombstone = self.append(&Record { main, sub, tombstone: true, key, ..Record::default() });
        self.store.index.push(&self.store.log, place, key, tombstone);
        self.writing.appeared -= 1;
    }

    /// Lets others have their turn.
    pub fn pause(self) -> Writing {
        self.store.until = self.writing.first.unwrap_or(Pos::END);
        self.store.is_paused = true;
        self.writing
    }

    /// Ends the transaction; the revision grows if it changed anything, which is what it tells of.
    pub fn end(self) -> Option<Written> {
        let revision = self.revision();
        let Self { store, writing: Writing { changes, first, appeared, .. } } = self;
        store.revision = revision;
        store.live_keys = store.live_keys.checked_add_signed(appeared).expect("only what exists is deleted");
        Some(Written { revision: Revision(revision), first: first?, count: changes })
    }
}
