//! What was sent to other members and is not acknowledged: raft-rs counts messages, each of which may be short or long.
//!
//! Whoever has too much on its way is sent nothing more until it acknowledges some. So on a slow link little waits, little
//! is lost, and hardly anything is sent twice.

use std::collections::VecDeque;

use raft::{ProgressState, ProgressTracker};

use crate::limits;

/// Messages on their way to a member, however short.
pub const MESSAGES_MAX: usize = 256;

/// Of one member: the last entry of each message and its payload bytes.
struct Flow {
    member: u64,
    sent: VecDeque<(u64, usize)>,
    bytes: usize,
    is_held: bool,
}

impl Flow {
    fn acknowledge(&mut self, matched: u64) {
        while let Some((last, bytes)) = self.sent.front().copied()
            && last <= matched
        {
            self.sent.pop_front();
            self.bytes -= bytes;
        }
    }

    fn clear(&mut self) {
        self.sent.clear();
        self.bytes = 0;
    }
}

/// Of all members that something is on its way to.
#[derive(Default)]
pub struct Flows(Vec<Flow>);

impl Flows {
    /// A message with entries leaves.
    pub fn note(&mut self, member: u64, last: u64, bytes: usize) {
        let at = self.0.iter().position(|flow| flow.member == member).unwrap_or_else(|| {
            self.0.push(Flow { member, sent: VecDeque::new(), bytes: 0, is_held: false });
            self.0.len() - 1
        });
        self.0[at].sent.push_back((last, bytes));
        self.0[at].bytes += bytes;
    }

    /// Holds up those who have too much on its way. Who has not any more, and may be sent the next.
    pub fn settle(&mut self, members: &mut ProgressTracker, leads: bool) -> Vec<u64> {
        let mut free = Vec::new();
        self.0.retain_mut(|flow| {
            let Some(progress) = members.get_mut(flow.member) else { return false };
            if leads && progress.state == ProgressState::Replicate {
                flow.acknowledge(progress.matched);
            } else {
                // What was sent counts as lost.
                flow.clear();
            }
            let is_held = flow.bytes > limits::IN_FLIGHT_BYTES;
            // With none it is always full.
            progress.ins.set_cap(if is_held { 0 } else { MESSAGES_MAX });
            if std::mem::replace(&mut flow.is_held, is_held) && !is_held && leads {
                free.push(flow.member);
            }
            !flow.sent.is_empty()
        });
        free
    }
}
