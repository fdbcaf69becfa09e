//! The replicated state: applies committed requests in log order, answers reads.

use bytes::Bytes;

use super::{Alarms, Error, Request, Response, cost, range::Evaluation, txn, validate};
use crate::{
    pb::etcdserverpb::{self as pb, AlarmType},
    state::mvcc::{Change, Freed, HashCursor, HashKv, HistoryCursor, Mark, Record, Span, Store},
    types::{LogIndex, Revision},
};

/// One keyspace's state. Headers of its responses carry only the revision.
#[derive(Default)]
pub struct StateMachine {
    store: Store,
    alarms: Alarms,
    applied: LogIndex,
}

impl StateMachine {
    pub fn new() -> Self {
        Self::default()
    }

    /// The state a checkpoint was made of: it has everything up to entry `applied`.
    pub fn load(applied: LogIndex, alarms: Alarms, store: Store) -> Self {
        Self { store, alarms, applied }
    }

    /// Applies the request of log entry `index`; an entry may carry several. An error changes nothing but
    /// [`StateMachine::applied`].
    pub fn apply(&mut self, index: LogIndex, request: &Request) -> Result<Response, Error> {
        self.mark_applied(index);
        self.check_alarms(request)?;
        Ok(match request {
            Request::Put(put) => Response::Put(txn::put(&mut self.store, put)?),
            Request::DeleteRange(delete) => Response::DeleteRange(txn::delete_range(&mut self.store, delete)),
            Request::Txn(request) => Response::Txn(txn::write(&mut self.store, request)?),
            Request::Compact(compact) => {
                self.store.compact(compact.revision)?;
                let header = Some(super::range::header(self.store.revision().0));
                Response::Compact(pb::CompactionResponse { header })
            }
            Request::Alarm(request) => {
                let header = Some(super::range::header(self.store.revision().0));
                Response::Alarm(pb::AlarmResponse { header, alarms: self.alarms.apply(request) })
            }
        })
    }

    /// What is refused while an alarm is on. Reads that do not go through the log are served, as in etcd.
    fn check_alarms(&self, request: &Request) -> Result<(), Error> {
        if matches!(request, Request::Alarm(_)) {
            return Ok(());
        }
        if self.alarms.is_on(AlarmType::Corrupt) {
            return Err(Error::Corrupt);
        }
        let adds = match request {
            Request::Put(_) => true,
            Request::Txn(request) => cost::txn(request) > 0,
            Request::DeleteRange(_) | Request::Compact(_) | Request::Alarm(_) => false,
        };
        if adds && self.alarms.is_on(AlarmType::Nospace) { Err(Error::NoSpace) } else { Ok(()) }
    }

    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// Begins a walk over the whole history as of now.
    pub fn history(&self) -> HistoryCursor {
        HistoryCursor::new(&self.store)
    }

    /// Goes on with it by about `budget` bytes; true when nothing is left.
    pub fn history_step<E>(
        &self,
        cursor: &mut HistoryCursor,
        budget: usize,
        take: impl FnMut(&Record<'_>) -> Result<(), E>,
    ) -> Result<bool, E> {
        cursor.step(&self.store, budget, take)
    }

    /// An entry without requests was applied.
    pub fn mark_applied(&mut self, index: LogIndex) {
        assert!(index >= self.applied, "entries are applied in log order");
        self.applied = index;
    }

    /// A range answered at once, for spans known to be small. Others use a [`RangeCursor`](super::RangeCursor).
    pub fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        let snapshot = self.store.at(request.revision)?;
        Ok(Evaluation::new(request, self.store.revision().0, true).run(&snapshot))
    }

    /// A transaction for which [`validate::is_read_only`] holds.
    pub fn read_txn(&self, request: &pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        assert!(validate::is_read_only(request), "a transaction that may write goes through the log");
        txn::read(&self.store, request)
    }

    pub fn revision(&self) -> Revision {
        self.store.revision()
    }

    /// -1 before the first compaction.
    pub fn compact_revision(&self) -> Revision {
        self.store.compacted()
    }

    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    /// Bytes of all versions, those included that wait to be freed.
    pub fn size_bytes(&self) -> u64 {
        self.store.bytes() as u64
    }

    /// Bytes of the versions that can still be read.
    pub fn size_in_use_bytes(&self) -> u64 {
        self.store.bytes_in_use() as u64
    }

    /// Keys that exist now.
    pub fn key_count(&self) -> u64 {
        self.store.live_keys()
    }

    /// One slice of physical compaction, about `budget_keys` records. Has no influence on any response.
    pub fn compact_step(&mut self, budget_keys: usize, may_rewrite: bool) -> Freed {
        self.store.compact_step(budget_keys, may_rewrite)
    }

    /// What a checkpoint of this moment needs besides [`StateMachine::changes`].
    pub fn mark(&self) -> Mark {
        self.store.mark()
    }

    /// Bytes of versions no checkpoint has yet.
    pub fn unsaved_bytes(&self) -> usize {
        self.store.unsaved_bytes()
    }

    /// Upper bound of the number of changes a checkpoint would have now.
    pub fn unsaved_chunks(&self) -> usize {
        self.store.unsaved_chunks()
    }

    /// See [`Store::changes`].
    pub fn changes(&mut self) -> Vec<Change> {
        self.store.changes()
    }

    /// The last changes are durable.
    pub fn saved(&mut self) {
        self.store.saved();
    }

    /// The last changes did not become durable.
    pub fn not_saved(&mut self) {
        self.store.not_saved();
    }

    /// See [`Store::place`].
    pub fn place(&mut self, chunk: u64, mapped: Bytes) {
        self.store.place(chunk, mapped);
    }

    /// Has the next steps of physical compaction leave nothing that can be freed.
    pub fn defragment(&mut self) {
        self.store.defragment();
    }

    /// Whether [`StateMachine::compact_step`] has something to do now.
    pub fn compaction_is_due(&self) -> bool {
        self.store.compaction_is_due()
    }

    /// Versions that physical compaction has freed so far.
    pub fn freed_versions(&self) -> u64 {
        self.store.freed_versions()
    }

    /// Begins a hash of all versions up to a revision, 0 for the newest.
    pub fn hash_kv(&self, revision: i64) -> Result<HashCursor, Error> {
        Ok(HashCursor::new(&self.store, revision)?)
    }

    /// Goes on with it by about `budget` bytes.
    pub fn hash_step(&self, cursor: &mut HashCursor, budget: usize) -> Option<HashKv> {
        cursor.step(&self.store, budget)
    }

    /// Whether a range over this request's keys can be long.
    pub fn is_point(request: &pb::RangeRequest) -> bool {
        matches!(Span::new(&request.key, &request.range_end), Span::One(_))
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }
}
