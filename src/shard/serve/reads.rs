//! Linearizable reads: all that arrive in one turn share one read index.
//!
//! A caller goes from the inbox to a round (asked of Raft, not answered yet) to the gate (the index
//! is known, and is not applied yet) and is then let go to evaluate its range on its own task.

use std::{collections::VecDeque, time::Duration};

use crate::{env::Instant, limits, shard::reply::Reply, types::LogIndex};

pub type Readers = Vec<(Instant, Reply<()>)>;

struct Round {
    number: u64,
    began: Instant,
    readers: Readers,
}

#[derive(Default)]
pub struct Reads {
    next_context: u64,
    rounds: VecDeque<Round>,
    gate: VecDeque<(LogIndex, Readers)>,
}

impl Reads {
    /// Begins a round; the context to ask Raft with.
    pub fn begin(&mut self, readers: Readers, began: Instant) -> u64 {
        self.next_context += 1;
        self.rounds.push_back(Round { number: self.next_context, began, readers });
        self.next_context
    }

    /// Whether one more may begin: what comes while a few are under way gathers.
    pub fn may_begin(&self) -> bool {
        self.rounds.len() < limits::READ_ROUNDS_MAX
    }

    /// Whether one has waited for so long that it is to be asked again: a question or its answer may be lost.
    pub fn are_late(&self, now: Instant) -> bool {
        self.rounds.front().is_some_and(|round| now.since(round.began) >= limits::ASK_AGAIN)
    }

    /// Raft's answer to a round, and with it to all earlier ones. False if nobody waits for it any more.
    pub fn confirmed(&mut self, context: u64, index: LogIndex) -> bool {
        let before = self.rounds.len();
        while self.rounds.front().is_some_and(|round| round.number <= context) {
            let Round { readers, .. } = self.rounds.pop_front().expect("just seen");
            self.gate.push_back((index, readers));
        }
        self.rounds.len() < before
    }

    /// Nobody waits any more for what Raft says of the rounds under way: their readers, oldest first, round by round.
    pub fn lost(&mut self) -> impl Iterator<Item = Readers> {
        self.rounds.drain(..).map(|round| round.readers)
    }

    /// Lets go everybody whose index is applied.
    pub fn release(&mut self, applied: LogIndex) {
        while self.gate.front().is_some_and(|(index, _)| *index <= applied) {
            let (_, readers) = self.gate.pop_front().expect("just seen");
            readers.into_iter().for_each(|(_, reply)| reply.send(()));
        }
    }

    /// Gives up rounds whose readers have waited longer than `patience`: dropping them tells the
    /// callers. Returns how many rounds failed.
    pub fn expire(&mut self, now: Instant, patience: Duration) -> usize {
        let old = |readers: &Readers| readers.first().is_none_or(|(at, _)| now.since(*at) > patience);
        let before = self.rounds.len() + self.gate.len();
        self.rounds.retain(|round| !old(&round.readers));
        self.gate.retain(|(_, readers)| !old(readers));
        before - self.rounds.len() - self.gate.len()
    }

    /// Gives up all of them: dropping them tells the callers.
    pub fn clear(&mut self) {
        self.rounds.clear();
        self.gate.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.rounds.is_empty() && self.gate.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::reply::channel;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn readers_wait_for_their_index_to_be_applied() {
        let mut reads = Reads::default();
        let (reply, mut answer) = channel();
        let first = reads.begin(vec![(Instant(0), reply)], Instant(0));
        let (reply, mut later) = channel();
        let second = reads.begin(vec![(Instant(0), reply)], Instant(0));
        assert!(reads.confirmed(first, LogIndex(5)));
        reads.release(LogIndex(4));
        assert_eq!(block_on(poll_once(&mut answer)), None);
        reads.release(LogIndex(5));
        assert_eq!(block_on(poll_once(&mut answer)), Some(Some(())));
        assert_eq!(block_on(poll_once(&mut later)), None);
        assert!(reads.confirmed(second, LogIndex(5)));
        assert!(!reads.confirmed(second, LogIndex(5)), "nobody waits for it");
        reads.release(LogIndex(5));
        assert_eq!(block_on(later), Some(()));
        assert!(reads.is_empty());
    }

    #[test]
    fn an_unanswered_round_expires() {
        let mut reads = Reads::default();
        let (reply, answer) = channel();
        reads.begin(vec![(Instant(0), reply)], Instant(0));
        assert_eq!(reads.expire(Instant(10), Duration::from_nanos(10)), 0);
        assert_eq!(reads.expire(Instant(11), Duration::from_nanos(10)), 1);
        assert_eq!(block_on(answer), None);
    }
}
