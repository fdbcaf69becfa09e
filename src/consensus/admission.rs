//! Which frames raft-rs may see as things stand: it panics at what cannot come from an honest member.

use raft::{RawNode, StateRole};

use crate::pb::peer::{self as pb, frame::Body};

use super::{Frame, FrameError, log_window::LogWindow};

/// Whether a frame may be stepped. `files_came`: those of the checkpoint it tells of are here.
pub fn check(node: &RawNode<LogWindow>, frame: &Frame, files_came: bool) -> Result<(), FrameError> {
    let raft = &node.raft;
    let Frame { from, to, term, body } = frame;
    if to.0 != raft.id {
        return Err(FrameError::Address { from: from.0, to: to.0 });
    }
    let (last, committed) = (raft.raft_log.last_index(), raft.raft_log.committed);
    let leads = raft.state == StateRole::Leader;
    match body {
        // What a leader tells of is committed here, as far as it knows.
        Body::Heartbeat(pb::Heartbeat { commit, .. }) if term.0 >= raft.term && *commit > last => {
            Err(FrameError::BeyondLog { index: *commit, last })
        }
        Body::AppendReply(reply) if leads && term.0 == raft.term && reply.index > last => {
            Err(FrameError::BeyondLog { index: reply.index, last })
        }
        Body::Checkpoint(_) if !files_came => Err(FrameError::Checkpoint),
        &Body::Checkpoint(pb::Checkpoint { index, term, .. })
            if index == committed && !raft.raft_log.match_term(index, term) =>
        {
            Err(FrameError::Diverged { index, term })
        }
        // Votes are asked for once everything here is durable.
        Body::VoteReply(pb::VoteReply { pre: false, .. })
            if raft.state == StateRole::Candidate && last != raft.raft_log.persisted =>
        {
            Err(FrameError::Vote)
        }
        Body::Campaign(_) if !may_campaign(node) => Err(FrameError::Campaign),
        Body::ReadIndex(_) if !leads || raft.prs().get(from.0).is_none() => Err(FrameError::ReadIndex),
        _ => Ok(()),
    }
}

/// Whether an election may begin. raft-rs looks for what is committed and not applied, which is not in the log while
/// a checkpoint is put in place; and who votes alone leads at once, for which its log must be durable.
pub fn may_campaign(node: &RawNode<LogWindow>) -> bool {
    let log = &node.raft.raft_log;
    let restored = log.applied >= node.store().base().index.0;
    restored && (!is_sole_voter(node) || log.last_index() == log.persisted)
}

pub fn is_sole_voter(node: &RawNode<LogWindow>) -> bool {
    let voters = node.raft.prs().conf().voters().ids();
    voters.len() == 1 && voters.contains(node.raft.id)
}
