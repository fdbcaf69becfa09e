//! Who leads when this member should not any more: because somebody asks for it, because it is about to stop, or because
//! its disk does not answer.
//!
//! A part of the loop. A leader that waits for its disk goes on sending heartbeats, and so nobody else would lead, while
//! nothing gets on. After the time in which others would have noticed a dead leader it hands over, and if that brings
//! nothing, leads no more. Until the disk answers it does not campaign either.

use tracing::{info, warn};

use super::run::Loop;
use crate::{
    env::{Env, Instant},
    types::MemberId,
};

/// How far a leader with a disk that does not answer has come with leaving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stalled {
    #[default]
    No,
    /// It has tried to hand over.
    HandingOver,
}

impl<E: Env> Loop<E> {
    /// Hands over to those who somebody named, or to anybody.
    pub(super) fn hand_over(&mut self) {
        if let Some(to) = self.serving.inbox.take_handover() {
            self.hand_over_to(to);
        }
    }

    /// False if there is nobody.
    pub(super) fn hand_over_to(&mut self, to: Option<MemberId>) -> bool {
        let Some(to) = self.replica.hand_over(to) else { return false };
        info!(
            "current-leader-member-id" = format_args!("{:x}", self.serving.inbox.origin.member.0),
            "transferee-member-id" = format_args!("{:x}", to.0),
            "leadership transfer starting"
        );
        true
    }

    /// Called with every tick of the clock.
    pub(super) fn look_after_disk(&mut self, now: Instant) {
        let waits = self.replica.writing_since().map(|since| now.since(since));
        let is_stalled = waits.is_some_and(|waits| waits >= self.election) && !self.replica.is_sole_voter();
        self.replica.set_stalled(is_stalled);
        if !is_stalled {
            self.stalled = Stalled::No;
            return;
        }
        if !self.replica.leads() || self.replica.is_handing_over() {
            return;
        }
        let took = waits.expect("it waits");
        let was = std::mem::replace(&mut self.stalled, Stalled::HandingOver);
        if was == Stalled::No && self.hand_over_to(None) {
            warn!(?took, "the disk has not taken the log for an election timeout: handing over leadership");
        } else {
            warn!(?took, "the disk has not taken the log for long, and nobody took over: stepping down");
            self.replica.step_down();
        }
    }
}
