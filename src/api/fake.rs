//! A keyspace for tests of what is above it: one map, no history, no log.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use bytes::Bytes;
use prost::Message;

use super::{Backup, Chunks, Keyspace, List};
use crate::{
    backup::Facts,
    limits,
    pb::{etcdserverpb as pb, mvccpb::KeyValue},
    shard::{BackupError, Error, Status},
    state::{
        Command, Context, Outcome, Principal, StateMachine, cluster::Alarms, kv::RangeAnswer, mvcc::HashKv,
    },
    types::{ClusterId, LogIndex, MemberId, Revision, Term},
};

pub(crate) const CLUSTER: u64 = 0xcdf8_1811_94e3_2c9d;
pub(crate) const MEMBER: u64 = 0x8e9e_05c5_2164_694d;
pub(crate) const TERM: u64 = 7;

#[derive(Clone, Default)]
pub(crate) struct Fake(Rc<State>);

#[derive(Default)]
struct State {
    state: RefCell<StateMachine>,
    error: Cell<Option<Error>>,
    stalled: Cell<bool>,
    leaderless: Cell<bool>,
    empty: Cell<bool>,
    /// How often a read had to be linearizable, and what went through the log.
    linearized: Cell<usize>,
    written: Cell<usize>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Every call fails with it from now on.
    pub(crate) fn fail(&self, error: Error) {
        self.0.error.set(Some(error));
    }

    /// No call is ever answered from now on.
    pub(crate) fn stall(&self) {
        self.0.stalled.set(true);
    }

    /// Occupies nothing.
    pub(crate) fn empty(&self) {
        self.0.empty.set(true);
    }

    /// As if these had been raised.
    pub(crate) fn raise(&self, alarms: &[pb::AlarmMember]) {
        for alarm in alarms {
            let raise = pb::AlarmRequest { action: 1, member_id: alarm.member_id, alarm: alarm.alarm };
            let mut state = self.0.state.borrow_mut();
            state
                .apply(&raise, Context::asked_by(&Principal::default()), &mut Outcome::default())
                .expect("an alarm is raised");
        }
    }

    pub(crate) fn lose_leader(&self) {
        self.0.leaderless.set(true);
    }

    pub(crate) fn written(&self) -> usize {
        self.0.written.get()
    }

    pub(crate) fn linearized(&self) -> usize {
        self.0.linearized.get()
    }

    async fn gate(&self) -> Result<(), Error> {
        if self.0.stalled.get() {
            std::future::pending::<()>().await;
        }
        match self.0.error.get() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn header(&self) -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader { revision: self.0.state.borrow().revision().0, ..Default::default() })
    }
}

/// Two keys a chunk.
pub(crate) struct FakeChunks {
    left: std::vec::IntoIter<pb::RangeResponse>,
}

impl Chunks for FakeChunks {
    async fn next(&mut self) -> Option<Result<pb::RangeResponse, Error>> {
        self.left.next().map(Ok)
    }
}

/// A pair a piece, the last one first.
pub(crate) struct FakeList {
    header: Option<pb::ResponseHeader>,
    left: Vec<Bytes>,
}

impl List for FakeList {
    fn header_mut(&mut self) -> &mut Option<pb::ResponseHeader> {
        &mut self.header
    }

    fn encoded_len(&self) -> usize {
        let head = pb::RangeResponse { header: self.header, ..Default::default() };
        head.encoded_len() + self.left.iter().map(Bytes::len).sum::<usize>()
    }

    async fn next(&mut self, _: usize, pieces: &mut Vec<Bytes>) -> Result<bool, Error> {
        if self.header.is_some() {
            let head = pb::RangeResponse { header: self.header.take(), ..Default::default() };
            pieces.push(head.encode_to_vec().into());
        }
        pieces.extend(self.left.pop());
        Ok(!self.left.is_empty())
    }
}

/// Two pieces and a digest.
pub(crate) struct FakeBackup(Vec<Bytes>);

impl Backup for FakeBackup {
    fn bytes(&self) -> u64 {
        40_000
    }

    async fn next(&mut self) -> Option<Result<Bytes, BackupError>> {
        self.0.pop().map(Ok)
    }
}

impl Keyspace for Fake {
    type Chunks = FakeChunks;
    type List = FakeList;
    type Backup = FakeBackup;

    async fn backup(&self, _: Facts) -> Result<FakeBackup, BackupError> {
        let piece = |bytes: usize| Bytes::from(vec![bytes as u8; bytes]);
        Ok(FakeBackup(vec![piece(32), piece(40_000 - 32_768), piece(32_768)]))
    }

    async fn write<C: Command>(&self, principal: &Principal, command: C) -> Result<C::Answer, Error> {
        self.gate().await?;
        self.0.written.set(self.0.written.get() + 1);
        let mut state = self.0.state.borrow_mut();
        Ok(state.apply(&command, Context::asked_by(principal), &mut Outcome::default())?)
    }

    async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        self.gate().await?;
        if !request.serializable {
            self.0.linearized.set(self.0.linearized.get() + 1);
        }
        Ok(self.0.state.borrow().range(&request)?)
    }

    async fn list(&self, request: pb::RangeRequest) -> Result<RangeAnswer<FakeList>, Error> {
        let response = self.range(request).await?;
        if response.kvs.len() < 2 || response.encoded_len() <= limits::RANGE_KEPT_BYTES {
            return Ok(RangeAnswer::Whole(response));
        }
        let pairs =
            response.kvs.iter().map(|kv| pb::RangeResponse { kvs: vec![kv.clone()], ..Default::default() });
        let tail = pb::RangeResponse { more: response.more, count: response.count, ..Default::default() };
        let mut left: Vec<Bytes> = pairs.chain([tail]).map(|part| part.encode_to_vec().into()).collect();
        left.reverse();
        Ok(RangeAnswer::Long(FakeList { header: response.header, left }))
    }

    async fn range_stream(&self, request: pb::RangeRequest, _: usize) -> Result<FakeChunks, Error> {
        let whole = self.range(request).await?;
        let chunk = |kvs: &[KeyValue]| pb::RangeResponse { kvs: kvs.to_vec(), ..Default::default() };
        let mut chunks: Vec<_> = whole.kvs.chunks(2).map(chunk).collect();
        if chunks.is_empty() {
            chunks.push(chunk(&[]));
        }
        let last = chunks.last_mut().expect("there is one at least");
        (last.header, last.count, last.more) = (whole.header, whole.count, whole.more);
        Ok(FakeChunks { left: chunks.into_iter() })
    }

    async fn read_txn(&self, _: pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        self.gate().await?;
        Ok(pb::TxnResponse { header: self.header(), succeeded: false, responses: Vec::new() })
    }

    async fn linearize(&self) -> Result<(), Error> {
        self.gate().await?;
        self.0.linearized.set(self.0.linearized.get() + 1);
        Ok(())
    }

    async fn defragment(&self) -> Result<(), Error> {
        self.gate().await
    }

    async fn hash_kv(&self, revision: i64) -> Result<(HashKv, Revision), Error> {
        self.gate().await?;
        let hash = HashKv { hash: 0xdead_beef, compacted: Revision(-1), revision: Revision(revision) };
        Ok((hash, self.revision()))
    }

    fn status(&self) -> Status {
        Status {
            member_id: self.member_id(),
            leader: self.leader(),
            is_leader: !self.0.leaderless.get(),
            term: self.term(),
            committed: LogIndex(11),
            applied: LogIndex(10),
            revision: self.revision(),
            compact_revision: Revision(0),
            keys: self.0.state.borrow().key_count(),
            size_bytes: self.size_bytes(),
            size_in_use_bytes: if self.0.empty.get() { 0 } else { 16_384 },
            pending: 3,
            members: vec![pb::Member {
                id: MEMBER,
                name: "default".into(),
                peer_ur_ls: vec!["http://localhost:2380".into()],
                client_ur_ls: vec!["http://localhost:2379".into()],
                is_learner: false,
            }],
        }
    }

    fn cluster_id(&self) -> ClusterId {
        ClusterId(CLUSTER)
    }

    fn member_id(&self) -> MemberId {
        MemberId(MEMBER)
    }

    fn term(&self) -> Term {
        Term(TERM)
    }

    fn revision(&self) -> Revision {
        Revision(self.0.state.borrow().revision().0)
    }

    fn size_bytes(&self) -> u64 {
        if self.0.empty.get() { 0 } else { 20_480 }
    }

    fn alarms(&self) -> Alarms {
        self.0.state.borrow().alarms().clone()
    }

    fn leader(&self) -> MemberId {
        if self.0.leaderless.get() { MemberId(0) } else { MemberId(MEMBER) }
    }
}
