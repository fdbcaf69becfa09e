//! Into the log: what is asked of this member goes into it if it leads, and to who does otherwise.
//!
//! A part of the loop. Where nobody leads, or leadership is just being handed over, everything waits in its queue.

use std::time::Duration;

use tracing::{debug, warn};

use super::{
    Error,
    forwarded::WantedChange,
    run::Loop,
    serve::{Taken, Waiting, Way},
};
use crate::{
    consensus::{Aside, ChangeError, ChangeKind, ConfigChange, ProposeError},
    env::{Env, Instant},
    limits,
    pb::peer::{Forward, ForwardChange, Reason, aside::Word},
    types::{MemberId, Term},
};

impl From<ProposeError> for Error {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader => Error::NoLeader,
            ProposeError::Full | ProposeError::HandingOver => Error::TooManyRequests,
        }
    }
}

impl<E: Env> Loop<E> {
    /// Whether a write that comes now would leave this turn.
    pub(super) fn may_propose(&self, now: Instant) -> bool {
        if self.replica.leads() { self.replica.is_open() } else { self.serving.may_forward(now) }
    }

    /// Packs all waiting writes into one entry, and what other members forwarded into some more, unless the log is busy
    /// with those before, or what is committed has to be applied first.
    pub(super) fn propose(&mut self, now: Instant) {
        if self.committed.is_much() {
            return;
        }
        if !self.replica.leads() {
            self.forward(now);
        } else if self.replica.is_open() && !self.replica.is_handing_over() {
            self.propose_all(now);
        }
    }

    fn propose_all(&mut self, now: Instant) {
        let term = self.replica.term();
        self.propose_lost(term);
        let own = self.next_batch(Some(term));
        let room = limits::COMMITTED_BYTES_MAX as usize;
        let used = own.as_ref().map_or(0, |own| own.payload.len());
        let others = match self.forwarded.has_batches(term) && used < room {
            true => self.forwarded.batches(term, room - used),
            false => Vec::new(),
        };
        let payload = |own: &Option<Taken>| own.as_ref().map(|own| own.payload.clone());
        if own.is_none() && others.is_empty() {
            return;
        }
        let count = others.len();
        let mut proposed = self.replica.propose(payload(&own).into_iter().chain(others));
        match proposed {
            Ok(()) => self.forwarded.proposed(count),
            // They have time.
            Err(ProposeError::Full) if count > 0 && own.is_some() => {
                proposed = self.replica.propose(payload(&own));
            }
            Err(_) => {}
        }
        let Some(Taken { payload, callers, only_in }) = own else { return };
        let word = only_in.is_none().then_some(Word::Forward(Forward { batch: payload }));
        match proposed {
            Ok(()) => self.serving.proposed(callers, term, now, (Way::Here, word)),
            Err(ProposeError::Full) => self.serving.refuse(callers, Error::TooManyRequests),
            Err(ProposeError::NotLeader | ProposeError::HandingOver) => {
                unreachable!("it was just looked at")
            }
        }
    }

    /// Batches that a leader took which is gone, and that are in no log.
    fn propose_lost(&mut self, term: Term) {
        while let Some((first, word)) = self.serving.lost(!self.replica.is_changing()) {
            let proposed = match word {
                Word::Forward(Forward { batch }) => self.replica.propose([batch]).map_err(Error::from),
                Word::ForwardChange(ForwardChange { change }) => {
                    let change = ConfigChange::decode(change).expect("it was encoded here");
                    if self.leaves_first(&change) {
                        return;
                    }
                    self.propose_change(&change)
                }
                _ => unreachable!("nothing else starts anew"),
            };
            match proposed {
                Ok(()) => self.serving.begin_anew(first, term, Way::Here),
                Err(error @ Error::LearnerNotReady) => self.serving.give_up_lost(first, error),
                Err(_) => return,
            }
        }
    }

    /// Whether this member is not to propose a change because it would remove itself: somebody else leads first, and then
    /// has the change made. Alone it could neither commit anything once it is removed, nor tell the others for certain.
    fn leaves_first(&mut self, change: &ConfigChange) -> bool {
        let own = self.serving.inbox.origin.member;
        let leaves = change.kind == ChangeKind::Remove && change.member == own;
        if !leaves || self.replica.is_sole_voter() {
            return false;
        }
        self.hand_over_to(None);
        true
    }

    /// The oldest batch. `leads`: the term in which this member does; what only the leader of a term wants is refused in
    /// any other.
    fn next_batch(&mut self, leads: Option<Term>) -> Option<Taken> {
        loop {
            let taken = self.serving.next_batch()?;
            if taken.only_in.is_none() || taken.only_in == leads {
                return Some(taken);
            }
            self.serving.refuse(taken.callers, Error::NoLeader);
        }
    }

    /// Sends all waiting writes to who leads, a few batches at a time.
    fn forward(&mut self, now: Instant) {
        let (leader, term) = (self.replica.leader(), self.replica.term());
        while leader != MemberId(0) && self.serving.may_forward(now) {
            let word = match self.serving.lost(true) {
                Some((first, word)) => {
                    self.serving.begin_anew(first, term, Way::Sent(now));
                    word
                }
                None => {
                    let Some(Taken { payload, callers, .. }) = self.next_batch(None) else { return };
                    let word = Word::Forward(Forward { batch: payload });
                    self.serving.proposed(callers, term, now, (Way::Sent(now), Some(word.clone())));
                    word
                }
            };
            self.replica.tell(leader, term, word);
        }
    }

    /// Tells callers who have waited too long.
    pub(super) fn expire(&mut self, now: Instant) {
        let Self { serving, replica, links, elected, election, .. } = self;
        let is_leader = replica.leads();
        let (group, leader) = (replica.group(), replica.leader());
        let own = serving.inbox.origin.member;
        let is_linked = |member: &MemberId, since: Instant| {
            *member == own || links.active_since(*member).is_some_and(|at| at < since)
        };
        // As far as this member can tell, and in etcd's words (`parseProposeCtxErr`).
        let why = |arrived: Instant| {
            let around = elected.1.since(arrived) <= 2 * *election && arrived < elected.1;
            let linked = group.voters.iter().filter(|member| is_linked(member, arrived)).count();
            let is_cut_off = match is_leader {
                true => linked <= group.voters.len() / 2,
                false => leader != MemberId(0) && !is_linked(&leader, arrived),
            };
            if around {
                Error::LeaderLost
            } else if is_cut_off {
                Error::Unlinked
            } else {
                Error::Timeout
            }
        };
        serving.expire(now, replica.readable().is_some(), replica.writing_since(), why);
    }

    /// What the leader has not answered for a while.
    pub(super) fn forward_again(&mut self, now: Instant) {
        let (leader, term) = (self.replica.leader(), self.replica.term());
        if leader == MemberId(0) || self.replica.leads() {
            return;
        }
        self.ask_again(now, limits::ASK_AGAIN);
        for word in self.serving.again(term, now) {
            debug!(leader = format_args!("{:x}", leader.0), "asking the leader again");
            self.replica.tell(leader, term, word);
        }
    }

    /// What only the leader can tell, and did not for so long.
    fn ask_again(&mut self, now: Instant, unanswered: Duration) {
        let (leader, term) = (self.replica.leader(), self.replica.term());
        for question in self.serving.questions_again(now, unanswered) {
            self.replica.tell(leader, term, Word::Question(question));
        }
    }

    /// Another leader than before is known, unless it is this member: it was not asked yet what the one before did not answer.
    pub(super) fn note_leader(&mut self, now: Instant) {
        let leader = self.replica.leader();
        if leader == MemberId(0) || leader == self.elected.0 {
            return;
        }
        self.elected = (leader, now);
        if !self.replica.leads() {
            self.ask_again(now, Duration::ZERO);
        }
    }

    /// What only the leader can tell.
    pub(super) fn ask_leader(&mut self, now: Instant) {
        if self.serving.inbox.questions().is_empty() {
            return;
        }
        let (leader, term) = (self.replica.leader(), self.replica.term());
        if self.replica.leads() {
            self.serving.leads();
        } else if leader != MemberId(0) {
            for question in self.serving.questions(now) {
                self.replica.tell(leader, term, Word::Question(question));
            }
        }
    }

    /// The next change of the group, of which there is one at a time.
    pub(super) fn propose_changes(&mut self, now: Instant) {
        if !self.replica.leads() {
            return self.forward_changes(now);
        }
        while !self.replica.is_changing() && !self.replica.is_handing_over() {
            let term = self.replica.term();
            if let Some((change, caller)) = self.serving.inbox.changes().take() {
                let config = ConfigChange::from(change.clone());
                if self.leaves_first(&config) {
                    return self.serving.inbox.changes().put_back(change, caller);
                }
                self.propose_own_change(&config, caller, now);
            } else if let Some(wanted) = self.forwarded.next_change(term) {
                if self.leaves_first(&wanted.change) {
                    return self.forwarded.put_back(wanted);
                }
                self.propose_wanted_change(&wanted);
            } else {
                return;
            }
        }
    }

    fn propose_own_change(&mut self, change: &ConfigChange, caller: Waiting, now: Instant) {
        let word = Word::ForwardChange(ForwardChange { change: change.encode() });
        match self.propose_change(change) {
            Ok(()) => {
                self.serving.proposed(vec![caller], self.replica.term(), now, (Way::Here, Some(word)));
            }
            Err(error) => self.serving.refuse([caller], error),
        }
    }

    fn propose_wanted_change(&mut self, wanted: &WantedChange) {
        let reason = match self.propose_change(&wanted.change) {
            Ok(()) => return,
            Err(Error::LearnerNotReady) => Reason::LearnerNotReady,
            Err(_) => Reason::Busy,
        };
        let (member, refusal) = self.forwarded.refuse(wanted, reason);
        self.replica.tell(member, self.replica.term(), Word::Refusal(refusal));
    }

    fn propose_change(&mut self, change: &ConfigChange) -> Result<(), Error> {
        self.may_change(change)?;
        self.replica.propose_change(change).map_err(|error| match error {
            ChangeError::Propose(error) => error.into(),
            ChangeError::Pending => Error::TooManyRequests,
        })
    }

    fn forward_changes(&mut self, now: Instant) {
        let (leader, term) = (self.replica.leader(), self.replica.term());
        while leader != MemberId(0)
            && let Some((change, caller)) = self.serving.inbox.changes().take()
        {
            let change = ConfigChange::from(change).encode();
            let word = Word::ForwardChange(ForwardChange { change });
            self.replica.tell(leader, term, word.clone());
            self.serving.proposed(vec![caller], term, now, (Way::Sent(now), Some(word)));
        }
    }

    /// What another member says beside Raft.
    pub(super) fn hear(&mut self, Aside { from, term, word, .. }: Aside) {
        let is_asked = self.replica.leads() && self.replica.term() == term && self.replica.knows(from);
        let taken = match word {
            // Meant for somebody else, or for another time: whoever sent it finds out who leads.
            Word::Forward(_) | Word::ForwardChange(_) if !is_asked => return,
            Word::Forward(forward) => self.forwarded.take(term, from, forward),
            Word::ForwardChange(change) => self.forwarded.take_change(term, from, change),
            Word::Question(question) => {
                if is_asked {
                    self.answering.answer(from, term, question);
                }
                return;
            }
            Word::Answer(answer) => return self.serving.answered(answer),
            Word::Refusal(refusal) => {
                let error = match refusal.reason() {
                    Reason::Busy => Error::TooManyRequests,
                    Reason::LearnerNotReady => Error::LearnerNotReady,
                };
                if refusal.run == self.serving.inbox.origin.run {
                    self.serving.refused(refusal.first, term, error);
                }
                return;
            }
        };
        match taken {
            Ok(None) => {}
            Ok(Some(refusal)) => self.replica.tell(from, term, Word::Refusal(refusal)),
            Err(error) => {
                warn!(%error, from = format_args!("{:x}", from.0), "ignored what a member forwarded");
            }
        }
    }
}
