//! Callers whose request is in the log and not applied yet, in the order they were proposed.

use std::{collections::VecDeque, time::Duration};

use super::inbox::Waiting;
use crate::env::Instant;

#[derive(Default)]
pub struct Pending(VecDeque<Waiting>);

impl Pending {
    pub fn extend(&mut self, waiting: Vec<Waiting>) {
        if let (Some(last), Some(first)) = (self.0.back(), waiting.first()) {
            assert!(last.sequence < first.sequence, "requests are proposed in the order they came");
        }
        self.0.extend(waiting);
    }

    /// The caller of request `sequence`; none if it was told of a timeout before.
    pub fn take(&mut self, sequence: u64) -> Option<Waiting> {
        if self.0.front()?.sequence == sequence {
            return self.0.pop_front();
        }
        // Behind an entry that a new leader's log replaced: those before it are never applied.
        let at = self.0.binary_search_by_key(&sequence, |w| w.sequence).ok()?;
        self.0.remove(at)
    }

    /// The callers of `count` requests from `first` on, as far as they still wait.
    pub fn take_batch(&mut self, first: u64, count: u64) -> impl Iterator<Item = Waiting> {
        let at = |sequence| self.0.partition_point(|waiting| waiting.sequence < sequence);
        let range = at(first)..at(first + count);
        self.0.drain(range)
    }

    /// Callers that have waited longer than `patience`.
    pub fn expired(&mut self, now: Instant, patience: Duration) -> impl Iterator<Item = Waiting> {
        let count = self.0.iter().take_while(|w| now.since(w.arrived) > patience).count();
        self.0.drain(..count)
    }

    /// All of them.
    pub fn drain(&mut self) -> impl Iterator<Item = Waiting> {
        self.0.drain(..)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
