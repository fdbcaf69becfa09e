//! raft-rs behind a narrow surface, with asynchronous persistence.
//!
//! The order of a write: `propose` -> [`Ready::entries`] to the log (messages to followers leave at
//! once) -> `persisted(number)` when the log says durable -> [`Ready::committed`] of a later ready.
//! Readies are numbered; they become durable in order.

use std::collections::VecDeque;

use bytes::Bytes;
use raft::{
    GetEntriesContext, Progress, ProgressState, RawNode, ReadOnlyOption, SnapshotStatus, StateRole,
    eraftpb::{self, Message, MessageType},
};

use crate::{
    limits,
    pb::peer::frame::Body,
    types::{LogIndex, MemberId, Term},
};

use super::{
    Baseline, Config, ConfigChange, Entry, EntryKind, Frame, FrameError, HardState, LogPosition,
    admission::{self, is_sole_voter, may_campaign},
    flow::{self, Flows},
    frame::{CONTEXT_BYTES, context_entry},
    log_window::LogWindow,
    logger,
    older::Terms,
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
    /// Another member is about to lead.
    #[error("leadership is being handed over")]
    HandingOver,
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
    /// Readies with entries that Raft was not told are durable: number, first and last index.
    unreported: VecDeque<(u64, LogIndex, LogIndex)>,
    election_timeout: usize,
    timed_for: (u64, StateRole),
    is_stalled: bool,
    /// Members that were heard of, and for how many ticks they count as being there.
    present: Vec<(u64, usize)>,
    flows: Flows,
    /// Who waits for what is being read back.
    reading_for: Option<GetEntriesContext>,
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
            max_inflight_msgs: flow::MESSAGES_MAX,
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
            unreported: VecDeque::new(),
            election_timeout: options.election_ticks,
            timed_for,
            is_stalled: false,
            present: Vec::new(),
            flows: Flows::default(),
            reading_for: None,
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
        self.note_present();
        self.settle_flows();
        if !self.reads_back() {
            self.node.mut_store().older_mut().clear();
        }
        self.keep_election_timeout(random);
    }

    /// Takes in a frame from another member. It may say anything: what is no good changes nothing.
    pub fn step(&mut self, frame: Frame, random: u64) -> Result<(), StepError> {
        self.take(frame, false, random)
    }

    /// Takes in the frame of a checkpoint whose files are complete here: [`Ready::restored`] tells to put it in place,
    /// unless this member is as far already.
    pub fn step_with_checkpoint(&mut self, frame: Bytes, random: u64) -> Result<(), StepError> {
        self.take(Frame::decode(frame)?, true, random)
    }

    fn take(&mut self, frame: Frame, files_came: bool, random: u64) -> Result<(), StepError> {
        if self.is_stalled && matches!(frame.body, Body::Campaign(_)) {
            return Err(FrameError::Campaign.into());
        }
        admission::check(&self.node, &frame, files_came)?;
        // Who answers may be behind by more than should be on its way to it.
        self.node.store().set_budget(limits::IN_FLIGHT_BYTES as u64);
        let stepped = self.node.step(frame.into());
        self.node.store().set_budget(u64::MAX);
        self.settle_flows();
        self.keep_election_timeout(random);
        stepped.map_err(|error| Error(error).into())
    }

    fn keep_election_timeout(&mut self, random: u64) {
        let now = (self.node.raft.term, self.node.raft.state);
        if now != self.timed_for {
            self.timed_for = now;
            self.draw_election_timeout(random);
        }
        let may_campaign = may_campaign(&self.node) && !self.is_stalled;
        let timeout = if may_campaign { self.election_timeout } else { usize::MAX - 1 };
        self.node.raft.set_randomized_election_timeout(timeout);
    }

    /// A follower waits up to half as long again for a leader: members' ticks are apart by themselves, so few of them campaign
    /// at once. Who did, and was not elected, draws from twice that.
    fn draw_election_timeout(&mut self, random: u64) {
        let ticks = self.options.election_ticks as u64;
        let spread = if self.role() == Role::Follower { ticks.div_ceil(2) } else { ticks };
        self.election_timeout = (ticks + random % spread) as usize;
        self.node.raft.set_randomized_election_timeout(self.election_timeout);
    }

    /// Adds entries to the log, all or none. Other members are sent them together.
    pub fn propose(&mut self, data: impl IntoIterator<Item = Bytes>) -> Result<(), ProposeError> {
        // RawNode::propose takes a Vec and would copy what is already shared.
        self.propose_entries(data.into_iter().map(|data| Entry { data, ..Entry::default() }.into()).collect())
    }

    /// Adds a change of the group to the log; one at a time.
    pub fn propose_change(&mut self, change: &ConfigChange) -> Result<(), ChangeError> {
        // raft-rs would propose an empty entry in its place.
        if self.role() == Role::Leader && self.node.raft.has_pending_conf() {
            return Err(ChangeError::Pending);
        }
        let entry = Entry { kind: EntryKind::Config, data: change.encode(), ..Entry::default() };
        Ok(self.propose_entries(vec![entry.into()])?)
    }

    /// Hands leadership over: once the member has all of the log it campaigns at once. Until it leads, or an election
    /// timeout has passed, nothing is proposed.
    pub fn hand_over(&mut self, to: MemberId) {
        assert!(to != self.options.id, "to another member");
        self.node.transfer_leader(to.0);
    }

    /// Whom of those leadership can be handed over to: who has a vote, those first that were heard of lately, and of them
    /// the one that has most of the log.
    pub fn successor(&self, may_be: impl Fn(MemberId) -> bool) -> Option<MemberId> {
        let raft = &self.node.raft;
        let voters = raft.prs().conf().voters().ids();
        let standing = |id: &u64| {
            let progress = raft.prs().get(*id)?;
            Some((progress.recent_active, progress.matched, *id))
        };
        let others = voters.iter().filter(|id| *id != raft.id && may_be(MemberId(*id)));
        others.max_by_key(standing).map(MemberId)
    }

    /// Leads no more, without waiting for who will.
    pub fn step_down(&mut self, random: u64) {
        if self.role() == Role::Leader {
            let term = self.node.raft.term;
            self.node.raft.become_follower(term, 0);
            self.keep_election_timeout(random);
        }
    }

    /// Whether the disk does not answer: until it does, this member campaigns for nothing. Its vote could not become
    /// durable, and if it led, nothing it promised.
    pub fn set_stalled(&mut self, stalled: bool, random: u64) {
        if self.is_stalled != stalled {
            self.is_stalled = stalled;
            self.keep_election_timeout(random);
        }
    }

    /// The next election begins sooner, by all ticks but two that one waits for a leader.
    pub fn advance_election(&mut self) {
        if self.role() == Role::Follower {
            self.node.raft.election_elapsed += self.options.election_ticks.saturating_sub(2);
        }
    }

    /// Whether there is no other member.
    pub fn is_alone(&self) -> bool {
        self.node.store().is_alone()
    }

    pub fn is_sole_voter(&self) -> bool {
        is_sole_voter(&self.node)
    }

    /// Whether another member is about to lead in this one's place.
    pub fn is_handing_over(&self) -> bool {
        self.node.raft.lead_transferee.is_some()
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

    fn propose_entries(&mut self, entries: Vec<eraftpb::Entry>) -> Result<(), ProposeError> {
        if self.role() != Role::Leader {
            return Err(ProposeError::NotLeader);
        }
        if self.is_handing_over() {
            return Err(ProposeError::HandingOver);
        }
        let mut message = Message { msg_type: MessageType::MsgPropose, ..Message::default() };
        message.from = self.options.id.0;
        message.entries = entries.into();
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
        if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
            self.unreported.push_back((number, LogIndex(first.index), LogIndex(last.index)));
        }
        let mut now = ready.take_messages();
        for message in now.iter().filter(|message| brings_entries(message)) {
            let last = message.entries.last().expect("it brings some");
            let bytes = message.entries.iter().map(|entry| entry.data.len()).sum();
            self.flows.note(message.to, last.index, bytes);
        }
        let (promises, others): (Vec<_>, Vec<_>) =
            ready.take_persisted_messages().into_iter().partition(promises_something);
        now.extend(others);
        if !promises.is_empty() {
            self.held.push_back((number, promises));
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
            messages: outgoing(now).collect(),
            committed: ready.take_committed_entries().into_iter().map(Entry::from).collect(),
            entries: entries.into_iter().map(Entry::from).collect(),
            restored,
        };
        self.node.advance_append_async(ready);
        self.settle_flows();
        taken
    }

    /// Who has too much on its way waits, and who has not any more gets the next.
    fn settle_flows(&mut self) {
        let leads = self.role() == Role::Leader;
        for member in self.flows.settle(self.node.raft.mut_prs(), leads) {
            self.node.raft.send_append(member);
        }
    }

    /// What another member needs that is in memory no more: the entries from this one on, and the terms they are of. It is
    /// asked for once, and [`Pipeline::read_back`] must follow.
    pub fn to_read_back(&mut self) -> Option<(LogIndex, Terms)> {
        if self.reading_for.is_some() {
            return None;
        }
        let older = self.node.mut_store().older_mut();
        let (from, context) = older.take_wanted()?;
        let terms = older.terms().clone();
        self.reading_for = Some(context);
        Some((from, terms))
    }

    /// Takes in what was read back, if anything. `is_lost`: it can be read no more, nor any that left memory; who needs
    /// that gets a checkpoint.
    pub fn read_back(&mut self, from: LogIndex, entries: Vec<Entry>, is_lost: bool) {
        let context = self.reading_for.take().expect("it was asked for");
        let older = self.node.mut_store().older_mut();
        older.fill(from, entries);
        if is_lost {
            older.forget(older.last().index);
        }
        self.node.store().set_budget(limits::IN_FLIGHT_BYTES as u64);
        self.node.on_entries_fetched(context);
        self.node.store().set_budget(u64::MAX);
    }

    /// Whether a member that is there needs what is in memory no more.
    pub fn reads_back(&self) -> bool {
        self.needed().is_some_and(|needed| needed < self.node.store().base().index)
    }

    /// Everything up to this ready is durable. Returns messages that waited for it.
    pub fn persisted(&mut self, number: u64) -> Vec<Outgoing> {
        assert!(number >= self.durable_number && number <= self.last_number, "persisted out of order");
        if number > self.durable_number {
            self.durable_number = number;
            self.report_durable();
        }
        let mut released = Vec::new();
        while self.held.front().is_some_and(|(n, _)| *n <= number) {
            released.extend(outgoing(self.held.pop_front().expect("just seen").1));
        }
        released
    }

    /// Tells Raft what is durable, unless something that replaces part of it is still on its way to the disk: raft-rs
    /// compares places only, and the entry that it finds there may have been replaced twice, by one that is the same and is
    /// not durable.
    fn report_durable(&mut self) {
        let count = self.unreported.iter().take_while(|(number, ..)| *number <= self.durable_number).count();
        let last = self.unreported.iter().take(count).map(|(.., last)| *last).max();
        let is_replaced = self.unreported.iter().skip(count).any(|(_, first, _)| Some(*first) <= last);
        if !is_replaced {
            self.unreported.drain(..count);
            self.node.on_persist_ready(self.durable_number);
        }
    }

    /// Everything up to `index` is applied.
    pub fn applied(&mut self, index: LogIndex) {
        assert!(index.0 <= self.node.raft.raft_log.committed, "applied beyond committed");
        self.node.advance_apply_to(index.0);
        let Options { catchup_entries, catchup_bytes, .. } = self.options;
        self.node.mut_store().trim(index, catchup_entries, catchup_bytes);
    }

    /// Up to where the members that are there have the log, or will once the checkpoint came that is on its way to them;
    /// none if this member does not lead, or none of them can be served from the log.
    fn needed(&self) -> Option<LogIndex> {
        if self.role() != Role::Leader {
            return None;
        }
        let progress = |(id, _): &(u64, usize)| self.node.raft.prs().get(*id);
        let has = |progress: &Progress| {
            LogIndex(match progress.state {
                ProgressState::Snapshot => progress.pending_snapshot,
                ProgressState::Probe => progress.next_idx - 1,
                ProgressState::Replicate => progress.matched,
            })
        };
        let base = self.node.store().older().base().index;
        self.present.iter().filter_map(progress).map(has).filter(|has| *has >= base).min()
    }

    /// Who of the others was heard of lately.
    fn note_present(&mut self) {
        self.present.retain_mut(|(_, ticks)| {
            *ticks -= 1;
            *ticks > 0
        });
        if self.role() != Role::Leader {
            return;
        }
        let ticks = limits::NEEDED_ELECTIONS * self.options.election_ticks;
        for (id, _) in self.node.raft.prs().iter().filter(|(_, progress)| progress.recent_active) {
            match self.present.iter_mut().find(|(present, _)| present == id) {
                Some((_, left)) => *left = ticks,
                None if *id != self.options.id.0 => self.present.push((*id, ticks)),
                None => {}
            }
        }
    }

    /// From where on the log on disk is kept, now that the newest checkpoint stands for what is before: what members need
    /// next that are there, and some for those that will come back. Nobody is sent much more of the log than the checkpoint
    /// would be, of which there are so many `bytes`. `within`: the first entry of a log of so many bytes.
    pub fn keep_from(&mut self, bytes: u64, within: impl Fn(u64) -> LogIndex) -> LogIndex {
        let store = self.node.store();
        let newest = store.checkpoint().map_or(0, |baseline| baseline.position.index.0);
        let entries = if store.is_alone() { 0 } else { self.options.catchup_entries as u64 };
        let kept = LogIndex(newest.saturating_sub(entries) + 1).max(within(limits::LOG_KEPT_BYTES));
        let most = bytes.saturating_mul(2).clamp(limits::LOG_KEPT_BYTES, limits::LOG_NEEDED_BYTES);
        let needed = self.needed().map(|has| LogIndex(has.0 + 1).max(within(most)));
        let from = kept.min(needed.unwrap_or(kept)).min(LogIndex(newest + 1)).min(store.first_in_memory());
        let older = self.node.mut_store().older_mut();
        older.forget(LogIndex(from.0 - 1));
        LogIndex(older.base().index.0 + 1).min(LogIndex(newest + 1))
    }

    /// Takes a committed configuration change into account.
    /// Gives the group as it is then.
    pub fn apply_change(&mut self, change: &ConfigChange) -> Result<Config, Error> {
        let state = self.node.apply_conf_change(&change.for_raft())?;
        let config = Config::from(&state);
        self.node.mut_store().set_config(config.clone());
        if !config.voters.contains(&self.options.id) && self.role() == Role::Leader {
            // raft-rs has a leader that was removed lead on, and look for its own progress, which is gone. What it
            // committed is told to the others by then.
            let term = self.node.raft.term;
            self.node.raft.become_follower(term, 0);
        }
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
        self.settle_flows();
    }

    /// Something that was sent to a member got lost, or it cannot be reached: until it answers it gets one append at a time.
    pub fn report_unreachable(&mut self, member: MemberId) {
        self.node.report_unreachable(member.0);
        self.settle_flows();
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

    /// The term in which a read index would be answered, as far as this member knows: there is a leader, which has
    /// committed an entry of that term.
    pub fn readable(&self) -> Option<Term> {
        let raft = &self.node.raft;
        (raft.leader_id != 0 && raft.commit_to_current_term()).then_some(Term(raft.term))
    }

    /// Whether a member is in the group.
    pub fn knows(&self, member: MemberId) -> bool {
        self.node.raft.prs().get(member.0).is_some()
    }

    /// Term, vote and commit as last given out.
    pub fn hard_state(&self) -> HardState {
        self.node.store().hard_state()
    }
}

/// Whether it may leave only once what it says is durable here. raft-rs has everything wait that a follower sends; but
/// a heartbeat's answer says nothing of the log that is not durable, and a term that was heard of is no vote: who is
/// asked to confirm a leader must not wait for a disk, or reads would, and a slow disk would look like a dead member.
fn promises_something(message: &Message) -> bool {
    !matches!(message.msg_type, MessageType::MsgHeartbeatResponse | MessageType::MsgReadIndex)
}

fn brings_entries(message: &Message) -> bool {
    !message.entries.is_empty() && message.msg_type == MessageType::MsgAppend
}

fn outgoing(messages: Vec<Message>) -> impl Iterator<Item = Outgoing> {
    messages.into_iter().map(|message| {
        let to = MemberId(message.to);
        let checkpoint = message.snapshot.as_ref().map(|snapshot| LogIndex(snapshot.get_metadata().index));
        let brings_entries = brings_entries(&message);
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
