//! Reads that may have gathered many pairs when their caller leaves.
//!
//! A client that cancels a long sorted list ends the call between two slices. Its pairs are given up slice by slice
//! too, by a task of their own.

use std::{
    ops::{Deref, DerefMut},
    rc::Rc,
};

use super::{handle::Shard, turnstile::Turnstile};
use crate::{
    limits,
    state::kv::{Leave, Pairs},
};

/// A read as long as somebody waits for it.
pub(in crate::shard) struct Held<T: Leave> {
    /// None once it has come to its end.
    read: Option<T>,
    shard: Shard,
}

impl<T: Leave> Held<T> {
    pub(in crate::shard) fn new(read: T, shard: &Shard) -> Self {
        Self { read: Some(read), shard: shard.clone() }
    }

    /// Takes out a read that has come to its end.
    pub(in crate::shard) fn end(mut self) -> T {
        self.read.take().expect("it ends once")
    }
}

impl<T: Leave> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.read.as_ref().expect("it has not ended")
    }
}

impl<T: Leave> DerefMut for Held<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.read.as_mut().expect("it has not ended")
    }
}

impl<T: Leave> Drop for Held<T> {
    fn drop(&mut self) {
        let Some(read) = self.read.take() else { return };
        let pairs = read.leave();
        // At the end nothing can be begun, nor is there anybody to hold up.
        if pairs.len() > limits::LEFTOVER_PAIRS && !self.shard.inbox.stopping() {
            let turnstile = &self.shard.turnstile;
            turnstile.spawn(give_up(pairs, turnstile.clone()));
        }
    }
}

async fn give_up(mut pairs: Pairs, turnstile: Rc<Turnstile>) {
    loop {
        let _slice = turnstile.pass().await;
        if pairs.give_up(limits::LEFTOVER_PAIRS) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, sync::Arc};

    use bytes::Bytes;

    use super::*;
    use crate::{
        env::{
            Beside, Instant, NoLinks,
            sim::{Sim, SimEnv, disk::SimDisk},
        },
        pb::mvccpb::KeyValue,
        shard::{
            lease::Times,
            serve::{handle::Parts, inbox::Inbox, standing::Standing},
        },
        state::StateMachine,
        types::{ClusterId, LogId, MemberId},
    };

    const PAIRS: usize = 5 * limits::LEFTOVER_PAIRS + 7;

    struct Read(Pairs);

    impl Leave for Read {
        fn leave(self) -> Pairs {
            self.0
        }
    }

    /// A key that counts.
    struct Key(#[expect(dead_code, reason = "it is there to be counted")] Arc<()>);

    impl AsRef<[u8]> for Key {
        fn as_ref(&self) -> &[u8] {
            b"k"
        }
    }

    fn shard(sim: &Sim) -> Shard {
        let env = SimEnv::new(sim, MemberId(1), SimDisk::new(sim));
        Shard::new(Parts {
            inbox: Rc::new(Inbox::new(Default::default(), 1 << 20)),
            state: Rc::new(RefCell::new(StateMachine::new())),
            standing: Rc::new(Standing::default()),
            clock: Rc::new(|| Instant(0)),
            beside: Beside::offloading(&env),
            turnstile: Turnstile::new(env, || false),
            hub: Rc::default(),
            waiters: Rc::default(),
            v2_gets: Default::default(),
            metrics: Rc::new(crate::metrics::ShardMetrics::new().expect("names are distinct")),
            times: Times::new(std::time::Duration::ZERO, false),
            links: Rc::new(NoLinks),
            random: Rc::new(|| 4),
            cluster_id: ClusterId(1),
            member_id: MemberId(1),
            log_id: LogId(1),
            patience: std::time::Duration::from_secs(5),
        })
    }

    fn held(shard: &Shard, count: &Arc<()>) -> Held<Read> {
        let mut pairs = Pairs::default();
        for _ in 0..PAIRS {
            let key = Bytes::from_owner(Key(count.clone()));
            pairs.push(KeyValue { key, ..Default::default() });
        }
        Held::new(Read(pairs), shard)
    }

    #[test]
    fn a_read_that_is_left_gives_its_pairs_up_slice_by_slice() {
        let (sim, count) = (Sim::new(1), Arc::new(()));
        let shard = shard(&sim);
        drop(held(&shard, &count));
        let mut left = Arc::strong_count(&count) - 1;
        assert_eq!(left, PAIRS, "whoever leaves waits for nothing");
        let gone = sim.run_until(1_000, || {
            let before = std::mem::replace(&mut left, Arc::strong_count(&count) - 1);
            assert!(before - left <= limits::LEFTOVER_PAIRS);
            left == 0
        });
        assert!(gone, "{left} pairs stay");
    }

    #[test]
    fn nothing_is_begun_at_the_end_and_what_came_to_its_end_is_kept() {
        let (sim, count) = (Sim::new(1), Arc::new(()));
        let shard = shard(&sim);
        let ended = held(&shard, &count).end();
        assert_eq!(ended.0.len(), PAIRS);
        drop(ended);
        let left = held(&shard, &count);
        shard.stop();
        drop(left);
        assert_eq!(Arc::strong_count(&count), 1);
    }
}
