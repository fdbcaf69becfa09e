//! Who leads when this member should not any more: because somebody asks for it, because it is about to stop, or because
//! its disk does not answer.
//!
//! A part of the loop. A leader that waits for its disk goes on sending heartbeats, and so nobody else would lead, while
//! nothing gets on. After the time in which others would have noticed a dead leader it hands over, and if that brings
//! nothing, leads no more. Until the disk answers it does not campaign either.

use std::time::Duration;

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

    /// Others take a leader for dead whose heartbeats are late; called with every tick of the clock.
    pub(super) fn look_after_heartbeat(&mut self, now: Instant) {
        let before = self.last_tick.replace(now);
        let (heartbeat, expected) = (self.heartbeat, 2 * self.heartbeat);
        let took = before.map_or(Duration::ZERO, |before| now.since(before));
        if took <= expected || !self.replica.leads() || self.replica.is_alone() {
            return;
        }
        self.serving.heartbeat_late();
        warn!(
            "heartbeat-interval" = ?heartbeat,
            "expected-duration" = ?expected,
            "exceeded-duration" = ?(took - expected),
            "leader failed to send out heartbeat on time; took too long, leader is overloaded likely from slow disk"
        );
    }

    /// The first election after a start comes sooner, once the members that could elect are linked: nobody has led so far as
    /// this one knows, and waiting for one that does has had its time (`adjustTicks` in etcd v3.7 `etcdserver/server.go`).
    pub(super) fn advance_election(&mut self, now: Instant) {
        let Some(until) = self.advance_until else { return };
        let group = self.replica.group();
        let own = self.serving.inbox.origin.member;
        let linked = |member: &&MemberId| **member == own || self.links.active_since(**member).is_some();
        let is_over = now >= until || self.replica.leader() != MemberId(0);
        let is_quorum = group.voters.iter().filter(linked).count() > group.voters.len() / 2;
        if is_over || is_quorum {
            self.advance_until = None;
        }
        if !is_over && is_quorum {
            self.replica.advance_election();
        }
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
