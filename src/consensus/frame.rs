//! A message between members in its form on the wire: our own, encoded and decoded by prost.
//!
//! raft-rs trusts what it is given: much of what it would panic at is refused here, by what a message says alone;
//! the rest, which depends on the log, by [`super::admission`].

use bytes::Bytes;
use prost::Message as _;
use raft::{
    CAMPAIGN_TRANSFER,
    eraftpb::{self, MessageType},
};

use crate::{
    limits,
    pb::peer::{self as pb, aside::Word, frame::Body},
    types::{LogIndex, MemberId, Term},
};

use super::{Baseline, Config, ConfigChange, ConfigError, LogPosition};

/// Length of the context of a read index.
pub(super) const CONTEXT_BYTES: usize = 16;
/// No honest member counts further, and adding to what is counted cannot overflow.
const NUMBER_MAX: u64 = u64::MAX >> 1;

/// Why a frame is not for Raft. It came from a member that is broken, of another version, or somebody else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {0} bytes, more than members send")]
    TooLong(usize),
    #[error("a frame that cannot be decoded: {0}")]
    Malformed(#[from] prost::DecodeError),
    #[error("a frame without a message, or with one that this version does not know")]
    NoBody,
    #[error("a frame from member {from:x} to {to:x}, which it is not meant for")]
    Address { from: u64, to: u64 },
    #[error("a frame from member {from:x} that came from {sender:x}")]
    Sender { from: u64, sender: u64 },
    #[error("a frame of term {0}, which its message cannot be of")]
    Term(u64),
    #[error("a frame with a number out of range: {0}")]
    Number(u64),
    #[error("a context of {0} bytes")]
    Context(usize),
    #[error("entry {index} of term {term} does not follow the one before it")]
    Entry { index: u64, term: u64 },
    #[error("entry {index} is of kind {kind}, which this version does not know")]
    EntryKind { index: u64, kind: i32 },
    #[error("entry {index}: {reason}")]
    Config { index: u64, reason: ConfigError },
    #[error("a rejected append whose hint, {hint}, is beyond what was rejected, {index}")]
    Hint { index: u64, hint: u64 },
    #[error("a checkpoint of a group that cannot be: {0:?}")]
    Group(Config),
    #[error(
        "tells of entry {index} as if it was here, but the log ends at {last}; was this member's data removed?"
    )]
    BeyondLog { index: u64, last: u64 },
    #[error("a checkpoint at entry {index} of term {term}, which is not the one that was committed here")]
    Diverged { index: u64, term: u64 },
    #[error("a checkpoint, before its files came")]
    Checkpoint,
    #[error("nobody was asked for that vote")]
    Vote,
    #[error("this member cannot campaign now")]
    Campaign,
    #[error("a read index of this member, which is not the leader of the one that asks")]
    ReadIndex,
}

/// What came from another member.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    Frame(Frame),
    Aside(Aside),
}

/// A word beside Raft.
#[derive(Clone, Debug, PartialEq)]
pub struct Aside {
    pub from: MemberId,
    pub to: MemberId,
    /// Which leader's it is about.
    pub term: Term,
    pub word: Word,
}

impl Received {
    /// What a member has sent: nobody speaks for another.
    pub fn from(sender: MemberId, bytes: Bytes) -> Result<Self, FrameError> {
        let received = Self::decode(bytes)?;
        let (Received::Frame(Frame { from, .. }) | Received::Aside(Aside { from, .. })) = received;
        if from != sender {
            return Err(FrameError::Sender { from: from.0, sender: sender.0 });
        }
        Ok(received)
    }

    pub fn decode(bytes: Bytes) -> Result<Self, FrameError> {
        let (frame, body) = parts(bytes)?;
        let Body::Aside(aside) = body else { return Ok(Received::Frame(Frame::checked(frame, body)?)) };
        let word = aside.word.ok_or(FrameError::NoBody)?;
        if frame.term == 0 {
            return Err(FrameError::Term(frame.term));
        }
        let (from, to, term) = (MemberId(frame.from), MemberId(frame.to), Term(frame.term));
        Ok(Received::Aside(Aside { from, to, term, word }))
    }
}

impl Aside {
    pub fn encode(self) -> Bytes {
        let Aside { from, to, term, word } = self;
        let body = Some(Body::Aside(pb::Aside { word: Some(word) }));
        pb::Frame { from: from.0, to: to.0, term: term.0, body }.encode_to_vec().into()
    }
}

/// A frame whose addresses and term can be, without its body.
fn parts(bytes: Bytes) -> Result<(pb::Frame, Body), FrameError> {
    if bytes.len() > limits::PEER_FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(bytes.len()));
    }
    let mut frame = pb::Frame::decode(bytes)?;
    let body = frame.body.take().ok_or(FrameError::NoBody)?;
    let pb::Frame { from, to, term, .. } = frame;
    if from == 0 || to == 0 || from == to {
        return Err(FrameError::Address { from, to });
    }
    numbers(&[term])?;
    Ok((frame, body))
}

/// A message of Raft's that makes sense in itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    pub(super) from: MemberId,
    pub(super) to: MemberId,
    pub(super) term: Term,
    pub(super) body: Body,
}

impl Frame {
    pub fn decode(bytes: Bytes) -> Result<Self, FrameError> {
        let (frame, body) = parts(bytes)?;
        Self::checked(frame, body)
    }

    fn checked(frame: pb::Frame, body: Body) -> Result<Self, FrameError> {
        let pb::Frame { from, to, term, .. } = frame;
        let has_term = term != 0;
        if has_term == matches!(body, Body::ReadIndex(_)) {
            return Err(FrameError::Term(term));
        }
        check(term, &body)?;
        Ok(Frame { from: MemberId(from), to: MemberId(to), term: Term(term), body })
    }

    /// The checkpoint that the frame tells of, if it does.
    pub fn checkpoint(&self) -> Option<Baseline> {
        let Body::Checkpoint(checkpoint) = &self.body else { return None };
        let position = LogPosition { index: LogIndex(checkpoint.index), term: Term(checkpoint.term) };
        Some(Baseline { position, config: config(checkpoint) })
    }

    /// Whether it brings entries for the log.
    pub fn has_entries(&self) -> bool {
        matches!(&self.body, Body::Append(append) if !append.entries.is_empty())
    }

    pub(super) fn encode(self) -> Bytes {
        let Frame { from, to, term, body } = self;
        let frame = pb::Frame { from: from.0, to: to.0, term: term.0, body: Some(body) };
        frame.encode_to_vec().into()
    }
}

fn numbers(numbers: &[u64]) -> Result<(), FrameError> {
    match numbers.iter().find(|number| **number > NUMBER_MAX) {
        Some(number) => Err(FrameError::Number(*number)),
        None => Ok(()),
    }
}

fn context(context: &Bytes, may_be_empty: bool) -> Result<(), FrameError> {
    let fits = context.len() == CONTEXT_BYTES || (may_be_empty && context.is_empty());
    if fits { Ok(()) } else { Err(FrameError::Context(context.len())) }
}

/// What a message of a term may say.
fn check(term: u64, body: &Body) -> Result<(), FrameError> {
    match body {
        Body::Append(append) => check_append(term, append),
        Body::AppendReply(reply) => {
            numbers(&[reply.index, reply.commit, reply.hint_index, reply.hint_term])?;
            if reply.hint_index > reply.index {
                return Err(FrameError::Hint { index: reply.index, hint: reply.hint_index });
            }
            Ok(())
        }
        Body::Heartbeat(beat) => {
            numbers(&[beat.commit])?;
            context(&beat.context, true)
        }
        Body::HeartbeatReply(reply) => {
            numbers(&[reply.commit])?;
            context(&reply.context, true)
        }
        Body::Vote(vote) => numbers(&[vote.last_index, vote.last_term, vote.commit, vote.commit_term]),
        Body::VoteReply(reply) => numbers(&[reply.commit, reply.commit_term]),
        Body::Checkpoint(checkpoint) => check_checkpoint(term, checkpoint),
        Body::Campaign(pb::Campaign {}) => Ok(()),
        Body::ReadIndex(asked) => context(&asked.context, false),
        Body::ReadIndexReply(reply) => {
            numbers(&[reply.index])?;
            context(&reply.context, false)
        }
        Body::Aside(_) => Err(FrameError::NoBody),
    }
}

fn check_append(term: u64, append: &pb::Append) -> Result<(), FrameError> {
    numbers(&[append.prev_index, append.prev_term, append.commit])?;
    let (mut last_index, mut last_term) = (append.prev_index, append.prev_term);
    // To raft-rs a place beyond the end of the log is of term 0.
    if (last_index == 0) != (last_term == 0) || last_term > term {
        return Err(FrameError::Entry { index: last_index, term: last_term });
    }
    for &pb::Entry { index, term: entry_term, kind, ref data } in &append.entries {
        let follows = index == last_index + 1 && (last_term.max(1)..=term).contains(&entry_term);
        if !follows {
            return Err(FrameError::Entry { index, term: entry_term });
        }
        match pb::EntryKind::try_from(kind) {
            Ok(pb::EntryKind::Normal) => {}
            Ok(pb::EntryKind::Config) => {
                let refused = |reason| FrameError::Config { index, reason };
                ConfigChange::decode(data.clone()).map_err(refused)?;
            }
            Err(_) => return Err(FrameError::EntryKind { index, kind }),
        }
        (last_index, last_term) = (index, entry_term);
    }
    Ok(())
}

fn check_checkpoint(term: u64, checkpoint: &pb::Checkpoint) -> Result<(), FrameError> {
    let pb::Checkpoint { index, term: last_term, voters, learners } = checkpoint;
    numbers(&[*index])?;
    if *index == 0 || *last_term == 0 || *last_term > term {
        return Err(FrameError::Entry { index: *index, term: *last_term });
    }
    let mut members: Vec<_> = voters.iter().chain(learners).collect();
    members.sort();
    let repeats = members.windows(2).any(|pair| pair[0] == pair[1]);
    if voters.is_empty() || repeats || *members[0] == 0 {
        return Err(FrameError::Group(config(checkpoint)));
    }
    Ok(())
}

fn config(checkpoint: &pb::Checkpoint) -> Config {
    let members = |ids: &[u64]| ids.iter().copied().map(MemberId).collect();
    Config { voters: members(&checkpoint.voters), learners: members(&checkpoint.learners) }
}

impl From<eraftpb::Message> for Frame {
    fn from(mut message: eraftpb::Message) -> Self {
        let pre = matches!(
            message.msg_type,
            MessageType::MsgRequestPreVote | MessageType::MsgRequestPreVoteResponse
        );
        let eraftpb::Message { index, log_term, commit, commit_term, reject: rejected, .. } = message;
        let body = match message.msg_type {
            MessageType::MsgAppend => Body::Append(pb::Append {
                prev_index: index,
                prev_term: log_term,
                commit,
                entries: message.take_entries().into_iter().map(entry).collect(),
            }),
            MessageType::MsgAppendResponse => Body::AppendReply(pb::AppendReply {
                index,
                commit,
                rejected,
                hint_index: message.reject_hint,
                hint_term: log_term,
            }),
            MessageType::MsgHeartbeat => {
                Body::Heartbeat(pb::Heartbeat { commit, context: message.take_context() })
            }
            MessageType::MsgHeartbeatResponse => {
                Body::HeartbeatReply(pb::HeartbeatReply { commit, context: message.take_context() })
            }
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => Body::Vote(pb::Vote {
                pre,
                last_index: index,
                last_term: log_term,
                commit,
                commit_term,
                transfer: message.context == CAMPAIGN_TRANSFER,
            }),
            MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse => {
                Body::VoteReply(pb::VoteReply { pre, rejected, commit, commit_term })
            }
            MessageType::MsgSnapshot => {
                let metadata = message.snapshot.take().expect("it tells of a checkpoint").take_metadata();
                let state = metadata.get_conf_state();
                let (voters, learners) = (state.voters.clone(), state.learners.clone());
                Body::Checkpoint(pb::Checkpoint {
                    index: metadata.index,
                    term: metadata.term,
                    voters,
                    learners,
                })
            }
            MessageType::MsgTimeoutNow => Body::Campaign(pb::Campaign {}),
            MessageType::MsgReadIndex => Body::ReadIndex(pb::ReadIndex { context: asked(&mut message) }),
            MessageType::MsgReadIndexResp => {
                Body::ReadIndexReply(pb::ReadIndexReply { index, context: asked(&mut message) })
            }
            MessageType::MsgHup
            | MessageType::MsgBeat
            | MessageType::MsgPropose
            | MessageType::MsgUnreachable
            | MessageType::MsgSnapStatus
            | MessageType::MsgCheckQuorum
            | MessageType::MsgTransferLeader => {
                panic!(
                    "{:?} is not sent: only a leader is asked to propose and to hand over",
                    message.msg_type
                )
            }
        };
        Frame { from: MemberId(message.from), to: MemberId(message.to), term: Term(message.term), body }
    }
}

/// The context of a read index.
fn asked(message: &mut eraftpb::Message) -> Bytes {
    let entry = message.entries.first_mut().expect("the context is an entry's data");
    std::mem::take(&mut entry.data)
}

fn entry(entry: eraftpb::Entry) -> pb::Entry {
    pb::Entry { index: entry.index, term: entry.term, kind: entry.entry_type as i32, data: entry.data }
}

impl From<Frame> for eraftpb::Message {
    fn from(Frame { from, to, term, body }: Frame) -> Self {
        let mut message = Self { from: from.0, to: to.0, term: term.0, ..Self::default() };
        match body {
            Body::Append(append) => {
                message.msg_type = MessageType::MsgAppend;
                message.index = append.prev_index;
                message.log_term = append.prev_term;
                message.commit = append.commit;
                message.entries = append.entries.into_iter().map(for_raft).collect();
            }
            Body::AppendReply(reply) => {
                message.msg_type = MessageType::MsgAppendResponse;
                message.index = reply.index;
                message.commit = reply.commit;
                message.reject = reply.rejected;
                message.reject_hint = reply.hint_index;
                message.log_term = reply.hint_term;
            }
            Body::Heartbeat(beat) => {
                message.msg_type = MessageType::MsgHeartbeat;
                message.commit = beat.commit;
                message.context = beat.context;
            }
            Body::HeartbeatReply(reply) => {
                message.msg_type = MessageType::MsgHeartbeatResponse;
                message.commit = reply.commit;
                message.context = reply.context;
            }
            Body::Vote(vote) => {
                message.msg_type =
                    if vote.pre { MessageType::MsgRequestPreVote } else { MessageType::MsgRequestVote };
                message.index = vote.last_index;
                message.log_term = vote.last_term;
                message.commit = vote.commit;
                message.commit_term = vote.commit_term;
                if vote.transfer {
                    message.context = Bytes::from_static(CAMPAIGN_TRANSFER);
                }
            }
            Body::VoteReply(reply) => {
                message.msg_type = if reply.pre {
                    MessageType::MsgRequestPreVoteResponse
                } else {
                    MessageType::MsgRequestVoteResponse
                };
                message.reject = reply.rejected;
                message.commit = reply.commit;
                message.commit_term = reply.commit_term;
            }
            Body::Checkpoint(checkpoint) => {
                message.msg_type = MessageType::MsgSnapshot;
                let metadata = message.mut_snapshot().mut_metadata();
                metadata.index = checkpoint.index;
                metadata.term = checkpoint.term;
                metadata.set_conf_state(config(&checkpoint).for_raft());
            }
            Body::Campaign(pb::Campaign {}) => message.msg_type = MessageType::MsgTimeoutNow,
            Body::ReadIndex(asked) => {
                message.msg_type = MessageType::MsgReadIndex;
                message.entries = vec![context_entry(asked.context)].into();
            }
            Body::ReadIndexReply(reply) => {
                message.msg_type = MessageType::MsgReadIndexResp;
                message.index = reply.index;
                message.entries = vec![context_entry(reply.context)].into();
            }
            Body::Aside(_) => unreachable!("it is checked to be Raft's"),
        }
        message
    }
}

pub(super) fn context_entry(context: Bytes) -> eraftpb::Entry {
    eraftpb::Entry { data: context, ..eraftpb::Entry::default() }
}

fn for_raft(entry: pb::Entry) -> eraftpb::Entry {
    let entry_type = match entry.kind() {
        pb::EntryKind::Normal => eraftpb::EntryType::EntryNormal,
        pb::EntryKind::Config => eraftpb::EntryType::EntryConfChangeV2,
    };
    let pb::Entry { index, term, data, .. } = entry;
    eraftpb::Entry { entry_type, index, term, data, ..eraftpb::Entry::default() }
}
