//! A timing wheel: what is to be looked at when, in slots that are the coarser the later they are.
//!
//! Whatever is put into it comes out at its time or before: out of a coarse slot it comes at that slot's beginning, to be
//! put in again, into a finer one. So there are a few hundred slots for each power of two of the time ahead at most,
//! however many things there are and however long they have to wait.
//!
//! What is in a slot is linked, each to those beside it: what is not wanted any more goes at once, in a few steps, and
//! leaves nothing behind. A wheel that kept it until its time would grow without end under a client that is granted leases
//! for years and revokes them. The links lie where whoever owns the wheel has them ([`Spots`]).
//!
//! Invariants: a place is in one slot at most, and its spot says in which; a slot that is kept is not empty.

use std::collections::BTreeMap;

use crate::{env::Instant, state::lease::Place};

/// Log of a tick in nanoseconds: 34 ms.
const TICK_BITS: u32 = 25;
/// Log of the ticks ahead that have slots of their own, and of the coarse slots as far ahead as that many.
const FINE_BITS: u32 = 8;

/// What was put in last, of each slot.
#[derive(Default)]
pub struct Wheel(BTreeMap<u64, Place>);

/// Where in a wheel something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spot {
    /// 0 if it is in none.
    slot: u64,
    newer: Option<Place>,
    older: Option<Place>,
}

/// The spots of all that may be in a wheel.
pub trait Spots {
    fn spot(&mut self, place: Place) -> &mut Spot;
}

/// The first slot with which something is certainly due.
pub fn due(at: Instant) -> u64 {
    (at.0 >> TICK_BITS) + 1
}

impl Spot {
    pub fn slot(&self) -> u64 {
        self.slot
    }
}

impl Wheel {
    /// It comes out then or before, and not when it was to before.
    pub fn put(&mut self, spots: &mut impl Spots, place: Place, at: Instant, now: Instant) {
        let (due, tick) = (due(at), now.0 >> TICK_BITS);
        let ahead = due.saturating_sub(tick);
        let coarse = (u64::BITS - ahead.leading_zeros()).saturating_sub(FINE_BITS);
        self.link(spots, place, due >> coarse << coarse);
    }

    /// It comes out then, not before. There are as many slots as there are ticks ahead.
    pub fn put_exactly(&mut self, spots: &mut impl Spots, place: Place, at: Instant) {
        self.link(spots, place, due(at));
    }

    fn link(&mut self, spots: &mut impl Spots, place: Place, slot: u64) {
        assert!(slot != 0, "of what is in no slot");
        self.remove(spots, place);
        let older = self.0.insert(slot, place);
        if let Some(older) = older {
            spots.spot(older).newer = Some(place);
        }
        *spots.spot(place) = Spot { slot, newer: None, older };
    }

    /// It does not come out any more.
    pub fn remove(&mut self, spots: &mut impl Spots, place: Place) {
        let Spot { slot, newer, older } = std::mem::take(spots.spot(place));
        if slot == 0 {
            return;
        }
        if let Some(older) = older {
            spots.spot(older).newer = newer;
        }
        match (newer, older) {
            (Some(newer), _) => spots.spot(newer).older = older,
            (None, Some(older)) => _ = self.0.insert(slot, older),
            (None, None) => _ = self.0.remove(&slot),
        }
    }

    /// Something whose slot has come; oldest slots first.
    pub fn take(&mut self, spots: &mut impl Spots, now: Instant) -> Option<Place> {
        let (slot, place) = self.0.first_key_value()?;
        if *slot > now.0 >> TICK_BITS {
            return None;
        }
        let place = *place;
        self.remove(spots, place);
        Some(place)
    }

    /// When the next slot comes.
    pub fn next(&self) -> Option<Instant> {
        Some(Instant(self.0.first_key_value()?.0 << TICK_BITS))
    }

    #[cfg(test)]
    pub fn slots(&self) -> usize {
        self.0.len()
    }
}
