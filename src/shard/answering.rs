//! Answers to what other members ask of this one while it leads: leases they renew for their clients, and how long some
//! have yet.
//!
//! A question is answered by a task beside the loop, which first makes certain that this member still leads. What it
//! cannot answer it does not, and is asked again, or another member is.

use std::{cell::Cell, rc::Rc};

use super::{Error, Shard, replica::tell};
use crate::{
    consensus::Aside,
    env::{Env, Links},
    limits,
    pb::peer::{Answer, Lease, Question, aside::Word, question::About},
    types::{MemberId, ShardId, Term},
};

/// What questions are answered with.
pub struct Answering<E: Env> {
    env: E,
    links: Rc<dyn Links>,
    shard: Shard,
    shard_id: ShardId,
    under_way: Rc<Cell<usize>>,
}

impl<E: Env> Answering<E> {
    pub fn new(env: E, links: Rc<dyn Links>, shard: Shard, shard_id: ShardId) -> Self {
        Self { env, links, shard, shard_id, under_way: Rc::default() }
    }

    /// Begins to answer a member's question, unless too many are under way.
    pub fn answer(&self, from: MemberId, term: Term, question: Question) {
        let Question { run, number, about: Some(about) } = question else { return };
        if self.under_way.get() >= limits::QUESTIONS_MAX {
            return;
        }
        let counted = Counted::new(&self.under_way);
        let (links, shard, shard_id) = (self.links.clone(), self.shard.clone(), self.shard_id);
        self.env.spawn(async move {
            let _counted = counted;
            let Ok(leases) = answer(&shard, about).await else { return };
            let word = Word::Answer(Answer { run, number, leases });
            tell(&*links, shard_id, Aside { from: shard.member_id(), to: from, term, word });
        });
    }
}

async fn answer(shard: &Shard, about: About) -> Result<Vec<Lease>, Error> {
    shard.linearize().await?;
    match about {
        About::Renewals(renewals) => {
            let mut leases = Vec::with_capacity(renewals.ids.len());
            for id in renewals.ids {
                let seconds = shard.renew(id).await?;
                leases.push(Lease { is_there: seconds.is_some(), seconds: seconds.unwrap_or(0) });
            }
            Ok(leases)
        }
        About::TimeLeft(asked) => {
            let seconds = shard.time_left(asked.id)?;
            Ok(vec![Lease { is_there: seconds.is_some(), seconds: seconds.unwrap_or(0) }])
        }
    }
}

/// One question under way.
struct Counted(Rc<Cell<usize>>);

impl Counted {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
