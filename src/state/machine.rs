//! The replicated state: applies committed requests in log order, answers reads.

use bytes::Bytes;
use prost::Message;

use super::{
    Error,
    auth::{Asking, Auth},
    batch::{BatchError, Envelope},
    cluster::{Alarms, Cluster},
    command::{Command, Needs, Principal},
    commands::{Commands, Row},
    kv::{Answer, Choice, Plan, Range, validate},
    lease::Leases,
    outcome::Operations,
    space::{Facts, Space, Unsaved},
    v2,
};
use crate::{
    block::{BlockChange, BlockId},
    pb::etcdserverpb::{self as pb, AlarmType},
    state::mvcc::{self, Freed, HashCursor, HashKv, HistoryCursor, Record, Span, Store, Written},
    types::{LogIndex, Revision},
};

/// One keyspace's state. Headers of its responses carry only the revision.
pub struct StateMachine {
    history: Store,
    leases: Leases,
    auth: Auth,
    cluster: Cluster,
    v2: v2::Tree,
    applied: LogIndex,
    commands: Commands,
}

impl Default for StateMachine {
    fn default() -> Self {
        Self::of(Commands::default())
    }
}

impl StateMachine {
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty one, of a release that knows these commands.
    pub fn of(commands: Commands) -> Self {
        Self {
            history: Store::default(),
            leases: Leases::default(),
            auth: Auth::default(),
            cluster: Cluster::default(),
            v2: v2::Tree::default(),
            applied: LogIndex(0),
            commands,
        }
    }

    /// The state a checkpoint was made of: it has everything up to entry `applied`.
    pub(super) fn load(
        self,
        applied: LogIndex,
        (history, leases): (Store, Leases),
        auth: Auth,
        cluster: Cluster,
    ) -> Self {
        Self { history, leases, auth, cluster, applied, ..self }
    }

    /// The same with a tree of the v2 API.
    pub(super) fn with_v2(self, v2: v2::Tree) -> Self {
        Self { v2, ..self }
    }

    /// What is refused while an alarm is on. Reads that do not go through the log are served, as in etcd.
    pub(super) fn check_alarms(&self, needs: Needs) -> Result<(), Error> {
        if needs == Needs::Nothing {
            Ok(())
        } else if self.alarms().is_on(AlarmType::Corrupt) {
            Err(Error::Corrupt)
        } else if needs == Needs::Space && self.alarms().is_on(AlarmType::Nospace) {
            Err(Error::NoSpace)
        } else {
            Ok(())
        }
    }

    /// What the member's release knows.
    pub fn commands(&self) -> Commands {
        self.commands
    }

    /// The row of a command that comes to be applied. None is where the cluster has gone on to what this release does not
    /// know, even if it knows the command: what else is different there nobody can tell.
    pub fn row(&self, envelope: &Envelope) -> Result<&'static Row, BatchError> {
        match self.cluster.level() {
            level if level > self.commands.newest() => Err(BatchError::Level(level)),
            _ => envelope.row(self.commands),
        }
    }

    /// Whether every member knows the command, so that it may be proposed.
    pub fn may_propose<C: Command>(&self) -> Result<(), Error> {
        if C::KIND.level <= self.cluster.level() { Ok(()) } else { Err(Error::NotSupportedYet) }
    }

    /// Refuses what is not to be applied for who asks, as things are now.
    pub fn permits<C: Command>(&self, who: &Principal, command: &C) -> Result<(), Error> {
        // The level may have gone down since it was proposed.
        self.may_propose::<C>()?;
        self.check_alarms(command.needs())?;
        command.permits(self, who)
    }

    /// The versions of a revision, as a [`Change`](super::Change) names them. Before anything else is done with the
    /// state: they may move.
    pub fn versions(&self, written: Written) -> impl Iterator<Item = Record<'_>> {
        self.history.versions(written)
    }

    pub fn alarms(&self) -> &Alarms {
        self.cluster.alarms()
    }

    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    /// Begins the check of what somebody asks for.
    pub fn asking<'a>(&'a self, who: &'a Principal) -> Asking<'a> {
        Asking::new(&self.auth, &self.leases, who)
    }

    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// The leases of this moment, page by page: see [`Leases::read`].
    pub fn share_leases(&mut self) -> Vec<Bytes> {
        self.leases.share()
    }

    /// Begins a walk over the whole history as of now.
    pub fn walk_history(&self) -> HistoryCursor {
        HistoryCursor::new(&self.history)
    }

    /// Goes on with it by about `budget` bytes; true when nothing is left.
    pub fn history_step<E: From<mvcc::Error>>(
        &self,
        cursor: &mut HistoryCursor,
        budget: usize,
        take: impl FnMut(&Record<'_>) -> Result<(), E>,
    ) -> Result<bool, E> {
        cursor.step(&self.history, budget, take)
    }

    /// An entry without requests was applied.
    pub fn mark_applied(&mut self, index: LogIndex) {
        assert!(index >= self.applied, "entries are applied in log order");
        self.applied = index;
    }

    /// A range answered at once, for spans known to be small. Others are [begun](Range::begin) and go step by step.
    pub fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        let view = self.history.at(request.revision)?;
        Ok(Range::new(request, self.history.revision().0, true).run(&view))
    }

    /// A transaction for which [`validate::is_read_only`] holds, all of it at once.
    pub fn read_txn(
        &self,
        request: &pb::TxnRequest,
        operations: &mut Operations,
    ) -> Result<Answer<pb::TxnResponse, Box<Plan>>, Error> {
        assert!(validate::is_read_only(request), "a transaction that may write goes through the log");
        let mut choice = Choice::begin(self, u64::MAX);
        while !choice.step(request, self, usize::MAX)? {}
        choice.read(request, self, operations)
    }

    pub fn revision(&self) -> Revision {
        self.history.revision()
    }

    /// -1 before the first compaction.
    pub fn compact_revision(&self) -> Revision {
        self.history.compacted()
    }

    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    /// Bytes of all versions, those included that wait to be freed.
    pub fn size_bytes(&self) -> u64 {
        self.history.bytes() as u64
    }

    /// Bytes of the versions that can still be read.
    pub fn size_in_use_bytes(&self) -> u64 {
        self.history.bytes_in_use() as u64
    }

    /// Keys that exist now.
    pub fn key_count(&self) -> u64 {
        self.history.live_keys()
    }

    /// One slice of physical compaction, about `budget_keys` records. Has no influence on any response.
    pub fn compact_step(&mut self, budget_keys: usize, may_rewrite: bool) -> Freed {
        self.history.compact_step(budget_keys, may_rewrite)
    }

    /// Whether a command is done in part only. Until it is done there are neither checkpoints nor compaction.
    pub fn is_paused(&self) -> bool {
        self.history.is_paused()
    }

    /// Every part, as a checkpoint sees it.
    fn spaces(&mut self) -> impl Iterator<Item = &mut dyn Space> {
        let parts: [&mut dyn Space; 4] =
            [&mut self.history, &mut self.leases, &mut self.auth, &mut self.cluster];
        let v2 = self.v2.is_founded().then_some(&mut self.v2 as &mut dyn Space);
        parts.into_iter().chain(v2)
    }

    /// What no checkpoint has yet, of all parts.
    pub fn unsaved(&self) -> Unsaved {
        let parts: [&dyn Space; 5] = [&self.history, &self.leases, &self.auth, &self.cluster, &self.v2];
        parts.iter().fold(Unsaved::default(), |sum, part| {
            let Unsaved { bytes, blocks } = part.unsaved();
            Unsaved { bytes: sum.bytes + bytes, blocks: sum.blocks + blocks }
        })
    }

    /// Everything that changed since the last call, and what else [`Loading`](super::Loading) needs to know. Its end is
    /// told by [`StateMachine::saved`] or [`StateMachine::not_saved`] before the next one begins.
    pub fn changes(&mut self) -> (Vec<BlockChange>, Vec<u8>) {
        let (mut changes, mut facts) = (Vec::with_capacity(self.unsaved().blocks), Facts::default());
        for space in self.spaces() {
            changes.append(&mut space.changes());
            facts.add(space.id(), space.facts());
        }
        (changes, facts.encode_to_vec())
    }

    /// The last changes are durable.
    pub fn saved(&mut self) {
        self.spaces().for_each(|space| space.saved());
    }

    /// The last changes did not become durable.
    pub fn not_saved(&mut self) {
        self.spaces().for_each(|space| space.not_saved());
    }

    /// The block's body on disk, mapped: may take the place of the heap's copy.
    pub fn place(&mut self, id: BlockId, mapped: Bytes) {
        if let Some(space) = self.spaces().find(|space| space.id() == id.space) {
            space.place(id.number, mapped);
        }
    }

    /// Has the next steps of physical compaction leave nothing that can be freed.
    pub fn defragment(&mut self) {
        self.history.defragment();
    }

    /// Whether [`StateMachine::compact_step`] has something to do now.
    pub fn compaction_is_due(&self) -> bool {
        self.history.compaction_is_due()
    }

    /// Versions that physical compaction has freed so far.
    pub fn freed_versions(&self) -> u64 {
        self.history.freed_versions()
    }

    /// Begins a hash of all versions up to a revision, 0 for the newest.
    pub fn hash_kv(&self, revision: i64) -> Result<HashCursor, Error> {
        Ok(HashCursor::new(&self.history, revision)?)
    }

    /// Goes on with it by about `budget` bytes.
    pub fn hash_step(&self, cursor: &mut HashCursor, budget: usize) -> Result<Option<HashKv>, Error> {
        Ok(cursor.step(&self.history, budget)?)
    }

    /// Whether a range over this request's keys can be long.
    pub fn is_point(request: &pb::RangeRequest) -> bool {
        matches!(Span::new(&request.key, &request.range_end), Span::One(_))
    }

    /// Of keys, for whoever follows it version by version.
    pub fn history(&self) -> &Store {
        &self.history
    }

    /// Of the v2 API.
    pub fn v2(&self) -> &v2::Tree {
        &self.v2
    }

    /// Its index, which it has before there is anything in it.
    pub fn v2_index(&self) -> u64 {
        self.v2.index(&self.cluster)
    }

    /// From now on there is one.
    pub(super) fn v2_mut(&mut self) -> &mut v2::Tree {
        self.v2.found(&self.cluster);
        &mut self.v2
    }

    /// Members changed so many times.
    pub(super) fn raise_v2(&mut self, changes: u64) {
        self.v2.raise(changes);
    }

    pub(super) fn history_mut(&mut self) -> &mut Store {
        &mut self.history
    }

    pub(super) fn leases_mut(&mut self) -> &mut Leases {
        &mut self.leases
    }

    /// The history, and the leases its keys are attached to.
    pub(super) fn keys_mut(&mut self) -> (&mut Store, &mut Leases) {
        (&mut self.history, &mut self.leases)
    }

    pub(super) fn auth_mut(&mut self) -> &mut Auth {
        &mut self.auth
    }

    pub(super) fn cluster_mut(&mut self) -> &mut Cluster {
        &mut self.cluster
    }
}
