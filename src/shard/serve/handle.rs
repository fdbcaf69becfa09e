//! What a connection holds of a shard. Local form: same core, no locks. Cheap to clone.
//!
//! Writes and read indexes go through the loop; a range is evaluated right here, on the caller's
//! task, in slices.

use std::{cell::RefCell, rc::Rc};

use bytes::Bytes;

use super::{
    held::Held, inbox::Inbox, proposal::proposal, standing::Standing, transfer::Transfer,
    transfers::Arriving, turnstile::Turnstile,
};
use crate::{
    env::Instant,
    limits,
    metrics::ShardMetrics,
    pb::etcdserverpb as pb,
    shard::{Error, reply},
    state::{
        self, Command, Principal, StateMachine,
        cluster::Alarms,
        kv::{self, Range, RangeAnswer, RangeStream, StreamStep, validate},
        mvcc::HashKv,
    },
    storage::checkpoint::Export,
    types::{ClusterId, LogIndex, MemberId, Revision, Term},
};

/// A shard as its owner core's connections see it.
#[derive(Clone)]
pub struct Shard {
    pub(in crate::shard) inbox: Rc<Inbox>,
    pub(in crate::shard) state: Rc<RefCell<StateMachine>>,
    pub(in crate::shard) standing: Rc<Standing>,
    pub(in crate::shard) clock: Rc<dyn Fn() -> Instant>,
    pub(in crate::shard) turnstile: Rc<Turnstile>,
    pub(in crate::shard) metrics: Rc<ShardMetrics>,
    pub(in crate::shard) cluster_id: ClusterId,
    pub(in crate::shard) member_id: MemberId,
}

/// The shard's condition at one moment.
#[derive(Clone, Debug, Default)]
pub struct ShardStatus {
    pub member_id: MemberId,
    /// 0 while no leader is known.
    pub leader: MemberId,
    pub is_leader: bool,
    pub term: Term,
    pub committed: LogIndex,
    pub applied: LogIndex,
    pub revision: Revision,
    pub compact_revision: Revision,
    pub keys: u64,
    /// Bytes the keyspace occupies: checkpoint files, and versions that are in none yet.
    pub size_bytes: u64,
    /// Bytes still reachable.
    pub size_in_use_bytes: u64,
    /// Writes admitted and not answered.
    pub pending: usize,
    pub members: Vec<pb::Member>,
}

impl Shard {
    /// Through the log: answered once durable, committed and applied.
    pub async fn write<C: Command>(&self, principal: &Principal, command: C) -> Result<C::Answer, Error> {
        self.state.borrow().may_propose::<C>()?;
        let (proposal, answer) = proposal::<C>();
        self.inbox.push_write(principal, &command, (self.clock)(), proposal)?;
        // What it was decoded from is given back while it waits.
        drop(command);
        answer.await.unwrap_or(Err(Error::Stopped))
    }

    /// Returns once everything committed before the call is applied here.
    pub async fn linearize(&self) -> Result<(), Error> {
        let (reply, answer) = reply::channel();
        self.inbox.push_read((self.clock)(), reply)?;
        match answer.await {
            Some(()) => Ok(()),
            None if self.inbox.stopping() => Err(Error::Stopped),
            None => Err(Error::Timeout),
        }
    }

    /// Linearizable unless `serializable` is set. The header carries only the revision.
    pub async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        Ok(self.evaluate(&request, None).await?.whole())
    }

    /// The same, without having all of a long answer in memory.
    pub async fn list(&self, request: pb::RangeRequest) -> Result<RangeAnswer<ListReader>, Error> {
        Ok(match self.evaluate(&request, Some(limits::RANGE_KEPT_BYTES)).await? {
            RangeAnswer::Whole(response) => RangeAnswer::Whole(response),
            RangeAnswer::Long(list) => RangeAnswer::Long(ListReader::new(self, list)),
        })
    }

    async fn evaluate(
        &self,
        request: &pb::RangeRequest,
        kept_max: Option<usize>,
    ) -> Result<RangeAnswer<kv::List>, Error> {
        if !request.serializable {
            self.linearize().await?;
        }
        if StateMachine::is_point(request) {
            return Ok(RangeAnswer::Whole(self.state.borrow().range(request)?));
        }
        let mut range = Range::begin(&self.state.borrow(), request, true)?;
        if let Some(bytes) = kept_max {
            range = range.keep_at_most(bytes);
        }
        let mut range = Held::new(range, self);
        let mut finished = range.step(&self.state.borrow(), limits::RANGE_AT_ONCE_KEYS)?;
        while !finished {
            // A huge list lets writes through between its slices; its revision is fixed.
            let _slice = self.turnstile.pass().await;
            let state = self.state.borrow();
            finished = self.slice(|| range.step(&state, limits::RANGE_STEP_KEYS))?;
        }
        Ok(range.end().finish())
    }

    /// Repeats a step for as long as a slice lasts. True once a step says that it was the last.
    fn slice(&self, mut step: impl FnMut() -> Result<bool, state::Error>) -> Result<bool, state::Error> {
        let began = (self.clock)();
        for _ in 0..limits::RANGE_SLICE_STEPS {
            if step()? {
                return Ok(true);
            }
            if (self.clock)().since(began) >= limits::RANGE_SLICE {
                break;
            }
        }
        Ok(false)
    }

    /// A range in chunks that grow towards `chunk_bytes`; linearizable unless `serializable` is set.
    pub async fn range_stream(&self, request: pb::RangeRequest, chunk_bytes: usize) -> Result<Chunks, Error> {
        if !request.serializable {
            self.linearize().await?;
        }
        let stream = RangeStream::new(&request, chunk_bytes);
        Ok(Chunks { shard: self.clone(), stream: Some(stream) })
    }

    /// A transaction without writes, off the log.
    pub async fn read_txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        if !validate::is_serializable(&request) {
            self.linearize().await?;
        }
        Ok(self.state.borrow().read_txn(&request)?)
    }

    pub fn metrics(&self) -> &ShardMetrics {
        &self.metrics
    }

    pub fn cluster_id(&self) -> ClusterId {
        self.cluster_id
    }

    pub fn member_id(&self) -> MemberId {
        self.member_id
    }

    pub fn term(&self) -> Term {
        self.standing.term.get()
    }

    pub fn revision(&self) -> Revision {
        self.state.borrow().revision()
    }

    /// 0 while no leader is known.
    pub fn leader(&self) -> MemberId {
        self.standing.leader.get()
    }

    /// Whether this member only follows, without a vote.
    pub fn is_learner(&self) -> bool {
        self.standing.is_learner(self.member_id)
    }

    /// Frees everything that may be freed; returns when that is done.
    pub async fn defragment(&self) -> Result<(), Error> {
        let (reply, answer) = reply::channel();
        self.inbox.push_defragment(reply)?;
        answer.await.ok_or(Error::Stopped)
    }

    /// The hash of all versions up to a revision (0: the newest), and the newest revision when it was begun. Of what is
    /// applied here: nothing is asked of other members.
    pub async fn hash_kv(&self, revision: i64) -> Result<(HashKv, Revision), Error> {
        let (current, mut cursor) = {
            let state = self.state.borrow();
            (state.revision(), state.hash_kv(revision)?)
        };
        loop {
            let _slice = self.turnstile.pass().await;
            let hash = self.state.borrow().hash_step(&mut cursor, limits::HASH_SLICE_BYTES)?;
            if let Some(hash) = hash {
                return Ok((hash, current));
            }
        }
    }

    /// Whether this member leads its group.
    pub fn is_leader(&self) -> bool {
        self.standing.is_leader.get()
    }

    /// Bytes the keyspace occupies, all history included: what the quota is compared with.
    pub fn size_bytes(&self) -> u64 {
        self.standing.bytes_on_disk.get() + self.state.borrow().unsaved().bytes as u64
    }

    pub fn alarms(&self) -> Alarms {
        self.state.borrow().alarms().clone()
    }

    /// The state, for as long as the caller does not wait.
    pub fn with_state<T>(&self, read: impl FnOnce(&StateMachine) -> T) -> T {
        read(&self.state.borrow())
    }

    /// A frame from another member's shard of the same number.
    pub fn step(&self, frame: Bytes) {
        self.inbox.push_frame(frame);
    }

    /// The next checkpoint to be carried to another member; none once the shard has stopped. For one caller at a time.
    pub async fn next_transfer(&self) -> Option<Transfer> {
        Transfer::next(&self.inbox).await
    }

    /// Brings a checkpoint here and puts it in place of the whole state, if Raft wants it; `frame` came with it. True
    /// once that is done, false if it could not be brought or another one was offered meanwhile.
    pub async fn receive(&self, frame: Bytes, export: Box<dyn Export>) -> bool {
        let (reply, answer) = reply::channel();
        self.inbox.push_arriving(Arriving { frame, export, reply });
        answer.await.is_some()
    }

    /// Refuses new requests, finishes those admitted, then lets the loop end.
    pub fn stop(&self) {
        self.inbox.stop();
    }

    /// Whether a linearizable read would be served now.
    pub fn can_read(&self) -> bool {
        self.standing.can_read.get()
    }

    pub fn status(&self) -> ShardStatus {
        let (state, standing) = (self.state.borrow(), &self.standing);
        ShardStatus {
            member_id: self.member_id,
            leader: standing.leader.get(),
            is_leader: standing.is_leader.get(),
            term: standing.term.get(),
            committed: standing.committed.get(),
            applied: state.applied(),
            revision: state.revision(),
            compact_revision: state.compact_revision(),
            keys: state.key_count(),
            size_bytes: self.size_bytes(),
            size_in_use_bytes: state.size_in_use_bytes(),
            pending: self.inbox.pending(),
            members: standing.members(),
        }
    }
}

/// A long answer under way. Its revision is held until it is dropped.
pub struct ListReader {
    shard: Shard,
    list: Option<Box<Held<kv::List>>>,
}

impl ListReader {
    fn new(shard: &Shard, list: kv::List) -> Self {
        let list = Held::new(list, shard);
        Self { shard: shard.clone(), list: Some(Box::new(list)) }
    }

    /// To be completed before the first piece.
    pub fn header_mut(&mut self) -> &mut Option<pb::ResponseHeader> {
        self.list.as_mut().expect("nothing was taken yet").header_mut()
    }

    /// Length of the answer: of all pieces together. To be asked before the first piece.
    pub fn encoded_len(&self) -> usize {
        self.list.as_ref().expect("nothing was taken yet").encoded_len()
    }

    /// Appends what comes next of the encoded answer, about `bytes` of it. False when that was all. After an error the
    /// answer cannot be completed.
    pub async fn next(&mut self, bytes: usize, pieces: &mut Vec<Bytes>) -> Result<bool, Error> {
        let Some(list) = &mut self.list else { return Ok(false) };
        let _slice = self.shard.turnstile.pass().await;
        let more = list.step(&self.shard.state.borrow(), limits::RANGE_PIECE_KEYS, bytes, pieces);
        if more != Ok(true) {
            self.list = None;
        }
        Ok(more?)
    }
}

/// A range stream under way.
pub struct Chunks {
    shard: Shard,
    stream: Option<RangeStream>,
}

impl Chunks {
    /// The next chunk; `None` after the last one or an error.
    pub async fn next(&mut self) -> Option<Result<pb::RangeResponse, Error>> {
        loop {
            let stream = self.stream.as_mut()?;
            let mut came = StreamStep::Pending;
            let stepped = {
                let _slice = self.shard.turnstile.pass().await;
                let state = self.shard.state.borrow();
                self.shard.slice(|| {
                    came = stream.step(&state, limits::RANGE_STEP_KEYS)?;
                    Ok(came != StreamStep::Pending)
                })
            };
            match stepped.map(|_| came) {
                Ok(StreamStep::Pending) => {}
                Ok(StreamStep::Chunk(chunk)) => return Some(Ok(chunk)),
                Ok(StreamStep::Last(chunk)) => {
                    self.stream = None;
                    return Some(Ok(chunk));
                }
                Err(error) => {
                    self.stream = None;
                    return Some(Err(error.into()));
                }
            }
        }
    }
}
