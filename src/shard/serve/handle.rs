//! What a connection holds of a shard. Local form: same core, no locks. Cheap to clone.
//!
//! Writes and read indexes go through the loop; a range is evaluated on the caller's task, in slices (`reader`), and so
//! is what an answer of a write has to show.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;

use super::{
    inbox::Inbox, proposal::proposal, reader::AnswerReader, standing::Standing, transfer::Transfer,
    transfers::Arriving, turnstile::Turnstile,
};
use crate::{
    client::Client,
    env::{Beside, Instant, Links},
    limits,
    metrics::ShardMetrics,
    pb::etcdserverpb as pb,
    shard::{
        Error,
        group::Seat,
        lease::Times,
        reply,
        waiting::Waiters,
        watch::{Counts, Hub},
    },
    state::{
        Builder, Command, Operations, Principal, StateMachine,
        auth::Refusal,
        cluster::Alarms,
        kv::{Answer, Chunk, Plan, Range, RangeStream, StreamStep, validate},
        mvcc::HashKv,
    },
    storage::checkpoint::Export,
    types::{ClusterId, Level, LogId, LogIndex, MemberId, Revision, Term},
};

/// A shard as its owner core's connections see it: on behalf of one's client, or of the member itself.
#[derive(Clone)]
pub struct Shard {
    parts: Rc<Parts>,
    client: Option<Client>,
}

/// What all of them see.
pub struct Parts {
    pub(in crate::shard) inbox: Rc<Inbox>,
    pub(in crate::shard) state: Rc<RefCell<StateMachine>>,
    pub(in crate::shard) standing: Rc<Standing>,
    pub(in crate::shard) clock: Rc<dyn Fn() -> Instant>,
    pub(in crate::shard) turnstile: Rc<Turnstile>,
    pub(in crate::shard) hub: Rc<RefCell<Hub>>,
    pub(in crate::shard) waiters: Rc<RefCell<Waiters>>,
    /// Reads of the v2 tree that were answered, and refused.
    pub(in crate::shard) v2_gets: Cell<[u64; 2]>,
    pub(in crate::shard) metrics: Rc<ShardMetrics>,
    pub(in crate::shard) times: Times,
    pub(in crate::shard) links: Rc<dyn Links>,
    pub(in crate::shard) random: Rc<dyn Fn() -> u64>,
    /// For what would hold up the core.
    pub(in crate::shard) beside: Beside,
    pub(in crate::shard) cluster_id: ClusterId,
    pub(in crate::shard) member_id: MemberId,
    pub(in crate::shard) log_id: LogId,
    /// How long one waits for what other members have a part in.
    pub(in crate::shard) patience: Duration,
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

impl std::ops::Deref for Shard {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Shard {
    /// For the member itself, which waits in no line.
    pub(in crate::shard) fn new(parts: Parts) -> Self {
        Self { parts: Rc::new(parts), client: None }
    }

    /// The same shard on behalf of a client.
    pub fn of(&self, client: &Client) -> Self {
        Self { parts: self.parts.clone(), client: Some(client.clone()) }
    }

    /// On whose behalf; none for the member itself.
    pub(super) fn client(&self) -> Option<&Client> {
        self.client.as_ref()
    }

    /// Waits until the client has taken what was read for it before.
    async fn taken(&self) {
        if let Some(client) = &self.client {
            client.taken().await;
        }
    }

    /// Through the log, in the client's turn: answered once durable, committed and applied.
    pub async fn write<C: Command>(&self, principal: &Principal, command: C) -> Result<C::Answer, Error> {
        self.admit(principal, &command)?;
        let place = match &self.client {
            Some(client) => Some(self.inbox.places.take(client, Builder::cost(principal, &command)).await?),
            None => None,
        };
        let (proposal, answer) = proposal::<C>();
        self.inbox.push_write(principal, (&command, None), (self.clock)(), proposal, place)?;
        // What it was decoded from is given back while it waits.
        drop(command);
        answer.await.unwrap_or(Err(Error::Stopped))
    }

    /// The same for what the leader of `term` wants itself: no other may put it into the log, nor this one in another term.
    pub async fn write_leading<C: Command>(&self, term: Term, command: C) -> Result<C::Answer, Error> {
        let nobody = Principal::default();
        self.admit(&nobody, &command)?;
        let (proposal, answer) = proposal::<C>();
        self.inbox.push_write(&nobody, (&command, Some(term)), (self.clock)(), proposal, None)?;
        answer.await.unwrap_or(Err(Error::Stopped))
    }

    /// The same for a change of the group. What the state refuses is none.
    pub async fn change<C: Command>(
        &self,
        principal: &Principal,
        change: (Seat, MemberId),
        command: C,
    ) -> Result<C::Answer, Error> {
        self.admit(principal, &command)?;
        let (proposal, answer) = proposal::<C>();
        self.inbox.push_change(principal, change, &command, (self.clock)(), proposal)?;
        answer.await.unwrap_or(Err(Error::Stopped))
    }

    /// The same for a command whose answer may be long.
    pub async fn write_long<C, M>(
        &self,
        principal: &Principal,
        command: C,
    ) -> Result<Answer<M, AnswerReader>, Error>
    where
        C: Command<Answer = Answer<M, Box<Plan>>>,
    {
        let answer = self.write(principal, command).await?;
        self.complete(answer).await
    }

    /// Refuses what some member may not know, and what would be refused as it is applied for who asks: a leader knows that
    /// as well before. Whoever may is checked again then.
    fn admit<C: Command>(&self, principal: &Principal, command: &C) -> Result<(), Error> {
        let state = self.state.borrow();
        state.may_propose::<C>()?;
        if state.auth().is_enabled() && self.is_leader() {
            Ok(state.permits(principal, command)?)
        } else {
            Ok(())
        }
    }

    /// Refuses a transaction whose comparisons look at more than `keys_max` keys. They are made here and now, to see that.
    pub async fn weigh(&self, who: &Principal, request: &pb::TxnRequest, keys_max: u64) -> Result<(), Error> {
        self.state.borrow().asking(who).txn(request)?;
        self.choose(request, keys_max).await.map(drop)
    }

    /// Returns once everything committed before the call is applied here.
    pub async fn linearize(&self) -> Result<(), Error> {
        let (reply, answer) = reply::channel();
        self.inbox.push_read((self.clock)(), reply)?;
        match answer.await {
            Some(()) => Ok(()),
            None if self.inbox.refusing() => Err(Error::Stopped),
            None => Err(Error::Timeout),
        }
    }

    /// Of what is applied here. The header carries only the revision.
    pub async fn range(
        &self,
        who: &Principal,
        request: pb::RangeRequest,
    ) -> Result<Answer<pb::RangeResponse, AnswerReader>, Error> {
        self.taken().await;
        self.state.borrow().asking(who).range(&request)?;
        if StateMachine::is_point(&request) {
            let response = self.state.borrow().range(&request)?;
            self.still(who)?;
            return Ok(Answer::Whole(response));
        }
        let range = Range::begin(&self.state.borrow(), &request, true)?;
        let (range, stake) = self.evaluate(range.keep_at_most(limits::RANGE_KEPT_BYTES)).await?;
        self.still(who)?;
        Ok(match range.finish() {
            Answer::Whole(response) => Answer::Whole(response),
            Answer::Long(answer) => Answer::Long(AnswerReader::new(self, answer, stake)),
        })
    }

    /// Refuses to tell what was read if users or roles have changed since it was known who asks, as etcd does
    /// (`doSerialize`).
    fn still(&self, who: &Principal) -> Result<(), Error> {
        let same = who.auth_revision == 0 || who.auth_revision == self.state.borrow().auth().revision();
        if same { Ok(()) } else { Err(Refusal::OldRevision.into()) }
    }

    /// A range in chunks that grow towards `chunk_bytes`, of what is applied here.
    pub fn range_stream(
        &self,
        who: Principal,
        request: pb::RangeRequest,
        chunk_bytes: usize,
    ) -> Result<Chunks, Error> {
        self.state.borrow().asking(&who).range(&request)?;
        let stream = RangeStream::new(&request, chunk_bytes).keep_at_most(limits::RANGE_KEPT_BYTES);
        Ok(Chunks { shard: self.clone(), who, stream: Some(stream) })
    }

    /// A transaction without writes, off the log, and what it came to. Of what is applied here.
    pub async fn read_txn(
        &self,
        who: &Principal,
        request: pb::TxnRequest,
    ) -> Result<(Answer<pb::TxnResponse, AnswerReader>, Operations), Error> {
        self.taken().await;
        self.state.borrow().asking(who).txn(&request)?;
        assert!(validate::is_read_only(&request), "a transaction that may write goes through the log");
        let mut operations = Operations::default();
        let choice = self.choose(&request, u64::MAX).await?;
        let answer = choice.read(&request, &self.state.borrow(), &mut operations)?;
        let answer = self.complete(answer).await?;
        self.still(who)?;
        Ok((answer, operations))
    }

    /// Begins something that nobody waits for.
    pub fn begin(&self, task: impl Future<Output = ()> + 'static) {
        self.turnstile.spawn(task);
    }

    pub fn now(&self) -> Instant {
        (self.clock)()
    }

    /// Over after a time.
    pub fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Unpin + 'static {
        self.turnstile.sleep(time)
    }

    /// Watches, those of them that catch up, and entries that wait to be read by some.
    pub fn watch_counts(&self) -> (usize, usize, usize) {
        let hub = self.hub.borrow();
        let Counts { watches, slow } = hub.counts;
        (watches, slow, hub.pending())
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

    pub fn committed(&self) -> LogIndex {
        self.standing.committed.get()
    }

    /// How long the leader is known.
    pub fn leader_for(&self) -> Duration {
        (self.clock)().since(self.standing.leader_since.get())
    }

    /// Messages with entries that came from other members, and that went to them.
    pub fn appends(&self) -> (u64, u64) {
        self.standing.appends.get()
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
            let _slice = self.pass().await;
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

    /// The set of commands that the cluster uses, as far as this member knows.
    pub fn level(&self) -> Level {
        self.state.borrow().cluster().level()
    }

    /// This member's log.
    pub fn log_id(&self) -> LogId {
        self.log_id
    }

    /// The log that another member has said it has.
    pub fn log_of(&self, member: MemberId) -> Option<LogId> {
        let told = self.state.borrow().cluster().told_by(member)?;
        (told.log != 0).then_some(LogId(told.log))
    }

    pub fn alarms(&self) -> Alarms {
        self.state.borrow().alarms().clone()
    }

    /// The state, for as long as the caller does not wait.
    pub fn with_state<T>(&self, read: impl FnOnce(&StateMachine) -> T) -> T {
        read(&self.state.borrow())
    }

    /// Has another member lead, a certain one or any that there is a link to; returns when it does, or when this one need not
    /// hand over.
    pub async fn hand_over(&self, to: Option<MemberId>) -> Result<(), Error> {
        let until = (self.clock)().after(self.patience);
        let is_done = || match to {
            Some(to) => self.leader() == to,
            None => !self.is_leader() && self.leader().0 != 0,
        };
        if is_done() {
            return Ok(());
        }
        let is_linked = |member: &MemberId| self.active_since(*member).is_some();
        if to.is_none() && !self.successors().iter().any(is_linked) {
            return Err(Error::NotHandedOver);
        }
        self.inbox.push_handover(to);
        while !is_done() {
            self.sleep(limits::LEADER_PAUSE).await;
            if (self.clock)() >= until {
                return Err(Error::NotHandedOver);
            }
        }
        Ok(())
    }

    /// The others that have a vote, and could lead.
    pub fn successors(&self) -> Vec<MemberId> {
        let members = self.standing.members().into_iter();
        let others = members.filter(|member| member.id != self.member_id.0 && !member.is_learner);
        others.map(|member| MemberId(member.id)).collect()
    }

    /// A frame from another member's shard of the same number. False if it was dropped, since too many wait.
    pub fn step(&self, sender: MemberId, frame: Bytes) -> bool {
        self.inbox.push_frame(sender, frame)
    }

    /// Something for a member got lost on its way, or there is no way to it.
    pub fn unreachable(&self, member: MemberId) {
        self.inbox.push_unreachable(member);
    }

    /// Since when there has been a link to a member; none while there is none.
    pub fn active_since(&self, member: MemberId) -> Option<Instant> {
        self.links.active_since(member)
    }

    /// The next checkpoint to be carried to another member; none once the shard has stopped. For one caller at a time.
    pub async fn next_transfer(&self) -> Option<Transfer> {
        Transfer::next(&self.inbox).await
    }

    /// Brings a checkpoint here and puts it in place of the whole state, if Raft wants it; its `sender` tells of it by
    /// `frame`. True once that is done, false if it could not be brought or another one was offered meanwhile.
    pub async fn receive(&self, sender: MemberId, frame: Bytes, export: Box<dyn Export>) -> bool {
        let (reply, answer) = reply::channel();
        self.inbox.push_arriving(Arriving { sender, frame, export, reply });
        answer.await.is_some()
    }

    /// The member is about to stop: what is committed and takes long to apply is left to the next start, and whoever
    /// waits for it is told.
    pub fn leave(&self) {
        self.inbox.leave();
    }

    /// Refuses new requests, finishes those admitted, then lets the loop end.
    pub fn stop(&self) {
        self.inbox.stop();
    }

    /// Whether requests are refused for good.
    pub fn is_stopping(&self) -> bool {
        self.inbox.refusing()
    }

    /// From the machine's randomness.
    pub fn random_u64(&self) -> u64 {
        (self.random)()
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

/// A range stream under way.
pub struct Chunks {
    shard: Shard,
    who: Principal,
    stream: Option<RangeStream>,
}

impl Chunks {
    /// The next chunk; `None` after the last one or an error.
    pub async fn next(&mut self) -> Option<Result<Box<Chunk>, Error>> {
        let _permit = match self.shard.client() {
            Some(client) => Some(client.read().await),
            None => None,
        };
        loop {
            let stream = self.stream.as_mut()?;
            let mut came = StreamStep::Pending;
            let stepped = {
                let _slice = self.shard.pass().await;
                let state = self.shard.state.borrow();
                self.shard.slice(|| {
                    came = stream.step(&state, limits::RANGE_STEP_KEYS)?;
                    Ok(!matches!(came, StreamStep::Pending))
                })
            };
            match stepped.map(|_| came) {
                Ok(StreamStep::Pending) => {}
                Ok(StreamStep::Chunk(chunk)) => return Some(Ok(chunk)),
                Ok(StreamStep::Last(chunk)) => {
                    self.stream = None;
                    if let Err(error) = self.shard.still(&self.who) {
                        return Some(Err(error));
                    }
                    return Some(Ok(chunk));
                }
                Err(error) => {
                    self.stream = None;
                    return Some(Err(error.into()));
                }
            }
        }
    }

    /// A chunk as it is sent.
    pub fn answer(&self, chunk: Chunk) -> Answer<pb::RangeStreamResponse, AnswerReader> {
        match chunk.answer() {
            Answer::Whole(response) => Answer::Whole(response),
            Answer::Long(answer) => Answer::Long(AnswerReader::without_pairs(&self.shard, answer)),
        }
    }
}
