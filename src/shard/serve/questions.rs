//! What is asked of the leader beside the log, by whoever is connected to another member: questions go out once a turn
//! and are asked again until they are answered.
//!
//! A question gets a number when it is first sent. Whoever asked finds out by itself if this member leads meanwhile.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::{
    env::Instant,
    limits,
    pb::peer::{Answer, Lease, Question, question::About},
    shard::{
        Error,
        reply::{self, Reply},
    },
};

/// What an answer brings; that this member leads and there is nobody to ask.
pub type Told = Option<Vec<Lease>>;

struct Asked {
    about: About,
    began: Instant,
    reply: Reply<Told>,
}

/// Questions that were not sent yet.
#[derive(Default)]
pub struct Questions(RefCell<VecDeque<Asked>>);

impl Questions {
    pub fn push(&self, about: About, began: Instant) -> Result<reply::Answer<Told>, Error> {
        let mut questions = self.0.borrow_mut();
        if questions.len() >= limits::ASKING_MAX {
            return Err(Error::TooManyRequests);
        }
        let (reply, answer) = reply::channel();
        questions.push_back(Asked { about, began, reply });
        Ok(answer)
    }

    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    pub fn clear(&self) {
        drop(self.0.take());
    }
}

/// Questions on their way, by number.
#[derive(Default)]
pub struct Asking {
    next: u64,
    sent: BTreeMap<u64, (Asked, Instant)>,
}

impl Asking {
    /// New ones, which are to be sent now.
    pub fn take_due(&mut self, questions: &Questions, run: u64, now: Instant) -> Vec<Question> {
        let question = |number, about: &About| Question { run, number, about: Some(about.clone()) };
        let mut due = Vec::new();
        while self.sent.len() < limits::ASKING_MAX
            && let Some(asked) = questions.0.borrow_mut().pop_front()
        {
            self.next += 1;
            due.push(question(self.next, &asked.about));
            self.sent.insert(self.next, (asked, now));
        }
        due
    }

    /// Those that had no answer for so long.
    pub fn again(&mut self, run: u64, now: Instant, unanswered: Duration) -> Vec<Question> {
        self.sent.retain(|_, (asked, _)| asked.reply.is_awaited());
        let late = self.sent.iter_mut().filter(|(_, (_, sent))| now.since(*sent) >= unanswered);
        late.map(|(number, (asked, sent))| {
            *sent = now;
            Question { run, number: *number, about: Some(asked.about.clone()) }
        })
        .collect()
    }

    pub fn answered(&mut self, Answer { number, leases, .. }: Answer) {
        if let Some((asked, _)) = self.sent.remove(&number) {
            let expected = match &asked.about {
                About::Renewals(renewals) => renewals.ids.len(),
                About::TimeLeft(_) => 1,
            };
            if leases.len() == expected {
                asked.reply.send(Some(leases));
            }
        }
    }

    /// This member leads now, and is asked by itself.
    pub fn leads(&mut self, questions: &Questions) {
        let sent = std::mem::take(&mut self.sent).into_values().map(|(asked, _)| asked);
        sent.chain(questions.0.take()).for_each(|asked| asked.reply.send(None));
    }

    /// Gives up what has waited for too long, which tells the callers.
    pub fn expire(&mut self, questions: &Questions, now: Instant, patience: Duration) {
        self.sent.retain(|_, (asked, _)| now.since(asked.began) <= patience);
        let mut waiting = questions.0.borrow_mut();
        let old = waiting.iter().take_while(|asked| now.since(asked.began) > patience).count();
        let old: Vec<_> = waiting.drain(..old).collect();
        drop(waiting);
        drop(old);
    }

    pub fn clear(&mut self) {
        self.sent.clear();
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;
    use crate::pb::peer::{Renewals, TimeLeft};

    fn left(id: i64) -> About {
        About::TimeLeft(TimeLeft { id })
    }

    fn answer(number: u64, count: usize) -> Answer {
        let leases = vec![Lease { is_there: true, seconds: 7 }; count];
        Answer { run: 5, number, leases }
    }

    #[test]
    fn questions_are_asked_until_they_are_answered() {
        let (questions, mut asking) = (Questions::default(), Asking::default());
        let mut told = questions.push(left(1), Instant(0)).unwrap();
        let renewals = About::Renewals(Renewals { ids: vec![1, 2] });
        let mut renewed = questions.push(renewals, Instant(0)).unwrap();
        let sent = asking.take_due(&questions, 5, Instant(0));
        assert_eq!((sent.len(), sent[0].run, questions.is_empty()), (2, 5, true));
        assert!(asking.again(5, Instant(1), limits::ASK_AGAIN).is_empty());
        let later = Instant(0).after(limits::ASK_AGAIN);
        assert_eq!(asking.again(5, later, limits::ASK_AGAIN), sent);
        asking.answered(answer(sent[0].number, 1));
        asking.answered(answer(sent[1].number, 1));
        asking.answered(answer(99, 1));
        assert_eq!(block_on(&mut told), Some(Some(vec![Lease { is_there: true, seconds: 7 }])));
        assert_eq!(block_on(&mut renewed), None, "an answer to something else");
        drop(questions.push(left(2), later).unwrap());
        asking.take_due(&questions, 5, later);
        assert!(asking.again(5, later, Duration::ZERO).is_empty(), "nobody waits for it");
    }

    #[test]
    fn who_leads_is_asked_by_itself_and_nobody_waits_for_ever() {
        let (questions, mut asking) = (Questions::default(), Asking::default());
        let sent = questions.push(left(1), Instant(0)).unwrap();
        asking.take_due(&questions, 5, Instant(0));
        let waiting = questions.push(left(2), Instant(0)).unwrap();
        asking.leads(&questions);
        assert_eq!((block_on(sent), block_on(waiting)), (Some(None), Some(None)));
        let (mut sent, mut waiting) =
            (questions.push(left(1), Instant(0)).unwrap(), questions.push(left(1), Instant(5)).unwrap());
        asking.expire(&questions, Instant(12), Duration::from_nanos(10));
        assert_eq!(block_on(poll_once(&mut sent)), Some(None));
        asking.take_due(&questions, 5, Instant(12));
        assert_eq!(block_on(poll_once(&mut waiting)), None);
        asking.expire(&questions, Instant(16), Duration::from_nanos(10));
        assert_eq!(block_on(waiting), None);
    }
}
