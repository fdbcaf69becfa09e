//! What other members forward to this one while it leads: batches of writes and changes of the group, until they are
//! proposed.
//!
//! Owned by the loop. A frame may come twice, and only one of them may become an entry. A batch is meant for the leader
//! of one term, and in that term it is known by its number; in another nobody takes it. So whoever forwarded it may send
//! it again as long as the term lasts, and once an entry of a later term is applied, knows that it never will be.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::serve::is_change;
use crate::{
    consensus::{ConfigChange, ConfigError},
    limits,
    pb::peer::{Forward, ForwardChange, Reason, Refusal},
    state::{Batch, BatchError, Commands, Origin},
    types::{MemberId, Term},
};

/// Why something is not taken that honest members do not send.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Change(#[from] ConfigError),
    #[error("it is member {0:x}'s")]
    Other(u64),
}

/// A change of the group that another member wants.
pub struct WantedChange {
    pub change: ConfigChange,
    origin: Origin,
    first: u64,
}

#[derive(Default)]
pub struct Forwarded {
    commands: Commands,
    term: Term,
    batches: VecDeque<Bytes>,
    bytes: usize,
    changes: VecDeque<WantedChange>,
    /// The one that was heard of last is the last one.
    runs: VecDeque<Run>,
}

/// What a run of a member forwarded.
struct Run {
    origin: Origin,
    batches: Numbers,
    changes: Numbers,
}

/// What became of each number.
#[derive(Default)]
struct Numbers {
    /// Those up to this one are forgotten, and not taken any more.
    forgotten: Option<u64>,
    known: BTreeMap<u64, Option<Reason>>,
}

impl Forwarded {
    /// To a member that knows these commands.
    pub fn new(commands: Commands) -> Self {
        Self { commands, ..Self::default() }
    }

    /// Takes in a batch for the leader of `term`, which this member is; or what to tell whose it is.
    pub fn take(
        &mut self,
        term: Term,
        from: MemberId,
        Forward { batch }: Forward,
    ) -> Result<Option<Refusal>, ForwardError> {
        let (origin, first) = self.look_at(from, batch.clone())?;
        let is_full = self.bytes + batch.len() > limits::FORWARDED_BYTES_MAX;
        let news = self.numbers(term, origin, first).take(first, is_full);
        if news == News::New {
            self.bytes += batch.len();
            self.batches.push_back(batch);
        }
        Ok(news.refusal(origin, first))
    }

    /// The same for a change of the group.
    pub fn take_change(
        &mut self,
        term: Term,
        from: MemberId,
        ForwardChange { change }: ForwardChange,
    ) -> Result<Option<Refusal>, ForwardError> {
        let change = ConfigChange::decode(change)?;
        let (origin, first) = self.look_at(from, change.context.clone())?;
        let is_full = self.changes.len() >= limits::CHANGES_WAITING_MAX;
        let news = self.numbers(term, origin, first).take(first, is_full);
        if news == News::New {
            self.changes.push_back(WantedChange { change, origin, first });
        }
        Ok(news.refusal(origin, first))
    }

    fn numbers(&mut self, term: Term, origin: Origin, first: u64) -> &mut Numbers {
        self.lead(term);
        let known = self.runs.iter().rposition(|run| run.origin == origin);
        let run = known.and_then(|at| self.runs.remove(at));
        if self.runs.len() >= limits::FORWARDING_RUNS_MAX {
            self.runs.pop_front();
        }
        self.runs.push_back(run.unwrap_or(Run {
            origin,
            batches: Numbers::default(),
            changes: Numbers::default(),
        }));
        let run = self.runs.back_mut().expect("just pushed");
        if is_change(first) { &mut run.changes } else { &mut run.batches }
    }

    /// What was meant for the leader of another term is nobody's.
    fn lead(&mut self, term: Term) {
        if term != self.term {
            *self = Self { term, ..Self::new(self.commands) };
        }
    }

    /// Whose a batch is and what its number is. What could not be applied is found before it is in the log.
    fn look_at(&self, from: MemberId, batch: Bytes) -> Result<(Origin, u64), ForwardError> {
        let mut batch = Batch::decode(batch)?;
        let (origin, first) = (batch.origin, batch.first);
        if origin.member != from {
            return Err(ForwardError::Other(origin.member.0));
        }
        batch.try_for_each(|envelope| envelope?.row(self.commands).map(drop))?;
        Ok((origin, first))
    }

    /// The oldest batches, up to so many bytes but never none, for the leader of `term`.
    pub fn batches(&mut self, term: Term, bytes_max: usize) -> Vec<Bytes> {
        self.lead(term);
        let mut bytes = 0;
        let within = |batch: &&Bytes| {
            bytes += batch.len();
            bytes == batch.len() || bytes <= bytes_max
        };
        self.batches.iter().take_while(within).cloned().collect()
    }

    /// So many of them are proposed.
    pub fn proposed(&mut self, count: usize) {
        self.bytes -= self.batches.drain(..count).map(|batch| batch.len()).sum::<usize>();
    }

    /// Whether anything waits for the leader of `term`.
    pub fn has_batches(&self, term: Term) -> bool {
        self.term == term && !self.batches.is_empty()
    }

    pub fn next_change(&mut self, term: Term) -> Option<WantedChange> {
        self.lead(term);
        self.changes.pop_front()
    }

    /// It is the next one again.
    pub fn put_back(&mut self, wanted: WantedChange) {
        self.changes.push_front(wanted);
    }

    /// It is not proposed after all: what to tell whose it is, and who that is.
    pub fn refuse(&mut self, wanted: &WantedChange, reason: Reason) -> (MemberId, Refusal) {
        let &WantedChange { origin, first, .. } = wanted;
        self.numbers(self.term, origin, first).known.insert(first, Some(reason));
        (origin.member, refusal(origin, first, reason))
    }
}

/// What came of looking for a number.
#[derive(PartialEq, Eq)]
enum News {
    New,
    /// It came before, and was taken.
    Again,
    Refused(Reason),
}

impl News {
    fn refusal(self, origin: Origin, first: u64) -> Option<Refusal> {
        match self {
            News::New | News::Again => None,
            News::Refused(reason) => Some(refusal(origin, first, reason)),
        }
    }
}

impl Numbers {
    fn take(&mut self, number: u64, is_full: bool) -> News {
        if let Some(before) = self.known.get(&number) {
            return before.map_or(News::Again, News::Refused);
        }
        if Some(number) <= self.forgotten {
            return News::Again;
        }
        if self.known.len() >= limits::FORWARDS_KNOWN {
            self.forgotten = self.known.pop_first().map(|(oldest, _)| oldest).max(self.forgotten);
        }
        let refused = is_full.then_some(Reason::Busy);
        self.known.insert(number, refused);
        refused.map_or(News::New, News::Refused)
    }
}

fn refusal(origin: Origin, first: u64, reason: Reason) -> Refusal {
    Refusal { run: origin.run, first, reason: reason as i32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pb::etcdserverpb::PutRequest,
        state::{Builder, Principal},
    };

    const FROM: MemberId = MemberId(2);

    fn forward(run: u64, first: u64, bytes: usize) -> Forward {
        let put = PutRequest { key: "k".into(), value: vec![0; bytes].into(), ..PutRequest::default() };
        let mut builder = Builder::new(Origin { member: FROM, run }, first, 0);
        builder.push(&Principal::default(), &put);
        Forward { batch: builder.finish() }
    }

    fn taken(forwarded: &mut Forwarded, term: u64, forward: Forward) -> Option<Refusal> {
        forwarded.take(Term(term), FROM, forward).expect("nothing is wrong with it")
    }

    #[test]
    fn a_batch_is_taken_once_in_a_term_in_whatever_order_they_come() {
        let mut forwarded = Forwarded::default();
        for first in [5, 3, 5, 3, 9, 5] {
            assert_eq!(taken(&mut forwarded, 2, forward(1, first, 1)), None);
        }
        let waiting = forwarded.batches(Term(2), usize::MAX);
        let firsts: Vec<_> = waiting.into_iter().map(|batch| Batch::decode(batch).unwrap().first).collect();
        assert_eq!(firsts, [5, 3, 9]);
        forwarded.proposed(3);
        taken(&mut forwarded, 2, forward(1, 9, 1));
        assert!(!forwarded.has_batches(Term(2)), "it is proposed already");
        taken(&mut forwarded, 2, forward(7, 9, 1));
        assert!(forwarded.has_batches(Term(2)), "another run's");
        assert!(!forwarded.has_batches(Term(3)), "another leader's");
        assert!(forwarded.batches(Term(3), usize::MAX).is_empty());
    }

    #[test]
    fn what_is_forgotten_is_not_taken_again() {
        let mut forwarded = Forwarded::default();
        for first in 0..2 * limits::FORWARDS_KNOWN as u64 {
            taken(&mut forwarded, 1, forward(1, first, 1));
        }
        let count = forwarded.batches(Term(1), usize::MAX).len();
        taken(&mut forwarded, 1, forward(1, 3, 1));
        assert_eq!(forwarded.batches(Term(1), usize::MAX).len(), count);
        assert_eq!(forwarded.runs[0].batches.known.len(), limits::FORWARDS_KNOWN);
    }

    #[test]
    fn the_run_that_was_not_heard_of_for_longest_is_forgotten() {
        let mut forwarded = Forwarded::default();
        taken(&mut forwarded, 1, forward(1, 0, 1));
        for run in 2..=2 * limits::FORWARDING_RUNS_MAX as u64 {
            taken(&mut forwarded, 1, forward(run, 0, 1));
            taken(&mut forwarded, 1, forward(1, 0, 1));
        }
        assert_eq!(forwarded.runs.len(), limits::FORWARDING_RUNS_MAX);
        let of_first = |batch: &Bytes| Batch::decode(batch.clone()).unwrap().origin.run == 1;
        let count = forwarded.batches(Term(1), usize::MAX).iter().filter(|batch| of_first(batch)).count();
        assert_eq!(count, 1, "it goes on, however often others start again");
    }

    #[test]
    fn there_is_room_for_so_much_and_what_was_refused_stays_refused() {
        let mut forwarded = Forwarded::default();
        let (mut first, mib) = (0, 1 << 20);
        let refused = loop {
            first += 1;
            if let Some(refusal) = taken(&mut forwarded, 1, forward(1, first, mib)) {
                break refusal;
            }
        };
        assert_eq!((refused.run, refused.first, refused.reason), (1, first, Reason::Busy as i32));
        assert!(first as usize * mib <= limits::FORWARDED_BYTES_MAX + mib);
        assert_eq!(forwarded.batches(Term(1), 0).len(), 1, "never none");
        forwarded.proposed(1);
        assert_eq!(taken(&mut forwarded, 1, forward(1, first, mib)), Some(refused));
        assert_eq!(taken(&mut forwarded, 1, forward(1, first + 1, mib)), None);
    }

    #[test]
    fn what_could_not_be_applied_is_not_taken() {
        let mut forwarded = Forwarded::default();
        let mut take = |from, batch: Bytes| forwarded.take(Term(1), from, Forward { batch });
        let Forward { batch } = forward(1, 1, 1);
        assert!(matches!(take(MemberId(3), batch.clone()), Err(ForwardError::Other(2))));
        assert!(matches!(take(FROM, batch.slice(..batch.len() - 1)), Err(ForwardError::Batch(_))));
        let mut unknown = batch.to_vec();
        unknown[36..38].copy_from_slice(&999u16.to_le_bytes());
        assert!(matches!(take(FROM, unknown.into()), Err(ForwardError::Batch(BatchError::Kind(999)))));
        assert!(!forwarded.has_batches(Term(1)));
    }
}
