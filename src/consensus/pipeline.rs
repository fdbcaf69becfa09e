//! raft-rs behind a narrow surface, with asynchronous persistence.
//!
//! The order of a write: `propose` -> [`Ready::entries`] to the log (messages to followers leave at
//! once) -> `persisted(number)` when the log says durable -> [`Ready::committed`] of a later ready.
//! Readies are numbered; they become durable in order.

use std::collections::VecDeque;

use bytes::Bytes;
use raft::{
    RawNode, ReadOnlyOption, SnapshotStatus, StateRole,
    eraftpb::{self, Message, MessageType},
};

use crate::types::{LogIndex, MemberId, Term};

use super::{
    Baseline, Config, ConfigChange, Entry, EntryKind, Frame, FrameError, HardState, LogPosition,
    admission::{self, is_sole_voter, may_campaign},
    frame::{CONTEXT_BYTES, context_entry},
    log_window::LogWindow,
    logger,
};

/// How a shard's group behaves. Ticks are the caller's unit of time.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub id: MemberId,
    /// Drawn for this run of this member: no other run of any member has the same, or reads of one could be taken for
    /// confirmed by what was said of another.
    pub run: u64,
    /// Ticks without a leader before an election; the pipeline adds up to as many again at random.
    pub election_ticks: usize,
    pub heartbeat_ticks: usize,
    pub pre_vote: bool,
    /// Payload bytes proposed and not yet committed; a proposal beyond them is refused.
    pub uncommitted_bytes_max: u64,
    /// Payload bytes of committed entries in one ready.
    pub committed_bytes_max: u64,
    /// Applied entries kept in memory for followers, and their payload bytes.
    pub catchup_entries: usize,
    pub catchup_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Follower,
    Candidate,
    Leader,
}

/// Why a proposal was not taken; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error("this member is not the leader")]
    NotLeader,
    #[error("too much is proposed and not committed yet")]
    Full,
}

/// Why a change of the group was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    #[error(transparent)]
    Propose(#[from] ProposeError),
    #[error("another configuration change may not be applied yet")]
    Pending,
}

/// What raft-rs says of its own state.
#[derive(Debug, thiserror::Error)]
#[error("raft: {0}")]
pub struct Error(#[from] raft::Error);

/// Why a frame was ignored.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Raft(#[from] Error),
}

/// A frame for another member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub to: MemberId,
    pub frame: Bytes,
    /// It may be long, and nothing depends on it that is due at once.
    pub brings_entries: bool,
    /// It tells of a checkpoint, and is for [`Pipeline::step_with_checkpoint`] once its files are there. Whether they
    /// came, [`Pipeline::report_checkpoint`] must be told: until then nothing else is sent.
    pub checkpoint: Option<LogIndex>,
}

/// What to do next. Every field is handled before the next call of [`Pipeline::ready`].
#[derive(Debug, Default)]
pub struct Ready {
    pub number: u64,
    /// To append to the log, in order; they replace a conflicting tail.
    pub entries: Vec<Entry>,
    /// To append to the log after the entries.
    pub hard_state: Option<HardState>,
    /// Term or vote changed, or there are entries: nothing may depend on this ready before it is
    /// durable. Otherwise only the commit index moved, and it may ride with the next write.
    pub must_log: bool,
    /// To send now.
    pub messages: Vec<Outgoing>,
    /// To apply, in order: durable here and on a quorum.
    pub committed: Vec<Entry>,
    /// Numbers given to [`Pipeline::read_index`] and the index that must be applied before answering.
    pub reads: Vec<(u64, LogIndex)>,
    /// A received checkpoint takes the place of the whole state, before anything else of this ready: it is durable and
    /// in place before [`Pipeline::persisted`], and [`Pipeline::applied`] follows.
    pub restored: Option<Baseline>,
}

/// One shard's Raft group as this member sees it.
pub struct Pipeline {
    node: RawNode<LogWindow>,
    options: Options,
    /// Messages that promise something this member has not made durable yet, by ready number.
    held: VecDeque<(u64, Vec<eraftpb::Message>)>,
    durable_number: u64,
    last_number: u64,
    election_timeout: usize,
    timed_for: (u64, StateRole),
}

impl Pipeline {
    /// A group restored from its log: `window` holds what recovery found after `applied`.
    pub fn new(options: Options, window: LogWindow, applied: LogIndex, random: u64) -> Result<Self, Error> {
        let config = raft::Config {
            id: options.id.0,
            election_tick: options.election_ticks,
            // So that an election can be put off, see `keep_election_timeout`.
            max_election_tick: usize::MAX,
            heartbeat_tick: options.heartbeat_ticks,
            applied: applied.0,
            max_size_per_msg: options.committed_bytes_max,
            max_inflight_msgs: 256,
            check_quorum: true,
            pre_vote: options.pre_vote,
            read_only_option: ReadOnlyOption::Safe,
            max_uncommitted_size: options.uncommitted_bytes_max,
            max_committed_size_per_ready: options.committed_bytes_max,
            ..raft::Config::default()
        };
        let node = RawNode::new(&config, window, &logger::logger())?;
        let timed_for = (node.raft.term, node.raft.state);
        let mut pipeline = Pipeline {
            node,
            options,
            held: VecDeque::new(),
            durable_number: 0,
            last_number: 0,
            election_timeout: options.election_ticks,
            timed_for,
        };
        pipeline.draw_election_timeout(random);
        Ok(pipeline)
    }

    /// A group of one elects itself without waiting for a timeout.
    pub fn campaign_if_sole_voter(&mut self) -> Result<(), Error> {
        if is_sole_voter(&self.node) && may_campaign(&self.node) {
            self.node.campaign()?;
        }
        Ok(())
    }

    /// `random` decides the next election timeout if one is due to be drawn: raft-rs would ask the
    /// process's generator, which a simulation cannot replay.
    pub fn tick(&mut self, random: u64) {
        self.node.tick();
        self.keep_election_timeout(random);
    }

    /// Takes in a frame from another member. It may be anything: what is no good changes nothing.
    pub fn step(&mut self, frame: Bytes, random: u64) -> Result<(), StepError> {
        self.take(frame, false, random)
    }

    /// Takes in the frame of a checkpoint whose files are complete here: [`Ready::restored`] tells to put it in place,
    /// unless this member is as far already.
    pub fn step_with_checkpoint(&mut self, frame: Bytes, random: u64) -> Result<(), StepError> {
        self.take(frame, true, random)
    }

    fn take(&mut self, frame: Bytes, files_came: bool, random: u64) -> Result<(), StepError> {
        let frame = Frame::decode(frame)?;
        admission::check(&self.node, &frame, files_came)?;
        let stepped = self.node.step(frame.into());
        self.keep_election_timeout(random);
        stepped.map_err(|error| Error(error).into())
    }

    fn keep_election_timeout(&mut self, random: u64) {
        let now = (self.node.raft.term, self.node.raft.state);
        if now != self.timed_for {
            self.timed_for = now;
            self.draw_election_timeout(random);
        }
        let timeout = if may_campaign(&self.node) { self.election_timeout } else { usize::MAX - 1 };
        self.node.raft.set_randomized_election_timeout(timeout);
    }

    fn draw_election_timeout(&mut self, random: u64) {
        let ticks = self.options.election_ticks as u64;
        self.election_timeout = (ticks + random % ticks) as usize;
        self.node.raft.set_randomized_election_timeout(self.election_timeout);
    }

    /// Adds one entry to the log.
    pub fn propose(&mut self, data: Bytes) -> Result<(), ProposeError> {
        // RawNode::propose takes a Vec and would copy what is already shared.
        self.propose_entry(Entry { data, ..Entry::default() })
    }

    /// Adds a change of the group to the log; one at a time.
    pub fn propose_change(&mut self, change: &ConfigChange) -> Result<(), ChangeError> {
        // raft-rs would propose an empty entry in its place.
        if self.role() == Role::Leader && self.node.raft.has_pending_conf() {
            return Err(ChangeError::Pending);
        }
        let entry = Entry { kind: EntryKind::Config, data: change.encode(), ..Entry::default() };
        Ok(self.propose_entry(entry)?)
    }

    /// Whether a change of the group may still be waiting for its turn: until then there is no other.
    pub fn is_changing(&self) -> bool {
        self.node.raft.has_pending_conf()
    }

    /// The group as Raft has it.
    pub fn config(&self) -> Config {
        Config::from(&self.node.raft.prs().conf().to_conf_state())
    }

    /// Up to where a member is known to have the log, as far as the leader can tell.
    pub fn matched(&self, member: MemberId) -> Option<LogIndex> {
        let leads = self.role() == Role::Leader;
        leads.then(|| self.node.raft.prs().get(member.0).map(|progress| LogIndex(progress.matched)))?
    }

    fn propose_entry(&mut self, entry: Entry) -> Result<(), ProposeError> {
        if self.role() != Role::Leader {
            return Err(ProposeError::NotLeader);
        }
        let mut message = Message { msg_type: MessageType::MsgPropose, ..Message::default() };
        message.from = self.options.id.0;
        message.entries = vec![entry.into()].into();
        self.node.raft.step(message).map_err(|_| ProposeError::Full)
    }

    /// Asks for an index that makes a read linearizable; the answer is in [`Ready::reads`], or never
    /// comes if leadership is lost: ask again with a new number. No number is used twice in a run.
    pub fn read_index(&mut self, number: u64) {
        let context = u128::from(self.options.run) << 64 | u128::from(number);
        let mut message = Message { msg_type: MessageType::MsgReadIndex, ..Message::default() };
        message.entries = vec![context_entry(Bytes::copy_from_slice(&context.to_be_bytes()))].into();
        if let Err(error) = self.node.raft.step(message) {
            unreachable!("raft-rs takes a read index or drops it: {error}");
        }
    }

    /// The number of a read index that this run asked for.
    fn read_number(&self, context: &[u8]) -> Option<u64> {
        let context: [u8; CONTEXT_BYTES] = context.try_into().ok()?;
        let context = u128::from_be_bytes(context);
        ((context >> 64) as u64 == self.options.run).then_some(context as u64)
    }

    pub fn has_ready(&self) -> bool {
        self.node.has_ready()
    }

    /// Whether the next [`Ready`] puts another state in place.
    pub fn is_restoring(&self) -> bool {
        self.node.raft.raft_log.unstable.snapshot.is_some()
    }

    pub fn ready(&mut self) -> Ready {
        let mut ready = self.node.ready();
        let number = ready.number();
        assert!(number > self.last_number, "readies are numbered upwards");
        self.last_number = number;
        let restored = restored(ready.snapshot());
        let entries = ready.take_entries();
        let hard_state = ready.hs().map(HardState::from);
        let window = self.node.mut_store();
        if let Some(baseline) = &restored {
            window.restore(baseline);
        }
        if let Some(hard_state) = hard_state {
            window.set_hard_state(hard_state);
        }
        window.append_raw(entries.iter().cloned());
        let persisted_messages = ready.take_persisted_messages();
        if !persisted_messages.is_empty() {
            self.held.push_back((number, persisted_messages));
        }
        let reads = ready.take_read_states().into_iter().filter_map(|state| {
            // What is not of this run came late, to the one before.
            self.read_number(&state.request_ctx).map(|number| (number, LogIndex(state.index)))
        });
        let taken = Ready {
            number,
            must_log: ready.must_sync(),
            hard_state,
            reads: reads.collect(),
            messages: outgoing(ready.take_messages()).collect(),
            committed: ready.take_committed_entries().into_iter().map(Entry::from).collect(),
            entries: entries.into_iter().map(Entry::from).collect(),
            restored,
        };
        self.node.advance_append_async(ready);
        taken
    }

    /// Everything up to this ready is durable. Returns messages that waited for it.
    pub fn persisted(&mut self, number: u64) -> Vec<Outgoing> {
        assert!(number >= self.durable_number && number <= self.last_number, "persisted out of order");
        if number > self.durable_number {
            self.durable_number = number;
            self.node.on_persist_ready(number);
        }
        let mut released = Vec::new();
        while self.held.front().is_some_and(|(n, _)| *n <= number) {
            released.extend(outgoing(self.held.pop_front().expect("just seen").1));
        }
        released
    }

    /// Everything up to `index` is applied.
    pub fn applied(&mut self, index: LogIndex) {
        assert!(index.0 <= self.node.raft.raft_log.committed, "applied beyond committed");
        self.node.advance_apply_to(index.0);
        let Options { catchup_entries, catchup_bytes, .. } = self.options;
        self.node.mut_store().trim(index, catchup_entries, catchup_bytes);
    }

    /// The oldest entry kept for followers. The log on disk is needed from there on.
    pub fn first_kept(&self) -> LogIndex {
        LogIndex(self.node.store().base().index.0 + 1)
    }

    /// Takes a committed configuration change into account.
    /// Gives the group as it is then.
    pub fn apply_change(&mut self, change: &ConfigChange) -> Result<Config, Error> {
        let state = self.node.apply_conf_change(&change.for_raft())?;
        let config = Config::from(&state);
        self.node.mut_store().set_config(config.clone());
        Ok(config)
    }

    /// The newest checkpoint that is complete on disk: from now on what a follower is offered for whom the log begins
    /// too late.
    pub fn set_checkpoint(&mut self, baseline: Baseline) {
        assert!(
            baseline.position.index.0 <= self.node.raft.raft_log.committed,
            "a checkpoint ahead of what is committed"
        );
        self.node.mut_store().set_checkpoint(baseline);
    }

    /// Whether, since the last call, a member needed a newer checkpoint than there is: none serves it.
    pub fn take_checkpoint_wanted(&self) -> bool {
        self.node.store().take_checkpoint_wanted()
    }

    /// Whether a member has the files of the checkpoint it was to get.
    pub fn report_checkpoint(&mut self, member: MemberId, came: bool) {
        let status = if came { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.node.report_snapshot(member.0, status);
    }

    /// Something that was sent to a member got lost, or it cannot be reached: until it answers it gets one append at a time.
    pub fn report_unreachable(&mut self, member: MemberId) {
        self.node.report_unreachable(member.0);
    }

    pub fn role(&self) -> Role {
        match self.node.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Follower => Role::Follower,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        }
    }

    /// The leader this member knows of; 0 if none.
    pub fn leader(&self) -> MemberId {
        MemberId(self.node.raft.leader_id)
    }

    pub fn term(&self) -> Term {
        Term(self.node.raft.term)
    }

    pub fn committed(&self) -> LogIndex {
        LogIndex(self.node.raft.raft_log.committed)
    }

    /// Whether the leader has committed an entry of its own term, which reads depend on.
    pub fn committed_in_term(&self) -> bool {
        self.role() == Role::Leader && self.node.raft.commit_to_current_term()
    }

    /// Term, vote and commit as last given out, to close the log with.
    pub fn hard_state(&self) -> HardState {
        HardState::from(&self.node.raft.hard_state())
    }
}

fn outgoing(messages: Vec<Message>) -> impl Iterator<Item = Outgoing> {
    messages.into_iter().map(|message| {
        let to = MemberId(message.to);
        let checkpoint = message.snapshot.as_ref().map(|snapshot| LogIndex(snapshot.get_metadata().index));
        let brings_entries = !message.entries.is_empty() && message.msg_type == MessageType::MsgAppend;
        Outgoing { to, frame: Frame::from(message).encode(), brings_entries, checkpoint }
    })
}

fn restored(snapshot: &eraftpb::Snapshot) -> Option<Baseline> {
    let metadata = snapshot.metadata.as_ref().filter(|metadata| metadata.index > 0)?;
    let position = LogPosition { index: LogIndex(metadata.index), term: Term(metadata.term) };
    Some(Baseline { position, config: Config::from(metadata.get_conf_state()) })
}

#[cfg(test)]
mod tests;
