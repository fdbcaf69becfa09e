//! Batches on their way: proposed here or forwarded to who leads, and not applied yet.
//!
//! Each is meant for the leader of one term. Sent again while that lasts, it still becomes one entry at most. Once an
//! entry of a later term is applied and it was not, it never will be: it is lost, and starts anew with whoever leads then.

use std::{collections::VecDeque, time::Duration};

use super::changes::is_change;
use crate::{env::Instant, limits, pb::peer::aside::Word, types::Term};

/// Where a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In this member's log, which led.
    Here,
    /// Sent to the leader, at this time last.
    Sent(Instant),
    /// In no log.
    Lost,
}

pub struct Batch {
    /// Number of its first command, and how many there are.
    pub first: u64,
    pub count: u64,
    pub term: Term,
    pub at: Instant,
    pub way: Way,
    /// What it is sent as; none if no other leader may have it.
    pub word: Option<Word>,
}

/// In order of the terms they are meant for: those that are lost come first.
#[derive(Default)]
pub struct Proposed(VecDeque<Batch>);

impl Proposed {
    pub fn push(&mut self, batch: Batch) {
        assert!(self.0.back().is_none_or(|last| last.term <= batch.term), "terms never go back");
        self.0.push_back(batch);
    }

    /// The batch with this number is being applied.
    pub fn take(&mut self, first: u64) -> Option<Batch> {
        let at = self.0.iter().position(|batch| batch.first == first)?;
        self.0.remove(at)
    }

    /// Those that were meant for a leader before `term` are lost; the ones that cannot start anew are given back.
    pub fn lose(&mut self, term: Term) -> Vec<Batch> {
        let mut ended = Vec::new();
        for mut batch in std::mem::take(&mut self.0) {
            if batch.term >= term {
                self.0.push_back(batch);
            } else if batch.word.is_some() {
                batch.way = Way::Lost;
                self.0.push_back(batch);
            } else {
                ended.push(batch);
            }
        }
        ended
    }

    /// Number of the oldest one that is lost, and what it is sent as; `changes`: of the group, too.
    pub fn lost(&self, changes: bool) -> Option<(u64, Word)> {
        let mut lost = self.0.iter().take_while(|batch| batch.way == Way::Lost);
        let batch = lost.find(|batch| changes || !is_change(batch.first))?;
        Some((batch.first, batch.word.clone().expect("others do not start anew")))
    }

    /// A lost one is proposed or sent once more.
    pub fn begin_anew(&mut self, first: u64, term: Term, way: Way) {
        if let Some(batch) = self.take(first) {
            assert!(batch.way == Way::Lost && batch.term < term, "it may be in a log");
            self.push(Batch { term, way, ..batch });
        }
    }

    /// The leader of `term` refuses this one; none if it was not sent to it.
    pub fn refused(&mut self, first: u64, term: Term) -> Option<Batch> {
        let is_sent = |batch: &Batch| matches!(batch.way, Way::Sent(_)) && batch.term == term;
        let at = self.0.iter().position(|batch| batch.first == first && is_sent(batch))?;
        self.0.remove(at)
    }

    /// Whether one more may be sent: a few are under way at a time, so that under load they become larger.
    pub fn may_send(&self, now: Instant) -> bool {
        let is_recent =
            |batch: &&Batch| matches!(batch.way, Way::Sent(at) if now.since(at) < limits::ASK_AGAIN);
        self.0.iter().filter(is_recent).count() < limits::FORWARDS_UNDER_WAY
    }

    /// What to send once more to the leader of `term`, because it may have got lost.
    pub fn again(&mut self, term: Term, now: Instant) -> Vec<Word> {
        let mut again = Vec::new();
        for batch in self.0.iter_mut().filter(|batch| batch.term == term) {
            if matches!(batch.way, Way::Sent(at) if now.since(at) >= limits::ASK_AGAIN) {
                batch.way = Way::Sent(now);
                again.extend(batch.word.clone());
            }
        }
        again
    }

    /// Those for which nobody waits any more.
    pub fn expire(&mut self, now: Instant, patience: Duration) {
        self.0.retain(|batch| now.since(batch.at) <= patience);
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::peer::Forward;

    fn batch(first: u64, term: u64, way: Way) -> Batch {
        let word = Some(Word::Forward(Forward::default()));
        Batch { first, count: 1, term: Term(term), at: Instant(0), way, word }
    }

    const SENT: Way = Way::Sent(Instant(0));

    #[test]
    fn what_was_meant_for_an_earlier_leader_starts_anew() {
        let mut proposed = Proposed::default();
        proposed.push(batch(1, 2, SENT));
        proposed.push(Batch { word: None, ..batch(4, 2, Way::Here) });
        [(2, 2), (3, 3)].into_iter().for_each(|(first, term)| proposed.push(batch(first, term, SENT)));
        assert!(proposed.refused(3, Term(2)).is_none(), "of another leader");
        assert!(proposed.take(7).is_none() && proposed.lost(true).is_none());
        assert_eq!(proposed.take(2).map(|batch| batch.first), Some(2));
        let ended: Vec<_> = proposed.lose(Term(3)).into_iter().map(|batch| batch.first).collect();
        assert_eq!(ended, [4], "no other leader may have it");
        assert_eq!(proposed.lost(false).map(|(first, _)| first), Some(1));
        proposed.begin_anew(1, Term(3), Way::Here);
        assert!(proposed.lost(true).is_none() && proposed.refused(1, Term(3)).is_none());
        assert_eq!(proposed.refused(3, Term(3)).map(|batch| batch.first), Some(3));
    }

    #[test]
    fn a_few_are_under_way_and_sent_again_while_their_term_lasts() {
        let mut proposed = Proposed::default();
        (0..limits::FORWARDS_UNDER_WAY as u64).for_each(|first| proposed.push(batch(first, 2, SENT)));
        let later = Instant(0).after(limits::ASK_AGAIN);
        assert!(!proposed.may_send(Instant(1)) && proposed.may_send(later));
        assert!(proposed.again(Term(2), Instant(1)).is_empty());
        assert!(proposed.again(Term(3), later).is_empty());
        assert_eq!(proposed.again(Term(2), later).len(), limits::FORWARDS_UNDER_WAY);
        assert!(proposed.again(Term(2), later).is_empty(), "just sent");
        proposed.push(batch(99, 2, Way::Here));
        proposed.expire(Instant(11), Duration::from_nanos(10));
        assert!(proposed.may_send(Instant(11)) && proposed.take(99).is_none());
    }
}
