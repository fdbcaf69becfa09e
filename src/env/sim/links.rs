//! Frames between simulated members: delayed, reordered, dropped, duplicated and held up by the seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;

use super::Sim;
use crate::{
    env::{Instant, Lane, Links, Peer},
    types::{MemberId, ShardId},
};

/// Frames that are held up at the same time in a world; what is more gets lost.
const HELD_MAX: usize = 4_096;

/// What goes wrong between members, in permille of the frames.
#[derive(Clone, Debug)]
pub struct Faults {
    pub drop_permille: u64,
    pub duplicate_permille: u64,
    /// Each delivery takes up to this long; later frames may overtake.
    pub delay_max: Duration,
    /// Members cut off from all others.
    pub isolated: BTreeSet<u64>,
    /// What goes wrong beside that from one member to another, in that direction.
    pub links: BTreeMap<(u64, u64), LinkFault>,
}

/// What goes wrong in one direction between two members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkFault {
    /// Nothing arrives.
    Cut,
    /// Nothing arrives until that is over, and then everything does.
    Clogged,
    /// So many frames of a thousand get lost.
    Lossy(u64),
    /// Each frame takes up to so much longer.
    Slow(Duration),
}

impl Default for Faults {
    fn default() -> Self {
        Faults {
            drop_permille: 0,
            duplicate_permille: 0,
            delay_max: Duration::from_micros(300),
            isolated: BTreeSet::new(),
            links: BTreeMap::new(),
        }
    }
}

impl Faults {
    /// What goes wrong on the way from one to the other.
    pub fn between(&self, from: MemberId, to: MemberId) -> Option<LinkFault> {
        let isolated = self.isolated.contains(&from.0) || self.isolated.contains(&to.0);
        if isolated { Some(LinkFault::Cut) } else { self.links.get(&(from.0, to.0)).copied() }
    }

    /// Whether nothing comes from the one to the other.
    pub fn cuts(&self, from: MemberId, to: MemberId) -> bool {
        matches!(self.between(from, to), Some(LinkFault::Cut | LinkFault::Clogged))
    }
}

/// A frame that waits for its link to be free.
#[derive(Clone)]
pub(super) struct Held {
    from: MemberId,
    to: MemberId,
    shard: ShardId,
    frame: Bytes,
}

impl Sim {
    /// What was held up goes on where nothing holds it up any more.
    pub(super) fn unclog(&self) {
        let faults = self.faults();
        let clogged = |held: &Held| faults.between(held.from, held.to) == Some(LinkFault::Clogged);
        let (stay, go): (Vec<_>, Vec<_>) = self.held().take().into_iter().partition(clogged);
        self.held().replace(stay);
        go.into_iter().for_each(|held| self.carry(held, faults.delay_max));
    }

    /// The wire belongs to no member: a sender's crash does not recall what it sent.
    fn carry(&self, held: Held, delay_max: Duration) {
        let nanos = self.below(delay_max.as_nanos() as u64 + 1);
        let sim = self.clone();
        self.spawn(MemberId(0), async move {
            sim.sleep(Duration::from_nanos(nanos)).await;
            match sim.faults().between(held.from, held.to) {
                Some(LinkFault::Clogged) if sim.held().borrow().len() < HELD_MAX => {
                    sim.held().borrow_mut().push(held);
                }
                Some(LinkFault::Clogged | LinkFault::Cut) => {}
                Some(LinkFault::Lossy(_) | LinkFault::Slow(_)) | None => {
                    sim.deliver((held.from, held.to), held.shard, held.frame);
                }
            }
        });
    }
}

/// One member's ends of its links.
#[derive(Clone)]
pub struct SimLinks {
    sim: Sim,
    from: MemberId,
}

impl SimLinks {
    pub fn new(sim: &Sim, from: MemberId) -> Self {
        SimLinks { sim: sim.clone(), from }
    }
}

impl Links for SimLinks {
    fn send(&self, to: MemberId, shard: ShardId, _: Lane, frame: Bytes) {
        let (sim, from) = (&self.sim, self.from);
        let faults = sim.faults();
        let (mut drop_permille, mut delay_max) = (faults.drop_permille, faults.delay_max);
        match faults.between(from, to) {
            Some(LinkFault::Cut) => return,
            Some(LinkFault::Lossy(permille)) => drop_permille = drop_permille.max(permille),
            Some(LinkFault::Slow(by)) => delay_max += by,
            Some(LinkFault::Clogged) | None => {}
        }
        if sim.chance(drop_permille) {
            return;
        }
        let held = Held { from, to, shard, frame };
        if sim.chance(faults.duplicate_permille) {
            sim.carry(held.clone(), delay_max);
        }
        sim.carry(held, delay_max);
    }

    /// From the beginning of time, unless it is cut off now.
    fn active_since(&self, member: MemberId) -> Option<Instant> {
        (!self.sim.faults().cuts(self.from, member)).then_some(Instant(0))
    }

    /// Everybody is reached without an address.
    fn set_members(&self, _: &[Peer], _: &[MemberId]) {}
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;

    const LINK: (u64, u64) = (1, 2);

    fn with(fault: Option<LinkFault>) -> Faults {
        Faults { links: fault.map(|fault| (LINK, fault)).into_iter().collect(), ..Faults::default() }
    }

    type Came = Rc<RefCell<Vec<(u64, Bytes)>>>;

    /// Members 1 and 2, and what came to each.
    fn world() -> (Sim, Came) {
        let (sim, came) = (Sim::new(3), Came::default());
        for member in [1, 2] {
            let came = came.clone();
            sim.listen(MemberId(member), ShardId(0), move |_, frame| came.borrow_mut().push((member, frame)));
        }
        (sim, came)
    }

    fn send_both(sim: &Sim, frame: &'static [u8]) {
        for (from, to) in [(1, 2), (2, 1)] {
            let links = SimLinks::new(sim, MemberId(from));
            links.send(MemberId(to), ShardId(0), Lane::Entries, Bytes::from_static(frame));
        }
    }

    #[test]
    fn a_cut_is_in_one_direction_and_loses_what_is_under_way() {
        let (sim, came) = world();
        sim.set_faults(with(Some(LinkFault::Cut)));
        send_both(&sim, b"a");
        sim.run_until(1_000, || false);
        sim.set_faults(with(None));
        sim.run_until(1_000, || false);
        assert_eq!(came.take(), [(1, Bytes::from_static(b"a"))]);
        send_both(&sim, b"b");
        sim.set_faults(with(Some(LinkFault::Cut)));
        sim.run_until(1_000, || false);
        assert_eq!(came.take(), [(1, Bytes::from_static(b"b"))]);
    }

    #[test]
    fn what_a_clogged_link_holds_comes_when_it_is_free() {
        let (sim, came) = world();
        sim.set_faults(with(Some(LinkFault::Clogged)));
        send_both(&sim, b"a");
        sim.run_until(1_000, || false);
        assert_eq!(came.take(), [(1, Bytes::from_static(b"a"))]);
        // Something else changes.
        sim.set_faults(Faults { drop_permille: 10, ..with(Some(LinkFault::Clogged)) });
        sim.run_until(1_000, || false);
        assert!(came.borrow().is_empty());
        sim.set_faults(with(None));
        sim.run_until(1_000, || false);
        assert_eq!(came.take(), [(2, Bytes::from_static(b"a"))]);
    }
}
