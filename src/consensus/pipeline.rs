//! raft-rs behind a narrow surface, with asynchronous persistence.
//!
//! The order of a write: `propose` -> [`Ready::entries`] to the log (messages to followers leave at
//! once) -> `persisted(number)` when the log says durable -> [`Ready::committed`] of a later ready.
//! Readies are numbered; they become durable in order.

use std::collections::VecDeque;

use bytes::Bytes;
use raft::{
    Config, RawNode, ReadOnlyOption, StateRole,
    eraftpb::{Entry, HardState, Message},
};

use crate::types::{LogIndex, MemberId, Term};

use super::{ConfChange, log_window::LogWindow, logger};

/// How a shard's group behaves. Ticks are the caller's unit of time.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub id: MemberId,
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
    pub messages: Vec<Message>,
    /// To apply, in order: durable here and on a quorum.
    pub committed: Vec<Entry>,
    /// Contexts of [`Pipeline::read_index`] and the index that must be applied before answering.
    pub reads: Vec<(u64, LogIndex)>,
}

/// One shard's Raft group as this member sees it.
pub struct Pipeline {
    node: RawNode<LogWindow>,
    options: Options,
    /// Messages that promise something this member has not made durable yet, by ready number.
    held: VecDeque<(u64, Vec<Message>)>,
    durable_number: u64,
    last_number: u64,
    election_timeout: usize,
    timed_for: (u64, StateRole),
}

impl Pipeline {
    /// A group restored from its log: `window` holds what recovery found after `applied`.
    pub fn new(options: Options, window: LogWindow, applied: LogIndex, random: u64) -> raft::Result<Self> {
        let config = Config {
            id: options.id.0,
            election_tick: options.election_ticks,
            heartbeat_tick: options.heartbeat_ticks,
            applied: applied.0,
            max_size_per_msg: options.committed_bytes_max,
            max_inflight_msgs: 256,
            check_quorum: true,
            pre_vote: options.pre_vote,
            read_only_option: ReadOnlyOption::Safe,
            max_uncommitted_size: options.uncommitted_bytes_max,
            max_committed_size_per_ready: options.committed_bytes_max,
            ..Config::default()
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
    pub fn campaign_if_sole_voter(&mut self) -> raft::Result<()> {
        let voters = self.node.raft.prs().conf().voters().ids();
        let sole = voters.len() == 1 && voters.contains(self.options.id.0);
        if sole { self.node.campaign() } else { Ok(()) }
    }

    /// `random` decides the next election timeout if one is due to be drawn: raft-rs would ask the
    /// process's generator, which a simulation cannot replay.
    pub fn tick(&mut self, random: u64) {
        self.node.tick();
        self.keep_election_timeout(random);
    }

    pub fn step(&mut self, message: Message, random: u64) -> raft::Result<()> {
        let stepped = self.node.step(message);
        self.keep_election_timeout(random);
        stepped
    }

    fn keep_election_timeout(&mut self, random: u64) {
        let now = (self.node.raft.term, self.node.raft.state);
        if now != self.timed_for {
            self.timed_for = now;
            self.draw_election_timeout(random);
        }
        self.node.raft.set_randomized_election_timeout(self.election_timeout);
    }

    fn draw_election_timeout(&mut self, random: u64) {
        let ticks = self.options.election_ticks as u64;
        self.election_timeout = (ticks + random % ticks) as usize;
        self.node.raft.set_randomized_election_timeout(self.election_timeout);
    }

    /// Adds one entry to the log.
    pub fn propose(&mut self, data: Bytes) -> Result<(), ProposeError> {
        use raft::eraftpb::MessageType;
        if self.role() != Role::Leader {
            return Err(ProposeError::NotLeader);
        }
        // RawNode::propose takes a Vec and would copy what is already shared.
        let entry = Entry { data, ..Entry::default() };
        let mut message = Message { msg_type: MessageType::MsgPropose, ..Message::default() };
        message.from = self.options.id.0;
        message.entries = vec![entry].into();
        self.node.raft.step(message).map_err(|_| ProposeError::Full)
    }

    /// Asks for an index that makes a read linearizable; the answer is in [`Ready::reads`], or never
    /// comes if leadership is lost: ask again with a new context.
    pub fn read_index(&mut self, context: u64) {
        self.node.read_index(context.to_be_bytes().to_vec());
    }

    pub fn has_ready(&self) -> bool {
        self.node.has_ready()
    }

    pub fn ready(&mut self) -> Ready {
        let mut ready = self.node.ready();
        let number = ready.number();
        assert!(number > self.last_number, "readies are numbered upwards");
        self.last_number = number;
        let entries = ready.take_entries();
        let hard_state = ready.hs().cloned();
        let window = self.node.mut_store();
        if let Some(hard_state) = &hard_state {
            window.set_hard_state(hard_state.clone());
        }
        window.append(entries.iter().cloned());
        let persisted_messages = ready.take_persisted_messages();
        if !persisted_messages.is_empty() {
            self.held.push_back((number, persisted_messages));
        }
        let reads = ready.take_read_states().into_iter().map(|state| {
            let context = state.request_ctx.as_slice().try_into().expect("contexts are eight bytes");
            (u64::from_be_bytes(context), LogIndex(state.index))
        });
        let taken = Ready {
            number,
            must_log: ready.must_sync(),
            hard_state,
            reads: reads.collect(),
            messages: ready.take_messages(),
            committed: ready.take_committed_entries(),
            entries,
        };
        self.node.advance_append_async(ready);
        taken
    }

    /// Everything up to this ready is durable. Returns messages that waited for it.
    pub fn persisted(&mut self, number: u64) -> Vec<Message> {
        assert!(number >= self.durable_number && number <= self.last_number, "persisted out of order");
        if number > self.durable_number {
            self.durable_number = number;
            self.node.on_persist_ready(number);
        }
        let mut released = Vec::new();
        while self.held.front().is_some_and(|(n, _)| *n <= number) {
            released.extend(self.held.pop_front().expect("just seen").1);
        }
        released
    }

    /// Everything up to `index` is applied.
    pub fn applied(&mut self, index: LogIndex) {
        assert!(index.0 <= self.node.raft.raft_log.committed, "applied beyond committed");
        self.node.advance_apply_to(index.0);
        let Options { catchup_entries, catchup_bytes, .. } = self.options;
        self.node.mut_store().trim(index.0, catchup_entries, catchup_bytes);
    }

    /// The oldest entry kept for followers. The log on disk is needed from there on.
    pub fn first_kept(&self) -> LogIndex {
        LogIndex(self.node.store().base().0 + 1)
    }

    /// Takes a committed configuration change into account.
    pub fn apply_conf_change(&mut self, change: &ConfChange) -> raft::Result<()> {
        let conf_state = self.node.apply_conf_change(&change.change)?;
        self.node.mut_store().set_conf_state(conf_state);
        Ok(())
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
        self.node.raft.hard_state()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::{Member, Membership, first_entry};

    fn sole(id: u64) -> Pipeline {
        let member = Member { id, ..Member::default() };
        let entry = first_entry(1, 1, &member);
        let mut membership = Membership::default();
        membership.apply(&ConfChange::decode(&entry).unwrap());
        let hard_state = HardState { term: 1, commit: 1, ..HardState::default() };
        let mut window = LogWindow::new((0, 0), hard_state, membership.conf_state());
        window.append([entry]);
        let options = Options {
            id: MemberId(id),
            election_ticks: 10,
            heartbeat_ticks: 1,
            pre_vote: true,
            uncommitted_bytes_max: 1 << 20,
            committed_bytes_max: 1 << 20,
            catchup_entries: 4,
            catchup_bytes: 1 << 20,
        };
        Pipeline::new(options, window, LogIndex(1), 3).unwrap()
    }

    /// Drives a sole voter; the log is durable only when `durable` says so.
    fn turn(pipeline: &mut Pipeline) -> Vec<Ready> {
        let mut readies = Vec::new();
        while pipeline.has_ready() {
            readies.push(pipeline.ready());
        }
        readies
    }

    /// Makes everything durable until nothing is left to do; the committed entries.
    fn settle(pipeline: &mut Pipeline) -> Vec<Entry> {
        let mut committed = Vec::new();
        loop {
            let readies = turn(pipeline);
            let Some(last) = readies.last().map(|r| r.number) else { return committed };
            committed.extend(readies.into_iter().flat_map(|r| r.committed));
            pipeline.persisted(last);
        }
    }

    #[test]
    fn nothing_is_committed_before_it_is_durable() {
        let mut pipeline = sole(1);
        pipeline.campaign_if_sole_voter().unwrap();
        let elected = turn(&mut pipeline);
        assert!(elected.iter().any(|r| r.must_log), "the vote must be logged");
        assert!(elected.iter().all(|r| r.committed.is_empty()));
        pipeline.persisted(elected.last().unwrap().number);
        let committed = settle(&mut pipeline);
        assert_eq!(committed.last().unwrap().index, 2);
        assert_eq!((pipeline.role(), pipeline.term()), (Role::Leader, Term(2)));
        pipeline.applied(LogIndex(committed.last().unwrap().index));

        pipeline.propose(Bytes::from_static(b"x")).unwrap();
        let proposed = turn(&mut pipeline);
        assert_eq!(proposed.iter().map(|r| r.entries.len()).sum::<usize>(), 1);
        assert!(proposed.iter().all(|r| r.committed.is_empty()), "committed before durable");
        pipeline.persisted(proposed.last().unwrap().number);
        let committed: Vec<_> = turn(&mut pipeline).into_iter().flat_map(|r| r.committed).collect();
        assert_eq!(&committed[0].data[..], b"x");
    }

    #[test]
    fn a_sole_voter_answers_read_index_at_once() {
        let mut pipeline = sole(1);
        pipeline.campaign_if_sole_voter().unwrap();
        settle(&mut pipeline);
        assert!(pipeline.committed_in_term());
        pipeline.read_index(42);
        let reads: Vec<_> = turn(&mut pipeline).into_iter().flat_map(|r| r.reads).collect();
        assert_eq!(reads, vec![(42, pipeline.committed())]);
    }

    #[test]
    fn proposals_are_refused_without_leadership_and_beyond_the_bound() {
        let mut pipeline = sole(1);
        assert_eq!(pipeline.propose(Bytes::from_static(b"x")), Err(ProposeError::NotLeader));
        pipeline.campaign_if_sole_voter().unwrap();
        settle(&mut pipeline);
        let big = Bytes::from(vec![0; 1 << 20]);
        pipeline.propose(big.clone()).unwrap();
        assert_eq!(pipeline.propose(big), Err(ProposeError::Full));
    }
}
